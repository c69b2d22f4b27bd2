"""That the engines sample from the weights that are trained, checked behind every weight sync.

The first prompt that each engine gets in a step comes back with the engine's own log-probs of the
tokens that it sampled. The experience phase has the trainer's log-probs of the same tokens in any
case, so the check costs no forward pass. With equal weights only rounding is left between the two.
"""

from __future__ import annotations

import torch

from algorithms.openrlhf.rollouts import Row

# Mean |difference| in nats a token that rounding can explain, by the type of the weights. An fp32
# engine and trainer agree to 1e-6 here. A bf16 number has 8 bits: a logit between 16 and 32 is
# rounded to a multiple of 1/8, so it is off by up to .06 in the engine, and again in the trainer.
# fp16 has 11 bits.
BOUNDS = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1}


class OutOfSync(RuntimeError):
    """The engines sample from other weights than those that are trained."""


def check_sync(step: int, rows: list[Row], precision: str) -> dict[str, float]:
    """How far engine and trainer are apart on this step's rollouts, as traces.

    Args:
        step: whose rollouts these are; they were sampled behind the sync of the step before.
        rows: all of the step's; those whose samples have an engine's log-probs are compared.
        precision: of the weights, a key of BOUNDS.

    Returns:
        "sync/log_prob_mean": the mean |difference| over the tokens of a prompt's responses, nats,
        of the prompt where it is largest (a prompt an engine is asked for: so no engine hides
        behind the others); "sync/log_prob_max": the largest of all. Empty without such rows.

    Raises:
        OutOfSync: the mean is beyond what the precision explains.
    """
    differences: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for row in rows:
        sample = row.rollout.sample
        if sample.log_probs:
            apart = (torch.tensor(sample.log_probs) - row.log_probs.float()).abs()
            differences.setdefault(tuple(row.rollout.prompt_ids), []).append(apart)
    if not differences:
        return {}
    of_prompts = [torch.cat(parts) for parts in differences.values()]
    mean = float(torch.stack([apart.mean() for apart in of_prompts]).max())
    largest = float(torch.cat(of_prompts).max())
    if not mean <= BOUNDS[precision]:  # or it is not a number
        raise OutOfSync(
            f"step {step}: an engine does not sample from the weights that are trained: its "
            f"log-probs differ from the trainer's by {mean:.2g} nats a token in the mean, "
            f"{largest:.2g} at most, where {precision} explains {BOUNDS[precision]:g}; look in the "
            f"log for weights that were not loaded at the sync after step {step - 1}"
        )
    return {"sync/log_prob_mean": mean, "sync/log_prob_max": largest}

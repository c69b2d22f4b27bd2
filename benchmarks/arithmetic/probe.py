"""Measure a tiny model by sampling it: pass@k, entropy, length. Plain torch, no engine.

This is how the warm start was tuned and how its test holds it in range:
`python -m benchmarks.arithmetic.probe DIRECTORY`. The suite's own scores come from vLLM and its
grader, not from here; this reward is the exact text of the last box.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from benchmarks.arithmetic.problems import Problem, problems

BOX = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")


@dataclass(frozen=True)
class Samples:
    """Sampled responses: (responses, tokens) tensors, and the texts without their eos.

    `mask_BT` is 1 on sampled tokens up to and including the eos. `entropy_BT` is exact, over the
    full vocabulary, in nats, at temperature 1.
    """

    prompts_BT: torch.Tensor
    tokens_BT: torch.Tensor
    mask_BT: torch.Tensor
    log_probs_BT: torch.Tensor
    entropy_BT: torch.Tensor
    texts: list[str]


def load(directory: str | Path) -> tuple[PreTrainedModel, Tokenizer]:
    """The model, ready to sample, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(directory)


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    generator: torch.Generator,
    *,
    max_new_tokens: int = 40,
) -> Samples:
    """One response a prompt at temperature 1 (repeat a prompt for a group), left-padded batch."""
    encoded = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
    seen, inputs, past = encoded["attention_mask"], encoded["input_ids"], None
    alive = torch.ones(len(prompts), 1, dtype=torch.long)
    columns = []
    for _ in range(max_new_tokens):
        positions = (seen.cumsum(1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
        out = model(
            input_ids=inputs,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
        )
        past = out.past_key_values
        log_pi = out.logits[:, -1].float().log_softmax(-1)
        inputs = torch.multinomial(log_pi.exp(), 1, generator=generator)
        entropy = -(log_pi.exp() * log_pi).sum(-1, keepdim=True)
        columns.append((inputs, alive, log_pi.gather(1, inputs), entropy))
        seen = torch.cat([seen, alive], 1)
        alive = alive * (inputs != tokenizer.eos_token_id)
        if not alive.any():
            break
    tokens, mask, log_probs, entropies = (torch.cat(part, 1) for part in zip(*columns, strict=True))
    texts = tokenizer.batch_decode(
        torch.where(mask.bool(), tokens, tokenizer.pad_token_id), skip_special_tokens=True
    )
    return Samples(encoded["input_ids"], tokens, mask, log_probs, entropies, texts)


def reward(text: str, answer: str) -> float:
    """1 when the last box holds exactly the answer, else 0."""
    boxes = BOX.findall(text)
    return float(bool(boxes) and boxes[-1] == answer)


def pass_at(k: int, correct: Sequence[int], n: int) -> float:
    """The unbiased estimate of pass@k, mean over problems (Chen et al. 2107.03374)."""
    misses = [math.comb(n - c, k) / math.comb(n, k) for c in correct]
    return 1 - sum(misses) / len(misses)


def measure(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    tasks: Sequence[Problem],
    *,
    samples: int = 64,
    seed: int = 0,
    max_new_tokens: int = 40,
    batch: int = 1024,
) -> dict[str, float]:
    """pass@1, 8, 16 and 64 (as `samples` allows), entropy in nats, tokens, truncated share."""
    generator = torch.Generator().manual_seed(seed)
    repeated = [task for task in tasks for _ in range(samples)]
    right, entropy, length, cut = [], [], [], []
    for start in range(0, len(repeated), batch):
        part = repeated[start : start + batch]
        got = sample(
            model, tokenizer, [t.problem for t in part], generator, max_new_tokens=max_new_tokens
        )
        right += [reward(text, t.answer) for text, t in zip(got.texts, part, strict=True)]
        tokens_B = got.mask_BT.sum(1)
        entropy += ((got.entropy_BT * got.mask_BT).sum(1) / tokens_B).tolist()
        length += tokens_B.tolist()
        cut += (got.mask_BT * (got.tokens_BT == tokenizer.eos_token_id)).sum(1).eq(0).tolist()
    counts = [int(sum(right[i : i + samples])) for i in range(0, len(right), samples)]
    scores = {f"pass@{k}": pass_at(k, counts, samples) for k in (1, 8, 16, 64) if k <= samples}
    for family in dict.fromkeys(task.family for task in tasks):
        solved = [c for c, task in zip(counts, tasks, strict=True) if task.family == family]
        scores[f"pass@1 {family}"] = pass_at(1, solved, samples)
    scores["entropy"] = sum(entropy) / len(entropy)
    scores["tokens"] = sum(length) / len(length)
    scores["truncated"] = sum(cut) / len(cut)
    return scores


def main() -> None:
    """Print the measures of the model in the directory named on the command line."""
    torch.set_num_threads(1)
    model, tokenizer = load(sys.argv[1])
    print(json.dumps(measure(model, tokenizer, problems("test", 200)), indent=1))


if __name__ == "__main__":
    main()

"""The policy worker: what the controller asks of the model besides the update.

Old log-probs and entropies, the clip's diagnostics, the entropy probe, and the policy on disk.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from openrlhf.trainer.ray.ppo_actor import PolicyModelActor
from torch import Tensor

from algorithms.diagnostics import clip_diagnostics, entropy_change
from algorithms.entropy import clamped_entropy, token_entropy
from algorithms.objective import response_mean
from algorithms.openrlhf import checkpoints, cpu
from algorithms.openrlhf.rollouts import Extra
from algorithms.openrlhf.trainer import PolicyTrainer


@dataclass(frozen=True)
class BeforeUpdate:
    """N states of a batch as the policy that sampled saw them, to be compared with the next one.

    Attributes:
        inputs: sequences, action mask and attention mask of the batch.
        places: of the states among its B * T tokens, [N].
        logits: of the policy that sampled, [N, V].
    """

    inputs: tuple[Tensor, Tensor, Tensor]
    places: Tensor
    logits: Tensor


class PolicyActor(PolicyModelActor.__ray_metadata__.modified_class):
    """OpenRLHF's policy worker, which also measures entropy and takes the algorithm's state."""

    before_update: BeforeUpdate | None = None  # the states to diagnose in this step

    def save_state(self, folder: Path, progress: dict[str, Any] | None = None) -> None:
        """Weights, optimizer and `progress` as a new DeepSpeed checkpoint at `folder`, on the disk.

        That of the base model, the state in which the cells of a session begin, has no progress.
        """
        client_state = {"own": progress or {}}
        self.actor.model.save_checkpoint(
            str(folder.parent), tag=folder.name, client_state=client_state, save_latest=False
        )
        checkpoints.flush(folder)
        torch.distributed.barrier()

    def begin_cell(self, experiment: Any, source: Path | None) -> dict[str, Any]:
        """Another cell: its algorithm, and the weights and optimizer that `save_state` kept.

        Without a `source` they are those in which the worker came up. Returns the progress.
        """
        args = self.strategy.args
        args.suite = experiment
        self.trainer.begin_cell(experiment.algorithm)
        self.before_update = None
        if source is None:
            return {}
        if args.ds.enable_sleep:
            self.reload_states()
        _, saved = self.strategy.load_ckpt(self.actor.model, str(source.parent), tag=source.name)
        cpu.replay_adam(self.actor.model.basic_optimizer)
        if args.ds.enable_sleep:
            self.offload_states()
        return saved["own"]

    def begin_step(self, step: int, state: dict[str, Any], extra: Extra | None = None) -> None:
        """Before the update of rollout step `step`: state and extra samples in, reseeded.

        The seed makes the partition into optimizer steps a function of (seed, step) alone, so a
        resumed run repeats what an uninterrupted one would have done.
        """
        mesh = self.strategy.ds_device_mesh["dp"]
        self.trainer.begin_step(state, extra, mesh.get_local_rank(), mesh.size())
        torch.manual_seed((self.strategy.args.suite.seed << 32) + (step << 8) + self._rank)

    def save_policy(self, path: Path) -> None:
        """The policy as a Hugging Face directory at `path`, complete or absent."""
        partial = path.with_name(path.name + ".partial")
        self.strategy.save_model(self.actor, self.tokenizer, str(partial))
        torch.distributed.barrier()
        if self._rank == 0:
            checkpoints.flush(partial)
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)

    def forward(
        self,
        sequences: Tensor,
        action_mask: Tensor,
        attention_mask: Tensor,
        temperatures: tuple[float, ...] = (),
        states: int = 0,
    ) -> tuple[Tensor, Tensor, dict[float, Tensor]]:
        """log pi_old, H_t (nats) and log pi_old^T for each T of every response token, all [B, T].

        With `states`, so many states of the step's first batch are kept for `diagnose`.
        """
        log_probs_BT, logits_BSV, mask_BT = self._logits(sequences, action_mask, attention_mask)
        with torch.no_grad():
            entropy_BT = PolicyTrainer.on_responses(token_entropy, logits_BSV, mask_BT)
            tempered = {
                t: (_log_probs_at(t, logits_BSV, sequences) * mask_BT).cpu() for t in temperatures
            }
        if states and self.before_update is None:
            places = mask_BT.reshape(-1).nonzero()[:, 0]
            places = places[torch.linspace(0, len(places) - 1, min(states, len(places))).long()]
            old_NV = logits_BSV[:, :-1].reshape(-1, logits_BSV.shape[-1])[places].clone()
            inputs = (sequences, action_mask, attention_mask)
            self.before_update = BeforeUpdate(inputs, places, old_NV)
        return log_probs_BT.cpu(), (entropy_BT * mask_BT).cpu(), tempered

    def diagnose(self) -> dict[str, float]:
        """Means over the kept states, after the update, of what `clip_diagnostics` defines.

        "theorem_1" and "theorem_2" are the entropy change that they predict for a random reward, up
        to the step size. A side of the clip that is off is measured at GRPO's 0.2.
        """
        before, self.before_update = self.before_update, None
        if before is None:
            return {}
        _, logits_BSV, _ = self._logits(*before.inputs)
        logits_NV = logits_BSV[:, :-1].reshape(-1, logits_BSV.shape[-1])[before.places]
        algorithm = self.trainer.algorithm
        low = algorithm.eps_low if algorithm.eps_low < 1.0 else 0.2
        high = algorithm.eps_high if algorithm.eps_high < float("inf") else 0.2
        terms = clip_diagnostics(logits_NV, before.logits, low, high)
        terms["theorem_1"] = entropy_change(terms, "q")
        terms["theorem_2"] = entropy_change(terms, "surprisal")
        return {name: float(values_N.nanmean()) for name, values_N in terms.items()}

    def score_probe(
        self, sequences: Tensor, action_mask: Tensor, attention_mask: Tensor, clamp: float
    ) -> dict[str, float]:
        """Sums over responses of the mean over their tokens of three estimators of entropy, nats.

        "full" is H_t, "clamped" H~_t at p = `clamp`, "sampled" -log pi of the response's tokens.
        """
        log_probs_BT, logits_BSV, mask_BT = self._logits(sequences, action_mask, attention_mask)
        with torch.no_grad():
            full_BT = PolicyTrainer.on_responses(token_entropy, logits_BSV, mask_BT)
            clamped_BT = PolicyTrainer.on_responses(
                lambda logits: clamped_entropy(logits, clamp), logits_BSV, mask_BT
            )
        values = {"full": full_BT, "clamped": clamped_BT, "sampled": -log_probs_BT}
        return {name: float(response_mean(v, mask_BT).sum()) for name, v in values.items()}

    def _logits(
        self, sequences: Tensor, action_mask: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """log pi [B, T], logits [B, S, V] and the mask, on the device, without a graph."""
        device = torch.cuda.current_device()
        sequences, action_mask, attention_mask = (
            tensor.to(device) for tensor in (sequences, action_mask, attention_mask)
        )
        self.actor.eval()
        with torch.no_grad():
            log_probs_BT, output = self.actor(
                sequences,
                action_mask,
                attention_mask,
                return_output=True,
                ring_attn_group=self.strategy.ring_attn_group,
            )
        self.actor.train()
        return log_probs_BT, output.logits, action_mask


def _log_probs_at(temperature: float, logits_BSV: Tensor, sequences: Tensor) -> Tensor:
    """log pi^T of each next token, [B, S - 1]; row by row, so that no second [B, S, V] is made."""
    rows = []
    for logits_SV, tokens_S in zip(logits_BSV, sequences.to(logits_BSV.device), strict=True):
        scaled_TV = logits_SV[:-1].float() / temperature
        taken_T = scaled_TV.gather(-1, tokens_S[1:, None])[:, 0]
        rows.append(taken_T - scaled_TV.logsumexp(-1))
    return torch.stack(rows)

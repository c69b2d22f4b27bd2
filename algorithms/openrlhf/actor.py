"""The policy worker: what the controller asks of the model besides the update.

Old log-probs and entropies, the clip's diagnostics, the entropy probe, and the policy on disk.
"""

from __future__ import annotations

import shutil
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


class PolicyActor(PolicyModelActor.__ray_metadata__.modified_class):
    """OpenRLHF's policy worker, which also measures entropy and takes the algorithm's state."""

    def save_state(self, folder: Path, own: dict[str, Any] | None = None) -> None:
        """Weights, optimizer and `own` as a new DeepSpeed checkpoint at `folder`, on the disk.

        That of the base model, the state in which the cells of a session begin, has no `own`.
        """
        self.actor.model.save_checkpoint(
            str(folder.parent), tag=folder.name, client_state={"own": own or {}}, save_latest=False
        )
        checkpoints.flush(folder)
        torch.distributed.barrier()

    def begin_cell(self, experiment: Any, source: Path | None) -> dict[str, Any]:
        """Another cell: its algorithm, and the weights and optimizer that `save_state` kept.

        Without a `source` they are those in which the worker came up. Returns `own`.
        """
        args = self.strategy.args
        args.suite = experiment
        self.trainer.begin_cell(experiment.algorithm)
        self.kept = None
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
        if states and self.kept is None:
            chosen = mask_BT.reshape(-1).nonzero()[:, 0]
            chosen = chosen[torch.linspace(0, len(chosen) - 1, min(states, len(chosen))).long()]
            old_NV = logits_BSV[:, :-1].reshape(-1, logits_BSV.shape[-1])[chosen].clone()
            self.kept = (sequences, action_mask, attention_mask), chosen, old_NV
        return log_probs_BT.cpu(), (entropy_BT * mask_BT).cpu(), tempered

    kept: tuple[Any, Tensor, Tensor] | None = None  # inputs, states and old logits to diagnose

    def diagnose(self) -> dict[str, float]:
        """Means over the kept states, after the update, of what `clip_diagnostics` defines.

        "theorem_1" and "theorem_2" are the entropy change that they predict for a random reward, up
        to the step size. A side of the clip that is off is measured at GRPO's 0.2.
        """
        if self.kept is None:
            return {}
        inputs, chosen, old_NV = self.kept
        self.kept = None
        _, logits_BSV, _ = self._logits(*inputs)
        logits_NV = logits_BSV[:, :-1].reshape(-1, logits_BSV.shape[-1])[chosen]
        algorithm = self.trainer.algorithm
        low = algorithm.eps_low if algorithm.eps_low < 1.0 else 0.2
        high = algorithm.eps_high if algorithm.eps_high < float("inf") else 0.2
        found = clip_diagnostics(logits_NV, old_NV, low, high)
        found["theorem_1"] = entropy_change(found, "q")
        found["theorem_2"] = entropy_change(found, "surprisal")
        return {name: float(values_N.nanmean()) for name, values_N in found.items()}

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

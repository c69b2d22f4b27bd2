"""The policy worker: where the algorithm's objective meets the model's logits.

OpenRLHF keeps the model, DeepSpeed, the optimizer, micro-batching and the replay buffer; the one
method replaced is `training_step`, where its fixed PPO loss stood. Every term is divided by the
totals of the whole optimizer step (`loss_batch_info`), so the gradient does not depend on how the
batch is cut into micro-batches or spread over data-parallel workers.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import openrlhf.trainer.ray.ppo_actor as ppo_actor
import torch
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer, PolicyModelActor
from torch import Tensor

from algorithms.entropy import token_entropy
from algorithms.objective import aggregate
from algorithms.openrlhf import cpu

cpu.patch_trainer(ppo_actor)


class PolicyTrainer(ActorPPOTrainer):
    """OpenRLHF's trainer of one policy worker, maximising the algorithm's objective."""

    def __init__(self, strategy: Any, *args: Any, **kwargs: Any):
        super().__init__(strategy, *args, **kwargs)
        self.algorithm = strategy.args.suite.algorithm
        self.state = self.algorithm.initial_state()
        self.aggregation = strategy.args.actor.loss_agg_mode

    def training_step(
        self,
        experience: Any,
        kl_ctl: float,
        step: int,
        loss_batch_info: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Forward, objective, backward and (at the accumulation boundary) one optimizer step."""
        self.actor.train()
        log_probs_BT, output = self.actor(
            experience.sequences,
            experience.action_mask,
            attention_mask=experience.attention_mask,
            return_output=True,
            ring_attn_group=self.strategy.ring_attn_group,
        )
        objective, metrics = self._objective(
            log_probs_BT, output.logits, experience, loss_batch_info
        )
        self.strategy.backward(-objective, self.actor, self.actor_optim)
        self.strategy.optimizer_step(self.actor_optim, self.actor, self.actor_scheduler)
        mask_BT = experience.action_mask
        weights = dict.fromkeys(metrics, "token" if self.aggregation == "token-mean" else "sample")
        return {
            "metrics": {
                **metrics,
                "policy_loss": -objective.detach(),
                "actor_lr": self.actor_scheduler.get_last_lr()[0],
                "actor_grad_norm": self.strategy.get_grad_norm(self.actor),
            },
            "weights": {
                **weights,
                "policy_loss": "sample",
                "actor_lr": None,
                "actor_grad_norm": None,
            },
            "num_samples": float(mask_BT.shape[0]),
            "num_action_tokens": float(mask_BT.sum().item()),
        }

    def _objective(
        self,
        log_probs_BT: Tensor,
        logits_BSV: Tensor,
        experience: Any,
        loss_batch_info: dict[str, Any] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro-batch's share of J, and the per-response means to trace."""
        mask_BT = experience.action_mask
        old_BT, advantages_BT = experience.action_log_probs, experience.advantages
        info = loss_batch_info or {}
        total = info.get(
            "batch_num_tokens" if self.aggregation == "token-mean" else "global_batch_size"
        )
        if total is not None:
            total = total / info["dp_size"]  # DeepSpeed averages gradients over the workers

        def share(values_BT: Tensor) -> Tensor:
            return aggregate(values_BT, mask_BT, self.aggregation, total=total)

        objective = share(self.algorithm.surrogate(log_probs_BT, old_BT, advantages_BT))
        metrics = {}
        coefficient = self.algorithm.bonus_coefficient(self.state)
        if self.algorithm.has_bonus:  # measured at coefficient 0 too: no controller goes blind
            with torch.set_grad_enabled(coefficient != 0):
                values_BT = self._on_responses(self.algorithm.bonus_statistic, logits_BSV, mask_BT)
            if coefficient:
                objective = objective + coefficient * share(values_BT)
            metrics["bonus_statistic"] = aggregate(values_BT.detach(), mask_BT, self.aggregation)
        with torch.no_grad():
            events = self.algorithm.clip_events(log_probs_BT, old_BT, advantages_BT)
            events["kl_old"] = old_BT - log_probs_BT
            for name, values_BT in events.items():
                metrics[name] = aggregate(values_BT.float(), mask_BT, self.aggregation)
        return objective, metrics

    @staticmethod
    def _on_responses(statistic: Any, logits_BSV: Tensor, mask_BT: Tensor) -> Tensor:
        """statistic(logits) on the columns that hold responses; 0 in front of the first one.

        logits_BSV[:, t] predict token t + 1, and column t of mask_BT (T = S - 1) is token t + 1.
        """
        columns = mask_BT.bool().any(0).nonzero()
        first = int(columns[0]) if len(columns) else 0
        values = statistic(logits_BSV[:, first:-1])
        return torch.nn.functional.pad(values, (first, 0))


ppo_actor.ActorPPOTrainer = PolicyTrainer


class PolicyActor(PolicyModelActor.__ray_metadata__.modified_class):
    """OpenRLHF's policy worker, which also measures entropy and takes the algorithm's state."""

    def begin_step(self, step: int, state: dict[str, Any]) -> None:
        """Before the update of rollout step `step`: controller state in, shuffling reseeded.

        The seed makes the partition into optimizer steps a function of (seed, step) alone, so a
        resumed run repeats what an uninterrupted one would have done.
        """
        self.trainer.state = state
        torch.manual_seed((self.strategy.args.suite.seed << 32) + (step << 8) + self._rank)

    def save_policy(self, path: Path) -> None:
        """The policy as a Hugging Face directory at `path`, complete or absent."""
        partial = path.with_name(path.name + ".partial")
        self.strategy.save_model(self.actor, self.tokenizer, str(partial))
        torch.distributed.barrier()
        if self._rank == 0:
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)

    def forward(
        self, sequences: Tensor, action_mask: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """log pi_old and H_t (nats) of every response token, each [B, T], without a graph."""
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
            entropy_BT = PolicyTrainer._on_responses(token_entropy, output.logits, action_mask)
        self.actor.train()
        return log_probs_BT.cpu(), (entropy_BT * action_mask).cpu()

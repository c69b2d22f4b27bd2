"""The trainer of a policy worker: where the algorithm's objective meets the model's logits.

OpenRLHF keeps the model, DeepSpeed, the optimizer, micro-batching and the replay buffer; the one
method replaced is `training_step`, where its fixed PPO loss stood. Every term is divided by the
totals of the whole optimizer step (`loss_batch_info`), so the gradient does not depend on how the
batch is cut into micro-batches or spread over data-parallel workers.
"""

from __future__ import annotations

from typing import Any

import openrlhf.trainer.ray.ppo_actor as ppo_actor
import ray
import torch
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
from torch import Tensor

from algorithms.base import Algorithm, Batch
from algorithms.inert import differs_from_grpo
from algorithms.objective import aggregate
from algorithms.openrlhf import cpu
from algorithms.openrlhf.rollouts import Extra

cpu.patch_trainer(ppo_actor)


class PolicyTrainer(ActorPPOTrainer):
    """OpenRLHF's trainer of one policy worker, maximising the algorithm's objective."""

    def __init__(self, strategy: Any, *args: Any, **kwargs: Any):
        super().__init__(strategy, *args, **kwargs)
        if strategy.args.actor.entropy_coef:
            raise ValueError("OpenRLHF's own entropy bonus is on; a bonus is the algorithm's alone")
        self.begin_cell(strategy.args.suite.algorithm)
        self.aggregation = strategy.args.actor.loss_agg_mode

    def _init_vllm_sync_group(self, backend: str) -> None:
        """The group with the engines, once all of them stand.

        An engine that cannot start would otherwise show when the group times out, minutes later.
        """
        ray.get([engine.__ray_ready__.remote() for engine in self.vllm_engines])
        super()._init_vllm_sync_group(backend)

    def begin_cell(self, algorithm: Algorithm) -> None:
        """Nothing of an earlier cell is left."""
        self.algorithm = algorithm
        self.state = algorithm.initial_state()
        self.extra: Extra | None = None
        self.extra_rows = torch.empty(0, dtype=torch.long)  # those of this rank
        self.ranks = 1
        self.replay_buffer.clear()

    def begin_step(self, state: dict[str, Any], extra: Extra | None, rank: int, ranks: int) -> None:
        """The controller's state, and this data-parallel rank's share of the extra samples."""
        self.state, self.extra, self.ranks = state, extra, ranks
        if extra is not None:
            self.extra_rows = torch.arange(rank, len(extra.batch.sequences), ranks)

    def broadcast_to_vllm(self) -> None:
        """The weights to the engines; over gloo in one message unless they are sharded."""
        if not cpu.active() or self.args.ds.zero_stage == 3:
            super().broadcast_to_vllm()
            return
        if torch.distributed.get_rank() == 0:
            cpu.send_weights(self.actor.model.module, self._model_update_group, self.vllm_engines)
        torch.distributed.barrier()

    def training_step(
        self,
        experience: Any,
        kl_ctl: float,
        step: int,
        loss_batch_info: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Forward, objective, backward and (at the accumulation boundary) one optimizer step."""
        self.actor.train()
        rows = len(experience.sequences)
        batch = self._with_extra(experience, step)
        log_probs_BT, output = self.actor(
            batch["sequences"],
            batch["action_mask"],
            attention_mask=batch["attention_mask"],
            return_output=True,
            ring_attn_group=self.strategy.ring_attn_group,
        )
        main = {name: tensor[:rows] for name, tensor in batch.items()}
        objective, metrics = self._objective(
            log_probs_BT[:rows], output.logits[:rows], main, loss_batch_info or {}
        )
        if self.extra is not None and len(log_probs_BT) > rows:
            added = {name: tensor[rows:] for name, tensor in batch.items()}
            objective = objective + self._extra_objective(log_probs_BT[rows:], added, self.extra)
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
        tensors: dict[str, Tensor],
        info: dict[str, Any],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro-batch's share of J, and the per-response means to trace."""
        mask_BT, old_BT = tensors["action_mask"], tensors["action_log_probs"]
        batch = Batch(old_BT, tensors["advantages"], mask_BT, tensors["values"])
        total = info.get(
            "batch_num_tokens" if self.aggregation == "token-mean" else "global_batch_size"
        )
        if total is not None:
            total = total / info["dp_size"]  # DeepSpeed averages gradients over the workers

        def share(values_BT: Tensor) -> Tensor:
            return aggregate(values_BT, mask_BT, self.aggregation, total=total)

        algorithm = self.algorithm
        objective = share(algorithm.objective(log_probs_BT, batch))
        metrics = {}
        coefficient = algorithm.bonus_coefficient(self.state)
        if algorithm.has_bonus:  # measured at coefficient 0 too: no controller goes blind
            with torch.set_grad_enabled(coefficient != 0):
                values_BT = self.on_responses(algorithm.bonus_statistic, logits_BSV, mask_BT)
            if coefficient:
                objective = objective + coefficient * share(values_BT)
            metrics["bonus_statistic"] = aggregate(values_BT.detach(), mask_BT, self.aggregation)
        with torch.no_grad():
            events = algorithm.clipped(log_probs_BT, batch)
            events["kl_old"] = old_BT - log_probs_BT
            differs = differs_from_grpo(algorithm, log_probs_BT, batch, tensors["returns"])
            more = coefficient != 0 or self.extra is not None
            events["differs_from_grpo"] = torch.ones_like(differs) if more else differs
            for name, values_BT in events.items():
                metrics[name] = aggregate(values_BT.float(), mask_BT, self.aggregation)
        return objective, metrics

    # A second rollout, appended ----------------------------------------------------------------

    def _with_extra(self, experience: Any, micro_batch: int) -> dict[str, Tensor]:
        """A micro-batch's tensors, below them an even share of the rank's extra samples."""
        batch = {name: getattr(experience, name) for name in _COLUMNS}
        if self.extra is None:
            return batch
        count = len(self.replay_buffer) // self.replay_buffer.sample_batch_size
        position = micro_batch % count
        bounds = [len(self.extra_rows) * i // count for i in (position, position + 1)]
        rows = self.extra_rows[slice(*bounds)].tolist()
        return _with_rows(batch, self.extra, rows) if rows else batch

    def _extra_objective(
        self, log_probs_BT: Tensor, tensors: dict[str, Tensor], extra: Extra
    ) -> Tensor:
        """The coefficient times these samples' share of the mean over all that were drawn.

        An optimizer step has its part of the samples and so its part of the denominator. DeepSpeed
        divides what is returned by the ranks and by the micro-batches of an optimizer step.
        """
        mask_BT = tensors["action_mask"]
        batch = Batch(tensors["action_log_probs"], tensors["advantages"], mask_BT)
        values_BT = self.algorithm.objective(log_probs_BT, batch)
        accumulated = max(int(self.strategy.accumulated_gradient), 1)
        drawn = extra.tokens if self.aggregation == "token-mean" else extra.samples
        micro_batches = len(self.replay_buffer) // self.replay_buffer.sample_batch_size
        part = drawn * accumulated / micro_batches  # of one optimizer step
        total = part / (self.ranks * accumulated)
        share = aggregate(values_BT, mask_BT, self.aggregation, total=total)
        return extra.coefficient * share

    @staticmethod
    def on_responses(statistic: Any, logits_BSV: Tensor, mask_BT: Tensor) -> Tensor:
        """statistic(logits) on the columns that hold responses; 0 in front of the first one.

        logits_BSV[:, t] predict token t + 1, and column t of mask_BT (T = S - 1) is token t + 1.
        """
        columns = mask_BT.bool().any(0).nonzero()
        start = int(columns[0]) if len(columns) else 0
        values = statistic(logits_BSV[:, start:-1])
        return torch.nn.functional.pad(values, (start, 0))


# Of OpenRLHF's Experience; what the last two carry here, `rollouts.training_batch` says.
_COLUMNS = (
    "sequences",
    "attention_mask",
    "action_mask",
    "action_log_probs",
    "advantages",
    "returns",
    "values",
)


def _with_rows(batch: dict[str, Tensor], extra: Extra, rows: list[int]) -> dict[str, Tensor]:
    """A micro-batch's tensors with some extra samples below them, padded to one length."""
    batch = dict(batch)
    length = max(batch["sequences"].shape[1], extra.batch.sequences.shape[1])
    for name, tensor in batch.items():
        more = getattr(extra.batch, name)[rows].to(tensor.device)
        width = length if name in ("sequences", "attention_mask") else length - 1
        both = (torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in (tensor, more))
        batch[name] = torch.cat(list(both))
    return batch


ppo_actor.ActorPPOTrainer = PolicyTrainer

"""The policy workers as the controller sees them: all asked at once, or some batches shared out."""

from __future__ import annotations

from typing import Any, TypeVar

import ray
from openrlhf.trainer.ppo_utils.experience import Experience

from algorithms.openrlhf.rollouts import (
    Extra,
    Rollout,
    Row,
    measured_rows,
    to_experience,
    training_batch,
)

T = TypeVar("T")


class Workers:
    """OpenRLHF's group of policy workers; their methods are those of `actor.PolicyActor`."""

    def __init__(self, group: Any, micro_batch_size: int, pad_token_id: int):
        """`group` is a RayActorGroup; a forward pass takes `micro_batch_size` responses."""
        self._group = group
        self._micro_batch_size = micro_batch_size
        self.pad_token_id = pad_token_id

    def each(self, method: str, **arguments: Any) -> list[Any]:
        """What each worker returns of a method that all of them run."""
        return ray.get(self._group.async_run_method(method_name=method, **arguments))

    def over(self, method: str, batches: list[Experience], **arguments: Any) -> list[Any]:
        """Run a method on batches spread over the workers; a result a batch, in order."""
        group = self._group
        workers = len(group._actor_handlers) // group.duplicate_actors
        sent = batches + batches[:1] * (workers - len(batches))  # no worker goes without
        refs = group.async_run_method_batch(
            method_name=method,
            sequences=[b.sequences for b in sent],
            action_mask=[b.action_mask for b in sent],
            attention_mask=[b.attention_mask for b in sent],
            **{name: [value] * len(sent) for name, value in arguments.items()},
        )
        parts = ray.get(refs)[:: group.duplicate_actors]
        return [result for part in parts for result in part][: len(batches)]

    def measure(
        self, rollouts: list[Rollout], temperatures: tuple[float, ...] = (), states: int = 0
    ) -> list[Row]:
        """Log-probs (at these temperatures too) and entropies of pi_old, a row a rollout.

        The workers keep `states` of the states to diagnose after the update.
        """
        parts = self._parts(rollouts)
        batches = [to_experience(part, self.pad_token_id) for part in parts]
        results = self.over("forward", batches, temperatures=temperatures, states=states)
        return [
            row
            for part, batch, values in zip(parts, batches, results, strict=True)
            for row in measured_rows(part, batch, *values)
        ]

    def entropy_sums(self, rollouts: list[Rollout], clamp: float) -> list[dict[str, float]]:
        """Of each micro-batch: what `PolicyActor.score_probe` returns, nats."""
        batches = [to_experience(part, self.pad_token_id) for part in self._parts(rollouts)]
        return self.over("score_probe", batches, clamp=clamp)

    def begin_step(
        self, step: int, state: dict[str, Any], rows: list[Row], extra: Extra | None
    ) -> None:
        """Hand over everything that the update of a step is made of."""
        batches = [training_batch(part, self.pad_token_id) for part in self._parts(rows)]
        refs = self._group.async_run_method_batch(method_name="append", experience=batches)
        refs += self._group.async_run_method(
            method_name="begin_step", step=step, state=state, extra=extra
        )
        ray.get(refs)

    def _parts(self, items: list[T]) -> list[list[T]]:
        size = self._micro_batch_size
        return [items[i : i + size] for i in range(0, len(items), size)]

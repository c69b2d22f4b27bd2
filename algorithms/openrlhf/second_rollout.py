"""The second rollout of an algorithm that asks for one (AEPO): drawn, graded and charged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from algorithms.base import Algorithm, ExtraRollouts
from algorithms.openrlhf.experiment import Recorder
from algorithms.openrlhf.rollouts import (
    Extra,
    Rollout,
    Row,
    first_positives,
    positives,
    training_batch,
)
from algorithms.openrlhf.sampling import Sampler
from algorithms.openrlhf.workers import Workers

Reward = Callable[[list[Rollout], str, int], list[Rollout]]  # rollouts, purpose and step


class SecondRollout:
    """Draws what `Algorithm.extra_rollouts` asks for, and makes of it what is trained on."""

    def __init__(
        self,
        algorithm: Algorithm,
        recorder: Recorder,
        sampler: Sampler,
        workers: Workers,
        reward: Reward,
    ):
        """`reward` returns the rollouts with verdicts and rewards."""
        self._algorithm = algorithm
        self._recorder = recorder
        self._sampler, self._workers = sampler, workers
        self._reward = reward

    def draw(
        self, step: int, state: dict[str, Any], rows: list[Row], measured: dict[str, float]
    ) -> tuple[Extra | None, list[Rollout]]:
        """What the algorithm samples besides: to be appended, or put in the places of `rows`.

        Returns (what to append, all that was drawn); notes in `measured` what was done.
        """
        asked = self._algorithm.extra_rollouts(state)
        if asked is None:
            return None, []
        drawn = self.until_quota(step, asked, [row.rollout for row in rows])
        rewards_PG = torch.tensor([r.reward for r in drawn]).view(-1, self._sampler.group_size)
        advantages = self._algorithm.extra_advantages(rewards_PG).reshape(-1).tolist()
        counted = first_positives(drawn, asked.positives)
        trained = [i for i in range(counted) if advantages[i] and drawn[i].sample.token_ids]
        measured |= {
            "extra/temperature": asked.temperature,
            "extra/samples": len(drawn),
            "extra/positives": positives(drawn[:counted]),
            "extra/trained": len(trained),
        }
        if not trained:
            return None, drawn
        with self._recorder.ledger.phase("experience"):
            extra = self._workers.measure([drawn[i] for i in trained], self._algorithm.temperatures)
        for row, i in zip(extra, trained, strict=True):
            row.advantages = torch.full_like(row.log_probs, advantages[i])
            row.reference = row.marks = torch.zeros_like(row.log_probs)
        if asked.inject == "replace":
            for position, row in enumerate(extra[: len(rows)]):
                row.advantages *= asked.coefficient
                rows[position] = row
            return None, drawn
        batch = training_batch(extra, self._workers.pad_token_id)
        tokens = sum(len(r.sample.token_ids) for r in drawn[:counted])
        return Extra(batch, counted, tokens, asked.coefficient), drawn

    def until_quota(
        self, step: int, asked: ExtraRollouts, rollouts: list[Rollout]
    ) -> list[Rollout]:
        """Groups of this step's prompts at another temperature until the quota is met.

        Each round draws as many prompts as the quota still needs at the rate of success seen so
        far, first that of the step's own `rollouts`; it ends when the quota is met or the allowed
        share of the prompts is used up.
        """
        ledger, group_size = self._recorder.ledger, self._sampler.group_size
        most = max(1, round(asked.prompts * self._sampler.prompts_per_step))
        drawn: list[Rollout] = []
        used = 0
        while used < most and (missing := asked.positives - positives(drawn)) > 0:
            seen = drawn or rollouts
            rate = max(positives(seen), 1) / len(seen)
            count = min(math.ceil(missing / (group_size * rate)), most - used)
            with ledger.phase("extra_generation"):
                places = range(used, used + count)
                fresh = self._sampler.groups(step, "extra", places, asked.temperature)
            with ledger.phase("reward"):
                drawn += self._reward(fresh, f"extra reward {used}", step)
            used += count
        return drawn

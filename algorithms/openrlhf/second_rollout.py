"""The second rollout of an algorithm that asks for one (AEPO): drawn, graded and charged."""

from __future__ import annotations

import math
from typing import Any

import torch

from algorithms.openrlhf.rollouts import (
    Extra,
    Rollout,
    Row,
    first_positives,
    positives,
    training_batch,
)


class SecondRollout:
    """The part of the controller that draws extra samples; see Algorithm.extra_rollouts."""

    def _extra(
        self, step: int, state: dict[str, Any], rows: list[Row], measured: dict[str, float]
    ) -> tuple[Extra | None, list[Rollout]]:
        """What the algorithm samples besides: to be appended, or put in the places of rows.

        Returns (what to append, all that was drawn); notes in `measured` what was done.
        """
        wanted = self.algorithm.extra_rollouts(state)
        if wanted is None:
            return None, []
        drawn = self._draw_positives(step, wanted, [row.rollout for row in rows])
        rewards_PG = torch.tensor([r.reward for r in drawn]).view(-1, self.group_size)
        advantages = self.algorithm.extra_advantages(rewards_PG).reshape(-1).tolist()
        counted = first_positives(drawn, wanted["positives"])
        chosen = [i for i in range(counted) if advantages[i] and drawn[i].sample.token_ids]
        measured |= {
            "extra/temperature": wanted["temperature"],
            "extra/samples": len(drawn),
            "extra/positives": positives(drawn[:counted]),
            "extra/trained": len(chosen),
        }
        if not chosen:
            return None, drawn
        with self.ledger.phase("experience"):
            extra = self._measure([drawn[i] for i in chosen])
        for row, i in zip(extra, chosen, strict=True):
            row.advantages = torch.full_like(row.log_probs, advantages[i])
            row.reference = row.marks = torch.zeros_like(row.log_probs)
        if wanted["inject"] == "replace":
            for position, row in enumerate(extra[: len(rows)]):
                row.advantages *= wanted["coefficient"]
                rows[position] = row
            return None, drawn
        batch = training_batch(extra, self.tokenizer.pad_token_id)
        tokens = sum(len(r.sample.token_ids) for r in drawn[:counted])
        return Extra(batch, counted, tokens, wanted["coefficient"]), drawn

    def _draw_positives(
        self, step: int, wanted: dict[str, Any], rollouts: list[Rollout]
    ) -> list[Rollout]:
        """Groups of this step's prompts at another temperature until the quota is met.

        Each round draws as many prompts as the quota still needs at the rate of success seen so
        far, first that of the step's own rollouts; it ends when the quota is met or the allowed
        share of the prompts is used up.
        """
        prompts, quota = self.args.rollout.batch_size, wanted["positives"]
        most = max(1, round(wanted["prompts"] * prompts))
        drawn: list[Rollout] = []
        used = 0
        while used < most and (missing := quota - positives(drawn)) > 0:
            seen = drawn or rollouts
            rate = max(positives(seen), 1) / len(seen)
            count = min(math.ceil(missing / (self.group_size * rate)), most - used)
            with self.ledger.phase("extra_generation"):
                fresh = self._sample_groups(
                    step, "extra", range(used, used + count), wanted["temperature"]
                )
            with self.ledger.phase("reward"):
                drawn += self._reward(fresh, f"extra reward {used}", step)
            used += count
        return drawn

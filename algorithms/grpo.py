"""GRPO: the baseline, and the base class that every other algorithm changes in one place.

Source: the objective that AEPO (2510.08141, section 3.1 and eq. 1) and CLIP (2509.26114, section
1.2) compare against: group-normalised advantages, the clipped surrogate with eps 0.2 / 0.2, no KL
term and no entropy term. `std=False` is Dr. GRPO (CLIP section 1.2): the group mean is subtracted
and nothing is divided. Left out: a KL penalty to the base model, which neither paper uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import algorithms

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """Settings of the algorithm and the methods its paper defines; see the module docstring.

    The trainer calls only the methods below. `state` is plain data (numbers and strings): it is
    saved in the checkpoint and is the same on every rank.
    """

    eps_low: float = 0.2  # AEPO; CLIP section 3.2 "symmetric": clip range below 1
    eps_high: float = 0.2  # the same, above 1; inf switches clip-high off
    std: bool = True  # divide by the group's standard deviation; False is Dr. GRPO

    def __post_init__(self) -> None:
        _require(
            0.0 <= self.eps_low <= 1.0,
            "eps_low",
            self.eps_low,
            "in [0, 1] (1.0 switches clip-low off)",
        )
        _require(
            self.eps_high >= 0.0, "eps_high", self.eps_high, ">= 0 (.inf switches clip-high off)"
        )
        _require(isinstance(self.std, bool), "std", self.std, "true or false")

    def advantages(self, rewards_PG: Tensor) -> Tensor:
        """A_i = (R_i - baseline) / std over the group, 0 when all G rewards are equal.

        The standard deviation is the sample one (G - 1), as OpenRLHF, verl and TRL compute it.
        """
        centred_PG = rewards_PG - self.baseline(rewards_PG)
        equal_P1 = (rewards_PG == rewards_PG[..., :1]).all(-1, keepdim=True)
        if self.std:
            centred_PG = centred_PG / rewards_PG.std(-1, keepdim=True).masked_fill(equal_P1, 1.0)
        return centred_PG.masked_fill(equal_P1, 0.0)

    def baseline(self, rewards_PG: Tensor) -> Tensor:
        """What each group's rewards are compared with, [P, 1]: their mean."""
        return rewards_PG.mean(-1, keepdim=True)

    def shape(self, advantages_BT: Tensor, entropy_BT: Tensor) -> Tensor:
        """Per-token advantages; GRPO gives every token of a response the same one.

        Called once a step with all response tokens of the global batch, in one dimension.
        """
        return advantages_BT

    def surrogate(
        self, log_probs_BT: Tensor, old_log_probs_BT: Tensor, advantages_BT: Tensor
    ) -> Tensor:
        """min(r A, clip(r, 1 - eps_low, 1 + eps_high) A) per token (AEPO eq. 1)."""
        return algorithms.objective.clipped_surrogate(
            log_probs_BT, old_log_probs_BT, advantages_BT, self.eps_low, self.eps_high
        )

    @property
    def has_bonus(self) -> bool:
        """Whether this algorithm defines a statistic to measure and reward."""
        return type(self).bonus_statistic is not GRPO.bonus_statistic

    def bonus_statistic(self, logits: Tensor) -> Tensor:
        """The per-token statistic that a bonus rewards; GRPO has none."""
        raise NotImplementedError

    def bonus_coefficient(self, state: dict[str, Any]) -> float:
        """lambda, the weight of the bonus at this state; GRPO asserts that it is 0."""
        return 0.0

    def bonus(self, logits: Tensor, state: dict[str, Any] | None = None) -> Tensor | None:
        """lambda * statistic: what is added to the objective of each token, or None."""
        coefficient = self.bonus_coefficient(self.initial_state() if state is None else state)
        return coefficient * self.bonus_statistic(logits) if coefficient else None

    def extra_rollouts(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """Temperature and positive-sample quota of a second rollout, or None."""
        return None

    def initial_state(self) -> dict[str, Any]:
        """The controller's state before the first step."""
        return {}

    def next_state(self, state: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        """The state after a step in which `measured` was seen over the whole global batch."""
        return state

    def clip_events(
        self, log_probs_BT: Tensor, old_log_probs_BT: Tensor, advantages_BT: Tensor
    ) -> dict[str, Tensor]:
        """Which tokens the clip silenced, the two sides apart (CLIP section 2.1).

        clip-low: r < 1 - eps_low with A < 0; clip-high: r > 1 + eps_high with A > 0.
        """
        ratio = algorithms.objective.importance_ratio(log_probs_BT, old_log_probs_BT)
        return {
            "clip_low": (ratio < 1.0 - self.eps_low) & (advantages_BT < 0),
            "clip_high": (ratio > 1.0 + self.eps_high) & (advantages_BT > 0),
        }


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {expected}, got {value!r}")

"""GRPO: the baseline that every other algorithm changes in one place.

Source: the objective that AEPO (2510.08141, section 3.1 and eq. 1) and CLIP (2509.26114, section
1.2) compare against: group-normalised advantages, the clipped surrogate with eps 0.2 / 0.2, no KL
term and no entropy term. `std: false` is Dr. GRPO (CLIP section 1.2): the group mean is subtracted
and nothing is divided. Left out: a KL penalty to the base model, which neither paper uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import algorithms
from algorithms.base import Algorithm, Batch, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GRPO(Algorithm):
    """Settings of GRPO; see the module docstring."""

    plain_if: ClassVar[tuple[str, ...]] = ("eps_low", "eps_high")  # at their defaults

    eps_low: float = 0.2  # AEPO; CLIP section 3.2 "symmetric": clip range below 1
    eps_high: float = 0.2  # the same, above 1; inf switches clip-high off
    std: bool = True  # divide by the group's standard deviation; False is Dr. GRPO

    def __post_init__(self) -> None:
        low, high = self.eps_low, self.eps_high
        require(0.0 <= low <= 1.0, "eps_low", low, "in [0, 1] (1.0 switches clip-low off)")
        require(high >= 0.0, "eps_high", high, ">= 0 (.inf switches clip-high off)")
        require(isinstance(self.std, bool), "std", self.std, "true or false")

    @property
    def is_plain(self) -> bool:
        """Whether these settings are the baseline's, with either choice of `std`."""
        plain = GRPO()
        return all(getattr(self, name) == getattr(plain, name) for name in self.plain_if)

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

    def objective(self, log_probs_BT: Tensor, batch: Batch) -> Tensor:
        """min(r A, clip(r, 1 - eps_low, 1 + eps_high) A) per token (AEPO eq. 1)."""
        return algorithms.objective.clipped_surrogate(
            log_probs_BT, batch.old_log_probs, batch.advantages, self.eps_low, self.eps_high
        )

    def clipped(self, log_probs_BT: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Which tokens the clip silenced, the two sides apart (CLIP section 2.1).

        clip-low: r < 1 - eps_low with A < 0; clip-high: r > 1 + eps_high with A > 0.
        """
        ratio = algorithms.objective.importance_ratio(log_probs_BT, batch.old_log_probs)
        return {
            "clip_low": (ratio < 1.0 - self.eps_low) & (batch.advantages < 0),
            "clip_high": (ratio > 1.0 + self.eps_high) & (batch.advantages > 0),
        }

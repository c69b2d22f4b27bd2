"""RLOO: the leave-one-out baseline, the control without a clipping bias.

Ahmadian et al. (2402.14740): A_i = R_i minus the mean reward of the other G - 1
responses. Meant for one optimizer step on each rollout batch (`train: {optimizer_steps_per_rollout:
1}` in the arm): there r = 1 and no clip can act; the clip is switched off as well.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RLOO(GRPO):
    """Settings of RLOO; `std` is not used."""

    unused: ClassVar[tuple[str, ...]] = ("std",)
    eps_low: float = 1.0  # no clip on either side
    eps_high: float = float("inf")

    def advantages(self, rewards_PG: Tensor) -> Tensor:
        """R_i - mean of the others = (R_i - mean) G / (G - 1)."""
        group = rewards_PG.shape[-1]
        others_PG = (rewards_PG.sum(-1, keepdim=True) - rewards_PG) / (group - 1)
        equal_P1 = (rewards_PG == rewards_PG[..., :1]).all(-1, keepdim=True)
        return (rewards_PG - others_PG).masked_fill(equal_P1, 0.0)

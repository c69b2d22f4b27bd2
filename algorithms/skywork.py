"""Skywork's entropy control: a bonus that is there only while entropy is at or below a target.

Skywork-OR1 (2505.22312): J = J_GRPO + c * 1[H <= H*] * mean H, and after each step
c <- c + delta if H <= H*, else c - delta, kept in [0, 1]. H is the entropy that the bonus rewards,
measured over the whole global batch, also while the bonus is off.
With `delta: 0` (c stays at 0) it is GRPO, bit for bit.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import algorithms
from algorithms.base import finite, require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Skywork(GRPO):
    """Settings of Skywork's control; see the module docstring."""

    target: float = 0.2  # H*, nats
    delta: float = 0.005  # step of the coefficient
    coefficient: float = 0.0  # c before the first step

    def __post_init__(self) -> None:
        super().__post_init__()
        require(finite(self.target) and self.target >= 0.0, "target", self.target, "nats, >= 0")
        require(self.delta >= 0.0, "delta", self.delta, ">= 0")
        require(0.0 <= self.coefficient <= 1.0, "coefficient", self.coefficient, "in [0, 1]")

    def bonus_statistic(self, logits: Tensor) -> Tensor:
        """H_t, the exact token entropy."""
        return algorithms.entropy.token_entropy(logits)

    def bonus_coefficient(self, state: dict[str, Any]) -> float:
        """c while the last entropy was at or below the target, else 0."""
        return state["coefficient"] if state["active"] else 0.0

    def initial_state(self) -> dict[str, Any]:
        """c at its start, the bonus off until entropy has been measured."""
        return {"coefficient": self.coefficient, "active": False}

    def next_state(self, state: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        """c up while entropy is low, down while it is high."""
        low = measured["bonus_statistic"] <= self.target
        moved = state["coefficient"] + (self.delta if low else -self.delta)
        return {"coefficient": min(max(moved, 0.0), 1.0), "active": low}

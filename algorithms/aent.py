"""AEnt: GRPO plus a bonus on the clamped entropy, with a coefficient that keeps it in a band.

AEnt (2509.03493) eq. 4.1, 4.2 and Algorithm 1. Per state, H~ is the entropy among the
(1 - p) V most likely tokens, renormalised; J = J_GRPO + lambda * mean H~. After every global step

    lambda <- clip(lambda - beta min(H~ - H_low, 0) + beta min(H_high - H~, 0), box)

with the H~ that the loss used, averaged over the whole global batch: below the band lambda rises,
above it falls, inside it stays. lambda starts to move in epoch `moves_from` (counted from 1), the
paper's warm-up. Defaults are setting (a) of the paper (Qwen2.5-Math-1.5B on MATH).
p is a fraction of the vocabulary, neither a probability mass nor a fixed k. `beta: 0` is the
ablation with constant lambda; with `p: 0` as well it is EntReg, and with `coefficient: 0` GRPO.
Left out: settings (b) and (c), which are other values of the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import algorithms
from algorithms.base import require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AEnt(GRPO):
    """Settings of AEnt; see the module docstring."""

    p: float = 0.33  # setting (a): share of the vocabulary left out
    entropy_low: float = 0.15  # H_low, nats
    entropy_high: float = 0.24  # H_high, nats
    coefficient: float = 0.002  # lambda_0
    beta: float = 0.002  # step size of lambda; 0 keeps it constant (Fig. 5)
    coefficient_low: float = 0.0006  # the box that lambda stays in
    coefficient_high: float = 0.009
    moves_from: int = 3  # epoch in which lambda starts to move

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 <= self.p < 1.0, "p", self.p, "in [0, 1)")
        require(self.coefficient >= 0.0, "coefficient", self.coefficient, ">= 0")
        require(self.beta >= 0.0, "beta", self.beta, ">= 0")
        ordered = self.entropy_low <= self.entropy_high
        require(ordered, "entropy_low", self.entropy_low, f"<= entropy_high {self.entropy_high}")
        box = 0.0 <= self.coefficient_low <= self.coefficient_high
        require(box, "coefficient_low", self.coefficient_low, "in [0, coefficient_high]")

    def bonus_statistic(self, logits: Tensor) -> Tensor:
        """H~_t (eq. 4.1)."""
        return algorithms.entropy.clamped_entropy(logits, self.p)

    def bonus_coefficient(self, state: dict[str, Any]) -> float:
        """lambda, as the controller left it."""
        return state["coefficient"]

    def initial_state(self) -> dict[str, Any]:
        """lambda_0."""
        return {"coefficient": self.coefficient}

    def next_state(self, state: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        """Algorithm 1's update of lambda from `measured["bonus_statistic"]` (H~) and "epoch"."""
        if self.beta == 0.0 or measured.get("epoch", float("inf")) < self.moves_from:
            return state
        entropy = measured["bonus_statistic"]
        moved = state["coefficient"]
        moved -= self.beta * min(entropy - self.entropy_low, 0.0)
        moved += self.beta * min(self.entropy_high - entropy, 0.0)
        return {
            **state,
            "coefficient": min(max(moved, self.coefficient_low), self.coefficient_high),
        }


@dataclass(frozen=True, kw_only=True)
class AEntConstant(AEnt):
    """The ablation with a constant coefficient (Fig. 5)."""

    beta: float = 0.0

"""EntReg: GRPO plus a constant entropy bonus.

J = J_GRPO + lambda * mean token entropy (CLIP 2509.26114 eq. 3), exact over the full vocabulary and
differentiable: the baseline "EntReg" of AEnt (2509.03493, with lambda 0.002) and "Entropy-Reg" of
AEPO (2510.08141, with lambda 0.015). The entropy is averaged as the surrogate is (mean over a
response's tokens, then over responses). lambda is constant: there is no controller.
With `coefficient: 0` it is GRPO, bit for bit.
Left out: the training recipe, which is the matrix's.
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
class EntReg(GRPO):
    """Settings of EntReg; see the module docstring."""

    coefficient: float = 0.002  # lambda: 0.002 in AEnt, 0.015 in AEPO

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.coefficient >= 0.0, "coefficient", self.coefficient, ">= 0")

    def bonus_statistic(self, logits: Tensor) -> Tensor:
        """H_t, the exact entropy of each token's distribution (CLIP eq. 3)."""
        return algorithms.entropy.token_entropy(logits)

    def bonus_coefficient(self, state: dict[str, Any]) -> float:
        """lambda is constant."""
        return self.coefficient

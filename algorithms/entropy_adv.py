"""Entropy-Adv: GRPO whose advantages are raised a little where the policy was uncertain.

Cheng et al. (2506.14758), a baseline of AEPO (2510.08141):

    psi_t = min(beta * H_t, |A_t| / kappa),   A_t <- A_t + psi_t

with H_t the token entropy of the policy that sampled, without a gradient. psi never exceeds a part
1/kappa of |A_t|, so for kappa > 1 no advantage changes its sign, and a group without signal keeps
its zero advantages. With `beta: 0` it is GRPO, bit for bit.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.base import require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class EntropyAdv(GRPO):
    """Settings of Entropy-Adv; see the module docstring."""

    beta: float = 0.4  # weight of the entropy
    kappa: float = 2.0  # |A| / kappa bounds what is added

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta >= 0.0, "beta", self.beta, ">= 0")
        require(self.kappa > 0.0, "kappa", self.kappa, "> 0")

    def shape(self, advantages_BT: Tensor, entropy_BT: Tensor) -> Tensor:
        """A_t + min(beta H_t, |A_t| / kappa)."""
        bound_BT = advantages_BT.abs() / self.kappa
        return advantages_BT + (self.beta * entropy_BT.detach()).minimum(bound_BT)

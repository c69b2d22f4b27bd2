"""CISPO: clip the importance weight, never the gradient of a token.

MiniMax-M1 (2506.13585): J = sg(min(r, 1 + eps_max)) * A * log pi per token, with sg the
stop-gradient. Every token keeps a gradient; a large ratio only stops growing in weight. With
`eps_max: .inf` its gradient is that of the surrogate with both clips off. Left out: the paper's
removal of weak groups and its length penalty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import algorithms
from algorithms.base import Batch, require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CISPO(GRPO):
    """Settings of CISPO; the inherited clip range is not used."""

    unused: ClassVar[tuple[str, ...]] = ("eps_low", "eps_high")
    only_ratio: ClassVar[bool] = True

    eps_low: float = 1.0  # no lower bound
    eps_high: float = float("inf")
    eps_max: float = 5.0  # the weight's upper bound is 1 + eps_max

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.eps_max >= 0.0, "eps_max", self.eps_max, ">= 0")

    def objective(self, log_probs_BT: Tensor, batch: Batch) -> Tensor:
        """sg(min(r, 1 + eps_max)) A log pi."""
        ratio = algorithms.objective.importance_ratio(log_probs_BT, batch.old_log_probs)
        weight = ratio.detach().clamp(max=1.0 + self.eps_max)
        return weight * batch.advantages * log_probs_BT

    def clipped(self, log_probs_BT: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Tokens whose weight is held at 1 + eps_max."""
        ratio = algorithms.objective.importance_ratio(log_probs_BT, batch.old_log_probs)
        held = ratio > 1.0 + self.eps_max
        return {"clip_low": held & False, "clip_high": held}

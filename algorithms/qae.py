"""QAE: a quantile of the group's rewards as the baseline, not their mean.

Quantile advantage estimation (2509.22611): A_i = (R_i - Q_K) / std over the group, with
Q_K the smallest reward that at least a share K of the group does not exceed. With 0/1 rewards, on
hard prompts (share correct <= 1 - K) only the rare successes count, on easy ones only the remaining
failures. The standard deviation is GRPO's (`std: false` leaves it out).
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.base import require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class QAE(GRPO):
    """Settings of QAE; see the module docstring."""

    quantile: float = 0.4  # K

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 < self.quantile <= 1.0, "quantile", self.quantile, "in (0, 1]")

    def baseline(self, rewards_PG: Tensor) -> Tensor:
        """Q_K of each group, [P, 1]."""
        rank = math.ceil(self.quantile * rewards_PG.shape[-1]) - 1
        return rewards_PG.sort(-1).values[..., rank : rank + 1]

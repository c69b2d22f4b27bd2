"""QAE: a quantile of the group's rewards as the baseline, not their mean.

Quantile advantage estimation (2509.22611): A_i = (R_i - Q_K) / std over the group, with
Q_K the smallest reward that at least a share K of the group does not exceed. With 0/1 rewards, on
hard prompts (share correct <= 1 - K) only the rare successes count, on easy ones only the remaining
failures. The standard deviation is GRPO's (`std: false` leaves it out).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.grpo import GRPO, _require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class QAE(GRPO):
    """Settings of QAE; see the module docstring."""

    quantile: float = 0.4  # K

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0.0 < self.quantile <= 1.0, "quantile", self.quantile, "in (0, 1]")

    def advantages(self, rewards_PG: Tensor) -> Tensor:
        """(R_i - Q_K) / std, 0 when all rewards of a group are equal."""
        rank = math.ceil(self.quantile * rewards_PG.shape[-1]) - 1
        baseline_P1 = rewards_PG.sort(-1).values[..., rank : rank + 1]
        equal_P1 = (rewards_PG == rewards_PG[..., :1]).all(-1, keepdim=True)
        advantages_PG = rewards_PG - baseline_P1
        if self.std:
            advantages_PG = advantages_PG / rewards_PG.std(-1, keepdim=True).masked_fill(
                equal_P1, 1.0
            )
        return advantages_PG.masked_fill(equal_P1, 0.0)

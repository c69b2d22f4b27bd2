"""Learn only from the tokens where the policy hesitates.

Wang et al. (2506.01939): the policy gradient of a batch flows only through the share
rho of its response tokens with the highest entropy; the objective is DAPO's (eps 0.2 / 0.28). The
entropy is that of the policy that sampled, and the threshold is the (1 - rho) quantile over the
whole global batch. Averages still run over all tokens. With `share: 1` it is DAPO, bit for bit.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from algorithms.base import require
from algorithms.dapo import DAPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HighEntropyTokens(DAPO):
    """Settings; see the module docstring."""

    only_ratio: ClassVar[bool] = False

    share: float = 0.2  # rho

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 < self.share <= 1.0, "share", self.share, "in (0, 1]")

    def shape(self, advantages_N: Tensor, entropy_N: Tensor) -> Tensor:
        """Zero advantage for every token below the batch's (1 - rho) quantile of entropy."""
        count = max(1, round(self.share * entropy_N.numel()))
        threshold = entropy_N.flatten().kthvalue(entropy_N.numel() - count + 1).values
        return advantages_N.masked_fill(entropy_N < threshold, 0.0)

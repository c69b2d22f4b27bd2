"""W-REINFORCE: learn mostly from what was wrong.

Zhu et al. (2506.01347): a correct response has the advantage +weight, a wrong one -1,
without a group baseline; weight 0.1 keeps the positive signal from collapsing entropy. The ratio is
clipped as in GRPO, since several optimizer steps are made on a rollout batch. `weight: 1` is plain
REINFORCE with rewards +-1, `weight: 0` the paper's negative-only NSR.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from algorithms.base import require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class WReinforce(GRPO):
    """Settings of W-REINFORCE; `std` is not used."""

    unused: ClassVar[tuple[str, ...]] = ("std",)
    weight: float = 0.1  # lambda

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weight >= 0.0, "weight", self.weight, ">= 0")

    def advantages(self, rewards_PG: Tensor) -> Tensor:
        """+weight where the reward is above 1/2, -1 elsewhere."""
        wrong_PG = -rewards_PG.new_ones(rewards_PG.shape)
        return wrong_PG.masked_fill(rewards_PG > 0.5, self.weight)

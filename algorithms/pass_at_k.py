"""Pass@k training: the advantage of a response for its group's pass@k.

Chen et al. (2508.10751): with c of the group's n responses correct,

    rho = 1 - C(n-c, k) / C(n, k),   sigma = sqrt(rho (1 - rho))
    A+  = (1 - rho) / sigma
    A-  = (1 - rho - C(n-c-1, k-1) / C(n-1, k-1)) / sigma

the mean over all subsets of k of their normalised reward "one of them is correct". A group whose
pass@k is 0 or 1 gives no signal. With `k: 1` it is GRPO with the population standard deviation.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from algorithms.base import require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PassAtK(GRPO):
    """Settings of pass@k training; `std` is not used."""

    unused: ClassVar[tuple[str, ...]] = ("std",)
    k: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.k, int) and self.k >= 1, "k", self.k, "a whole number >= 1")

    def group_problem(self, group: int) -> str | None:
        """pass@k of n = k responses is 0 or 1."""
        if group > self.k:
            return None
        return f"pass@{self.k} training needs more than {self.k} samples_per_prompt, not {group}"

    def advantages(self, rewards_PG: Tensor) -> Tensor:
        """A+ for correct responses (reward above 1/2), A- for the others.

        Raises:
            ValueError: groups smaller than k.
        """
        n = rewards_PG.shape[-1]
        if n < self.k:
            raise ValueError(f"pass@{self.k} training needs groups of at least {self.k}, not {n}")
        correct_PG = rewards_PG > 0.5
        pairs = [self._pair(n, int(c)) for c in correct_PG.sum(-1).flatten()]
        shape = (*rewards_PG.shape[:-1], 1)
        plus_P1, minus_P1 = (
            rewards_PG.new_tensor(side).view(shape) for side in zip(*pairs, strict=True)
        )
        return plus_P1.where(correct_PG, minus_P1)

    def _pair(self, n: int, c: int) -> tuple[float, float]:
        """(A+, A-) of a group with c of n correct."""
        failing = math.comb(n - c, self.k) / math.comb(n, self.k)  # 1 - rho
        sigma = math.sqrt(failing * (1.0 - failing))
        if sigma == 0.0:
            return 0.0, 0.0
        without = math.comb(n - c - 1, self.k - 1) / math.comb(n - 1, self.k - 1) if c < n else 0.0
        return failing / sigma, (failing - without) / sigma

"""Clip-Cov: no gradient from a few of the tokens that drive entropy down the most.

Cui et al. (2505.22617): with cov_t = (A_t - mean A) (l_t - mean l) over the response tokens of the
global batch, l = log pi, entropy falls where cov is large. Of N tokens a share r_c, drawn at random
among those with omega_low < cov < omega_high, loses its gradient; the rest is GRPO.
With `share: 0` it is GRPO, bit for bit.

cov is taken once a step with the log-probs of pi_old, over all ranks, where no token is clipped
yet; the authors' code takes it in every micro-batch with those of pi_theta.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import algorithms
from algorithms.base import Tokens, require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClipCov(GRPO):
    """Settings of Clip-Cov; see the module docstring."""

    share: float = 2e-4  # r_c
    cov_low: float = 1.0  # omega_low
    cov_high: float = 5.0  # omega_high

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 <= self.share <= 1.0, "share", self.share, "in [0, 1]")
        require(self.cov_low < self.cov_high, "cov_low", self.cov_low, "below cov_high")

    def credit(self, tokens: Tokens, state: dict[str, Any]) -> Tensor:
        """Advantage 0 for ceil(r_c N) of the tokens in the window, drawn by `tokens.seed`."""
        cov_N = algorithms.objective.covariance(tokens.advantages, tokens.log_probs)
        window = ((cov_N > self.cov_low) & (cov_N < self.cov_high)).nonzero()[:, 0]
        count = math.ceil(self.share * cov_N.numel())
        drawn = algorithms.objective.draw(window, count, tokens.seed)
        return tokens.advantages.index_fill(0, drawn, 0.0)

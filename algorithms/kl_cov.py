"""KL-Cov: a KL penalty on the few tokens that drive entropy down the most.

Cui et al. (2505.22617): J = r A per token, unclipped, minus beta |log pi_theta - log pi_old| on the
share k of the global batch's tokens with the largest cov_t = (A_t - mean A) (l_t - mean l), l =
log pi. k is 2e-3 for 7B models. With `share: 0` it is GRPO with both clips off, bit for bit.

The tokens are chosen once a step with the log-probs of pi_old; the authors' code chooses them in
every micro-batch with those of pi_theta.
Left out: the training recipe, which is the matrix's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import algorithms
from algorithms.base import Batch, Tokens, require
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class KLCov(GRPO):
    """Settings of KL-Cov; see the module docstring."""

    eps_low: float = 1.0  # no clip on either side
    eps_high: float = float("inf")
    share: float = 2e-3  # k
    coefficient: float = 1.0  # beta

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 <= self.share <= 1.0, "share", self.share, "in [0, 1]")
        require(self.coefficient >= 0.0, "coefficient", self.coefficient, ">= 0")

    def marks(self, tokens: Tokens) -> Tensor | None:
        """1 on the ceil(k N) tokens with the largest covariance, 0 elsewhere."""
        cov_N = algorithms.objective.covariance(tokens.advantages, tokens.log_probs)
        top = cov_N.topk(math.ceil(self.share * cov_N.numel())).indices
        return cov_N.new_zeros(cov_N.shape).index_fill(0, top, 1.0)

    def objective(self, log_probs_BT: Tensor, batch: Batch) -> Tensor:
        """r A - beta |log r| on the marked tokens, r A on the others."""
        objective_BT = super().objective(log_probs_BT, batch)
        if batch.marks is None or self.share == 0.0:
            return objective_BT
        drift_BT = (log_probs_BT - batch.old_log_probs.detach()).abs()
        return objective_BT - self.coefficient * batch.marks * drift_BT

"""GSPO: one importance ratio for a whole response.

Zheng et al. (2507.18071): s_i = exp(mean over the tokens of log pi_theta - log pi_old) takes the
place of r, J = mean over responses of min(s A, clip(s, 1 - eps_low, 1 + eps_high) A). The clip
range is far smaller than GRPO's, because a mean varies less than a token. For responses of one
token and eps 0.2 / 0.2 it is GRPO, bit for bit. Left out: the token-level variant GSPO-token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import algorithms
from algorithms.base import Batch
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GSPO(GRPO):
    """Settings of GSPO; see the module docstring."""

    only_ratio: ClassVar[bool] = True

    eps_low: float = 3e-4
    eps_high: float = 4e-4

    def objective(self, log_probs_BT: Tensor, batch: Batch) -> Tensor:
        """GRPO's surrogate of s, the same number at every token of a response."""
        return super().objective(*_whole_responses(log_probs_BT, batch))

    def clipped(self, log_probs_BT: Tensor, batch: Batch) -> dict[str, Tensor]:
        """All tokens of a response that is outside the range."""
        return super().clipped(*_whole_responses(log_probs_BT, batch))


def _whole_responses(log_probs_BT: Tensor, batch: Batch) -> tuple[Tensor, Batch]:
    """log s of each response at each of its tokens, [B, T], over old log-probs of 0."""
    log_ratio_BT = log_probs_BT - batch.old_log_probs.detach()
    mean_B1 = algorithms.objective.response_mean(log_ratio_BT, batch.inside).unsqueeze(-1)
    mean_BT = mean_B1.expand(log_ratio_BT.shape)
    return mean_BT, replace(batch, old_log_probs=mean_BT.new_zeros(mean_BT.shape))

"""GSPO: one importance ratio for a whole response.

Zheng et al. (2507.18071): s_i = exp(mean over the tokens of log pi_theta - log pi_old) takes the
place of r, J = mean over responses of min(s A, clip(s, 1 - eps_low, 1 + eps_high) A). The clip
range is far smaller than GRPO's, because a mean varies less than a token. For responses of one
token and eps 0.2 / 0.2 it is GRPO, bit for bit. Left out: the token-level variant GSPO-token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import algorithms
from algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GSPO(GRPO):
    """Settings of GSPO; see the module docstring."""

    only_ratio: ClassVar[bool] = True

    eps_low: float = 3e-4
    eps_high: float = 4e-4

    def surrogate(
        self,
        log_probs_BT: Tensor,
        old_log_probs_BT: Tensor,
        advantages_BT: Tensor,
        mask_BT: Tensor | None = None,
        marks_BT: Tensor | None = None,
    ) -> Tensor:
        """GRPO's surrogate of s, the same number at every token of a response."""
        mean_BT = _mean_log_ratio(log_probs_BT, old_log_probs_BT, mask_BT)
        return super().surrogate(mean_BT, mean_BT.new_zeros(mean_BT.shape), advantages_BT)

    def clip_events(
        self,
        log_probs_BT: Tensor,
        old_log_probs_BT: Tensor,
        advantages_BT: Tensor,
        mask_BT: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """All tokens of a response that is outside the range."""
        mean_BT = _mean_log_ratio(log_probs_BT, old_log_probs_BT, mask_BT)
        return super().clip_events(mean_BT, mean_BT.new_zeros(mean_BT.shape), advantages_BT)


def _mean_log_ratio(log_probs_BT: Tensor, old_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
    """log s of each response at each of its tokens, [B, T]."""
    log_ratio_BT = log_probs_BT - old_BT.detach()
    if mask_BT is None:
        mask_BT = log_ratio_BT.new_ones(log_ratio_BT.shape)
    mean_B1 = algorithms.objective.response_mean(log_ratio_BT, mask_BT).unsqueeze(-1)
    return mean_B1.expand(log_ratio_BT.shape)

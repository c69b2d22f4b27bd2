"""The surrogate objective and its aggregation: what every algorithm file builds on.

Shapes, here and in every algorithm file:
    _B responses of a batch   _T response tokens   _V vocabulary
    _P prompts                _G responses of one prompt's group (B = P * G, prompt-major)
A mask_BT is 1 on response tokens and 0 on padding. Everything is an *objective* (to be maximised);
the trainer negates it once.
"""

from __future__ import annotations

import torch
from torch import Tensor

AGGREGATIONS = ("seq-mean-token-mean", "token-mean")


def importance_ratio(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """r = pi_theta / pi_old per token, both at temperature 1; only the numerator has a gradient.

    The log-ratio is bounded to +-20 so that one broken token cannot overflow the batch.
    """
    return torch.exp((log_probs - old_log_probs.detach()).clamp(-20.0, 20.0))


def clipped_surrogate(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    eps_low: float,
    eps_high: float,
) -> Tensor:
    """min(r A, clip(r, 1 - eps_low, 1 + eps_high) A) per token (AEPO 2510.08141 eq. 1).

    Args:
        log_probs, old_log_probs, advantages: tensors of one shape, e.g. [B, T].
        eps_low: in [0, 1]; 1.0 switches clip-low off (r cannot fall below 0).
        eps_high: >= 0; `inf` switches clip-high off.

    Returns:
        The objective per token, same shape, differentiable in `log_probs`.

    Raises:
        ValueError: a clip range outside these bounds.
    """
    if not 0.0 <= eps_low <= 1.0:
        raise ValueError(f"eps_low must be in [0, 1] (1 switches clip-low off), got {eps_low}")
    if not eps_high >= 0.0:
        raise ValueError(f"eps_high must be >= 0 (inf switches clip-high off), got {eps_high}")
    ratio = importance_ratio(log_probs, old_log_probs)
    clipped = ratio.clamp(1.0 - eps_low, 1.0 + eps_high)
    return torch.minimum(ratio * advantages, clipped * advantages)


def aggregate(
    values_BT: Tensor,
    mask_BT: Tensor,
    mode: str = "seq-mean-token-mean",
    *,
    total: Tensor | float | None = None,
) -> Tensor:
    """One number from per-token values: the weighting of tokens and responses.

    Args:
        values_BT: per-token values; padding is ignored even when it is not finite.
        mask_BT: 1 on response tokens.
        mode: "seq-mean-token-mean", the mean over responses of the mean over their tokens (AEPO
            eq. 1, CLIP 2509.26114 section 1.2), or "token-mean", the mean over all tokens (DAPO).
        total: the denominator when this is a part of a larger batch: the number of its non-empty
            responses, or of its tokens. By default that of this batch.

    Returns:
        A scalar. Responses without tokens count for nothing.

    Raises:
        ValueError: unknown mode.
    """
    mask = mask_BT.bool()
    values = torch.where(mask, values_BT, torch.zeros_like(values_BT))
    tokens_B = mask.sum(-1)
    if mode == "token-mean":
        return values.sum() / (tokens_B.sum().clamp(min=1) if total is None else total)
    if mode == "seq-mean-token-mean":
        means_B = response_mean(values, mask)
        return means_B.sum() / ((tokens_B > 0).sum().clamp(min=1) if total is None else total)
    raise ValueError(f"unknown aggregation {mode!r}; valid: {', '.join(AGGREGATIONS)}")


def response_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean over each response's tokens, [B]; 0 for a response without tokens."""
    mask = mask_BT.bool()
    values = torch.where(mask, values_BT, torch.zeros_like(values_BT))
    return values.sum(-1) / mask.sum(-1).clamp(min=1)


def covariance(advantages_N: Tensor, log_probs_N: Tensor) -> Tensor:
    """(A_t - mean A) (l_t - mean l) of each token, [N] (2505.22617)."""
    return (advantages_N - advantages_N.mean()) * (log_probs_N - log_probs_N.mean())


def draw(items: Tensor, count: int, seed: int) -> Tensor:
    """At most `count` of the items (one dimension), drawn without replacement by `seed`."""
    generator = torch.Generator().manual_seed(seed)
    return items[torch.randperm(len(items), generator=generator)[:count].to(items.device)]

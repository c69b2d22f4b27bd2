"""Token entropy, exact over the full vocabulary, with an analytic gradient.

H_t = -sum_a pi(a) log pi(a) in nats, pi = softmax(logits) (CLIP 2509.26114 eq. 3). The gradient is
dH/dz_a = -pi_a (log pi_a + H). Both are computed in chunks of rows in fp32 (fp64 for fp64 input),
so that no second [tokens, V] buffer lives beside the logits and their gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

DEFAULT_CHUNK = 4096


def _accumulation_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _entropy_terms(rows_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log pi, pi and H of some rows; an impossible token (-inf) contributes 0.

    With s = z - max z, Z = sum e^s: log pi = s - log Z and H = log Z - sum(e^s s) / Z. The two sums
    run in fp64: over 150,000 tokens fp32 would lose the fifth digit of H.
    """
    rows_V = rows_V.to(_accumulation_dtype(rows_V))
    shifted = rows_V - rows_V.amax(-1, keepdim=True)
    powers = shifted.exp()
    total = powers.sum(-1, keepdim=True, dtype=torch.float64)
    weighted = torch.where(powers > 0, powers * shifted, torch.zeros_like(powers))
    entropy = (total.log() - weighted.sum(-1, keepdim=True, dtype=torch.float64) / total).squeeze(
        -1
    )
    log_pi = shifted - total.log().to(shifted.dtype)
    return log_pi, powers / total.to(powers.dtype), entropy.to(shifted.dtype)


class _TokenEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, chunk: int) -> Tensor:
        rows = logits.reshape(-1, logits.shape[-1])
        entropy = rows.new_empty(rows.shape[0], dtype=_accumulation_dtype(logits))
        for start in range(0, rows.shape[0], chunk):
            part = slice(start, start + chunk)
            entropy[part] = _entropy_terms(rows[part])[2]
        ctx.save_for_backward(logits)
        ctx.chunk = chunk
        return entropy.reshape(logits.shape[:-1])

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        rows = logits.reshape(-1, logits.shape[-1])
        weights = grad_output.reshape(-1, 1)
        grad = torch.empty_like(rows)
        for start in range(0, rows.shape[0], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            log_pi, pi, entropy = _entropy_terms(rows[part])
            slope = torch.where(
                pi > 0, -pi * (log_pi + entropy.unsqueeze(-1)), torch.zeros_like(pi)
            )
            grad[part] = (weights[part] * slope).to(grad.dtype)
        return grad.reshape(logits.shape), None


def token_entropy(logits: Tensor, *, chunk: int = DEFAULT_CHUNK) -> Tensor:
    """H_t in nats over the last axis.

    Args:
        logits: [..., V] at temperature 1; -inf marks an impossible token.
        chunk: rows handled at a time; memory beside the input is about chunk * V floats.

    Returns:
        Tensor [...] in fp32 (fp64 for fp64 logits), differentiable once in `logits`.

    Raises:
        ValueError: logits without a vocabulary axis, or chunk < 1.
    """
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need a vocabulary axis, got shape {tuple(logits.shape)}")
    if chunk < 1:
        raise ValueError(f"chunk must be >= 1, got {chunk}")
    return _TokenEntropy.apply(logits, chunk)

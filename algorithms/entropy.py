"""Token entropy and its clamped variant, exact, with analytic gradients.

    H_t  = -sum_a pi(a) log pi(a)           over the vocabulary (CLIP 2509.26114 eq. 3)
    H~_t = the same over A(s), the V - int(V p) most likely tokens, renormalised
                                            (AEnt 2509.03493 eq. 4.1, 4.2)

in nats, pi = softmax(logits). dH/dz_a = -pi_a (log pi_a + H) on the tokens that count, 0 elsewhere;
the set A(s) is a constant for the gradient. Forward and backward run in chunks of rows in fp32
(fp64 for fp64 input), so that no second [tokens, V] buffer lives beside the logits and their
gradient. A(s) is found by a selection threshold per row, not by a sort, never on another device;
where it is a small part of the vocabulary, only that part is computed on.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_NUMBERS = 1 << 22  # numbers of one chunk: 16 MiB in fp32
SMALL_PART = 8  # at most one in so many tokens kept: gather them instead of masking the others


def _accumulation_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _entropy_terms(rows_V: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """s = z - max z, e^s, Z = sum e^s and H of some rows; an impossible token (-inf) adds 0 to H.

    log pi = s - log Z and H = log Z - sum(e^s s) / Z. The two sums run in fp64: over 150,000 tokens
    fp32 would lose the fifth digit of H.
    """
    rows_V = rows_V.to(_accumulation_dtype(rows_V))
    shifted = rows_V - rows_V.amax(-1, keepdim=True)
    powers = shifted.exp()
    total = powers.sum(-1, keepdim=True, dtype=torch.float64)
    weighted = torch.where(powers > 0, powers * shifted, torch.zeros_like(powers))
    entropy = total.log() - weighted.sum(-1, keepdim=True, dtype=torch.float64) / total
    return shifted, powers, total, entropy.squeeze(-1).to(shifted.dtype)


def _clamp(rows_V: Tensor, dropped: int) -> Tensor:
    """The rows with their `dropped` least likely tokens made impossible, exactly so many.

    Tokens tied at the threshold are dropped from the left until the count is right.
    """
    if dropped == 0:
        return rows_V
    threshold = rows_V.kthvalue(dropped + 1, dim=-1, keepdim=True).values
    out = rows_V < threshold
    missing = dropped - out.sum(-1, keepdim=True)
    if missing.any():
        ties = rows_V == threshold
        out |= ties & (ties.cumsum(-1) <= missing)
    return rows_V.masked_fill(out, float("-inf"))


def _slope(rows_V: Tensor) -> Tensor:
    """dH/dz of some rows: -pi (log pi + H), 0 on impossible tokens."""
    shifted, powers, total, entropy = _entropy_terms(rows_V)
    log_pi = shifted - total.log().to(shifted.dtype)
    pi = powers / total.to(powers.dtype)
    return torch.where(pi > 0, -pi * (log_pi + entropy.unsqueeze(-1)), torch.zeros_like(pi))


class _EntropyOfFew(torch.autograd.Function):
    """The clamped entropy when few tokens are kept: on a gathered [rows, kept] table."""

    @staticmethod
    def forward(ctx, logits: Tensor, kept: int) -> Tensor:
        rows = logits.reshape(-1, logits.shape[-1])
        values, places = rows.topk(kept, dim=-1, sorted=False)
        ctx.save_for_backward(values, places)
        ctx.shape = logits.shape
        return _entropy_terms(values)[-1].reshape(logits.shape[:-1])

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None]:
        values, places = ctx.saved_tensors
        slope = (grad_output.reshape(-1, 1) * _slope(values)).to(values.dtype)
        grad = values.new_zeros(values.shape[0], ctx.shape[-1]).scatter_(-1, places, slope)
        return grad.reshape(ctx.shape), None


class _Entropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, dropped: int, chunk: int) -> Tensor:
        rows = logits.reshape(-1, logits.shape[-1])
        entropy = rows.new_empty(rows.shape[0], dtype=_accumulation_dtype(logits))
        for start in range(0, rows.shape[0], chunk):
            part = slice(start, start + chunk)
            entropy[part] = _entropy_terms(_clamp(rows[part], dropped))[-1]
        ctx.save_for_backward(logits)
        ctx.dropped, ctx.chunk = dropped, chunk
        return entropy.reshape(logits.shape[:-1])

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (logits,) = ctx.saved_tensors
        rows = logits.reshape(-1, logits.shape[-1])
        weights = grad_output.reshape(-1, 1)
        grad = torch.empty_like(rows)
        for start in range(0, rows.shape[0], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            slope = _slope(_clamp(rows[part], ctx.dropped))
            grad[part] = (weights[part] * slope).to(grad.dtype)
        return grad.reshape(logits.shape), None, None


def token_entropy(logits: Tensor, *, chunk: int | None = None) -> Tensor:
    """H_t in nats over the last axis.

    Args:
        logits: [..., V] at temperature 1; -inf marks an impossible token.
        chunk: rows handled at a time, by default about 4 million numbers' worth; memory beside the
            input is a few chunk * V floats.

    Returns:
        Tensor [...] in fp32 (fp64 for fp64 logits), differentiable once in `logits`.

    Raises:
        ValueError: logits without a vocabulary axis, or chunk < 1.
    """
    return _Entropy.apply(logits, 0, _rows(logits, chunk))


def clamped_entropy(logits: Tensor, p: float, *, chunk: int | None = None) -> Tensor:
    """H~_t in nats: the entropy among the V - int(V p) most likely tokens, renormalised.

    Args:
        logits: [..., V] at temperature 1; -inf marks an impossible token.
        p: fraction of the vocabulary that is left out, in [0, 1); 0 is `token_entropy`.
        chunk: rows handled at a time.

    Returns:
        Tensor [...] in fp32 (fp64 for fp64 logits), differentiable once in `logits`; the tokens
        left out get no gradient. Of tokens tied at the threshold the right number is kept.

    Raises:
        ValueError: p outside [0, 1), logits without a vocabulary axis, or chunk < 1.
    """
    rows = _rows(logits, chunk)
    if not 0.0 <= p < 1.0:
        raise ValueError(f"p must be in [0, 1): a fraction of the vocabulary, got {p}")
    dropped = int(logits.shape[-1] * p)
    kept = logits.shape[-1] - dropped
    if kept * SMALL_PART <= logits.shape[-1]:
        return _EntropyOfFew.apply(logits, kept)
    return _Entropy.apply(logits, dropped, rows)


def _rows(logits: Tensor, chunk: int | None) -> int:
    """Rows of a chunk, after a look at the arguments."""
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need a vocabulary axis, got shape {tuple(logits.shape)}")
    if chunk is None:
        return max(1, CHUNK_NUMBERS // logits.shape[-1])
    if chunk < 1:
        raise ValueError(f"chunk must be >= 1, got {chunk}")
    return chunk

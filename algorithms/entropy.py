"""Token entropy and its clamped variant, exact, with analytic gradients.

    H_t  = -sum_a pi(a) log pi(a)           over the vocabulary (CLIP 2509.26114 eq. 3)
    H~_t = the same over A(s), the V - int(V p) most likely tokens, renormalised
                                            (AEnt 2509.03493 eq. 4.1, 4.2)

in nats, pi = softmax(logits). dH/dz_a = -pi_a (log pi_a + H) on the tokens that count, 0 elsewhere;
the set A(s) is a constant for the gradient. Forward and backward run in chunks of rows in fp32
(fp64 for fp64 input) with sums in fp64, so that no second [tokens, V] buffer lives beside the
logits and their gradient; a few numbers a row are kept for the backward.

A(s) is found by a selection threshold per row, not by a sort, never on another device: by
`kthvalue`, and for a large vocabulary on a CPU by `_search`, which is several times faster.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_NUMBERS = 1 << 22  # numbers of one chunk: 16 MiB in fp32
CPU_CHUNK_NUMBERS = 1 << 17  # about one row of a large vocabulary: the work set stays in cache
FLOOR = -2000.0  # 2^FLOOR is 0 in fp64 too, and 0 * FLOOR is 0 where 0 * -inf is not
LOG2_E = 1 / math.log(2)
SEARCH_FROM = 16_384  # the vocabulary from which `_search` beats kthvalue
SAMPLE = 600  # tokens that `_search` looks at first
FEW = 256  # tokens among which it takes the threshold in the end


def _accumulation_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _chunks(logits: Tensor, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """At most `chunk` rows at a time and where they are, contiguous in the accumulation dtype.

    Only these are ever copied, also of logits whose leading axes cannot be merged in a view.
    """
    try:
        blocks = [logits.view(-1, logits.shape[-1])]
    except RuntimeError:
        blocks = [
            logits[index].reshape(-1, logits.shape[-1])
            for index in itertools.product(*map(range, logits.shape[:-2]))
        ]
    start = 0
    for part in itertools.chain.from_iterable(block.split(chunk) for block in blocks):
        if len(part):
            rows = part.to(_accumulation_dtype(part)).contiguous()
            yield slice(start, start + len(rows)), rows
            start += len(rows)


def _powers(rows: Tensor, top: Tensor, shifted: Tensor, powers: Tensor) -> None:
    """s = (z - max z) log2 e and 2^s = e^(z - max z) of some rows; -inf counts as a finite floor."""
    torch.sub(rows, top, out=shifted)
    shifted.mul_(LOG2_E).clamp_(min=FLOOR)
    torch.exp2(shifted, out=powers)


def _keep(rows: Tensor, bound: Tensor, cut: Tensor, powers: Tensor, mask: Tensor) -> None:
    """Sets the powers of the tokens outside A(s) to 0.

    A(s) is what exceeds the bound, and what equals it from the column `cut` on.
    """
    if len(rows) == 1 and rows.device.type == "cpu":
        torch.gt(rows[:, : int(cut)], bound, out=mask[:, : int(cut)])
        torch.ge(rows[:, int(cut) :], bound, out=mask[:, int(cut) :])
    else:
        column = torch.arange(rows.shape[-1], device=rows.device)
        mask.copy_(torch.where(column < cut, rows > bound, rows >= bound))
    powers.mul_(mask)


def _clamp(rows: Tensor, kept: int, top: Tensor) -> tuple[Tensor, Tensor]:
    """Bound and cut [rows, 1] of A(s) for `_keep`: exactly `kept` tokens, of ties the last ones."""
    if rows.device.type == "cpu" and rows.shape[-1] >= SEARCH_FROM:
        found = [_search(row, kept, float(t)) for row, t in zip(rows, top, strict=True)]
        bound, cut = zip(*found, strict=True)
        return rows.new_tensor(bound).unsqueeze(-1), torch.tensor(cut).unsqueeze(-1)
    bound = rows.kthvalue(rows.shape[-1] - kept + 1, dim=-1, keepdim=True).values
    return bound, _cut(rows, bound, kept)


def _cut(rows: Tensor, bound: Tensor, kept: int) -> Tensor:
    """The column from which on tokens at the bound are kept, [rows, 1]."""
    ties = (rows == bound).cumsum(-1, dtype=torch.int32)
    surplus = ties[:, -1:] + (rows > bound).sum(-1, keepdim=True, dtype=torch.int32) - kept
    return torch.searchsorted(ties, surplus, right=True)


def _search(row: Tensor, kept: int, top: float) -> tuple[float, int]:
    """Bound and cut of one row on a CPU: a few passes over it, exact for every input.

    An evenly spaced sample brackets the threshold. The bracket is cut into 250 levels, and each
    token gets the level it is on in one byte, the lowest and the highest level taking the rest.
    Counts over these bytes find the level of the threshold, and only the tokens of this level are
    looked at as numbers. Where the sample misleads, or a level is full of ties, kthvalue decides.
    """
    if not math.isfinite(top):
        return top, 0
    sample = row[:: row.numel() // SAMPLE]
    place = len(sample) * (1 - kept / row.numel())
    spread = 2 + 3 * math.sqrt(place * (1 - place / len(sample)))
    low, high = (
        float(sample.kthvalue(min(max(int(place + by), 1), len(sample))).values)
        for by in (-spread, 1 + spread)
    )
    if place + spread + 1 > len(sample):
        high = top
    if low < high and math.isfinite(high - low):
        found = _among_levels(row, kept, low, high, 2 * spread / len(sample))
        if found is not None:
            return found
    elif int((row > high).sum()) < kept <= int((row >= low).sum()) and low == high:
        return low, int(_cut(row.unsqueeze(0), row.new_tensor([[low]]), kept))
    bound = row.kthvalue(row.numel() - kept + 1).values
    return float(bound), int(_cut(row.unsqueeze(0), bound.reshape(1, 1), kept))


def _among_levels(
    row: Tensor, kept: int, low: float, high: float, share: float
) -> tuple[float, int] | None:
    """Bound and cut from 250 levels between two values, or None if they do not tell.

    `share` of the tokens is thought to lie between them.
    """
    size = row.numel()
    levels = torch.full((-(-size // 1024) * 1024,), -128, dtype=torch.int8)
    scale = 250 / (high - low)
    scaled = torch.sub(row, (low + high) / 2).mul_(scale).clamp_(-128, 127)
    levels[:size] = scaled
    del scaled
    above = torch.empty_like(levels)

    def count(level: int) -> int:
        """Tokens above the level: bytes summed eight at a time, at most 128 times."""
        torch.gt(levels, level, out=above)
        return int(above.view(torch.int64).view(128, -1).sum(0).view(torch.uint8).sum())

    below, level, beyond = -129, 0, 127  # the threshold is above `below`, not above `beyond`
    at_least, fewer = size, 0  # tokens above these
    per_level = share * size / 250
    while at_least - fewer > FEW and beyond - below > 1:
        number = count(level)
        if number >= kept:
            below, at_least = level, number
        else:
            beyond, fewer = level, number
        step = 1 + int(abs(number - kept) / per_level)
        level += step if number >= kept else -step
        level = min(max(level, below + 1), beyond - 1)
    if below < -128 or beyond == 127 or at_least - fewer > size // 16:
        return None
    inside = torch.gt(levels, below, out=above).mul_(levels <= beyond)
    words = inside.view(torch.int64).nonzero()
    index = (8 * words + torch.arange(8)).flatten()
    index = index[inside[index].bool()]
    values = row[index]
    bound = values.kthvalue(len(values) - (kept - fewer) + 1).values
    ties = index[values == bound]
    surplus = fewer + int((values > bound).sum()) + len(ties) - kept
    return float(bound), int(ties[surplus])


class _Entropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, dropped: int, chunk: int) -> Tensor:
        dtype = _accumulation_dtype(logits)
        size = logits.shape[-1]
        tokens = logits.shape[:-1].numel()
        entropy = logits.new_empty(tokens, dtype=torch.float64)
        total = torch.empty_like(entropy)
        top = logits.new_empty(tokens, dtype=dtype)
        bound, cut = (None, None) if not dropped else (torch.empty_like(top), top.long())
        work = logits.new_empty((3 if dropped else 2), min(chunk, tokens), size, dtype=dtype)
        for part, rows in _chunks(logits, chunk):
            shifted, powers, *mask = work[:, : len(rows)]
            highest = rows.amax(-1, keepdim=True)
            if dropped:
                bounds, cuts = _clamp(rows, size - dropped, highest)
                bound[part], cut[part] = bounds.squeeze(-1), cuts.squeeze(-1)
            _powers(rows, highest, shifted, powers)
            if dropped:
                _keep(rows, bounds, cuts, powers, *mask)
            top[part] = highest.squeeze(-1)
            total[part] = powers.sum(-1, dtype=torch.float64)
            entropy[part] = shifted.mul_(powers).sum(-1, dtype=torch.float64)
        entropy = total.log() - entropy / total / LOG2_E
        ctx.save_for_backward(logits, entropy, total, top, bound, cut)
        ctx.chunk = chunk
        return entropy.to(dtype).reshape(logits.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None]:
        logits, entropy, total, top, bound, cut = ctx.saved_tensors
        grad = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        flat = grad.view(-1, logits.shape[-1])
        # -pi (log pi + H) = 2^s (a s + b) with one a and one b per row
        weights = grad_output.reshape(-1) / total
        slope = (-weights / LOG2_E).to(top.dtype).unsqueeze(-1)
        offset = (weights * (total.log() - entropy)).to(top.dtype).unsqueeze(-1)
        work = logits.new_empty(
            3 if bound is not None else 2, min(ctx.chunk, len(flat)), flat.shape[-1],
            dtype=top.dtype,
        )
        for part, rows in _chunks(logits, ctx.chunk):
            shifted, powers, *mask = work[:, : len(rows)]
            _powers(rows, top[part].unsqueeze(-1), shifted, powers)
            if bound is not None:
                _keep(rows, bound[part].unsqueeze(-1), cut[part].unsqueeze(-1), powers, *mask)
            shifted.mul_(slope[part]).add_(offset[part])
            torch.mul(shifted, powers, out=shifted if grad.dtype != top.dtype else flat[part])
            if grad.dtype != top.dtype:
                flat[part] = shifted
        return grad, None, None


def token_entropy(logits: Tensor, *, chunk: int | None = None) -> Tensor:
    """H_t in nats over the last axis.

    Args:
        logits: [..., V] at temperature 1; -inf marks an impossible token.
        chunk: rows handled at a time, by default about 4 million numbers' worth, on a CPU about
            130,000; memory beside the input is a few chunk * V floats.

    Returns:
        Tensor [...] in fp32 (fp64 for fp64 logits), differentiable once in `logits`. A row with
        NaN or +inf in it, or with nothing but -inf, gives NaN.

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
        left out get no gradient. Of tokens tied at the threshold the right number is kept. NaN
        where `token_entropy` gives NaN.

    Raises:
        ValueError: p outside [0, 1), logits without a vocabulary axis, or chunk < 1.
    """
    rows = _rows(logits, chunk)
    if not 0.0 <= p < 1.0:
        raise ValueError(f"p must be in [0, 1): a fraction of the vocabulary, got {p}")
    return _Entropy.apply(logits, int(logits.shape[-1] * p), rows)


def _rows(logits: Tensor, chunk: int | None) -> int:
    """Rows of a chunk, after a look at the arguments."""
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need a vocabulary axis, got shape {tuple(logits.shape)}")
    if chunk is None:
        numbers = CPU_CHUNK_NUMBERS if logits.device.type == "cpu" else CHUNK_NUMBERS
        return max(1, numbers // logits.shape[-1])
    if chunk < 1:
        raise ValueError(f"chunk must be >= 1, got {chunk}")
    return chunk

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
SAMPLE = 400  # tokens that `_search` looks at first, more where few are kept or few left out
RARER = 25  # of these or of those in the sample, at least
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
    """s = (z - max z) log2 e and 2^s = e^(z - max z) of some rows; -inf becomes a finite floor."""
    torch.sub(rows, top, out=shifted)
    shifted.mul_(LOG2_E).clamp_(min=FLOOR)
    torch.exp2(shifted, out=powers)


def _keep(rows: Tensor, bound: Tensor, cut: Tensor, powers: Tensor, mask: Tensor) -> None:
    """Sets the powers of the tokens outside A(s) to 0.

    A(s) is what exceeds the bound, and what equals it from the column `cut` on.
    """
    if len(rows) == 1 and rows.device.type == "cpu":
        column = int(cut)
        if column:
            torch.gt(rows[:, :column], bound, out=mask[:, :column])
        torch.ge(rows[:, column:], bound, out=mask[:, column:])
    else:
        column = torch.arange(rows.shape[-1], device=rows.device)
        mask.copy_(torch.where(column < cut, rows > bound, rows >= bound))
    powers.mul_(mask)


def _room(logits: Tensor) -> Tensor | None:
    """Four times a byte a token for `_search`, padded with the lowest; None where kthvalue is used.

    Columns are padded to a multiple of 1024 so that 128 rows of eight bytes can be summed at once.
    """
    if logits.device.type != "cpu" or logits.shape[-1] < SEARCH_FROM:
        return None
    return torch.full((4, -(-logits.shape[-1] // 1024) * 1024), -128, dtype=torch.int8)


def _clamp(
    rows: Tensor, kept: int, top: Tensor, spare: Tensor, levels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Bound and cut [rows, 1] of A(s) for `_keep`: exactly `kept` tokens, of ties the last ones.

    Args:
        rows: [rows, V].
        kept: tokens to keep.
        top: [rows, 1], each row's highest logit.
        spare: room of the shape of the rows.
        levels: from `_room`.
    """
    if levels is not None:
        tops = top.squeeze(-1).tolist()
        found = [_search(*each, levels, kept) for each in zip(rows, tops, spare, strict=True)]
        bound, cut = zip(*found, strict=True)
        return rows.new_tensor(bound).unsqueeze(-1), torch.tensor(cut).unsqueeze(-1)
    bound = rows.kthvalue(rows.shape[-1] - kept + 1, dim=-1, keepdim=True).values
    return bound, _cut(rows, bound, kept)


def _cut(rows: Tensor, bound: Tensor, kept: int) -> Tensor:
    """The column from which on tokens at the bound are kept, [rows, 1]."""
    ties = (rows == bound).cumsum(-1, dtype=torch.int32)
    surplus = ties[:, -1:] + (rows > bound).sum(-1, keepdim=True, dtype=torch.int32) - kept
    return torch.searchsorted(ties, surplus, right=True)


def _search(row: Tensor, top: float, spare: Tensor, levels: Tensor, kept: int) -> tuple[float, int]:
    """Bound and cut of one row on a CPU: a few passes over it, exact for every input.

    An evenly spaced sample brackets the threshold. The bracket is cut into 250 levels, and each
    token gets the level it is on in one byte, the lowest and the highest level taking the rest.
    Counts over these bytes find the level of the threshold, and only the tokens near this level are
    looked at as numbers. Where the sample misleads, or ties fill a level, kthvalue decides.
    """
    if not math.isfinite(top):
        return top, 0
    size = row.numel()
    sample = row[:: max(16, min(size // SAMPLE, kept // RARER, (size - kept) // RARER))]
    place = len(sample) * (1 - kept / size)
    spread = 2 + 3.5 * math.sqrt(place * (1 - place / len(sample)))
    low, high = (
        float(sample.kthvalue(min(max(int(place + by), 1), len(sample))).values)
        for by in (-spread, 1 + spread)
    )
    if place + spread + 1 > len(sample):
        high = top
    found = None
    if 1e-30 < high - low < math.inf:
        # each step rounds alike for all tokens, so that a higher logit is never on a lower level
        torch.sub(row, (low + high) / 2, out=spare).mul_(250 / (high - low)).clamp_(-128, 127)
        levels[0, :size] = spare
        found = _among_levels(row, kept, levels, 2 * spread / len(sample) * size / 250)
    if found is None:
        bound = row.kthvalue(size - kept + 1).values
        found = float(bound), int(_cut(row.unsqueeze(0), bound.reshape(1, 1), kept))
    return found


def _among_levels(
    row: Tensor, kept: int, levels: Tensor, per_level: float
) -> tuple[float, int] | None:
    """Bound and cut from the row's levels, -128 to 127, or None if they do not tell.

    Args:
        row: [V].
        kept: tokens to keep.
        levels: [4, >= V] bytes: the levels, with -128 behind the last, and room for three masks.
        per_level: tokens thought to be on one level.
    """
    level_of, above, above_low, above_high = levels
    low, high = (-129, len(row)), (127, 0)  # levels with the tokens above: threshold in (low, high]
    level = 0
    while low[1] - high[1] > FEW and high[0] - low[0] > 1:
        torch.gt(level_of, level, out=above)
        packed = above.view(torch.int64).view(128, -1).sum(0)  # eight counts, each of 128 at most
        count = int(packed.view(torch.uint8).sum())
        step = 1 + int(abs(count - kept) / per_level)
        if count >= kept:
            low, above_low, above = (level, count), above, above_low
            level = min(level + step, high[0] - 1)
        else:
            high, above_high, above = (level, count), above, above_high
            level = max(level - step, low[0] + 1)
        bracketed = low[0] > -129 and high[0] < 127
        per_level = (low[1] - high[1]) / (high[0] - low[0]) if bracketed else per_level / 2
    if low[0] < -128 or high[0] == 127 or low[1] - high[1] > len(row) // 16:
        return None
    inside = torch.sub(above_low, above_high, out=above)
    index = (8 * inside.view(torch.int64).nonzero() + torch.arange(8)).flatten()
    index = index[inside[index].bool()]
    values = row[index]
    bound = values.kthvalue(len(values) - (kept - high[1]) + 1).values
    ties = index[values == bound]
    surplus = high[1] + int((values > bound).sum()) + len(ties) - kept
    return float(bound), int(ties[surplus]) if surplus else 0


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
        work = logits.new_empty((3 if dropped else 2, min(chunk, tokens), size), dtype=dtype)
        levels = _room(logits) if dropped else None
        for part, rows in _chunks(logits, chunk):
            shifted, powers, *mask = work[:, : len(rows)]
            highest = rows.amax(-1, keepdim=True)
            if dropped:
                bounds, cuts = _clamp(rows, size - dropped, highest, shifted, levels)
                bound[part], cut[part] = bounds.squeeze(-1), cuts.squeeze(-1)
            _powers(rows, highest, shifted, powers)
            if dropped:
                _keep(rows, bounds, cuts, powers, *mask)
            top[part] = highest.squeeze(-1)
            total[part] = powers.sum(-1, dtype=torch.float64)
            entropy[part] = shifted.mul_(powers).sum(-1, dtype=torch.float64)
        entropy = total.log() - entropy / total / LOG2_E
        ctx.save_for_backward(logits, entropy, total, top, bound, cut)
        ctx.dropped, ctx.chunk = dropped, chunk
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
        shape = (3 if ctx.dropped else 2, min(ctx.chunk, len(flat)), flat.shape[-1])
        work = logits.new_empty(shape, dtype=top.dtype)
        for part, rows in _chunks(logits, ctx.chunk):
            shifted, powers, *mask = work[:, : len(rows)]
            _powers(rows, top[part].unsqueeze(-1), shifted, powers)
            if ctx.dropped:
                _keep(rows, bound[part].unsqueeze(-1), cut[part].unsqueeze(-1), powers, *mask)
            shifted.mul_(slope[part]).add_(offset[part])
            if grad.dtype == shifted.dtype:
                torch.mul(shifted, powers, out=flat[part])
            else:
                flat[part] = shifted.mul_(powers)
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

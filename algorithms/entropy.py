"""Token entropy and its clamped variant, exact, with analytic gradients.

    H_t  = -sum_a pi(a) log pi(a)           over the vocabulary (CLIP 2509.26114 eq. 3)
    H~_t = the same over A(s), the V - int(V p) most likely tokens, renormalised
                                            (AEnt 2509.03493 eq. 4.1, 4.2)

in nats, pi = softmax(logits). dH/dz_a = -pi_a (log pi_a + H) on the tokens that count, 0 elsewhere;
the set A(s) is a constant for the gradient. Forward and backward run in chunks of rows in fp32
(fp64 for fp64 input) with sums in fp64, so that no second [tokens, V] buffer lives beside the
logits and their gradient; a few numbers a row are kept for the backward.

A(s) is found by a selection threshold per row, not by a sort, never on another device: by
`kthvalue`, and for a large vocabulary on a CPU by the compiled `selection`, which is many times
faster; where numba is missing, by `kthvalue` after all, with a warning.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_NUMBERS = 1 << 22  # numbers of one chunk: 16 MiB in fp32
CPU_CHUNK_NUMBERS = 1 << 17  # about one row of a large vocabulary: the work set stays in cache
FLOOR = -2000.0  # 2^FLOOR is 0 in fp64 too, and 0 * FLOOR is 0 where 0 * -inf is not
LOG2_E = 1 / math.log(2)
SEARCH_FROM = 16_384  # the vocabulary from which a CPU uses the compiled selection


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


@functools.cache
def _compiled() -> ModuleType | None:
    """The module of compiled loops, imported at the first large clamp; None without numba."""
    try:
        return importlib.import_module("algorithms.selection")
    except ImportError as error:
        warnings.warn(f"a clamped entropy takes long here without numba: {error}", stacklevel=2)
        return None


def _selection(logits: Tensor, dropped: int) -> ModuleType | None:
    """The compiled selection; None where there is no clamp or kthvalue finds it."""
    large = logits.device.type == "cpu" and logits.shape[-1] >= SEARCH_FROM
    return _compiled() if dropped and large else None


def _limits(selection: ModuleType | None, *numbers: Tensor | None) -> list[Any]:
    """The limits of each row, [tokens, 1] each, in the form that the functions below take.

    The highest logit and, with a clamp, bound and cut of A(s): what exceeds the bound, and what
    equals it from the column `cut` on. Arrays for the compiled selection, which are cut faster.
    """
    return [x.numpy() if selection else x for x in numbers if x is not None]


def _clamp(
    selection: ModuleType | None, rows: Tensor, size: int, top: Any, bound: Any, cut: Any
) -> None:
    """Writes bound and cut: exactly `size` tokens, of ties the last ones."""
    if selection:
        selection.search(rows.numpy(), size, top, bound, cut)
    else:
        bound.copy_(rows.kthvalue(rows.shape[-1] - size + 1, dim=-1, keepdim=True).values)
        ties = (rows == bound).cumsum(-1, dtype=torch.int32)
        surplus = ties[:, -1:] + (rows > bound).sum(-1, keepdim=True, dtype=torch.int32) - size
        cut.copy_(torch.searchsorted(ties, surplus, right=True))


def _powers(
    selection: ModuleType | None,
    rows: Tensor,
    shifted: Tensor,
    powers: Tensor,
    top: Any,
    *clamp: Any,
) -> None:
    """s = (z - max z) log2 e and 2^s = e^(z - max z) of some rows; -inf becomes a finite floor.

    2^s is 0 outside A(s), where there is a clamp.
    """
    if selection:
        selection.shift(rows.numpy(), LOG2_E, FLOOR, top, *clamp, shifted.numpy())
    else:
        torch.sub(rows, top, out=shifted)
        shifted.mul_(LOG2_E).clamp_(min=FLOOR)
    torch.exp2(shifted, out=powers)
    if clamp and not selection:
        bound, cut = clamp
        column = torch.arange(rows.shape[-1], device=rows.device)
        powers.mul_(torch.where(column < cut, rows > bound, rows >= bound))


class _Entropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, dropped: int, chunk: int) -> Tensor:
        dtype = _accumulation_dtype(logits)
        size = logits.shape[-1]
        tokens = logits.shape[:-1].numel()
        entropy = logits.new_empty(tokens, dtype=torch.float64)
        total = torch.empty_like(entropy)
        top = logits.new_empty((tokens, 1), dtype=dtype)
        bound, cut = (torch.empty_like(top), top.long()) if dropped else (None, None)
        work = logits.new_empty((2, min(chunk, tokens), size), dtype=dtype)
        selection = _selection(logits, dropped)
        limits = _limits(selection, top, bound, cut)
        for part, rows in _chunks(logits, chunk):
            shifted, powers = work[:, : len(rows)]
            torch.amax(rows, -1, keepdim=True, out=top[part])
            here = [limit[part] for limit in limits]
            if dropped:
                _clamp(selection, rows, size - dropped, *here)
            _powers(selection, rows, shifted, powers, *here)
            total[part] = powers.sum(-1, dtype=torch.float64)
            entropy[part] = shifted.mul_(powers).sum(-1, dtype=torch.float64)
        entropy = total.log() - entropy / total / LOG2_E
        ctx.save_for_backward(logits, entropy, total, top, bound, cut)
        ctx.dropped, ctx.chunk = dropped, chunk
        return entropy.to(dtype).reshape(logits.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        logits, entropy, total, top, bound, cut = ctx.saved_tensors
        grad = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        flat = grad.view(-1, logits.shape[-1])
        # -pi (log pi + H) = 2^s (a s + b) with one a and one b per row
        weights = grad_output.reshape(-1) / total
        slope = (-weights / LOG2_E).to(top.dtype).unsqueeze(-1)
        offset = (weights * (total.log() - entropy)).to(top.dtype).unsqueeze(-1)
        work = logits.new_empty((2, min(ctx.chunk, len(flat)), flat.shape[-1]), dtype=top.dtype)
        selection = _selection(logits, ctx.dropped)
        limits = _limits(selection, top, bound, cut)
        for part, rows in _chunks(logits, ctx.chunk):
            shifted, powers = work[:, : len(rows)]
            _powers(selection, rows, shifted, powers, *(limit[part] for limit in limits))
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

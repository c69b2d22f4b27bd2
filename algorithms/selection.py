"""The highest logits of large rows, found and set apart by loops that numba compiles for a CPU.

Importing this takes a moment; `entropy` does so at the first large clamp. What is compiled is kept
on disk for the next process where a folder for it can be written.

A(s) of a row is what exceeds its `bound`, and what equals it from the column `cut` on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

SAMPLE = 1000  # evenly spaced tokens, sorted: the thresholds that are tried
FEW = 200  # tokens among which the threshold is taken in the end
GUESSES = 6  # by interpolation; after these by halves, where the sample misleads or ties
BLOCK = 32  # tokens looked at together


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder can be written
        return numba.njit(nogil=True)(function)


@_compiled
def _count(row: np.ndarray, bound: float) -> np.int32:
    """Tokens of at least the bound."""
    count = np.int32(0)
    for i in range(len(row)):
        count += np.int32(row[i] >= bound)
    return count


@_compiled
def _columns(row: np.ndarray, low: float, high: float, count: int) -> np.ndarray:
    """Where the `count` tokens in [low, high) stand; blocks without one are passed over."""
    columns = np.empty(count + 1, np.int64)
    place = np.int64(0)
    for start in range(0, len(row), BLOCK):
        block = row[start : start + BLOCK]
        inside = np.int32(0)
        for i in range(len(block)):
            inside += np.int32(block[i] >= low) - np.int32(block[i] >= high)
        if inside:
            for i in range(len(block)):
                columns[place] = start + i
                place += np.int64(block[i] >= low) - np.int64(block[i] >= high)
    return columns[:count]


@_compiled
def _nth(values: np.ndarray, place: int) -> float:
    """The value that stands at a place in ascending order, by Hoare's selection."""
    values = values.copy()
    low, high = 0, len(values) - 1
    while low < high:
        pivot, i, j = values[place], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        low, high = (i if j < place else low), (j if place < i else high)
    return values[place]


@_compiled
def _threshold(row: np.ndarray, sample: np.ndarray, size: int) -> tuple[float, int]:
    """Bound and cut of a row; the values of the sample are tried until few lie between two."""
    density = len(sample) / len(row)
    at, tried = int((len(row) - size) * density), 0
    low, below = -1, len(row)  # the threshold is in [sample[low], sample[high]), and that many
    high, above = len(sample), 0  # tokens are there or higher
    while below - above > FEW and high - low > 1:
        at = min(max(at, low + 1), high - 1) if tried < GUESSES else (low + high) // 2
        count = _count(row, sample[at])
        step = 1 + int(abs(count - size) * density)
        if count >= size:
            while at + 1 < high and sample[at + 1] == sample[at]:  # no other count
                at += 1
            low, below, at = at, count, at + step
        else:
            while at - 1 > low and sample[at - 1] == sample[at]:
                at -= 1
            high, above, at = at, count, at - step
        tried += 1
    lowest = sample[low] if low >= 0 else -np.inf
    highest = sample[high] if high < len(sample) else np.inf
    columns = _columns(row, row.dtype.type(lowest), row.dtype.type(highest), below - above)
    values = row[columns]
    bound = _nth(values, below - size)
    surplus = _count(values, bound) + above - size
    if surplus:
        for i in range(len(values)):
            surplus -= values[i] == bound
            if surplus < 0:
                return bound, columns[i]
    return bound, 0


@_compiled
def _search(
    rows: np.ndarray,
    samples: np.ndarray,
    size: int,
    top: np.ndarray,
    bound: np.ndarray,
    cut: np.ndarray,
) -> None:
    for i in range(len(rows)):
        if math.isfinite(top[i, 0]):
            bound[i, 0], cut[i, 0] = _threshold(rows[i], samples[i], size)
        else:
            bound[i, 0], cut[i, 0] = top[i, 0], 0


def search(
    rows: np.ndarray, size: int, top: np.ndarray, bound: np.ndarray, cut: np.ndarray
) -> None:
    """Writes bound and cut of the `size` highest, of ties the last. Exact for every input.

    Args:
        rows: [rows, V], contiguous.
        size: of A(s), tokens, 1 to V.
        top: [rows, 1], the highest of each; a row with NaN or infinity here is not searched.
        bound: [rows, 1], written, like `cut`.
    """
    samples = np.sort(rows[:, :: max(1, rows.shape[1] // SAMPLE)])
    _search(rows, samples, size, top, bound, cut)


@_compiled
def shift(
    rows: np.ndarray,
    scale: float,
    floor: float,
    top: np.ndarray,
    bound: np.ndarray,
    cut: np.ndarray,
    out: np.ndarray,
) -> None:
    """Writes (z - top) * scale on A(s), elsewhere and at least (for -inf) the floor."""
    scale, floor = rows.dtype.type(scale), rows.dtype.type(floor)
    for r in range(len(rows)):
        # two loops from 0 on, which become vector instructions
        part, to = rows[r, : cut[r, 0]], out[r, : cut[r, 0]]
        for i in range(len(part)):
            shifted = (part[i] - top[r, 0]) * scale
            to[i] = shifted if (part[i] > bound[r, 0]) & (shifted > floor) else floor
        part, to = rows[r, cut[r, 0] :], out[r, cut[r, 0] :]
        for i in range(len(part)):
            shifted = (part[i] - top[r, 0]) * scale
            to[i] = shifted if (part[i] >= bound[r, 0]) & (shifted > floor) else floor

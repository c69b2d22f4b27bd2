"""What n samples a problem say about k: pass@k, pass^k, maj@k and the mean.

Each is an unbiased estimate from counts, never from the first k samples. `suite.stats` offers all
of them again. Left out: plugging c/n into 1 - (1 - p)^k, which is biased low, and maj@k in closed
form, whose cost grows with k³: it is drawn instead, the generator passed in.
"""

import operator
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAJORITY_BLOCK = 1 << 21  # drawn counts held at once, 16 MB


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> NDArray[np.float64]:
    """Probability that at least one of k of the n samples is correct, c being correct.

    n, c: whole numbers, broadcast together (one entry a problem); k: a whole number. The result
    has their common shape. Unbiased: 1 - C(n-c, k) / C(n, k) = 1 - Π_{i=n-c+1..n} (1 - k/i),
    Chen et al. 2021 (arXiv:2107.03374), equation 1; as a sum of logarithms it is exact to a few
    units in the last place even where the result is tiny. At k = n it is any(correct), the
    noisiest number there is: report it marked.

    Raises ValueError when some n < k, c < 0 or c > n, when k < 1, or on fractions.
    """
    k = operator.index(k)
    return _of_each_pair(n, c, [k], lambda n, c: [-np.expm1(_log_none(n, c, k))])[..., 0]


def pass_curve(n: ArrayLike, c: ArrayLike, ks: ArrayLike | None = None) -> NDArray[np.float64]:
    """pass@k for every k at once: shape of n and c, then one more axis over ks.

    n, c: as in `pass_at_k`; ks: whole numbers, by default 1 … the smallest n. One pass costs as
    much as the largest k alone, since C(n-c, k) / C(n, k) = Π_{j=0..k-1} (1 - c / (n-j)): a
    running sum of logarithms holds every k on its way (Chen et al. 2021, arXiv:2107.03374,
    equation 1, the product taken over draws instead of over correct samples).

    Raises ValueError as `pass_at_k` does, for any of the ks.
    """
    smallest = int(np.min(_whole(n, "n"), initial=np.iinfo(np.int64).max))
    ks_K = np.arange(1, smallest + 1) if ks is None else np.atleast_1d(_whole(ks, "ks"))
    if ks_K.ndim != 1 or ks_K.size == 0:
        raise ValueError("ks must be a list of at least one k")

    def curve(n: int, c: int) -> NDArray[np.float64]:
        samples = n - np.arange(ks_K.max())  # still to draw from before each draw
        wrong = np.maximum(samples - c, 0)
        with np.errstate(divide="ignore"):  # log 0: no wrong sample is left
            factors = np.where(
                2 * c > samples,
                np.log(wrong / samples),
                np.log1p(-np.minimum(c, samples) / samples),
            )
        return -np.expm1(np.cumsum(factors))[ks_K - 1]

    return _of_each_pair(n, c, ks_K, curve)


def pass_hat_k(n: ArrayLike, c: ArrayLike, k: int) -> NDArray[np.float64]:
    """pass^k: probability that all k of the n samples are correct, C(c, k) / C(n, k).

    n, c, k and the result's shape: as in `pass_at_k`. Unbiased for p^k; the pass^k of
    Yao et al. 2024 (τ-bench, arXiv:2406.12045). It falls with k where pass@k rises: reliability,
    not reach.

    Raises ValueError as `pass_at_k` does.
    """
    k = operator.index(k)
    return _of_each_pair(n, c, [k], lambda n, c: [np.exp(_log_none(n, n - c, k))])[..., 0]


def mean_at_n(n: ArrayLike, c: ArrayLike) -> NDArray[np.float64]:
    """mean@n: the share of a problem's n samples that is correct, c / n; it equals pass@1.

    n, c: as in `pass_at_k`. Raises ValueError when some n < 1, c < 0 or c > n, or on fractions.
    """
    return _of_each_pair(n, c, [1], lambda n, c: [c / n])[..., 0]


def majority_at_k(
    counts: ArrayLike,
    correct: ArrayLike,
    k: int,
    *,
    rng: np.random.Generator,
    silent: int = 0,
    draws: int = 4000,
) -> float:
    """maj@k of one problem: how often the most frequent answer of k of its samples is correct.

    counts: [answers] how many samples gave each distinct answer; correct: [answers] whether that
    answer is right; silent: samples without an answer, which are drawn but do not vote. Answers
    tied for the most votes win with equal probability; no vote at all is wrong. This is majority
    voting of Wang et al. 2022 (arXiv:2203.11171), averaged over the C(n, k) choices of k samples:
    exactly at k = 1 and k = n, otherwise over `draws` random ones, a standard error of at most
    1 / (2 √draws).

    Raises ValueError when k is outside 1 … n, the shapes differ, or a count is negative or a
    fraction.
    """
    k = operator.index(k)
    counts_A = np.append(_whole(counts, "counts"), operator.index(silent))
    right_A = np.append(np.asarray(correct, dtype=bool), False)
    if counts_A.ndim != 1 or counts_A.shape != right_A.shape:
        raise ValueError("counts and correct must hold one entry an answer")
    if counts_A.min() < 0 or draws < 1:
        raise ValueError("counts and draws cannot be negative")
    if not 1 <= k <= counts_A.sum():
        raise ValueError(f"maj@{k} needs 1 ≤ k ≤ n, and n is {counts_A.sum()}")
    if k == 1:
        return float(counts_A[right_A].sum() / counts_A.sum())
    if k == counts_A.sum():
        return float(_vote(counts_A[None], right_A)[0])
    shares = []
    block = max(1, MAJORITY_BLOCK // len(counts_A))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn_RA = rng.multivariate_hypergeometric(counts_A, k, size=size, method="marginals")
        shares.append(_vote(drawn_RA, right_A))
    return float(np.concatenate(shares).mean())


def _vote(votes_RA: NDArray[np.int64], right_A: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The chance [rows] that a right answer wins; the last column holds those that do not vote."""
    most_R = votes_RA[:, :-1].max(axis=1, initial=0)
    first_RA = (votes_RA[:, :-1] == most_R[:, None]) & (most_R[:, None] > 0)
    return first_RA[:, right_A[:-1]].sum(axis=1) / np.maximum(first_RA.sum(axis=1), 1)


def _log_none(n: int, c: int, k: int) -> float:
    """The logarithm of the chance that none of k of the n samples is among the c."""
    if n - c < k:
        return -np.inf
    return float(np.log1p(-k / np.arange(n - c + 1, n + 1)).sum())


def _of_each_pair(
    n: ArrayLike, c: ArrayLike, ks: ArrayLike, values_of: Callable[[int, int], ArrayLike]
) -> NDArray[np.float64]:
    """values_of(n, c), an array over ks, for each entry; equal pairs are computed once."""
    n_P, c_P = np.broadcast_arrays(_whole(n, "n"), _whole(c, "c"))
    if np.min(ks) < 1:
        raise ValueError(f"k must be at least 1, not {np.min(ks)}")
    if np.any(n_P < np.max(ks)):
        raise ValueError(f"k = {np.max(ks)} needs as many samples a problem; one has {n_P.min()}")
    if np.any((c_P < 0) | (c_P > n_P)):
        raise ValueError("the number correct, c, must lie between 0 and n")
    pairs, pair_P = np.unique(
        np.stack([n_P.ravel(), c_P.ravel()], axis=1), axis=0, return_inverse=True
    )
    values = np.array([values_of(int(n), int(c)) for n, c in pairs], dtype=np.float64)
    return values.reshape(len(pairs), np.size(ks))[pair_P.ravel()].reshape(*n_P.shape, np.size(ks))


def _whole(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind in "iuf" and np.isfinite(array).all():
        whole = array.astype(np.int64)
        if np.all(whole == array):
            return whole
    raise ValueError(f"{name} must hold whole numbers")

"""The statistics behind every reported number: pass@k, a mean's interval, a paired difference.

Small pure functions on arrays, numpy and scipy only, the random generator always passed in; each
cites its source and says where it departs from it. Left out: significance tests (an interval and a
probability of improvement say more) and rliable (its 1.2 ignores the random state it is given).
"""

import operator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

TIE = 1e-12  # two mean scores this close are equal: far below 1 / (problems · samples)
BLOCK = 1 << 21  # array elements of a bootstrap held at once, 16 MB


class Interval(NamedTuple):
    """A mean score and its confidence interval, all in [0, 1]."""

    estimate: float
    low: float
    high: float


class Difference(NamedTuple):
    """mean(a) - mean(b), its confidence interval, and how often the bootstrap has a above b."""

    estimate: float
    low: float
    high: float
    probability_of_improvement: float


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
    n_P, c_P = np.broadcast_arrays(_whole(n, "n"), _whole(c, "c"))
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if np.any(n_P < k):
        raise ValueError(f"pass@{k} needs at least {k} samples a problem; one has {n_P.min()}")
    if np.any((c_P < 0) | (c_P > n_P)):
        raise ValueError("the number correct, c, must lie between 0 and n")
    counts, where = np.unique(
        np.stack([n_P.ravel(), c_P.ravel()], axis=1), axis=0, return_inverse=True
    )
    values = np.array([_pass_at_k(int(n), int(c), k) for n, c in counts], dtype=np.float64)
    return values[where.ravel()].reshape(n_P.shape)


def _pass_at_k(n: int, c: int, k: int) -> float:
    if c == 0:
        return 0.0
    if n - c < k:  # every choice of k has a correct one
        return 1.0
    return float(-np.expm1(np.log1p(-k / np.arange(n - c + 1, n + 1)).sum()))


def mean_interval(
    values: ArrayLike, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Mean over problems of scores in [0, 1], and an interval for the population of problems.

    values: [problems], one score each (a share correct or a pass@k).

    In the middle this is the bootstrap over problems with the expanded percentile interval of
    Hesterberg 2015 (arXiv:1411.5279, section 4.2), whose width matches Student's t. Near 0 and 1
    a bootstrap cannot resample the rare problem it has not seen (30 zeros give [0, 0]): there
    the interval is Wilson's 1927 score interval for `problems` coin flips, which no score in
    [0, 1] with that mean can out-vary. The share of Wilson falls linearly from 1 to 0 while
    problems · min(mean, 1 - mean), the count of the rarer outcome, goes from 5 to 10.

    Raises ValueError when values are empty, not one-dimensional, not finite or outside [0, 1].
    """
    scores_P = _scores(values, "values", dimensions=(1,))
    if scores_P.min() < 0 or scores_P.max() > 1:
        raise ValueError("scores must lie in [0, 1]")
    _check_bootstrap(level, resamples)
    count, mean = len(scores_P), float(scores_P.mean())
    wilson = _wilson(mean, count, level)
    guard = float(np.clip(2 - count * min(mean, 1 - mean) / 5, 0, 1))
    if guard == 1:
        low, high = wilson
    else:
        means_R = _resampled_means(scores_P[None], rng, resamples, np.arange(count))
        tail = _expanded_tail(count, level)
        bootstrap = np.quantile(means_R, [tail, 1 - tail])
        low, high = guard * wilson + (1 - guard) * bootstrap
    return Interval(mean, float(min(low, mean)), float(max(high, mean)))


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
    clusters: ArrayLike | None = None,
) -> Difference:
    """Is a better than b on the same problems?

    a, b: scores [problems], or [seeds, problems] with the same seeds in the same order; equal
    shapes. clusters: a label a problem; problems of one label are resampled together (versions
    of one question, say).

    Each resample draws problems (or clusters) with replacement, the same ones for a and b
    (Koehn 2004, "Statistical significance tests for machine translation evaluation"), and, when
    there are seeds, draws these as well, crossed with the problems (Owen 2007, "The pigeonhole
    bootstrap", arXiv:0712.1111; slightly conservative). The interval is the plain percentile
    one. `probability_of_improvement` is the share of resamples in which a's mean is above b's,
    ties counted half; it is not rliable's quantity of that name, which compares single runs.
    With few seeds (under about 5) both understate how much another seed would change.

    Raises ValueError on unequal shapes, empty, not finite, or wrongly shaped input.
    """
    a_SP, b_SP = (_scores(x, name, dimensions=(1, 2)) for x, name in ((a, "a"), (b, "b")))
    if a_SP.shape != b_SP.shape:
        raise ValueError(
            f"a and b must hold the same seeds and problems; shapes are {a_SP.shape}, {b_SP.shape}"
        )
    _check_bootstrap(level, resamples)
    difference_SP = np.atleast_2d(a_SP - b_SP)
    problems = difference_SP.shape[1]
    labels = np.arange(problems) if clusters is None else np.asarray(clusters)
    if labels.shape != (problems,):
        raise ValueError(f"clusters must hold one label a problem, {problems}, not {labels.shape}")
    cluster_P = np.unique(labels, return_inverse=True)[1]
    differences_R = _resampled_means(difference_SP, rng, resamples, cluster_P)
    tail = (1 - level) / 2
    low, high = np.quantile(differences_R, [tail, 1 - tail])
    above = np.mean(differences_R > TIE) + np.mean(np.abs(differences_R) <= TIE) / 2
    return Difference(float(difference_SP.mean()), float(low), float(high), float(above))


def _resampled_means(
    scores_SP: NDArray[np.float64],
    rng: np.random.Generator,
    resamples: int,
    cluster_P: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Means [resamples] over seeds and clusters of problems, both drawn with replacement."""
    seeds, problems = scores_SP.shape
    clusters = int(cluster_P.max()) + 1
    means = []
    block = max(1, BLOCK // problems)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        weight_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size)
        weight_RC = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)
        weight_RP = weight_RC[:, cluster_P]
        total_R = np.einsum("rp,rp->r", weight_RS @ scores_SP, weight_RP)
        means.append(total_R / (seeds * weight_RP.sum(axis=1)))
    return np.concatenate(means)


def _expanded_tail(count: int, level: float) -> float:
    """The tail probability at which a bootstrap percentile is as wide as Student's t."""
    t = special.stdtrit(count - 1, (1 - level) / 2)
    return float(special.ndtr(t * np.sqrt(count / (count - 1))))


def _wilson(mean: float, count: int, level: float) -> NDArray[np.float64]:
    """Low and high end of Wilson's score interval for a share of `count` trials."""
    z = special.ndtri((1 + level) / 2)
    centre = mean + z**2 / (2 * count)
    half = z * np.sqrt(mean * (1 - mean) / count + z**2 / (4 * count**2))
    return np.clip((centre + np.array([-half, half])) / (1 + z**2 / count), 0, 1)


def _whole(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    whole = array.astype(np.int64) if array.dtype.kind in "iuf" and np.isfinite(array).all() else 0
    if array.dtype.kind not in "iuf" or np.any(whole != array):
        raise ValueError(f"{name} must hold whole numbers")
    return whole


def _scores(values: ArrayLike, name: str, dimensions: tuple[int, ...]) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim not in dimensions or scores.size == 0:
        raise ValueError(f"{name} must be a non-empty array, not of shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return scores


def _check_bootstrap(level: float, resamples: int) -> None:
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"need 0 < level < 1 and resamples ≥ 1, not {level} and {resamples}")

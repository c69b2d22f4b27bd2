"""Arms against each other: which differences are shown, and which a matrix could have shown.

One family of comparisons (the arms of a matrix against one reference, on one benchmark) is
corrected for its size. Left out: all pairs of arms, where the reader is better served by a chosen
reference, and a score for arms that met different problems or seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from suite.stats.intervals import (
    Interval,
    Spread,
    above,
    check_bootstrap,
    paired,
    resampled_means,
    spread,
    stretched,
)

FLIPS = 9999  # random sign flips of a test: no p-value below 1 / 10,000
SMALLEST = 1e-12  # a t test's p-value is not followed below this
ROUNDING = 1e-12  # a flipped difference this close to the measured one is as large


@dataclass(frozen=True)
class Comparison:
    """An arm against the reference, on the same problems; scores are shares, 0 to 1.

    `low` and `high` hold for all `family` comparisons at once; `p_value` is for this one alone,
    `p_adjusted` for the family. `detectable` is the smallest true difference that a comparison as
    noisy as this one would show in four of five repetitions.
    """

    arm: str
    reference: str
    estimate: float
    low: float
    high: float
    probability_of_improvement: float
    standard_error: float
    p_value: float
    p_adjusted: float
    detectable: float
    family: int
    seeds: int
    level: float

    @property
    def shown(self) -> bool:
        """The corrected interval leaves out 0, and the corrected p-value agrees."""
        return not self.low <= 0 <= self.high and self.p_adjusted <= 1 - self.level

    @property
    def verdict(self) -> str:
        """In words: "above grpo", "below grpo", or "no difference from grpo shown"."""
        if not self.shown:
            return f"no difference from {self.reference} shown"
        return f"{'above' if self.estimate > 0 else 'below'} {self.reference}"


def compare_arms(
    scores: Mapping[str, ArrayLike],
    reference: str,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 10_000,
    clusters: ArrayLike | None = None,
) -> list[Comparison]:
    """Each other arm of `scores` against the reference, corrected for their number.

    scores: one array an arm, [problems] or [seeds, problems], all of one shape with the same seeds
    and problems in the same order; clusters: as in `paired_bootstrap`.

    The interval of a difference is the crossed bootstrap of `paired_bootstrap`, stretched to
    Student's t as in `hierarchical_interval`, at level 1 - (1 - level) / arms
    (Bonferroni, so that all hold together). The p-value is the larger of two: the t test on the
    same standard error, and the sign-flip test on problems (Fisher 1935, "The design of
    experiments"; counted as (hits + 1) / (flips + 1), Phipson and Smyth 2010), which holds where
    a few problems carry the difference. `p_adjusted` is Holm's. With one seed nothing here says
    that another seed would agree.

    Raises ValueError when the reference is missing or alone, or as `paired_bootstrap` does.
    """
    if reference not in scores:
        raise ValueError(f"no scores of the reference {reference!r} among {sorted(scores)}")
    arms = [arm for arm in scores if arm != reference]
    if not arms:
        raise ValueError(f"nothing to compare with {reference!r}")
    check_bootstrap(level, resamples)
    together = 1 - (1 - level) / len(arms)
    differences = [paired(scores[arm], scores[reference], clusters) for arm in arms]
    spreads = [spread(*difference) for difference in differences]
    p_values = [
        max(_t_test(measured), _sign_flips(*pair, rng))
        for measured, pair in zip(spreads, differences, strict=True)
    ]
    comparisons = []
    for arm, (difference_SP, cluster_P), measured, p, adjusted in zip(
        arms, differences, spreads, p_values, holm(p_values), strict=True
    ):
        means_R = resampled_means(difference_SP, rng, resamples, cluster_P)
        low, high = np.clip(stretched(means_R, measured, together), -1, 1)
        comparisons.append(
            Comparison(
                arm=arm,
                reference=reference,
                estimate=measured.mean,
                low=float(min(low, measured.mean)),
                high=float(max(high, measured.mean)),
                probability_of_improvement=above(means_R),
                standard_error=measured.error,
                p_value=float(p),
                p_adjusted=float(adjusted),
                detectable=_detectable(measured, together),
                family=len(arms),
                seeds=len(difference_SP),
                level=level,
            )
        )
    return comparisons


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values: reject those ≤ α, and no true null falls in 1 - α of families.

    p_values: [comparisons], in any order, which is kept. The i-th smallest of m becomes the
    largest of (m - j + 1) p_j over j ≤ i, at most 1 (Holm 1979, "A simple sequentially rejective
    multiple test procedure"). Valid under any dependence, as arms that share a reference have.

    Raises ValueError when one lies outside [0, 1] or they are not a list.
    """
    p_C = np.asarray(p_values, dtype=np.float64)
    if p_C.ndim != 1 or not np.all((p_C >= 0) & (p_C <= 1)):
        raise ValueError("p_values must be a list of numbers in [0, 1]")
    order = np.argsort(p_C, kind="stable")
    steps = p_C[order] * np.arange(len(p_C), 0, -1)
    adjusted_C = np.empty_like(p_C)
    adjusted_C[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted_C


def minimum_detectable_effect(
    standard_error: float,
    *,
    degrees: float = np.inf,
    level: float = 0.95,
    power: float = 0.8,
    comparisons: int = 1,
) -> float:
    """The smallest true difference that a two-sided test would show with probability `power`.

    standard_error: of the difference, in its unit, which is also the result's; degrees: its
    degrees of freedom; comparisons: how many share the error rate (Bonferroni). It is
    (t_{1-α/2} + t_power) · standard error, Bloom 1995 ("Minimum detectable effects: a simple way
    to report the statistical power of experimental designs"). Beforehand, the standard error of N
    independent problems is the expected deviation of a problem's difference over √N.

    Raises ValueError on a negative error, fewer than one comparison, or a level or power that is
    not between 0 and 1.
    """
    if not (standard_error >= 0 and comparisons >= 1 and 0 < level < 1 and 0 < power < 1):
        raise ValueError("need standard_error ≥ 0, comparisons ≥ 1, and level and power in (0, 1)")
    tail = (1 - level) / 2 / comparisons
    quantiles = [special.stdtrit(degrees, share) for share in (1 - tail, power)]
    return float(sum(quantiles) * standard_error)


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all scores: robust as the median, steadier.

    scores: any shape, e.g. [runs, benchmarks]. The floor(count / 4) smallest and as many largest
    are dropped, all runs and benchmarks together (Agarwal et al. 2021, arXiv:2108.13264, and
    their rliable). It says nothing about the hardest and the easiest quarter.

    Raises ValueError when there are none or one is not finite.
    """
    scores_N = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    if scores_N.size == 0 or not np.isfinite(scores_N).all():
        raise ValueError("scores must be finite, and there must be one")
    cut = scores_N.size // 4
    return float(scores_N[cut : scores_N.size - cut].mean())


def interquartile_interval(
    scores: ArrayLike, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """The interquartile mean and its interval over training runs, the benchmarks being fixed.

    scores: [runs, benchmarks]. The stratified percentile bootstrap of Agarwal et al. 2021
    (arXiv:2108.13264): runs are drawn with replacement, for each benchmark apart.
    With few runs (under about 10) it is too narrow, as they show.

    Raises ValueError when scores are not two-dimensional, empty or not finite.
    """
    scores_RB = _score_table(scores, "scores")
    check_bootstrap(level, resamples)
    runs, benchmarks = scores_RB.shape
    draws = rng.integers(runs, size=(resamples, runs, benchmarks))
    drawn = np.sort(scores_RB[draws, np.arange(benchmarks)].reshape(resamples, -1), axis=1)
    cut = drawn.shape[1] // 4
    means = drawn[:, cut : drawn.shape[1] - cut].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(interquartile_mean(scores_RB), float(low), float(high))


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> float:
    """How likely a random run of a beats one of b on a random benchmark, ties counted half.

    a: [runs of a, benchmarks], b: [runs of b, benchmarks]. The Mann-Whitney statistic of each
    benchmark over runs of a times runs of b, averaged over benchmarks (Agarwal et al. 2021,
    arXiv:2108.13264). It knows who wins, not by how much.

    Raises ValueError when the benchmarks differ in number, or as `interquartile_interval`.
    """
    a_RB, b_RB = _score_table(a, "a"), _score_table(b, "b")
    if a_RB.shape[1] != b_RB.shape[1]:
        raise ValueError(f"a has {a_RB.shape[1]} benchmarks, b has {b_RB.shape[1]}")
    return float((np.sign(a_RB[:, None] - b_RB[None]) / 2 + 0.5).mean())


def _t_test(measured: Spread) -> float:
    """Two-sided p-value: one minus the level at which the interval of Student's t ends at zero."""
    if measured.error == 0:
        return float(abs(measured.mean) <= ROUNDING)
    ratio = abs(measured.mean) / measured.error
    low, high = np.log(SMALLEST), 0.0
    for _ in range(40):  # halving: the quantile falls as p rises
        middle = (low + high) / 2
        if measured.student(1 - float(np.exp(middle))) > ratio:
            low = middle
        else:
            high = middle
    return float(np.exp(high))


def _detectable(measured: Spread, level: float, power: float = 0.8) -> float:
    """`minimum_detectable_effect` with the quantiles of both levels; power p is level 2p - 1."""
    return measured.error * (measured.student(level) + measured.student(2 * power - 1))


def _sign_flips(
    difference_SP: NDArray[np.float64], cluster_P: NDArray[np.intp], rng: np.random.Generator
) -> float:
    """Two-sided p-value: how often random signs of the clusters' sums give as large a total."""
    sum_C = np.bincount(cluster_P, weights=difference_SP.mean(axis=0))
    sum_C = sum_C[np.abs(sum_C) > ROUNDING]
    turned_FC = rng.integers(2, size=(FLIPS, len(sum_C)), dtype=np.int8)
    totals_F = np.abs(sum_C.sum() - 2 * (turned_FC @ sum_C))
    hits = np.count_nonzero(totals_F >= abs(sum_C.sum()) - ROUNDING)
    return (hits + 1) / (FLIPS + 1)


def _score_table(values: ArrayLike, name: str) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"{name} must be finite scores [runs, benchmarks], not {table.shape}")
    return table

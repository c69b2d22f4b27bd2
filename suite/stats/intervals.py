"""Intervals of a mean score: over problems, over seeds and problems, over samples alone.

Which interval is for what. `mean_interval` and `hierarchical_interval` speak of the *population*
that the problems (and seeds) were drawn from: would another benchmark like this one agree? For
these very problems they are too wide; that narrower question is `sampling_interval`'s.

Left out: mean ± 1.96 standard errors, which near 0 and 1 covers as little as a third of the time.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from suite.stats.passk import mean_at_n

TIE = 1e-12  # two mean scores this close are equal: far below 1 / (problems · samples)
BLOCK = 1 << 21  # array elements of a bootstrap held at once, 16 MB
TRUSTED = 3.0  # problems that must carry the rarer outcome for their spread to be half believed
FEW, MANY = 8.0, 16.0  # of them, between which the bootstrap takes over from the score interval


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


class Spread(NamedTuple):
    """A mean over seeds and problems, its standard error, and what each level adds to it.

    `of_seeds` and `of_problems` are variances of the mean, `seeds` and `problems` their numbers.
    """

    mean: float
    error: float
    of_seeds: float
    of_problems: float
    seeds: int
    problems: int

    def student(self, level: float) -> float:
        """Standard errors to either side of the mean at this level.

        Student's t of each level's own degrees of freedom, weighted by its variance: Cochran's
        approximation (Cochran and Cox 1957, "Experimental designs"), conservative.
        """
        weights = np.array([self.of_seeds, self.of_problems])
        if weights.sum() == 0:
            weights = np.array([0.0, 1.0])
        degrees = np.maximum([self.seeds - 1, self.problems - 1], 1)
        return float(weights @ special.stdtrit(degrees, (1 + level) / 2) / weights.sum())


def mean_interval(
    values: ArrayLike, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Mean over problems of scores in [0, 1], and an interval for the population of problems.

    values: [problems], one score each (a share correct or a pass@k). The interval is meant to
    hold the mean over all problems the benchmark could have drawn, so it already contains the
    noise of sampling each problem a finite number of times; it is `hierarchical_interval` of a
    single seed, whose docstring says how it is made. It says nothing about other seeds.

    Raises ValueError when values are empty, not one-dimensional, not finite or outside [0, 1].
    """
    scores_P = _scores(values, "values", dimensions=(1,))
    return hierarchical_interval(scores_P[None], rng=rng, level=level, resamples=resamples)


def hierarchical_interval(
    scores: ArrayLike, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Mean score of an algorithm, and an interval over its training seeds and over problems.

    scores: [seeds, problems] in [0, 1], the same problems for each seed.

    In the middle this is a bootstrap with the seeds as its outer level: seeds and problems are
    drawn with replacement, crossed, since all seeds meet the same problems (Owen 2007, "The
    pigeonhole bootstrap", arXiv:0712.1111). Its quantiles are stretched about the mean until they
    are as wide as Student's t on the standard error of `spread`: the bootstrap of few units is too
    narrow (Hesterberg 2015, arXiv:1411.5279, section 4.2, who moves the quantiles instead, which
    three seeds do not allow). Two or three seeds that differ therefore give a wide interval.

    Near 0 and 1 a bootstrap cannot resample the rare problem it has not seen (30 zeros give
    [0, 0]). There it is Wilson's 1927 score interval for a share (recommended by Brown, Cai and
    DasGupta 2001, "Interval estimation for a binomial proportion") with an effective number of
    trials, problems / d (Kish 1965, "Survey sampling": the design effect d is the variance over
    that of as many coin flips). d is known as well as problems carry the rarer outcome; with x
    their scores, or one minus these, that is Kish's m = (Σx)² / Σx². So d enters as d^w,
    w = m² / (m² + 3²), an own choice made by simulation: d = 1, the worst case, for m = 0, the
    measured one for many. Where every score is 0 or 1 and only one or two differ from the rest,
    the end near them is Poisson's one-sided one, the modified interval of the same paper.
    From m = 8 to 16 the bootstrap takes over.

    Raises ValueError when scores are empty, not two-dimensional, not finite or outside [0, 1].
    """
    scores_SP = _scores(scores, "scores", dimensions=(2,))
    if scores_SP.min() < 0 or scores_SP.max() > 1:
        raise ValueError("scores must lie in [0, 1]")
    check_bootstrap(level, resamples)
    measured = spread(scores_SP)
    rare = effective_count(scores_SP.mean(axis=0))
    guard = float(np.clip((MANY - rare) / (MANY - FEW), 0, 1))
    low, high = _score_interval(measured, scores_SP.mean(axis=0), level)
    if guard < 1:
        means_R = resampled_means(scores_SP, rng, resamples)
        bootstrap = stretched(means_R, measured, level)
        low, high = guard * np.array([low, high]) + (1 - guard) * bootstrap
    mean = measured.mean
    return Interval(mean, float(np.clip(low, 0, mean)), float(np.clip(high, mean, 1)))


def sampling_interval(n: ArrayLike, c: ArrayLike, *, level: float = 0.95) -> Interval:
    """mean@n over these very problems, and an interval for the noise of sampling alone.

    n, c: [problems] samples and correct samples. It holds the mean of the true solve rates of
    these problems: would another n samples of each agree? It is Wilson's score interval (see
    `hierarchical_interval`) with the effective number of trials p̄ (1 - p̄) / Var, where
    Var = Σ p (1 - p) / n / problems² and p = (c + ½) / (n + 1), Jeffreys' estimate (Brown, Cai and
    DasGupta 2001), so that problems always or never solved keep some variance.

    Raises ValueError when some n < 1, c < 0 or c > n, on fractions, or without problems.
    """
    mean = float(_scores(mean_at_n(n, c), "c / n", dimensions=(1,)).mean())
    check_bootstrap(level, 1)
    n_P = np.asarray(n, dtype=np.float64)
    rate_P = (np.asarray(c) + 0.5) / (n_P + 1)
    variance = (rate_P * (1 - rate_P) / n_P).mean() / rate_P.size
    trials = rate_P.mean() * (1 - rate_P.mean()) / variance
    low, high = _wilson(mean, trials, special.ndtri((1 + level) / 2))
    return Interval(mean, min(float(low), mean), max(float(high), mean))


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
    ties counted half; it is not the function `probability_of_improvement`, which compares
    single runs. With few seeds (under about 5) both understate how much another seed would
    change; `compare_arms` corrects for that and for several arms.

    Raises ValueError on unequal shapes, empty, not finite, or wrongly shaped input.
    """
    difference_SP, labels = paired(a, b, clusters)
    check_bootstrap(level, resamples)
    differences_R = resampled_means(difference_SP, rng, resamples, labels)
    tail = (1 - level) / 2
    low, high = np.quantile(differences_R, [tail, 1 - tail])
    return Difference(float(difference_SP.mean()), float(low), float(high), above(differences_R))


# What the intervals here and the comparisons share ------------------------------------------------


def paired(
    a: ArrayLike, b: ArrayLike, clusters: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """a - b as [seeds, problems], and the number of each problem's cluster, [problems].

    Raises ValueError on unequal shapes, empty, not finite, or wrongly shaped input.
    """
    a_SP, b_SP = (_scores(x, name, dimensions=(1, 2)) for x, name in ((a, "a"), (b, "b")))
    if a_SP.shape != b_SP.shape:
        raise ValueError(
            f"a and b must hold the same seeds and problems; shapes are {a_SP.shape}, {b_SP.shape}"
        )
    difference_SP = np.atleast_2d(a_SP - b_SP)
    problems = difference_SP.shape[1]
    labels = np.arange(problems) if clusters is None else np.asarray(clusters)
    if labels.shape != (problems,):
        raise ValueError(f"clusters must hold one label a problem, {problems}, not {labels.shape}")
    return difference_SP, np.unique(labels, return_inverse=True)[1]


def spread(scores_SP: NDArray[np.float64], cluster_P: NDArray[np.intp] | None = None) -> Spread:
    """Mean over seeds and problems with its standard error, both levels counted.

    scores_SP: [seeds, problems]; cluster_P: the cluster of each problem, by default its own.

    Two-way random effects without replication (Searle, Casella and McCulloch 1992, "Variance
    components"): the variance of the mean is that of the seeds' means plus that of the problems'
    means less the residual's, which both contain; never below the larger of the two. Clusters
    enter as their share of the total (the ratio estimator, Cochran 1977, "Sampling techniques").
    A single seed has no variance to offer: the error is then over problems alone.
    """
    if cluster_P is not None:
        clusters = int(cluster_P.max()) + 1
        size_C = np.bincount(cluster_P, minlength=clusters) * clusters / len(cluster_P)
        mean_S1 = scores_SP.mean(axis=1, keepdims=True)
        member_PC = np.eye(clusters)[cluster_P] * clusters / len(cluster_P)
        scores_SP = scores_SP @ member_PC + mean_S1 * (1 - size_C)
    seeds, problems = scores_SP.shape
    mean = float(scores_SP.mean())
    seed_S, problem_P = scores_SP.mean(axis=1), scores_SP.mean(axis=0)
    of_seeds = seed_S.var(ddof=1) / seeds if seeds > 1 else 0.0
    of_problems = problem_P.var(ddof=1) / problems if problems > 1 else 0.0
    residual = 0.0
    if seeds > 1 and problems > 1:
        rest_SP = scores_SP - seed_S[:, None] - problem_P + mean
        residual = (rest_SP**2).sum() / ((seeds - 1) * (problems - 1) * seeds * problems)
    variance = max(of_seeds, of_problems, of_seeds + of_problems - residual)
    error = float(np.sqrt(variance))
    return Spread(mean, error, float(of_seeds), float(of_problems), seeds, problems)


def effective_count(scores_P: NDArray[np.float64]) -> float:
    """How many problems carry the rarer outcome: (Σx)² / Σx² of x or 1 - x (Kish 1965)."""
    rare_P = scores_P if scores_P.mean() <= 0.5 else 1 - scores_P
    squares = float((rare_P**2).sum())
    return float(rare_P.sum()) ** 2 / squares if squares > 0 else 0.0


def resampled_means(
    scores_SP: NDArray[np.float64],
    rng: np.random.Generator,
    resamples: int,
    cluster_P: NDArray[np.intp] | None = None,
) -> NDArray[np.float64]:
    """Means [resamples] over seeds and clusters of problems, both drawn with replacement."""
    seeds, problems = scores_SP.shape
    cluster_P = np.arange(problems) if cluster_P is None else cluster_P
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


def stretched(means_R: NDArray[np.float64], measured: Spread, level: float) -> NDArray[np.float64]:
    """Low and high bootstrap quantile, as far from the mean as Student's t on the same error."""
    tail = (1 - level) / 2
    quantiles = np.asarray(np.quantile(means_R, [tail, 1 - tail]), dtype=np.float64)
    width = means_R.std() * special.ndtri(1 - tail)
    if width == 0:
        return quantiles
    stretch = measured.error * measured.student(level) / width
    return measured.mean + (quantiles - measured.mean) * stretch


def above(differences_R: NDArray[np.float64]) -> float:
    """The share of differences above zero, ties counted half."""
    tied = np.abs(differences_R) <= TIE
    return float(np.mean(differences_R > TIE) + np.mean(tied) / 2)


def _score_interval(
    measured: Spread, scores_P: NDArray[np.float64], level: float
) -> NDArray[np.float64]:
    """Wilson's interval with the effective number of trials; see `hierarchical_interval`."""
    mean, problems = measured.mean, measured.problems
    coin, rare = mean * (1 - mean), effective_count(scores_P)
    trust = rare**2 / (rare**2 + TRUSTED**2) if problems > 1 and coin > 0 else 0.0
    effect = max(measured.error**2 * (problems - 1) / coin, 1e-6) ** trust if trust > 0 else 1.0
    normal = special.ndtri((1 + level) / 2)
    quantile = normal + trust * (measured.student(level) - normal)
    low, high = _wilson(mean, problems / effect, quantile)
    wholes = min(scores_P.sum(), (1 - scores_P).sum())
    if wholes in (1, 2) and np.isin(scores_P, (0, 1)).all():
        end = special.gammaincinv(wholes, 1 - level) / problems
        low, high = (min(low, end), high) if mean <= 0.5 else (low, max(high, 1 - end))
    return np.array([low, high])


def _wilson(mean: float, trials: float, z: float) -> NDArray[np.float64]:
    """Low and high end of Wilson's score interval for a share of `trials`, z being its quantile."""
    centre = mean + z**2 / (2 * trials)
    half = z * np.sqrt(mean * (1 - mean) / trials + z**2 / (4 * trials**2))
    return np.clip((centre + np.array([-half, half])) / (1 + z**2 / trials), 0, 1)


def _scores(values: ArrayLike, name: str, dimensions: tuple[int, ...]) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim not in dimensions or scores.size == 0:
        raise ValueError(f"{name} must be a non-empty array, not of shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return scores


def check_bootstrap(level: float, resamples: int) -> None:
    """Raises ValueError unless a bootstrap can be made of them."""
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"need 0 < level < 1 and resamples ≥ 1, not {level} and {resamples}")

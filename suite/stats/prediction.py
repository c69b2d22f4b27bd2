"""pass@k for more samples than were drawn: an estimate, and labelled as one everywhere.

Sampling 1,024 responses a problem is what a pass@1024 costs; from 64 it can only be predicted, and
only as well as the model of solve rates fits. So the result is a class of its own, `Estimated`,
never a number that could be taken for `suite.stats.pass_at_k`. Left out: power laws fitted to the
curve (Brown et al. 2024, arXiv:2407.21787), which give no per-problem answer and no interval.
"""

import operator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from suite.stats.intervals import mean_interval
from suite.stats.passk import mean_at_n

# Shapes of the Beta law that are considered, evenly in their logarithms. A smaller first shape than
# 0.02 is a benchmark of which 9 in 10 problems have a rate below 1e-40; the second bounds the mean
# rate of what can be told from never.
RIGHT = np.geomspace(0.02, 10, 48)
WRONG = np.geomspace(0.02, 2e4, 64)


@dataclass(frozen=True)
class Estimated:
    """A predicted pass@k, averaged over problems, with its interval; never a measured one.

    `low` and `high` are for these very problems; `population_low` and `population_high` for the
    benchmark's whole population of problems, as `suite.stats.mean_interval`'s are.
    """

    estimated: ClassVar[bool] = True

    k: int
    samples: int
    problems: int
    estimate: float
    low: float
    high: float
    population_low: float
    population_high: float
    level: float

    def __str__(self) -> str:
        return (
            f"pass@{self.k} ≈ {self.estimate:.3f} "
            f"[{self.population_low:.3f}, {self.population_high:.3f}], for these very problems "
            f"[{self.low:.3f}, {self.high:.3f}], estimated from {self.samples} samples"
        )


def predict_pass_at_k(
    n: ArrayLike,
    c: ArrayLike,
    k: int,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    draws: int = 2000,
) -> Estimated:
    """pass@k of a benchmark from fewer than k samples a problem, as a labelled estimate.

    n, c: [problems] samples and correct ones, n may differ between problems; k: larger than some
    n (otherwise `suite.stats.pass_at_k` measures it); draws: from the posterior.

    The solve rates are taken to follow one Beta law, so the counts are beta-binomial (Kazdan et
    al. 2025, arXiv:2510.05197, predict pass@k so). Here the law keeps its uncertainty: its two
    shapes have a posterior on a grid, the prior even in their logarithms
    (0.02 … 10 for right, 0.02 … 20,000 for wrong). Given the shapes α and β a problem's rate is
    Beta(α + c, β + n - c) (Gelman et al., "Bayesian data analysis", chapter 5), and its pass@k
    is 1 - (1 - rate)^k: draws of shapes and rates give the mean over these problems and its
    interval, 1 - B(α, β + k) / B(α, β) that of the population. Both are credible intervals; the
    population's is never narrower than that of a measured pass@k on as many problems, whatever
    the law claims to know.

    Where it fails: solve rates in two groups (solvable, and never), samples that are not
    independent, and k beyond about 1 / the smallest rate that the n samples can see, where the
    prior speaks and the interval is wide.

    Raises ValueError when no n is below k, c < 0 or c > n, on fractions, or without problems.
    """
    k = operator.index(k)
    if mean_at_n(n, c).ndim != 1 or np.size(c) == 0:
        raise ValueError("n and c must hold one entry a problem, and at least one")
    n_P, c_P = (np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(n, c))
    if k <= n_P.min():
        raise ValueError(f"pass@{k} needs no estimate: every problem has {k} samples or more")
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"need 0 < level < 1 and draws ≥ 1, not {level} and {draws}")
    right_G, wrong_G = (x.ravel() for x in np.meshgrid(RIGHT, WRONG, indexing="ij"))
    point_D = rng.choice(len(right_G), size=draws, p=_posterior(n_P, c_P, right_G, wrong_G))
    right_D, wrong_D = right_G[point_D], wrong_G[point_D]
    rate_DP = rng.beta(right_D[:, None] + c_P, wrong_D[:, None] + n_P - c_P)
    with np.errstate(divide="ignore"):  # a rate that rounds to 1
        pass_DP = -np.expm1(k * np.log1p(-rate_DP))
    these_D = pass_DP.mean(axis=1)
    all_D = -np.expm1(special.betaln(right_D, wrong_D + k) - special.betaln(right_D, wrong_D))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(these_D, tails)
    population_low, population_high = np.quantile(all_D, tails)
    guard = mean_interval(pass_DP.mean(axis=0), rng=rng.spawn(1)[0], level=level)
    return Estimated(
        k=k,
        samples=int(n_P.min()),
        problems=len(n_P),
        estimate=float(these_D.mean()),
        low=float(low),
        high=float(high),
        population_low=float(min(population_low, guard.low)),
        population_high=float(max(population_high, guard.high)),
        level=level,
    )


def _posterior(
    n_P: NDArray[np.float64],
    c_P: NDArray[np.float64],
    right_G: NDArray[np.float64],
    wrong_G: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Probability of each grid point, summing to 1, by the beta-binomial likelihood."""
    pairs, times = np.unique(np.stack([n_P, c_P], axis=1), axis=0, return_counts=True)
    log_G = np.zeros(len(right_G))
    for (n, c), count in zip(pairs, times, strict=True):
        log_G += count * special.betaln(right_G + c, wrong_G + n - c)
    log_G -= len(n_P) * special.betaln(right_G, wrong_G)
    weight_G = np.exp(log_G - log_G.max())
    return weight_G / weight_G.sum()

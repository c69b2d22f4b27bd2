"""A score over what it cost: its value at a cost, the cost of a value, its mean, its saturation.

Between two evaluations a score is taken to move in a straight line over the cost; nothing is said
beyond the last one. Pure functions on arrays, numpy and scipy only. Left out: a smoothing of the
curve, which would hide how few points there are, and a fit to fewer points than its parameters
can be told from.

Axes: C points of a curve in order of cost, S seeds, P problems, R resamples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

PARAMETERS = 3  # of the saturating curve: R0 is measured, not fitted
SPARE = 2  # points beyond the parameters, without which a fit says nothing about its own error
REACH = 100.0  # C_mid is looked for from the first cost / REACH to the last one * REACH
EXPONENTS = (0.2, 8.0)  # B is looked for between these
GRID = (120, 40)  # values of C_mid and of B that are tried, evenly in their logarithms


def score_at(cost: ArrayLike, scores: ArrayLike, at_cost: float) -> NDArray[np.float64]:
    """The scores at the cost `at_cost`, in a straight line between the points around it.

    cost: [C] increasing; scores: [C, ...]. The result has the shape of one point. Before the first
    point and after the last one a score stays what it is there.

    Raises ValueError when the costs fall or their number is not that of the scores.
    """
    cost_C, scores_C = _curve(cost, scores)
    position = np.interp(at_cost, cost_C, np.arange(len(cost_C)))
    before = int(position)
    after = min(before + 1, len(cost_C) - 1)
    share = position - before
    return (1 - share) * scores_C[before] + share * scores_C[after]


def cost_to(cost: ArrayLike, score: ArrayLike, goal: float) -> float:
    """Where the straight lines through the points first reach `goal`; inf where they never do.

    cost, score: [C]. Already there at the first point, the answer is that point's cost: an upper
    bound unless it is 0.

    Raises ValueError as `score_at` does.
    """
    cost_C, score_C = _curve(cost, score)
    reached = np.flatnonzero(score_C >= goal)
    if not len(reached):
        return float("inf")
    after = reached[0]
    if after == 0:
        return float(cost_C[0])
    before = after - 1
    share = (goal - score_C[before]) / (score_C[after] - score_C[before])
    return float(cost_C[before] + share * (cost_C[after] - cost_C[before]))


def mean_over_cost(cost: ArrayLike, scores: ArrayLike, until: float) -> NDArray[np.float64]:
    """The area under the curve from its first point to the cost `until`, over that range's length.

    cost: [C]; scores: [C, ...]; the result has the shape of one point and the scores' unit, so that
    1 is a score of 1 from the beginning. A curve that ends before `until` keeps its last score.

    Raises ValueError as `score_at` does, or when `until` is not beyond the first point.
    """
    cost_C, scores_C = _curve(cost, scores)
    if not until > cost_C[0]:
        raise ValueError(f"no area up to {until:g}: the curve begins at {cost_C[0]:g}")
    ends_C = np.append(cost_C[cost_C < until], until)
    values_C = np.array([score_at(cost_C, scores_C, end) for end in ends_C])
    width_C = np.diff(ends_C) / (until - cost_C[0])
    return np.tensordot(width_C, (values_C[1:] + values_C[:-1]) / 2, axes=1)


class Saturation(NamedTuple):
    """R(C) = start + (asymptote - start) / (1 + (middle / C)^exponent); `error` is the fit's RMS.

    start, asymptote: scores; middle: the cost at which half of the way is gone.
    """

    start: float
    asymptote: float
    middle: float
    exponent: float
    error: float

    def __call__(self, cost: ArrayLike) -> NDArray[np.float64]:
        """The score at each cost > 0."""
        gone = _gone(np.asarray(cost, dtype=np.float64), np.log(self.middle), self.exponent)
        return self.start + (self.asymptote - self.start) * gone


def fit_saturation(
    cost: ArrayLike, score: ArrayLike, start: float, *, refine: bool = True
) -> Saturation:
    """The saturating curve of ScaleRL (Khatri et al. 2025, arXiv:2510.13786, equation 1).

    cost, score: [C], the points after the base model's, whose score is `start` (R0). Least squares:
    for each (C_mid, B) the best A is known in closed form, kept in [0, 1]; the rest is a grid,
    about a tenth apart, and with `refine` a descent from its best point. They choose the points to
    leave out at the beginning; here none is.

    Raises ValueError with fewer than five points (three parameters and two to spare), a cost that
    is not above 0, or as `score_at` does.
    """
    cost_C, score_C = _curve(cost, score)
    needed = PARAMETERS + SPARE
    if len(cost_C) < needed:
        raise ValueError(
            f"{len(cost_C)} points after the base model's; {PARAMETERS} parameters need {needed}"
        )
    if cost_C[0] <= 0:
        raise ValueError("every point after the base model's must have cost something")
    rise_C = score_C - start
    bounds = np.array([np.log([cost_C[0] / REACH, cost_C[-1] * REACH]), np.log(EXPONENTS)])
    middles, exponents = (
        np.linspace(low, high, n) for (low, high), n in zip(bounds, GRID, strict=True)
    )
    grid = np.meshgrid(middles, exponents, indexing="ij")
    middle_G, exponent_G = (axis.ravel() for axis in grid)
    gone_GC = _gone(cost_C, middle_G[:, None], np.exp(exponent_G)[:, None])
    height_G = _height(gone_GC, rise_C, start)
    worst_G = ((height_G[:, None] * gone_GC - rise_C) ** 2).sum(axis=1)
    best = int(worst_G.argmin())
    place = np.array([middle_G[best], exponent_G[best]])

    def residual(place: NDArray[np.float64]) -> NDArray[np.float64]:
        gone_C = _gone(cost_C, place[0], np.exp(place[1]))
        return _height(gone_C[None], rise_C, start)[0] * gone_C - rise_C

    if refine:
        place = optimize.least_squares(residual, place, bounds=bounds.T).x
    middle, exponent = place[0], float(np.exp(place[1]))
    height = float(_height(_gone(cost_C, middle, exponent)[None], rise_C, start)[0])
    error = float(np.sqrt(np.mean(residual(place) ** 2)))
    return Saturation(float(start), start + height, float(np.exp(middle)), exponent, error)


# Resampling ---------------------------------------------------------------------------------------


class Draws(NamedTuple):
    """Seeds and problems drawn with replacement: how often each, [R, S] and [R, P], as shares."""

    seeds_RS: NDArray[np.float64]
    problems_RP: NDArray[np.float64]

    @classmethod
    def make(cls, seeds: int, problems: int, resamples: int, rng: np.random.Generator) -> Draws:
        """The crossed bootstrap (Owen 2007, arXiv:0712.1111); the same draws for every arm."""
        return cls(
            *(
                rng.multinomial(size, np.full(size, 1 / size), size=resamples) / size
                for size in (seeds, problems)
            )
        )

    def curves(
        self, cost_CS: NDArray[np.float64], scores_CSP: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean cost and mean score of every resample, [R, C] each."""
        score_RC = np.einsum("rs,csp,rp->rc", self.seeds_RS, scores_CSP, self.problems_RP)
        return self.seeds_RS @ cost_CS.T, score_RC


def percentile(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The ends of the percentile interval; values may be infinite, and so may the ends.

    Raises ValueError without values, or when one is not a number.
    """
    values_R = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if values_R.size == 0 or np.isnan(values_R).any():
        raise ValueError("values must be numbers, and there must be one")
    tail = (1 - level) / 2
    low, high = int(np.floor(tail * values_R.size)), int(np.ceil((1 - tail) * values_R.size)) - 1
    return float(values_R[low]), float(values_R[max(high, low)])


def _gone(cost: NDArray, log_middle: NDArray | float, exponent: NDArray | float) -> NDArray:
    """The share of the way that is gone: 1 / (1 + (C_mid / C)^B)."""
    return 1 / (1 + np.exp(exponent * (log_middle - np.log(cost))))


def _height(gone_GC: NDArray, rise_C: NDArray, start: float) -> NDArray:
    """A - R0 that fits best, A in [0, 1]."""
    best_G = (gone_GC @ rise_C) / np.maximum((gone_GC**2).sum(axis=1), 1e-300)
    return np.clip(best_G, -start, 1 - start)


def _curve(cost: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cost_C, scores_C = (np.asarray(x, dtype=np.float64) for x in (cost, scores))
    if cost_C.ndim != 1 or len(cost_C) == 0 or scores_C.shape[:1] != cost_C.shape:
        raise ValueError(f"one cost a point, not {cost_C.shape} for scores {scores_C.shape}")
    if not (np.isfinite(cost_C).all() and np.isfinite(scores_C).all()):
        raise ValueError("costs and scores must be finite")
    if np.any(np.diff(cost_C) < 0):
        raise ValueError("a curve's costs cannot fall")
    return cost_C, scores_C

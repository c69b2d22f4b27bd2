"""Does one number of the arms rise with another? Rank correlation, and with a third held fixed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from suite.stats.intervals import Interval

FEWEST = 5  # arms
EXACT = 1e-12  # of a variance that is left: less is rounding


def spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike | None = None) -> NDArray[np.float64]:
    """Spearman's rank correlation of x and y over the last axis; with `given`, the partial one.

    Partial: of what is left of both ranks after a straight line in the ranks of `given`, that is
    (r_xy - r_xg r_yg) / sqrt((1 - r_xg²)(1 - r_yg²)) (Kendall 1942). NaN where a number does not
    vary, or where `given` leaves nothing of it.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        xy = _correlation(x, y)
        if given is None:
            return xy
        xg, yg = _correlation(x, given), _correlation(y, given)
        rest = (1 - xg**2) * (1 - yg**2)
        return np.where(rest > EXACT, (xy - xg * yg) / np.sqrt(rest), np.nan)


def _correlation(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Pearson's, of the ranks."""
    ranks = [rankdata(values, axis=-1) for values in (x, y)]
    x_gap, y_gap = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    variances = (x_gap**2).sum(axis=-1) * (y_gap**2).sum(axis=-1)
    return (x_gap * y_gap).sum(axis=-1) / np.sqrt(variances)


def spearman_interval(
    x: ArrayLike,
    y: ArrayLike,
    given: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """`spearman` with the percentile bootstrap over arms; resamples without an answer are left out.

    It treats arms as drawn from a population of methods, each by itself. Arms that differ in one
    setting are not, so it is on the narrow side.

    Raises ValueError with fewer than FEWEST arms.
    """
    columns: list[NDArray[np.float64]] = [np.asarray(v, dtype=float) for v in (x, y)]
    if given is not None:
        columns.append(np.asarray(given, dtype=float))
    arms = len(columns[0])
    if arms < FEWEST:
        raise ValueError(f"a correlation over {arms} arms says nothing: at least {FEWEST}")
    draws = rng.integers(arms, size=(resamples, arms))
    many = spearman(*(column[draws] for column in columns))
    tail = (1 - level) / 2
    low, high = np.nanquantile(many, [tail, 1 - tail])
    return Interval(float(spearman(*columns)), float(low), float(high))

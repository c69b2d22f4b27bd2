"""Does one number of the arms rise with another? Rank correlation, and with a third held fixed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from suite.intervals import Interval

FEWEST = 5  # arms


def spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike | None = None) -> float:
    """Spearman's rank correlation of x and y, [arms]; with `given`, the partial one.

    Partial: of what is left of both ranks after a straight line in the ranks of `given`, that is
    (r_xy - r_xg r_yg) / sqrt((1 - r_xg²)(1 - r_yg²)) (Kendall 1942). NaN where a number does not
    vary.
    """
    ranks = np.array([rankdata(v) for v in (x, y) + (() if given is None else (given,))])
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.corrcoef(ranks)
        if given is None:
            return float(r[0, 1])
        rest = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
        return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(rest)) if rest > 1e-12 else np.nan


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
    many = np.array([spearman(*(column[draw] for column in columns)) for draw in draws])
    tail = (1 - level) / 2
    low, high = np.nanquantile(many, [tail, 1 - tail])
    return Interval(spearman(*columns), float(low), float(high))

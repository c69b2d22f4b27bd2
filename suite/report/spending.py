"""What each arm of a matrix scored as it spent: arrays from the evaluations in the database.

All arms are given the same seeds and problems, so that they can be compared; what had to be left
out for that is named.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite import stats
from suite.report.differences import baseline_of

UNITS = {"gpu_hours": "GPU-hours", "tokens": "tokens", "steps": "steps"}
BASE = 0.0  # the fraction of the budget at which the base model is scored
_COST = {"gpu_hours": "gpu_hours", "tokens": "tokens", "steps": "step"}  # columns of `counts`


@dataclass(frozen=True)
class Curve:
    """An arm's evaluations, in order of cost.

    fraction: [C] of the budget; cost: [C, S] in the table's unit; n, correct: [C, S, P] samples.
    """

    arm: str
    fraction: NDArray[np.float64]
    cost: NDArray[np.float64]
    n: NDArray[np.int64]
    correct: NDArray[np.int64]

    def scores(self, k: int) -> NDArray[np.float64]:
        """pass@k, [C, S, P]."""
        return stats.pass_at_k(self.n, self.correct, k)

    def mean(self, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean cost and mean score of each point, over seeds and problems."""
        return self.cost.mean(axis=1), self.scores(k).mean(axis=(1, 2))


@dataclass(frozen=True)
class Matched:
    """The arms of a matrix on one benchmark, with the same seeds and problems for each."""

    matrix: str
    benchmark: str
    model: str
    unit: str
    ks: list[int]
    seeds: list[int]
    curves: list[Curve]
    left_out: list[str]

    @property
    def baseline(self) -> Curve:
        """Of the arm that the others are compared with."""
        name = baseline_of([curve.arm for curve in self.curves])
        return next(curve for curve in self.curves if curve.arm == name)

    @property
    def equal_cost(self) -> float:
        """The most that every seed of every arm has spent."""
        return float(min(curve.cost[-1].min() for curve in self.curves))

    @property
    def title(self) -> str:
        """ "quickstart: arithmetic, arithmetic-tiny"."""
        return f"{self.matrix}: {self.benchmark}, {Path(self.model).name}"

    @property
    def about(self) -> dict[str, str]:
        """What these are scores of, as fields of a table."""
        names = ("matrix", "benchmark", "model", "unit")
        return {name: getattr(self, name) for name in names}

    def rng(self, *names: object) -> np.random.Generator:
        """The same numbers give the same intervals."""
        text = f"{self.matrix} {self.benchmark} {self.model} {self.unit} {names}"
        return np.random.default_rng(zlib.crc32(text.encode()))


def read(connection: Any, matrix: str, benchmark: str, model: str, unit: str) -> Matched | None:
    """What was measured; None when no arm has two evaluations at different costs."""
    rows = connection.execute(
        f"""SELECT arm, seed, fraction, {_COST[unit]}, problem, n, correct FROM counts
             WHERE matrix = ? AND model = ? AND benchmark = ?
             ORDER BY position, fraction, problem""",
        [matrix, model, benchmark],
    ).fetchall()
    ks = connection.execute(
        """SELECT DISTINCT k FROM pass_at_k
            WHERE matrix = ? AND benchmark = ? AND model = ? ORDER BY k""",
        [matrix, benchmark, model],
    ).fetchall()
    points: dict[str, dict[int, dict[float, dict[str, tuple[float, int, int]]]]] = {}
    for arm, seed, fraction, cost, problem, n, correct in rows:
        if cost is None:
            raise ValueError(f"the runs of {matrix!r} did not record their {UNITS[unit]}")
        at = points.setdefault(arm, {}).setdefault(seed, {}).setdefault(fraction, {})
        at[problem] = (cost, n, correct)
    usable, left_out = _usable(points)
    if not usable:
        return None
    seeds = sorted(set.intersection(*(set(of_arm) for of_arm in usable.values())))
    seeds = seeds or [min(next(iter(usable.values())))]
    for arm, of_arm in usable.items():
        left_out += [f"{arm} (seed {seed})" for seed in of_arm if seed not in seeds]
    usable = {arm: of_arm for arm, of_arm in usable.items() if set(seeds) <= set(of_arm)}
    curves = _curves({arm: [of_arm[s] for s in seeds] for arm, of_arm in usable.items()})
    return Matched(matrix, benchmark, model, unit, [k for (k,) in ks], seeds, curves, left_out)


def _usable(points: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Runs that were scored at two costs at least, and the names of those that were not."""
    usable: dict[str, Any] = {}
    left_out = []
    for arm, of_arm in points.items():
        for seed, of_seed in of_arm.items():
            costs = {next(iter(at.values()))[0] for at in of_seed.values()}
            if len(costs) > 1:
                usable.setdefault(arm, {})[seed] = of_seed
            else:
                left_out.append(f"{arm} (seed {seed})")
    return usable, left_out


def _curves(runs: dict[str, list[dict[float, dict[str, tuple[float, int, int]]]]]) -> list[Curve]:
    """Arrays of the problems that all have, and of the fractions that an arm's seeds have."""
    every = [at for of_arm in runs.values() for of_seed in of_arm for at in of_seed.values()]
    problems = sorted(set.intersection(*(set(at) for at in every)))
    curves = []
    for arm, of_arm in runs.items():
        fractions = sorted(set.intersection(*(set(of_seed) for of_seed in of_arm)))
        table = np.array([[[s[f][p] for p in problems] for s in of_arm] for f in fractions])
        counts = table[..., 1:].astype(np.int64)
        curves.append(
            Curve(arm, np.array(fractions), table[:, :, 0, 0], counts[..., 0], counts[..., 1])
        )
    return curves

"""What an experiment measured, read back from runs.db, and a verdict for each expectation.

Every measure is a mean over seeds with its standard error; every comparison of two arms is paired
by seed, for the same seed means the same table and the same random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from suite.lab.experiment import TABULAR, THEORY, LabExperiment
from suite.lab.schema import Expect, Measure
from suite.store import connect

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]  # steps [K], values [seeds, K]


@dataclass(frozen=True)
class ExpectationVerdict:
    """An expectation, what was measured, and whether the claim came out."""

    expect: Expect
    mean: float
    error: float  # standard error over seeds
    worst: float  # the seed furthest from what was expected
    seeds: int
    reproduced: bool

    @property
    def t(self) -> float:
        """The mean in standard errors."""
        if self.error == 0.0:
            return 0.0 if self.mean == 0.0 else float(np.copysign(np.inf, self.mean))
        return self.mean / self.error


@dataclass(frozen=True)
class LabOutcome:
    """The traces of an experiment: arm -> metric -> curve."""

    experiment: LabExperiment
    curves: dict[str, dict[str, Curve]]

    def values(self, arm: str, measure: Measure) -> NDArray[np.float64] | None:
        """The measure of each seed, or None when the arm has no such metric."""
        curve = self.curves.get(arm, {}).get(measure.metric)
        if curve is None:
            return None
        _, values = curve
        if measure.at == "change":
            return values[:, -1] - values[:, 0]
        if measure.at == "last-quarter":
            return values[:, -max(1, values.shape[1] // 4) :].mean(1)
        return values[:, 0 if measure.at == "first" else -1]

    def verdicts(self) -> list[ExpectationVerdict]:
        """One for each expectation, in their order."""
        return [self._verdict(expect) for expect in self.experiment.file.expect]

    def _verdict(self, expect: Expect) -> ExpectationVerdict:
        values = self.values(expect.arm, expect)
        if values is not None and expect.against is not None:
            other = self.values(expect.against, expect)
            values = None if other is None else values - other
        if values is None:
            nan = float("nan")
            return ExpectationVerdict(expect, nan, nan, nan, 0, False)
        mean, error = mean_and_error(values)
        worst = float(values[_shortfall(expect, values).argmax()])  # argmax finds a NaN first
        verdict = ExpectationVerdict(expect, mean, error, worst, len(values), False)
        return ExpectationVerdict(expect, mean, error, worst, len(values), _holds(expect, verdict))


def _shortfall(expect: Expect, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each value is on the wrong side of what is expected."""
    if expect.value is not None:
        return np.abs(values - expect.value)
    return values if expect.at_most is not None or expect.sign == "-" else -values


def _holds(expect: Expect, measured: ExpectationVerdict) -> bool:
    if expect.sign is not None:
        return bool(measured.t >= expect.t if expect.sign == "+" else measured.t <= -expect.t)
    value = measured.worst if expect.each else measured.mean
    if expect.value is not None and expect.tolerance is not None:
        return abs(value - expect.value) <= expect.tolerance
    if expect.at_most is not None:
        return value <= expect.at_most
    return expect.at_least is not None and value >= expect.at_least


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean over seeds and its standard error; NaN where fewer than two seeds have it."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def read_outcome(experiment: LabExperiment, db: Path) -> LabOutcome:
    """The experiment's traces from the published database."""
    with connect(db) as connection:
        rows = connection.execute(
            """SELECT r.arm, t.metric, r.seed, t.step, t.value
                 FROM matrix_runs r JOIN steps t USING (run)
                WHERE r.matrix = ? AND t.value IS NOT NULL ORDER BY ALL""",
            [experiment.name],
        ).fetchnumpy()
    curves: dict[str, dict[str, Curve]] = {}
    seed_N, step_N, value_N = (np.asarray(rows[name]) for name in ("seed", "step", "value"))
    arm_N, metric_N = (np.asarray(rows[name], dtype=str) for name in ("arm", "metric"))
    edges = np.flatnonzero((arm_N[1:] != arm_N[:-1]) | (metric_N[1:] != metric_N[:-1])) + 1
    for part in np.split(np.arange(len(arm_N)), edges):
        if len(part):
            arm, metric = str(arm_N[part[0]]), str(metric_N[part[0]])
            curve = _curve(seed_N[part], step_N[part], value_N[part])
            curves.setdefault(arm, {})[metric] = curve
    return LabOutcome(experiment, curves)


def _curve(seed_N: NDArray, step_N: NDArray, value_N: NDArray) -> Curve:
    """Values [seeds, K]; NaN where a metric is not defined at a step of a seed."""
    seeds, row_N = np.unique(seed_N, return_inverse=True)
    steps, column_N = np.unique(step_N, return_inverse=True)
    values = np.full((len(seeds), len(steps)), np.nan)
    values[row_N, column_N] = value_N
    return steps, values


def experiment_names(db: Path) -> list[str]:
    """The experiments of the lab in a database."""
    with connect(db) as connection:
        rows = connection.execute(
            "SELECT DISTINCT matrix FROM runs WHERE model IN (?, ?) AND matrix IS NOT NULL",
            [TABULAR, THEORY],
        ).fetchall()
    return [name for (name,) in rows]

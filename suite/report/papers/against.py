"""`suite report --against`: our scores and costs beside those that a paper reports.

Our intervals are those of the leaderboard and of `--cost`. The papers give none, so that a number
of theirs outside ours is a difference, and one inside shows no more than that none was found.
Settings are compared with those of the matrix that repeats the table and with the sampling that
the paper names, run by run as they were stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from suite import stats
from suite.matrix.shrink import SUFFIX
from suite.report import equal_cost, spending
from suite.report.papers import published
from suite.report.papers.departures import departures, stored
from suite.report.papers.published import AVERAGE, BASE, COSTS, PUBLISHED, Column, Table
from suite.report.scores import Scores, scored
from suite.report.table import Report
from suite.stats.intervals import Interval
from suite.store import connect, timings
from suite.text import compact
from suite.worker.ledger import SECONDS_PER_HOUR


class Ours(NamedTuple):
    """What we measured, as text; the ends of its interval where there is one (inf: not reached)."""

    text: str
    estimate: float
    low: float | None = None
    high: float | None = None


def reports(
    db: Path, matrix: str, path: Path = PUBLISHED, benchmark: str = "", model: str = ""
) -> list[Report]:
    """For each model of a matrix: ours beside theirs, and the settings that differ.

    A rehearsal (`--shrink`) is shown with what its matrix would be compared with, and says so.
    benchmark, model: only those, and what is of several benchmarks or of none.

    Raises:
        ValueError: nothing is published for that matrix; what there is is named.
        MatrixError: the file, or a matrix that it names, has something wrong with it.
    """
    tables = published.load(path)
    own = published.of(matrix, tables)
    if not own:
        names = ", ".join(dict.fromkeys(table.matrix for table in tables.values()))
        raise ValueError(f"{path.name} has nothing for matrix {matrix!r}; it has {names}")
    runs = stored(db, matrix)
    found = []
    for each in dict.fromkeys(run.model for run in runs):
        if not model or each == model:
            ours = _Measured(db, matrix, each)
            same = [run for run in runs if run.model == each]
            found.append(_beside(ours, own, benchmark))
            why_not = comparable(matrix, each, own)
            found.append(departures(matrix, same, own, [why_not] if why_not else []))
    return found


def comparable(matrix: str, model: str, tables: dict[str, Table]) -> str:
    """Why nothing can be concluded from such a comparison; "" where something can."""
    theirs = next(iter(tables.values())).model
    if matrix.endswith(SUFFIX):
        return (
            f"NOT COMPARABLE: {matrix} is a rehearsal of a few steps with a tiny model and "
            "problems of its own. It shows what the table will look like, and nothing else."
        )
    if Path(model).name != Path(theirs).name:
        return f"NOT COMPARABLE: this is {Path(model).name}, theirs is {Path(theirs).name}."
    return ""


# Ours beside theirs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """What a matrix measured with one model."""

    db: Path
    matrix: str
    model: str

    @property
    def rehearsal(self) -> bool:
        return self.matrix.endswith(SUFFIX)

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """By benchmark."""
        with connect(self.db) as connection:
            found = scored(connection, self.matrix)
        return {one.benchmark: one for one in found if one.model == self.model}

    @cached_property
    def updates(self) -> dict[str, float]:
        """GPU-hours of the update phase a step, by arm."""
        spent: dict[str, list[float]] = {}
        with connect(self.db) as connection:
            rows = connection.execute(
                "SELECT run, arm FROM data.cells WHERE matrix = ? AND model = ?",
                [self.matrix, self.model],
            ).fetchall()
        arms = dict(rows)
        for run in timings.read_timings(self.db, self.matrix):
            if run.run in arms and "update" in run.charged:
                hours = run.charged["update"] * run.gpus / SECONDS_PER_HOUR
                total = spent.setdefault(arms[run.run], [0.0, 0.0])
                total[0] += hours
                total[1] += run.steps
        return {arm: hours / steps for arm, (hours, steps) in spent.items()}

    def paid(self, benchmark: str) -> dict[str, equal_cost.Paid]:
        """What each arm paid for the best scores, in GPU-hours; {} before two evaluations."""
        if benchmark not in self._paid:
            with connect(self.db) as connection:
                found = spending.read(connection, self.matrix, benchmark, self.model, "gpu_hours")
            usable = found is not None and found.baseline.arm == "grpo"
            self._paid[benchmark] = equal_cost.costs_to_best(found, found.ks[0]) if usable else {}
        return self._paid[benchmark]

    @cached_property
    def _paid(self) -> dict[str, dict[str, equal_cost.Paid]]:
        return {}

    def score(self, arm: str, benchmark: str, k: int) -> Ours | None:
        """pass@k of an arm; None where it was not scored. In a rehearsal whatever stands for it."""
        stand_in = ""
        scores = self.scores.get(benchmark)
        if self.rehearsal and self.scores:
            scores = next(iter(self.scores.values()))
            k = max((one for one in scores.ks if one <= k), default=scores.ks[0])
            stand_in = f" ({scores.benchmark}, pass@{k})"
        found = _interval(scores, arm, k)
        return found and Ours(_bracketed(found) + stand_in, *found)

    def average(self, arm: str, benchmarks: tuple[str, ...], k: int) -> Ours | None:
        """The mean over benchmarks; None unless each has been scored.

        The variances of benchmarks add up where these share nothing but the arm, so the squared
        distances of the ends do (Zou and Donner 2008). Several seeds are shared by all benchmarks:
        then the distances themselves are added, which is the most that they can come to.
        """
        if self.rehearsal:
            return self.score(arm, benchmarks[0], k)
        found = [_interval(self.scores.get(name), arm, k) for name in benchmarks]
        if None in found:
            return None
        ends = np.array([[one.estimate, one.low, one.high] for one in found if one])
        middle = float(ends[:, 0].mean())
        apart = np.abs(ends[:, 1:] - ends[:, :1])
        one_seed = arm == BASE or len(self.scores[benchmarks[0]].seeds(arm)) == 1
        total = np.sqrt((apart**2).sum(axis=0)) if one_seed else apart.sum(axis=0)
        below, above = total / len(found)
        whole = Interval(middle, max(middle - below, 0.0), min(middle + above, 1.0))
        return Ours(_bracketed(whole), *whole)


def _interval(scores: Scores | None, arm: str, k: int) -> Interval | None:
    """As on the leaderboard; None where there is no such score."""
    if scores is None or k not in scores.ks:
        return None
    if arm == BASE:
        of, seeds = None, None
        there = bool(scores.base)
    else:
        of, seeds = arm, scores.seeds(arm)
        there = bool(seeds)
    if not there:
        return None
    values = scores.of(of, k, seeds)
    return stats.hierarchical_interval(values, rng=scores.rng(of, k, seeds))


def _bracketed(found: Interval) -> str:
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _beside(ours: _Measured, tables: dict[str, Table], benchmark: str) -> Report:
    """A row an arm and number of theirs."""
    why_not = comparable(ours.matrix, ours.model, tables)
    rows = []
    for source, table in tables.items():
        for arm, values in table.arms.items():
            for column, value in zip(table.read(), values, strict=True):
                for on, figure, own in _measured(ours, table, arm, column, benchmark):
                    judged = _judged(own, value, bool(column.cost), bool(why_not))
                    rows.append([arm, on, figure, *judged, source])
    columns = ["arm", "on", "figure", "ours", "theirs", "difference", "theirs within ours"]
    notes = [
        "Brackets: ours, 95 % as on the leaderboard and under --cost. They speak of other problems "
        "of the kind too; a repetition on these very problems would be inside more often than "
        "that. The papers give no intervals.",
        "Difference: ours less theirs; of a cost, relative to theirs.",
    ]
    if any(column.benchmark == AVERAGE for table in tables.values() for column in table.read()):
        notes.append("average: the brackets of the benchmarks as if these were independent.")
    papers = ", ".join(dict.fromkeys(f"arXiv {table.paper}" for table in tables.values()))
    title = f"{ours.matrix}: against the published numbers ({papers}), {Path(ours.model).name}"
    return Report(title, [*columns, "source"], rows, [why_not, *notes] if why_not else notes)


def _measured(
    ours: _Measured, table: Table, arm: str, column: Column, only: str
) -> Iterator[tuple[str, str, Ours | None]]:
    """(benchmark, figure, ours) for one number of theirs; a cost to a score has one a benchmark."""
    figure = COSTS.get(column.cost, f"pass@{column.k}")
    if column.benchmark == AVERAGE:
        on = f"average of {len(table.average_of)}"
        yield on, figure, ours.average(arm, table.average_of, column.k)
    elif column.benchmark:
        if ours.rehearsal or only in ("", column.benchmark):
            yield column.benchmark, figure, ours.score(arm, column.benchmark, column.k)
    elif column.cost == "update_gpu_hours_per_step":
        hours = ours.updates.get(arm)
        yield "", figure, None if hours is None else Ours(compact(hours), hours)
    else:
        for name in ours.scores or [""]:
            if only in ("", name):
                paid = ours.paid(name).get(arm) if name else None
                to = paid and (
                    paid.to_own if column.cost == "gpu_hours_to_own_best" else paid.to_baseline
                )
                yield name, figure, to and Ours(to.text, to.found, to.low, to.high)


def _judged(own: Ours | None, theirs: float, is_cost: bool, not_comparable: bool) -> list[str]:
    """Ours, theirs, their difference and whether theirs is in our interval."""
    text = (
        compact(theirs)
        if is_cost
        else f"{theirs:.3f}"
        if round(theirs, 3) == theirs
        else f"{theirs:.4f}"
    )
    if own is None:
        return ["not measured", text, "", ""]
    if not_comparable:
        return [own.text, text, "", "not comparable"]
    difference = own.estimate - theirs
    apart = f"{difference / theirs:+.1%}" if is_cost else f"{difference:+.3f}"
    within = ""
    if own.low is not None and own.high is not None:
        within = "yes" if own.low <= theirs <= own.high else "no"
    return [own.text, text, apart if np.isfinite(difference) else "", within]

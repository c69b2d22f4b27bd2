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

from suite.matrix.shrink import SUFFIX
from suite.metrics import SECONDS_PER_HOUR
from suite.report import spending
from suite.report.differences import GRPO
from suite.report.equal_cost import Paid, costs_to_best
from suite.report.papers import published
from suite.report.papers.departures import departures, stored
from suite.report.papers.published import (
    AVERAGE,
    BASE,
    COSTS,
    PUBLISHED,
    PublishedColumn,
    PublishedTable,
)
from suite.report.scores import Scores, scored
from suite.report.table import COMPACT, Entry, Fields, Report, Worded, column, number
from suite.stats.intervals import Interval
from suite.store import connect, timings
from suite.text import compact


class Ours(NamedTuple):
    """What we measured, also in words; its interval where there is one (inf: not reached)."""

    words: str
    estimate: float
    low: float | None = None
    high: float | None = None

    def text(self, form: str) -> str:
        """The words."""
        return self.words

    def fields(self, name: str) -> Fields:
        """The numbers."""
        return {name: self.estimate, "low": self.low, "high": self.high}


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
    repeated = published.of(matrix, tables)
    if not repeated:
        names = ", ".join(dict.fromkeys(table.matrix for table in tables.values()))
        raise ValueError(f"{path.name} has nothing for matrix {matrix!r}; it has {names}")
    runs = stored(db, matrix)
    reported = []
    for each in dict.fromkeys(run.model for run in runs):
        if not model or each == model:
            ours = _Measured(db, matrix, each)
            same = [run for run in runs if run.model == each]
            reported.append(_beside(ours, repeated, benchmark))
            why_not = comparable(matrix, each, repeated)
            reported.append(departures(matrix, same, repeated, [why_not] if why_not else []))
    return reported


def comparable(matrix: str, model: str, tables: dict[str, PublishedTable]) -> str:
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
            every = scored(connection, self.matrix)
        return {scores.benchmark: scores for scores in every if scores.model == self.model}

    @cached_property
    def updates(self) -> dict[str, float]:
        """GPU-hours of the update phase a step, by arm."""
        spent: dict[str, list[float]] = {}
        with connect(self.db) as connection:
            rows = connection.execute(
                "SELECT run, arm FROM matrix_runs WHERE matrix = ? AND model = ?",
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

    def paid(self, benchmark: str) -> dict[str, Paid]:
        """What each arm paid for the best scores, in GPU-hours; {} before two evaluations."""
        if benchmark not in self._paid:
            with connect(self.db) as connection:
                subject = (self.matrix, benchmark, self.model)
                matched = spending.read(connection, *subject, "gpu_hours")
            usable = matched if matched and matched.baseline.arm == GRPO else None
            self._paid[benchmark] = costs_to_best(usable, usable.ks[0]) if usable else {}
        return self._paid[benchmark]

    @cached_property
    def _paid(self) -> dict[str, dict[str, Paid]]:
        return {}

    def score(self, arm: str, benchmark: str, k: int) -> Ours | None:
        """pass@k of an arm; None where it was not scored. In a rehearsal whatever stands for it."""
        stand_in = ""
        scores = self.scores.get(benchmark)
        if self.rehearsal and self.scores:
            scores = next(iter(self.scores.values()))
            k = max((scored_k for scored_k in scores.ks if scored_k <= k), default=scores.ks[0])
            stand_in = f" ({scores.benchmark}, pass@{k})"
        interval = _interval(scores, arm, k)
        return interval and Ours(_SCORE.text(interval) + stand_in, *interval)

    def average(self, arm: str, benchmarks: tuple[str, ...], k: int) -> Ours | None:
        """The mean over benchmarks; None unless each has been scored.

        The variances of benchmarks add up where these share nothing but the arm, so the squared
        distances of the ends do (Zou and Donner 2008). Several seeds are shared by all benchmarks:
        then the distances themselves are added, which is the most that they can come to.
        """
        if self.rehearsal:
            return self.score(arm, benchmarks[0], k)
        intervals = [_interval(self.scores.get(name), arm, k) for name in benchmarks]
        if None in intervals:
            return None
        ends = np.array(intervals)
        middle = float(ends[:, 0].mean())
        apart = np.abs(ends[:, 1:] - ends[:, :1])
        one_seed = arm == BASE or len(self.scores[benchmarks[0]].seeds(arm)) == 1
        total = np.sqrt((apart**2).sum(axis=0)) if one_seed else apart.sum(axis=0)
        below, above = total / len(intervals)
        whole = Interval(middle, max(middle - below, 0.0), min(middle + above, 1.0))
        return Ours(_SCORE.text(whole), *whole)


def _interval(scores: Scores | None, arm: str, k: int) -> Interval | None:
    """As on the leaderboard; None where there is no such score."""
    if scores is None or k not in scores.ks:
        return None
    seeds = None if arm == BASE else scores.seeds(arm)
    if not (scores.base if seeds is None else seeds):
        return None
    return scores.interval(None if arm == BASE else arm, k, seeds)


_SCORE = column("score", ".3f")


def _beside(ours: _Measured, tables: dict[str, PublishedTable], benchmark: str) -> Report:
    """A row an arm and number of theirs."""
    why_not = comparable(ours.matrix, ours.model, tables)
    rows: list[list[Entry]] = []
    for source, table in tables.items():
        for arm, values in table.arms.items():
            for theirs, value in zip(table.read(), values, strict=True):
                for on, figure, mine in _measured(ours, table, arm, theirs, benchmark):
                    judged = _judged(mine, value, bool(theirs.cost), bool(why_not))
                    rows.append([arm, on, figure, *judged, source])
    titles = ("arm", "on", "figure", "ours", "theirs", "difference", "theirs within ours", "source")
    notes = [
        "Brackets: ours, 95 % as on the leaderboard and under --cost. They speak of other problems "
        "of the kind too; a repetition on these very problems would be inside more often than "
        "that. The papers give no intervals.",
        "Difference: ours less theirs; of a cost, relative to theirs.",
    ]
    if any(c.benchmark == AVERAGE for table in tables.values() for c in table.read()):
        notes.append("average: the brackets of the benchmarks as if these were independent.")
    papers = ", ".join(dict.fromkeys(f"arXiv {table.paper}" for table in tables.values()))
    title = f"{ours.matrix}: against the published numbers ({papers}), {Path(ours.model).name}"
    about = {"matrix": ours.matrix, "model": ours.model}
    notes = [why_not, *notes] if why_not else notes
    columns = [column(title.replace(" ", "_"), title=title) for title in titles]
    return Report("published", title, columns, rows, notes, about)


def _measured(
    ours: _Measured, table: PublishedTable, arm: str, column: PublishedColumn, only: str
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
                if paid is None:
                    yield name, figure, None
                    continue
                own_best = column.cost == "gpu_hours_to_own_best"
                cost = paid.to_own if own_best else paid.to_baseline
                yield name, figure, Ours(cost.text(COMPACT), cost.estimate, cost.low, cost.high)


def _judged(ours: Ours | None, theirs: float, is_cost: bool, not_comparable: bool) -> list[Entry]:
    """Ours, theirs, their difference and whether theirs is in our interval."""
    digits = ".3f" if round(theirs, 3) == theirs else ".4f"
    published_number = Worded(theirs, number(theirs, COMPACT if is_cost else digits))
    if ours is None:
        return [Worded(None, "not measured"), published_number, None, None]
    if not_comparable:
        return [ours, published_number, None, "not comparable"]
    difference = ours.estimate - theirs
    words = f"{difference / theirs:+.1%}" if is_cost else f"{difference:+.3f}"
    apart = Worded(difference / theirs if is_cost else difference, words)
    within = None
    if ours.low is not None and ours.high is not None:
        within = "yes" if ours.low <= theirs <= ours.high else "no"
    return [ours, published_number, apart if np.isfinite(difference) else None, within]

"""RESULTS.md: a whole comparison in one page, every number of it from one database or export.

`suite results` writes it, and with --check says whether a page is still what the data says. The
prose that data cannot know (what it is, which settings were changed, what it cannot say) stands
beside the claims in their file. Nothing on the page depends on the machine or the day that wrote
it.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from suite import stats
from suite.cell import Workspace
from suite.db import history
from suite.ledger import SECONDS_PER_HOUR
from suite.planning import timings
from suite.planning.timings import Timing
from suite.report import (
    Report,
    Scores,
    comparisons,
    run_numbers,
    scored,
)
from suite.reporting import claims, matched, results_figure
from suite.reporting.claims import Entropies, File, Verdict
from suite.reporting.results_page import page
from suite.store import connect

LATE, CHANGE = claims.ENTROPIES


@dataclass(frozen=True)
class Study:
    """What the page is made of: the file of claims, and what one matrix measured."""

    file: File
    scores: Scores
    entropies: Entropies
    fewest: int  # steps of a run
    against: dict[int, list[stats.Comparison]]  # k -> the other arms against GRPO
    verdicts: list[Verdict]
    numbers: dict[tuple[str, int], dict[str, tuple]]  # of suite.report.run_numbers
    probes: dict[str, float]  # arm -> full entropy on fixed responses at the end, nats
    runs: list[dict[str, Any]]
    began: Any
    ended: Any
    phases: Report
    held: float  # GPU-hours, all that the runs held

    def entropy(self, arm: str, measure: str = LATE) -> list[float]:
        """A measure of each seed of an arm, in nats."""
        return [v[measure] for (name, _), v in sorted(self.entropies.items()) if name == arm]

    @property
    def seeds(self) -> int:
        """The most that an arm has."""
        return max(len(self.scores.seeds(arm)) for arm in self.scores.names())


def study(source: Path, claims_path: Path) -> Study:
    """What is needed of `source`, a database or an export.

    Raises:
        MatrixError: the file of claims is wrong.
        ValueError: the source is neither, has no scores of the claims' matrix, or more than one
            benchmark or model of it; a claim names an arm that is not there.
    """
    file = claims.read(claims_path)
    with opened(source) as db:
        with connect(db) as connection:
            found = scored(connection, file.matrix)
            if len(found) != 1 or not found[0].arms:
                what = ", ".join(one.title for one in found) or "no scores"
                raise ValueError(f"one benchmark of {file.matrix!r} is needed; {source}: {what}")
            (scores,) = found
            entropies, fewest = claims.entropies(connection, file.matrix)
            runs = _runs(connection, file.matrix)
            began, ended = _times(connection, file.matrix)
            every = run_numbers(connection, scores.matrix, scores.model)
            numbers = {who: of for who, of in every.items() if who in scores.arms}
            probes = _probes(connection, file.matrix)
        times = _timings(db, runs)
    return Study(
        file=file,
        scores=scores,
        entropies=entropies,
        fewest=fewest,
        against=comparisons(scores),
        verdicts=claims.judged(file.claims, scores, entropies),
        numbers=numbers,
        probes=probes,
        runs=runs,
        began=began,
        ended=ended,
        phases=matched.phases(file.matrix, times),
        held=sum(matched.held_seconds(one) * one.gpus for one in times) / SECONDS_PER_HOUR,
    )


@contextmanager
def opened(source: Path) -> Iterator[Path]:
    """A database with what is in `source`: itself, or an export taken in.

    Raises ValueError when it is neither.
    """
    if not source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="suite-results-") as folder:
        workspace = Workspace(Path(folder) / "runs.db")
        history.merge(workspace, source)
        yield workspace.db


def _runs(connection: Any, matrix: str) -> list[dict[str, Any]]:
    columns = (
        *("run", "arm", "seed", "algorithm", "settings", "model", "status", "steps", "gpu_hours"),
        *("inert", "budget", "budget_unit", "versions", "hardware", "git_commit"),
    )
    rows = connection.execute(
        f"SELECT {', '.join(columns)} FROM runs WHERE matrix = ? ORDER BY position", [matrix]
    ).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _times(connection: Any, matrix: str) -> tuple[Any, Any]:
    return connection.execute(
        """SELECT min(time), max(time) FROM data.events
            WHERE run IN (SELECT run FROM data.cells WHERE matrix = ?)""",
        [matrix],
    ).fetchone()


def _probes(connection: Any, matrix: str) -> dict[str, float]:
    return dict(
        connection.execute(
            """WITH last AS (SELECT c.arm, p.run, arg_max(p.value, p.fraction) AS value
                               FROM data.cells c JOIN data.probes p USING (run)
                              WHERE c.matrix = ? AND estimator = 'full' AND step > 0 GROUP BY ALL)
               SELECT arm, avg(value) FROM last GROUP BY arm ORDER BY arm""",
            [matrix],
        ).fetchall()
    )


def _timings(db: Path, runs: list[dict[str, Any]]) -> list[Timing]:
    """Of the runs of a matrix, under the arms' names there, in their order."""
    of = {one.run: one for one in timings.read(db)}
    return [replace(of[run["run"]], arm=run["arm"]) for run in runs if run["run"] in of]


# Writing and checking ---------------------------------------------------------------------------


def write(of: Study, out: Path, figure: Path) -> None:
    """The page and its picture."""
    for path in (out, figure):
        path.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(of, _link(out, figure)), encoding="utf-8")
    figure.write_text(results_figure.draw(of.scores, _points(of)), encoding="utf-8")


def check(of: Study, out: Path, figure: Path) -> list[str]:
    """What of the page or the picture is not what the data says; nothing when all is."""
    wrong = []
    new = page(of, _link(out, figure)).splitlines()
    old = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    changed = [
        line
        for line in difflib.unified_diff(old, new, lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    wrong += [f"{out}: {line}" for line in changed]
    drawn = figure.read_text(encoding="utf-8") if figure.exists() else ""
    if results_figure.digest(of.scores, _points(of)) not in drawn:
        wrong.append(f"{figure}: was drawn from other numbers")
    return wrong


def _points(of: Study) -> dict[str, float]:
    return {arm: float(np.mean(of.entropy(arm))) for arm in of.scores.names()}


def _link(out: Path, figure: Path) -> str:
    return Path(os.path.relpath(figure.resolve(), out.resolve().parent)).as_posix()

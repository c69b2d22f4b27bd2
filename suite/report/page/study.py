"""What the results page is made of: one matrix, read from a database or an export."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite import stats
from suite.metrics import SECONDS_PER_HOUR
from suite.report.differences import comparisons
from suite.report.leaderboard import table
from suite.report.page import claims
from suite.report.page.claims import ClaimVerdict, Entropies, File
from suite.report.phases import held_seconds, phases
from suite.report.scores import Scores, scored
from suite.report.table import Report
from suite.store import connect, history, timings
from suite.store.timings import Timing
from suite.workspace import Workspace

LATE_ENTROPY, ENTROPY_CHANGE = claims.ENTROPIES


@dataclass(frozen=True)
class Study:
    """What the page is made of: the file of claims, and what one matrix measured."""

    file: File
    scores: Scores
    entropies: Entropies
    fewest: int  # steps of a run
    against: dict[int, list[stats.Comparison]]  # k -> the other arms against GRPO
    verdicts: list[ClaimVerdict]
    leaderboard: Report  # a row an arm
    probes: dict[str, float]  # arm -> full entropy on fixed responses at the end, nats
    runs: list[dict[str, Any]]
    began: Any
    ended: Any
    phases: Report
    held: float  # GPU-hours, all that the runs held

    def entropy(self, arm: str, measure: str = LATE_ENTROPY) -> list[float]:
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
            subjects = scored(connection, file.matrix)
            if len(subjects) != 1 or not subjects[0].arms:
                there = ", ".join(each.title for each in subjects) or "no scores"
                raise ValueError(f"one benchmark of {file.matrix!r} is needed; {source}: {there}")
            (scores,) = subjects
            entropies, fewest = claims.entropies(connection, file.matrix)
            runs = _runs(connection, file.matrix)
            began, ended = _times(connection, file.matrix)
            board = table(connection, scores, by_seed=False)
            probes = _probes(connection, file.matrix)
        times = _timings(db, runs)
    return Study(
        file=file,
        scores=scores,
        entropies=entropies,
        fewest=fewest,
        against=comparisons(scores),
        verdicts=claims.judged(file.claims, scores, entropies),
        leaderboard=board,
        probes=probes,
        runs=runs,
        began=began,
        ended=ended,
        phases=phases(file.matrix, times),
        held=sum(held_seconds(run) * run.gpus for run in times) / SECONDS_PER_HOUR,
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
        """SELECT min(time), max(time) FROM events
            WHERE run IN (SELECT run FROM matrix_runs WHERE matrix = ?)""",
        [matrix],
    ).fetchone()


def _probes(connection: Any, matrix: str) -> dict[str, float]:
    return dict(
        connection.execute(
            """WITH last AS (SELECT m.arm, run, arg_max(p.value, p.fraction) AS value
                               FROM matrix_runs m JOIN probes p USING (run)
                              WHERE m.matrix = ? AND estimator = 'full' AND step > 0 GROUP BY ALL)
               SELECT arm, favg(value) FROM last GROUP BY arm ORDER BY arm""",
            [matrix],
        ).fetchall()
    )


def _timings(db: Path, runs: list[dict[str, Any]]) -> list[Timing]:
    """Of the runs of a matrix, under the arms' names there, in their order."""
    by_run = {timing.run: timing for timing in timings.read_timings(db)}
    return [replace(by_run[run["run"]], arm=run["arm"]) for run in runs if run["run"] in by_run]

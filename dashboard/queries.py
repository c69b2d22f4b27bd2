"""What the views ask of runs.db. Nothing here draws, and no statistic is made here.

Every answer is cached by the identity of the snapshot it was read from, so that a refresh that
finds the same file costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pandas as pd
import streamlit as st

from suite.matrix.cell import EVALUATION, EXTERNAL, TABULAR, THEORY
from suite.metrics import SECONDS_PER_HOUR
from suite.report.alarms import raised
from suite.report.phases import PHASES
from suite.report.progress import progress
from suite.spool.lock import conductor_of
from suite.store import NoDatabase, connect
from suite.store.migrations import lacking
from suite.workspace import Workspace

POINTS, DRAWN = 250, 8000  # of a curve at most, of all curves of a chart about

cached = st.cache_data(show_spinner=False, max_entries=200)


class Snapshot(NamedTuple):
    """A published database: another inode or time is another snapshot."""

    path: str
    inode: int
    modified: int


def snapshot(path: Path) -> Snapshot | None:
    """The identity of the database as it is now, None when there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return Snapshot(str(path), status.st_ino, status.st_mtime_ns)


@st.cache_resource(show_spinner=False, max_entries=2)
def _opened(snapshot: Snapshot) -> duckdb.DuckDBPyConnection:
    """One connection a snapshot: to open it costs more than most queries."""
    return connect(snapshot.path)


def reading(path: str) -> duckdb.DuckDBPyConnection:
    """A connection of the caller's own to the database as it is now.

    Raises:
        NoDatabase: there is none.
    """
    now = snapshot(Path(path))
    if now is None:
        raise NoDatabase(path)
    connection = _opened(now).cursor()
    connection.execute("USE snapshot")
    return connection


def frame(path: str, sql: str, values: list[Any] | dict[str, Any] | None = None) -> pd.DataFrame:
    """What a query gives of the database as it is now."""
    with reading(path) as connection:
        return connection.execute(sql, values or []).df()


# What there is ------------------------------------------------------------------------------------

_OF_MATRICES = (
    f"matrix IS NOT NULL AND algorithm <> '{EVALUATION}' AND model NOT IN ('{TABULAR}', '{THEORY}')"
)


@cached
def outdated(snapshot: Snapshot) -> bool:
    """Whether an earlier version of the suite wrote the database, or something else did."""
    with reading(snapshot.path) as connection:
        try:
            return bool(lacking(connection))
        except duckdb.CatalogException:
            return True


@cached
def matrices(snapshot: Snapshot) -> list[str]:
    """Names of the matrices, the newest first, outside logs last; no lab, no single evaluations."""
    if outdated(snapshot):
        return []
    with reading(snapshot.path) as connection:
        rows = connection.execute(
            f"""SELECT matrix FROM runs WHERE {_OF_MATRICES}
                 GROUP BY matrix
                 ORDER BY bool_and(algorithm = '{EXTERNAL}'), max(created) DESC, matrix"""
        ).fetchall()
    return [name for (name,) in rows]


@cached
def arms(snapshot: Snapshot) -> list[str]:
    """Every arm there ever was, in the order of their coming: the place gives an arm its look."""
    return list(frame(snapshot.path, "SELECT arm FROM arms ORDER BY position").arm)


@cached
def subjects(snapshot: Snapshot, matrix: str) -> list[tuple[str, str]]:
    """Benchmarks and models with scores."""
    with reading(snapshot.path) as connection:
        return connection.execute(
            "SELECT DISTINCT benchmark, model FROM pass_at_k WHERE matrix = ? ORDER BY ALL",
            [matrix],
        ).fetchall()


# The runs -----------------------------------------------------------------------------------------


def runs(snapshot: Snapshot, matrix: str) -> pd.DataFrame:
    """A row a run: state, progress (a share of the budget), seconds in all and left, cost.

    One that runs in a database that nobody works on any more, and so never changes, is interrupted.
    """
    table = recorded(snapshot, matrix)
    if (table.status == "running").any() and not conductor_of(Workspace(Path(snapshot.path))):
        table.loc[table.status == "running", "status"] = "interrupted"
    return table


@cached
def recorded(snapshot: Snapshot, matrix: str) -> pd.DataFrame:
    """The same, as the database has it: see suite.report.progress."""
    with reading(snapshot.path) as connection:
        return progress(connection, matrix).df()


# Traces -------------------------------------------------------------------------------------------

AXES = {"step": "step", "gpu_hours": "GPU-hours", "tokens": "tokens"}


@cached
def metrics(snapshot: Snapshot, matrix: str) -> list[str]:
    """Names of the traces that the runs of a matrix have."""
    table = frame(
        snapshot.path,
        """SELECT DISTINCT l.metric FROM latest l JOIN matrix_runs m USING (run)
            WHERE m.matrix = ? ORDER BY metric""",
        [matrix],
    )
    return list(table.metric)


@cached
def traces(
    snapshot: Snapshot, matrix: str, names: tuple[str, ...], axis: str, model: str = ""
) -> pd.DataFrame:
    """Traces of the runs (of one model) over an axis of AXES.

    Long ones are means of parts, intervals of steps, at the last x of each: POINTS at most, fewer
    where there are many curves, and never below 50.
    """
    x, ends = "m.step", ""
    if axis != "step":
        x, ends = "e.x", "JOIN ends e USING (run, part)"
    return frame(
        snapshot.path,
        f"""WITH wide AS (
                SELECT c.run, c.arm, c.seed,
                       ceil(max(max(l.step)) OVER () /
                            least({POINTS}, greatest(50, {DRAWN} // count(*) OVER ())))::INTEGER
                       AS width
                  FROM matrix_runs c JOIN latest l USING (run)
                 WHERE c.matrix = $matrix AND $model IN ('', c.model)
                 GROUP BY c.run, c.arm, c.seed),
            near AS NOT MATERIALIZED (
                SELECT t.run, t.metric, (t.step - 1) // o.width AS part, t.step, t.value
                  FROM steps t JOIN wide o USING (run)),
            means AS (
                SELECT run, metric, part, max(step) AS step, avg(value) AS value FROM near
                 WHERE metric IN (SELECT unnest($names::VARCHAR[])) GROUP BY ALL),
            ends AS (
                SELECT run, part, max(value) AS x FROM near WHERE metric = $axis GROUP BY ALL)
            SELECT o.arm, o.seed, m.metric, m.part, {x} AS x, m.value
              FROM means m {ends} JOIN wide o USING (run)
             ORDER BY o.arm, o.seed, m.metric, x""",
        {"matrix": matrix, "names": list(names), "axis": axis, "model": model},
    )


@cached
def alarms(snapshot: Snapshot, matrix: str) -> list[str]:
    """What looks wrong with its runs: see suite.report.alarms."""
    with reading(snapshot.path) as connection:
        return [alarm.text for alarm in raised(connection, matrix)]


@cached
def phases(snapshot: Snapshot, matrix: str, model: str = "") -> pd.DataFrame:
    """GPU-hours of each arm (on one model) in each phase, all its runs together, phase by phase."""
    return frame(
        snapshot.path,
        f"""SELECT r.arm, replace(t.metric, 'seconds/', '') AS phase,
                   sum(t.value * r.gpus) / {SECONDS_PER_HOUR} AS gpu_hours
              FROM steps t JOIN runs r USING (run)
             WHERE r.matrix = $matrix AND $model IN ('', r.model) AND t.metric LIKE 'seconds/%'
             GROUP BY r.arm, t.metric HAVING gpu_hours > 0
             ORDER BY list_position($phases, phase) NULLS LAST, phase, min(r.position)""",
        {"matrix": matrix, "model": model, "phases": list(PHASES)},
    )

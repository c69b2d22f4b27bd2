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
from suite.report import equal_cost
from suite.spool.lock import conductor_of
from suite.store import NoDatabase, connect
from suite.store.migrations import lacking
from suite.worker.ledger import SECONDS_PER_HOUR
from suite.workspace import Workspace

POINTS, DRAWN = 250, 8000  # of a curve at most, of all curves of a chart about
COLLAPSE, EXPLOSION = 0.2, 2.0  # of the first entropy: docs/numbers.md
TRUNCATION = 0.1  # of the responses

cached = st.cache_data(show_spinner=False, max_entries=200)


class Snapshot(NamedTuple):
    """A published database: another inode or time is another snapshot."""

    path: str
    inode: int
    modified: int


def snapshot(path: Path) -> Snapshot | None:
    """The identity of the database as it is now, None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Snapshot(str(path), found.st_ino, found.st_mtime_ns)


@st.cache_resource(show_spinner=False, max_entries=2)
def _opened(snapshot: Snapshot) -> Any:
    """One connection a snapshot: to open it costs more than most queries."""
    return connect(snapshot.path)


def reading(path: str) -> Any:
    """A connection of the caller's own to the database as it is now.

    Raises:
        NoDatabase: there is none.
    """
    found = snapshot(Path(path))
    if found is None:
        raise NoDatabase(path)
    connection = _opened(found).cursor()
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
    return list(frame(snapshot.path, "SELECT arm FROM data.arms ORDER BY position").arm)


@cached
def subjects(snapshot: Snapshot, matrix: str) -> list[tuple[str, str]]:
    """Benchmarks and models with scores."""
    with reading(snapshot.path) as connection:
        return connection.execute(
            "SELECT DISTINCT benchmark, model FROM pass_at_k WHERE matrix = ? ORDER BY ALL",
            [matrix],
        ).fetchall()


# The cells ----------------------------------------------------------------------------------------


def cells(snapshot: Snapshot, matrix: str) -> pd.DataFrame:
    """A row a cell: state, progress (a share of the budget), seconds in all and left, cost.

    One that runs in a database that nobody works on any more, and so never changes, is interrupted.
    """
    found = recorded(snapshot, matrix)
    if (found.status == "running").any() and not conductor_of(Workspace(Path(snapshot.path))):
        found.loc[found.status == "running", "status"] = "interrupted"
    return found


@cached
def recorded(snapshot: Snapshot, matrix: str) -> pd.DataFrame:
    """The same, as the database has it.

    Seconds follow from the budget spent between the first and the last step of the attempt
    that runs, evaluations among them, and from what followed the last step of the cells that have
    finished (their final evaluation); unknown (NaN) before the second step.
    """
    return frame(
        snapshot.path,
        """WITH pace AS (  -- of the attempt that is on, or was the last
               SELECT run, max(value) FILTER (metric = 'budget_fraction')
                        - min(value) FILTER (metric = 'budget_fraction') AS share,
                      max(value) FILTER (metric = 'time')
                        - min(value) FILTER (metric = 'time') AS seconds,
                      max(value) FILTER (metric = 'attempt_seconds') AS trained
                 FROM data.traces t
                WHERE metric IN ('budget_fraction', 'time', 'attempt_seconds')
                  AND run IN (SELECT run FROM data.cells WHERE matrix = $matrix)
                  AND attempt = (SELECT r.attempts FROM data.runs r WHERE r.run = t.run)
                GROUP BY run),
           ending AS (
               SELECT coalesce(avg((e.detail->>'attempt_seconds')::DOUBLE - p.trained), 0)
                        AS seconds
                 FROM data.events e JOIN pace p USING (run) JOIN data.runs r USING (run)
                WHERE e.kind = 'finished' AND e.attempt = r.attempts),
           spent AS (
               SELECT run, least(value, 1) AS share FROM data.latest
                WHERE metric = 'budget_fraction')
           SELECT r.run, r.arm, r.seed, r.model, r.algorithm, r.status, r.attempts,
                  coalesce(r.steps, 0) AS steps, coalesce(r.gpu_hours, 0) AS gpu_hours,
                  r.budget, r.budget_unit, coalesce(r.inert, false) AS inert,
                  coalesce(s.share, 0) AS progress,
                  p.seconds / nullif(p.share, 0) + ending.seconds AS seconds,
                  (1 - s.share) * p.seconds / nullif(p.share, 0) + ending.seconds
                    AS seconds_left,
                  f.error
             FROM runs r CROSS JOIN ending LEFT JOIN pace p USING (run)
             LEFT JOIN spent s USING (run)
             LEFT JOIN (SELECT run, arg_max(detail->>'error', time) AS error
                          FROM data.events WHERE kind = 'failed' GROUP BY run) f USING (run)
            WHERE r.matrix = $matrix ORDER BY r.position""",
        {"matrix": matrix},
    )


# Traces -------------------------------------------------------------------------------------------

AXES = {"step": "step", "gpu_hours": "GPU-hours", "tokens": "tokens"}


@cached
def metrics(snapshot: Snapshot, matrix: str) -> list[str]:
    """Names of the traces that the runs of a matrix have."""
    found = frame(
        snapshot.path,
        """SELECT DISTINCT metric FROM data.latest
             JOIN data.cells USING (run) WHERE matrix = ? ORDER BY metric""",
        [matrix],
    )
    return list(found.metric)


@cached
def traces(
    snapshot: Snapshot, matrix: str, names: tuple[str, ...], axis: str, model: str = ""
) -> pd.DataFrame:
    """Traces of the cells (of one model) over an axis of AXES.

    Long ones are means of parts, intervals of steps, at the last x of each: POINTS at most, fewer
    where there are many curves, and never below 50.
    """
    x, ends = "m.step", ""
    if axis != "step":
        x, ends = "e.x", "JOIN ends e USING (run, part)"
    return frame(
        snapshot.path,
        f"""WITH own AS (
                SELECT c.run, c.arm, c.seed,
                       ceil(max(max(l.step)) OVER () /
                            least({POINTS}, greatest(50, {DRAWN} // count(*) OVER ())))::INTEGER
                       AS width
                  FROM data.cells c JOIN data.latest l USING (run)
                 WHERE c.matrix = $matrix AND $model IN ('', c.model)
                 GROUP BY c.run, c.arm, c.seed),
            near AS NOT MATERIALIZED (
                SELECT t.run, t.metric, (t.step - 1) // o.width AS part, t.step, t.value
                  FROM data.traces t JOIN own o USING (run)),
            means AS (
                SELECT run, metric, part, max(step) AS step, avg(value) AS value FROM near
                 WHERE metric IN (SELECT unnest($names::VARCHAR[])) GROUP BY ALL),
            ends AS (
                SELECT run, part, max(value) AS x FROM near WHERE metric = $axis GROUP BY ALL)
            SELECT o.arm, o.seed, m.metric, m.part, {x} AS x, m.value
              FROM means m {ends} JOIN own o USING (run)
             ORDER BY o.arm, o.seed, m.metric, x""",
        {"matrix": matrix, "names": list(names), "axis": axis, "model": model},
    )


@cached
def alarms(snapshot: Snapshot, matrix: str) -> list[str]:
    """What looks wrong: entropy that collapsed or exploded, truncated responses, inert arms."""
    ends = frame(
        snapshot.path,
        """WITH steps AS (SELECT run, max(step) AS last FROM data.latest GROUP BY run)
           SELECT c.arm, c.seed, t.metric, arg_min(t.value, t.step) AS first,
                  avg(t.value) FILTER (t.step > 0.75 * s.last) AS late
             FROM data.traces t JOIN data.cells c USING (run) JOIN steps s USING (run)
            WHERE c.matrix = ? AND t.metric IN ('entropy', 'truncated')
            GROUP BY c.arm, c.seed, c.position, t.metric, s.last
           HAVING s.last > 1 ORDER BY c.position, t.metric""",
        [matrix],
    )
    said = []
    for row in ends.itertuples():
        who = f"{row.arm} (seed {row.seed})"
        if row.metric == "truncated" and row.late > TRUNCATION:
            said.append(f"Truncation: {row.late:.0%} of the last responses of {who} were cut off.")
        elif row.metric == "entropy" and row.late < COLLAPSE * row.first:
            said.append(f"Collapse: entropy of {who} fell from {row.first:.3f} to {row.late:.3f}.")
        elif row.metric == "entropy" and row.late > EXPLOSION * row.first:
            said.append(f"Explosion: entropy of {who} rose from {row.first:.3f} to {row.late:.3f}.")
    inert = recorded(snapshot, matrix).query("inert")
    return said + [
        f"Inert: the gradient of {row.arm} (seed {row.seed}) never differed from plain GRPO's."
        for row in inert.itertuples()
    ]


@cached
def phases(snapshot: Snapshot, matrix: str, model: str = "") -> pd.DataFrame:
    """GPU-hours of each arm (on one model) in each phase, all its runs together, phase by phase."""
    return frame(
        snapshot.path,
        f"""SELECT c.arm, replace(t.metric, 'seconds/', '') AS phase,
                   sum(t.value * r.gpus) / {SECONDS_PER_HOUR} AS gpu_hours
              FROM data.traces t JOIN data.cells c USING (run) JOIN data.runs r USING (run)
             WHERE c.matrix = $matrix AND $model IN ('', c.model) AND t.metric LIKE 'seconds/%'
             GROUP BY c.arm, t.metric HAVING gpu_hours > 0
             ORDER BY list_position($phases, phase) NULLS LAST, phase, min(c.position)""",
        {"matrix": matrix, "model": model, "phases": list(equal_cost.PHASES)},
    )

"""How far each run of a matrix is, what it has cost and how long it will still take."""

from __future__ import annotations

from typing import Any

_PROGRESS = """
    WITH members AS (SELECT * FROM runs WHERE matrix IS NOT DISTINCT FROM $matrix),
    pace AS (  -- of the attempt that is on, or was the last
        SELECT run, max(value) FILTER (metric = 'budget_fraction')
                 - min(value) FILTER (metric = 'budget_fraction') AS share,
               max(value) FILTER (metric = 'time') - min(value) FILTER (metric = 'time')
                 AS seconds,
               max(value) FILTER (metric = 'attempt_seconds') AS trained
          FROM steps JOIN members USING (run)
         WHERE metric IN ('budget_fraction', 'time', 'attempt_seconds') AND attempt = attempts
         GROUP BY run),
    ending AS (
        SELECT coalesce(avg((detail->>'attempt_seconds')::DOUBLE - trained), 0) AS seconds
          FROM events JOIN pace USING (run) JOIN members USING (run)
         WHERE kind = 'finished' AND attempt = attempts),
    spent AS (
        SELECT run, least(value, 1) AS share FROM latest WHERE metric = 'budget_fraction'),
    failed AS (
        SELECT run, arg_max(detail->>'error', time) AS error
          FROM events WHERE kind = 'failed' GROUP BY run)
    SELECT r.run, r.arm, r.seed, r.model, r.algorithm, r.status, r.attempts,
           coalesce(r.steps, 0) AS steps, coalesce(r.gpu_hours, 0) AS gpu_hours,
           r.budget, r.budget_unit, coalesce(r.inert, false) AS inert,
           coalesce(s.share, 0) AS progress,
           p.seconds / nullif(p.share, 0) + ending.seconds AS seconds,
           (1 - s.share) * p.seconds / nullif(p.share, 0) + ending.seconds AS seconds_left,
           f.error
      FROM members r CROSS JOIN ending LEFT JOIN pace p USING (run)
      LEFT JOIN spent s USING (run) LEFT JOIN failed f USING (run)
     ORDER BY r.position"""


def progress(connection: Any, matrix: str | None) -> Any:
    """A row a run of a matrix (None: those that no matrix has any more), as a result of DuckDB.

    Status, progress (a share of the budget), cost and seconds. These, in all and left, follow from
    the budget spent between the first and the last step of the attempt that runs, evaluations
    among them, and from what followed the last step of the runs that have finished (their final
    evaluation); NULL before the second step.
    """
    return connection.execute(_PROGRESS, {"matrix": matrix})


def progress_rows(connection: Any, matrix: str | None) -> list[dict[str, Any]]:
    """The same as dictionaries."""
    result = progress(connection, matrix)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def seconds_left(rows: list[dict[str, Any]]) -> float | None:
    """Of all runs of a matrix that are not done; None while no run has a pace yet, 0 when all are.

    Running ones at their own pace, those without one at the mean of the others, side by side as
    many as run now. What was interrupted goes on as long as anything runs.
    """
    running = sum(row["status"] == "running" for row in rows)
    going_on = {"running", "queued"} | ({"interrupted"} if running else set())
    waiting = [row for row in rows if row["status"] in going_on]
    paces = [row["seconds"] for row in rows if row["seconds"] is not None]
    if not waiting:
        return 0.0
    if not paces:
        return None
    mean = sum(paces) / len(paces)
    left = [mean if row["seconds_left"] is None else row["seconds_left"] for row in waiting]
    return sum(left) / max(1, running)

"""`suite status`: every run of every matrix with its state, progress, cost and time left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from suite.matrix.cell import TABULAR, THEORY
from suite.report.alarms import raised
from suite.report.progress import progress_rows, seconds_left
from suite.report.spending import UNITS
from suite.spool.lock import conductor_of
from suite.store import connect
from suite.text import duration
from suite.workspace import Workspace

HEADINGS = ("matrix", "arm", "seed", "status", "steps", "GPU-hours", "budget", "left", "attempts")


def status_table(db: Path) -> Table:
    """For the terminal; not the lab's own runs.

    A run that was running when its conductor was killed is "interrupted", whatever the database
    still says.
    """
    working = conductor_of(Workspace(db))
    alarms: list[str] = []
    runs: list[tuple[str | None, dict[str, Any]]] = []
    left = 0.0
    with connect(db) as connection:
        matrices = connection.execute(
            "SELECT DISTINCT matrix FROM runs WHERE model NOT IN (?, ?) ORDER BY matrix",
            [TABULAR, THEORY],
        ).fetchall()
        for (matrix,) in matrices:
            rows = progress_rows(connection, matrix)
            for row in rows:
                if row["status"] == "running" and not working:
                    row["status"] = "interrupted"
            runs += [(matrix, row) for row in rows]
            left += seconds_left(rows) or 0.0
            prefix = f"{matrix}: " if len(matrices) > 1 else ""
            raised_here = raised(connection, matrix) if matrix else []
            alarms += [prefix + alarm.text for alarm in raised_here]
    table = Table(*HEADINGS, "run", title=escape(str(db)))
    for matrix, row in runs:
        table.add_row(*map(escape, [matrix or "-", *_texts(row)]))
    sentences = ["process {1} on {0} works on it".format(*working) if working else "nothing runs"]
    finished = sum(row["status"] == "finished" for _, row in runs)
    sentences.append(f"{finished} of {len(runs)} runs finished")
    if working and left:
        sentences.append(f"about {duration(left)} left")
    table.caption = escape("\n".join(["; ".join(sentences), *alarms]))
    return table


def _texts(row: dict[str, Any]) -> list[str]:
    running = row["status"] == "running" and row["seconds_left"] is not None
    return [
        *(row["arm"] or "-", str(row["seed"]), row["status"], str(row["steps"])),
        *(f"{row['gpu_hours']:.4f}", f"{row['budget']:g} {UNITS[row['budget_unit']]}"),
        duration(row["seconds_left"]) if running else "",
        *(str(row["attempts"]), row["run"]),
    ]

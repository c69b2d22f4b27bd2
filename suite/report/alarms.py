"""What looks wrong with the runs of a matrix: entropy, truncation, arms that train as GRPO does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from suite.metrics import LATE

COLLAPSE, EXPLOSION = 0.2, 2.0  # of the first step's entropy: docs/numbers.md
TRUNCATION = 0.1  # of the responses


class Alarm(NamedTuple):
    """One thing that looks wrong with one run."""

    kind: str  # "collapse", "explosion", "truncation", "inert"
    arm: str
    seed: int
    model: str
    text: str


def raised(connection: Any, matrix: str) -> list[Alarm]:
    """Every alarm, in the order of the matrix; inert arms last."""
    alarms = []
    several = len(_models(connection, matrix)) > 1

    def name(arm: str, seed: int, model: str) -> str:
        return f"{arm} (seed {seed}, {Path(model).name})" if several else f"{arm} (seed {seed})"

    for arm, seed, model, metric, begin, late in connection.execute(
        f"""WITH ends AS (SELECT run, max(step) AS steps FROM latest GROUP BY run)
            SELECT arm, seed, model, metric, arg_min(value, step),
                   favg(value) FILTER (step > {1 - LATE} * steps)
              FROM matrix_runs JOIN steps USING (run) JOIN ends USING (run)
             WHERE matrix = ? AND metric IN ('entropy', 'truncated')
             GROUP BY arm, seed, model, position, metric, steps
            HAVING steps > 1 ORDER BY position, metric""",
        [matrix],
    ).fetchall():
        alarm = _judged(name(arm, seed, model), metric, begin, late)
        if alarm:
            alarms.append(Alarm(alarm[0], arm, seed, model, alarm[1]))
    for model, arm, seed in inert_runs(connection, matrix):
        run = name(arm, seed, model)
        text = f"Inert: the gradient of {run} never differed from plain GRPO's."
        alarms.append(Alarm("inert", arm, seed, model, text))
    return alarms


def _judged(run: str, metric: str, begin: float, late: float) -> tuple[str, str] | None:
    """(kind, text) of what a metric's first and late values say, if that is an alarm."""
    if metric == "truncated":
        text = f"Truncation: {late:.0%} of the last responses of {run} were cut off."
        return ("truncation", text) if late > TRUNCATION else None
    if late < COLLAPSE * begin:
        return "collapse", f"Collapse: entropy of {run} fell from {begin:.3f} to {late:.3f}."
    if late > EXPLOSION * begin:
        return "explosion", f"Explosion: entropy of {run} rose from {begin:.3f} to {late:.3f}."
    return None


def inert_runs(connection: Any, matrix: str) -> list[tuple[str, str, int]]:
    """(model, arm, seed) of the runs whose gradient never differed from plain GRPO's."""
    return connection.execute(
        "SELECT model, arm, seed FROM runs WHERE matrix = ? AND inert ORDER BY position", [matrix]
    ).fetchall()


def _models(connection: Any, matrix: str) -> list[str]:
    rows = connection.execute(
        "SELECT DISTINCT model FROM matrix_runs WHERE matrix = ? ORDER BY model", [matrix]
    ).fetchall()
    return [model for (model,) in rows]

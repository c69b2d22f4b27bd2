"""What earlier runs took: seconds by phase, tokens, evaluations and start-up, from their traces."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from suite.store.store import NoDatabase, connect


@dataclass(frozen=True)
class Timing:
    """One training run in numbers; seconds are wall time.

    `charged` are sums over its steps, by phase. `aside` is what was recorded without being charged,
    None unless the run finished; so are `held_at_start` and `lost`, then 0. `answers` counts what
    its `points` evaluations drew.
    `start_up` is the time from the start of a process to its first step, None where the run
    followed another one in the same process.
    """

    run: str
    arm: str
    model: str
    algorithm: str
    settings: dict[str, Any]
    train: dict[str, Any]
    resources: dict[str, Any]
    hardware: dict[str, Any]
    status: str
    gpus: int
    steps: int
    gpu_hours: float
    tokens_per_step: float
    charged: dict[str, float]
    aside: dict[str, float] | None
    points: int
    answers: int
    start_up: float | None
    held_at_start: float = 0.0
    lost: float = 0.0

    @property
    def per_step(self) -> dict[str, float]:
        """Mean seconds of a step, by phase."""
        return {name: seconds / self.steps for name, seconds in self.charged.items()}


def read_timings(db: Path, matrix: str = "") -> list[Timing]:
    """The training runs of a matrix, or of the database, that have made a step.

    None without a database.
    """
    chosen_runs = "IS NOT NULL"
    if matrix:
        chosen_runs = "IN (SELECT run FROM data.cells WHERE matrix = $matrix)"
    values = {"matrix": matrix} if matrix else {}
    try:
        connection = connect(db)
    except NoDatabase:
        return []
    with connection:
        phases: dict[str, dict[str, float]] = {}
        for run, metric, seconds in connection.execute(
            f"""SELECT run, metric, sum(value) FROM data.traces
                 WHERE metric LIKE 'seconds/%' AND run {chosen_runs} GROUP BY ALL ORDER BY ALL""",
            values,
        ).fetchall():
            phases.setdefault(run, {})[metric.removeprefix("seconds/")] = seconds
        rows = connection.execute(
            f"""SELECT r.run, l.arm, r.model, r.algorithm, r.settings, r.train, r.resources,
                      r.hardware, r.status, r.gpus, t.steps, t.gpu_hours, t.tokens,
                      f.accounts, e.points, e.answers
                 FROM data.runs r JOIN labels l USING (run)
                 JOIN (SELECT run, count(DISTINCT step) AS steps,
                              max(value) FILTER (metric = 'gpu_hours') AS gpu_hours,
                              max(value) FILTER (metric = 'tokens') AS tokens
                         FROM data.traces WHERE run {chosen_runs} GROUP BY run) t USING (run)
                 LEFT JOIN (SELECT run, arg_max(detail->'seconds', time) AS accounts
                              FROM data.events WHERE kind = 'finished' GROUP BY run) f USING (run)
                 LEFT JOIN (SELECT run, count(DISTINCT fraction) AS points, sum(n) AS answers
                              FROM data.batches WHERE run {chosen_runs} GROUP BY run) e USING (run)
                WHERE r.hardware IS NOT NULL ORDER BY r.created, r.run""",
            values,
        ).fetchall()
        starts = _start_ups(connection)
    return [_timing(row, phases[row[0]], starts) for row in rows if row[0] in phases]


def _timing(row: tuple[Any, ...], charged: dict[str, float], starts: dict[str, float]) -> Timing:
    run, arm, model, algorithm, settings, train, resources, hardware, status, gpus = row[:10]
    steps, gpu_hours, tokens, accounts, points, answers = row[10:]
    seconds = json.loads(accounts) if accounts else {}
    aside = {name: value for name, value in seconds.items() if name not in {*charged, *_FIELDS}}
    return Timing(
        run=run,
        arm=arm,
        model=model,
        algorithm=algorithm,
        settings=json.loads(settings),
        train=json.loads(train),
        resources=json.loads(resources),
        hardware=json.loads(hardware),
        status=status,
        gpus=gpus,
        steps=steps,
        gpu_hours=gpu_hours or 0.0,
        tokens_per_step=(tokens or 0.0) / steps,
        charged=charged,
        aside=aside if accounts else None,
        points=int(points or 0),
        answers=int(answers or 0),
        start_up=starts.get(run),
        held_at_start=seconds.get("start_up", 0.0),
        lost=seconds.get("lost", 0.0),
    )


_FIELDS = {"start_up", "lost"}  # accounts of the ledger that have a field of their own


def _start_ups(connection: Any) -> dict[str, float]:
    """Seconds from "preparing" to "training" of each attempt that had both, by run (the median)."""
    by_run: dict[str, list[float]] = {}
    for run, seconds in connection.execute(
        """SELECT run, epoch(min(time) FILTER (kind IN ('training', 'resumed')))
                       - epoch(min(time) FILTER (kind = 'preparing'))
             FROM data.events GROUP BY run, attempt ORDER BY run, attempt"""
    ).fetchall():
        if seconds is not None:
            by_run.setdefault(run, []).append(seconds)
    return {run: median(seconds) for run, seconds in by_run.items()}

"""What the views show of one run: how it was made, what happened to it, what it said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.catalogue import content_digest
from benchmarks.sampling import read_benchmark
from dashboard.queries import Snapshot, cached, frame, reading
from suite.workspace import Workspace

_CONFIG = ("settings", "train", "evaluate", "resources", "identity", "versions", "hardware")


@cached
def configuration(snapshot: Snapshot, run: str) -> dict[str, str]:
    """Everything a run was made with, flat: "train.lr" -> "0.0005"."""
    columns = (*_CONFIG, "model", "algorithm", "seed", "budget", "budget_unit", "git_commit")
    row = frame(
        snapshot.path, f"SELECT {', '.join(columns)} FROM runs WHERE run = ? LIMIT 1", [run]
    )
    settings: dict[str, str] = {}
    for name, value in row.iloc[0].items():
        value = json.loads(value) if name in _CONFIG and isinstance(value, str) else value
        settings |= dict(_flat(str(name), value))
    return settings


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _flat(f"{name}.{key}", item)]
    return [(name, str(value))]


@cached
def command(snapshot: Snapshot, run: str) -> str:
    """The OpenRLHF command of a run, "" before it started."""
    row = frame(snapshot.path, "SELECT command FROM runs WHERE run = ? LIMIT 1", [run])
    return row.command[0] or ""


@cached
def events(snapshot: Snapshot, run: str) -> pd.DataFrame:
    """What happened to a run, the last first."""
    return frame(
        snapshot.path,
        """SELECT strftime(time, '%Y-%m-%d %H:%M:%S') AS time, attempt, kind,
                  CAST(detail AS VARCHAR) AS detail
             FROM events e WHERE run = ? ORDER BY e.time DESC LIMIT 200""",
        [run],
    )


@dataclass(frozen=True)
class StoredResponse:
    """A response with its verdict; `asked` and `gold` are "" where the benchmark's file is gone."""

    problem: str
    asked: str
    gold: str
    verdict: str
    response: str


VERDICTS = {"c": "correct", "w": "wrong", "u": "no answer", "t": "grading timed out"}


@cached
def points(snapshot: Snapshot, run: str) -> pd.DataFrame:
    """The evaluations of a run: benchmark, fraction of the budget, step."""
    return frame(
        snapshot.path,
        """SELECT DISTINCT benchmark, fraction, step FROM batches
            WHERE run = ? ORDER BY benchmark, fraction""",
        [run],
    )


@cached
def samples(
    snapshot: Snapshot, run: str, benchmark: str, fraction: float, verdict: str, limit: int
) -> list[StoredResponse]:
    """Stored example responses of an evaluation; verdict: "" for any, or a key of VERDICTS."""
    rows = frame(
        snapshot.path,
        """SELECT problem, verdicts, to_json(examples)::VARCHAR AS examples FROM batches
            WHERE run = ? AND benchmark = ? AND fraction = ? AND first = 0 ORDER BY problem""",
        [run, benchmark, fraction],
    )
    problems = _problems(snapshot, run, benchmark)
    examples = [
        StoredResponse(row.problem, *problems.get(row.problem, ("", "")), letter, response)
        for row in rows.itertuples()
        for letter, response in zip(row.verdicts, json.loads(row.examples or "[]"), strict=False)
        if verdict in ("", letter)
    ]
    return examples[:limit]


def _problems(snapshot: Snapshot, run: str, benchmark: str) -> dict[str, tuple[str, str]]:
    """Problem and answer by id, if a file with exactly the run's problems is still there."""
    with reading(snapshot.path) as connection:
        row = connection.execute(
            """SELECT b.origin, b.sha256, r.identity->>b.benchmark
                 FROM benchmarks b LEFT JOIN runs r USING (run)
                WHERE run = ? AND b.benchmark = ? LIMIT 1""",
            [run, benchmark],
        ).fetchone()
    if row is None:
        return {}
    origin, digest, identity = row
    folder = Workspace(Path(snapshot.path)).data
    ours = [path for path in folder.glob("*.jsonl") if path.name.startswith(f"{benchmark}-")]
    ours.sort(key=lambda path: (path.stem != f"{benchmark}-{identity}", path))  # its own first
    for path in [*(path for path in ours if "-train-" not in path.name), Path(origin)]:
        rows = _rows(path)
        if rows and content_digest(rows) == digest:
            return {row["id"]: (row["problem"], row["answer"]) for row in rows}
    return {}


def _rows(path: Path) -> list[dict[str, str]]:
    """The problems of a file; none where there is no such file, or one of other columns."""
    try:
        return read_benchmark(path) if path.is_file() else []
    except ValueError:
        return []

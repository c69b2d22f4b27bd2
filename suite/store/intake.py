"""What the lines of a spool become: rows of the tables of runs.db.

Called by the store inside its transactions. A kind of line that is not known here is an event.
"""

from __future__ import annotations

import json
import shlex
import zlib
from itertools import groupby
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from suite import stats
from suite.spool.responses import KEY

_NO_METRIC = ("kind", "step", "attempt")
_BATCH_FIELDS = (
    *KEY,
    *("n", "seed"),
    *("verdicts", "stops", "lengths", "digests", "answers", "examples"),
)
_BENCHMARK_FIELDS = ("benchmark", "origin", "sha256", "problems", "prompt", "prompt_digest")


class Intake:
    """Turns the lines of one attempt at a time into rows."""

    def __init__(self, db: duckdb.DuckDBPyConnection):
        self._db = db

    def take(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """Lines in the order in which they were written.

        Raises:
            KeyError, TypeError, ValueError, pa.ArrowException, duckdb.DataError: a line is not what
                a worker writes.
        """
        for kind, taken in _runs_of_a_kind(rows):
            getattr(self, f"_take_{kind}", self.event)(run, attempt, taken)

    def _take_trace(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        batch = pa.concat_tables(
            _long(names, list(alike)) for names, alike in groupby(rows, key=tuple)
        )
        self._db.register("batch", batch)
        self._db.execute(
            """INSERT INTO data.traces
               SELECT ?, ?, step, metric, value FROM batch WHERE value IS NOT NULL""",
            [run, attempt],
        )
        self._db.execute(
            """INSERT INTO data.latest
               SELECT ?, metric, max(step), arg_max(value, step), max(value)
                 FROM batch WHERE value IS NOT NULL GROUP BY metric
               ON CONFLICT DO UPDATE SET
                   value = CASE WHEN excluded.step >= step THEN excluded.value ELSE value END,
                   step = greatest(step, excluded.step),
                   highest = greatest(highest, excluded.highest)""",
            [run],
        )
        self._db.unregister("batch")

    def _take_eval(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """Batches of samples; one that was drawn before (and lost with its attempt) is replaced."""
        values = [(run, attempt, *(row[name] for name in _BATCH_FIELDS)) for row in rows]
        self._insert("batches", values, replace=("run", *KEY))

    def _take_evaluated(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """An evaluation point is complete: store its cost and its scores with intervals."""
        for row in rows:
            point = [run, row["step"], row["fraction"]]
            for table in ("points", "scores"):
                self._db.execute(
                    f"DELETE FROM data.{table} WHERE run = ? AND step = ? AND fraction = ?", point
                )
            cost = [row.get(name) for name in ("gpu_hours", "tokens", "samples")]
            self._insert("points", [(*point, *cost)])
            self._insert("scores", [(*point, *score) for score in self._scores(point)])
        self.event(run, attempt, rows)

    def _scores(self, point: list[Any]) -> list[tuple[Any, ...]]:
        """pass@k of each benchmark at each k of the matrix, with a 95 % interval over problems.

        point: run, step and fraction.
        """
        ((written,),) = self._db.execute(
            "SELECT evaluate FROM data.runs WHERE run = ?", point[:1]
        ).fetchall()
        evaluate = json.loads(written)
        counts = self._db.execute(
            """SELECT benchmark, list(n ORDER BY problem), list(correct ORDER BY problem)
                 FROM evals WHERE run = ? AND step = ? AND fraction = ? AND n >= ?
                GROUP BY benchmark""",
            [*point, evaluate["samples"]],
        ).fetchall()
        scores = []
        for benchmark, n, correct in counts:
            for k in evaluate["pass_at"]:
                rng = np.random.default_rng(zlib.crc32(f"{point} {benchmark} {k}".encode()))
                values = stats.pass_at_k(np.array(n), np.array(correct), k)
                interval = stats.mean_interval(values, rng=rng)
                row = (interval.estimate, interval.low, interval.high, len(n), min(n))
                scores.append((benchmark, k, *map(float, row[:3]), *row[3:]))
        return scores

    def _take_probe(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        values = [
            (run, attempt, row["step"], row["fraction"], *pair)
            for row in rows
            for pair in row["values"].items()
        ]
        self._insert("probes", values, replace=("run", "step", "fraction"))

    def _take_benchmark(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """What a run is measured on; an attempt after a change of code replaces what was known."""
        values = []
        for row in rows:
            fields = [row[name] for name in _BENCHMARK_FIELDS]
            ids = row["overlapping"]
            overlap = (None, None) if ids is None else (len(ids), duckdb_json(ids))
            values.append((run, *fields, *overlap))
        self._insert("benchmarks", values, replace=("run", "benchmark"))

    def _take_progress(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """For who is watching; nothing to keep."""

    def _take_start(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        row = rows[-1]
        self._db.execute(
            """UPDATE data.runs SET attempts = ?, command = ?, versions = ?, hardware = ?,
                      git_commit = ?, updated = now() WHERE run = ?""",
            [
                attempt,
                shlex.join(row["command"]),
                duckdb_json(row["versions"]),
                duckdb_json(row["hardware"]),
                row["git_commit"],
                run,
            ],
        )
        self.event(run, attempt, rows)

    def _take_resumed(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """Steps after the checkpoint that an attempt resumed from are void: they run again."""
        step = rows[-1]["from_step"]
        for table in ("traces", "batches", "probes"):
            self._db.execute(
                f"DELETE FROM data.{table} WHERE run = ? AND step > ? AND attempt < ?",
                [run, step, attempt],
            )
        for table in ("points", "scores", "latest"):
            self._db.execute(f"DELETE FROM data.{table} WHERE run = ? AND step > ?", [run, step])
        self._db.execute(
            """INSERT OR REPLACE INTO data.latest
               SELECT run, metric, max(step), arg_max(value, step), max(value)
                 FROM data.traces WHERE run = ? GROUP BY run, metric""",
            [run],
        )
        self.event(run, attempt, rows)

    _take_training = _take_resumed  # from the beginning: nothing of an earlier attempt holds

    def event(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """Keep lines of a kind that no table is for."""
        for row in rows:
            detail = {k: v for k, v in row.items() if k not in ("kind", "time", "attempt")}
            self._db.execute(
                "INSERT INTO data.events VALUES (?, ?, to_timestamp(?)::TIMESTAMP, ?, ?)",
                [run, attempt, row["time"], row["kind"], duckdb_json(detail)],
            )

    def _insert(
        self, table: str, rows: list[tuple[Any, ...]], replace: tuple[str, ...] = ()
    ) -> None:
        """Append rows, in the place of those that are equal in the columns of `replace`."""
        if rows:
            names = [
                name
                for (name,) in self._db.execute(
                    """SELECT column_name FROM information_schema.columns
                        WHERE table_schema = 'data' AND table_name = ? ORDER BY ordinal_position""",
                    [table],
                ).fetchall()
            ]
            columns = zip(*rows, strict=True)
            batch = pa.table({n: list(c) for n, c in zip(names, columns, strict=True)})
            self._db.register("batch", batch)
            if replace:
                same = " AND ".join(f"old.{name} = batch.{name}" for name in replace)
                self._db.execute(f"DELETE FROM data.{table} old USING batch WHERE {same}")
            self._db.execute(f"INSERT INTO data.{table} SELECT * FROM batch")
            self._db.unregister("batch")


def _long(names: tuple[str, ...], rows: list[dict[str, Any]]) -> pa.Table:
    """Trace lines that have the same names: step, metric, value; metric after metric."""
    columns = dict(zip(names, zip(*(row.values() for row in rows), strict=True), strict=True))
    metrics = [name for name in names if name not in _NO_METRIC]
    steps = [pa.array(columns["step"], pa.int32())] * len(metrics)
    labels = [pa.repeat(pa.scalar(name), len(rows)) for name in metrics]
    values = [_numbers(columns[name]) for name in metrics]
    return pa.table(
        {
            "step": pa.chunked_array(steps, pa.int32()),
            "metric": pa.chunked_array(labels, pa.string()),
            "value": pa.chunked_array(values, pa.float64()),
        }
    )


def _numbers(column: tuple[Any, ...]) -> pa.Array:
    """As doubles; what is no number is null."""
    if not set(map(type, column)) <= {float, type(None)}:
        column = tuple(float(v) if isinstance(v, int | float) else None for v in column)
    return pa.array(column, pa.float64())


def _runs_of_a_kind(rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Neighbouring lines of one kind together, in order."""
    groups: list[tuple[str, list[dict[str, Any]]]] = []
    for row in rows:
        if not groups or groups[-1][0] != row["kind"]:
            groups.append((row["kind"], []))
        groups[-1][1].append(row)
    return groups


def duckdb_json(value: Any) -> str:
    """JSON that DuckDB accepts: infinities as the strings "inf" and "-inf"."""

    def finite(item: Any) -> Any:
        if isinstance(item, float) and item in (float("inf"), float("-inf")):
            return str(item)
        if isinstance(item, dict):
            return {k: finite(v) for k, v in item.items()}
        return [finite(v) for v in item] if isinstance(item, list | tuple) else item

    return json.dumps(finite(value))

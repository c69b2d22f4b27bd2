"""runs.db: everything that ever ran, in DuckDB, readable while training writes.

While one process has a DuckDB file open for writing, no other can open it at all. So the conductor
takes the spool into a private database (`ingest.db`) and publishes copies of it: CHECKPOINT, a copy
made by a child process, an atomic rename to runs.db. Readers see a complete snapshot, always, and
never a lock. The byte offset of each spool file is stored in the same transaction as its rows, so a
kill at any point neither loses nor doubles one.

This is the only file that writes to DuckDB. Tables live in the schema `data`; people query the
views of `VIEWS`.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from suite import spool, stats
from suite.cell import EVALUATION, Cell, Workspace
from suite.responses import KEY

MIGRATIONS: dict[str, str] = {
    "001_initial": """
        CREATE TABLE data.spool (run VARCHAR, attempt INTEGER, bytes BIGINT,
                                 PRIMARY KEY (run, attempt));
        CREATE TABLE data.cells (matrix VARCHAR, arm VARCHAR, model VARCHAR, seed INTEGER,
                                 run VARCHAR, position INTEGER);
        CREATE TABLE data.runs (run VARCHAR PRIMARY KEY, algorithm VARCHAR, settings JSON,
                                model VARCHAR, seed INTEGER, train JSON, evaluate JSON,
                                budget_unit VARCHAR, budget DOUBLE, gpus INTEGER,
                                resources JSON, identity JSON, status VARCHAR, attempts INTEGER,
                                command VARCHAR, versions JSON, hardware JSON, git_commit VARCHAR,
                                created TIMESTAMP, updated TIMESTAMP);
        CREATE TABLE data.traces (run VARCHAR, attempt INTEGER, step INTEGER, metric VARCHAR,
                                  value DOUBLE);
        CREATE TABLE data.evals (run VARCHAR, attempt INTEGER, step INTEGER, fraction DOUBLE,
                                 benchmark VARCHAR, problem VARCHAR, n INTEGER, correct INTEGER,
                                 wrong INTEGER, unparsed INTEGER, timeout INTEGER,
                                 truncated INTEGER, unique_responses INTEGER, tokens BIGINT,
                                 verdicts VARCHAR, examples JSON);
        CREATE TABLE data.points (run VARCHAR, step INTEGER, fraction DOUBLE, gpu_hours DOUBLE,
                                  tokens BIGINT, samples BIGINT);
        CREATE TABLE data.scores (run VARCHAR, step INTEGER, fraction DOUBLE, benchmark VARCHAR,
                                  k INTEGER, score DOUBLE, low DOUBLE, high DOUBLE,
                                  problems INTEGER, samples INTEGER);
        CREATE TABLE data.events (run VARCHAR, attempt INTEGER, time TIMESTAMP, kind VARCHAR,
                                  detail JSON);
    """,
    "002_probes": """
        CREATE TABLE data.probes (run VARCHAR, attempt INTEGER, step INTEGER, fraction DOUBLE,
                                  estimator VARCHAR, value DOUBLE);
    """,
    "003_batches": """
        CREATE TABLE data.batches (run VARCHAR, attempt INTEGER, step INTEGER, fraction DOUBLE,
                                   benchmark VARCHAR, problem VARCHAR, first INTEGER, n INTEGER,
                                   seed BIGINT, verdicts VARCHAR, stops VARCHAR,
                                   lengths INTEGER[], digests BIGINT[], answers VARCHAR[],
                                   examples VARCHAR[]);
        INSERT INTO data.batches
            SELECT run, attempt, step, fraction, benchmark, problem, 0, n, NULL, verdicts,
                   repeat('l', truncated) || repeat('s', n - truncated), [tokens], NULL, NULL,
                   CAST(examples AS VARCHAR[])
              FROM data.evals;
        DROP TABLE data.evals;
    """,
    "004_benchmarks": """
        CREATE TABLE data.benchmarks (run VARCHAR, benchmark VARCHAR, origin VARCHAR,
                                      sha256 VARCHAR, problems INTEGER, prompt VARCHAR,
                                      prompt_digest VARCHAR, overlapping INTEGER,
                                      overlapping_ids JSON);
    """,
}

# A run can belong to several matrices. `runs` and the scores have a row for each of them; traces
# and evals are there once, labelled by the matrix that named the run last.
VIEWS: dict[str, str] = {
    "runs": """
        SELECT c.matrix, c.arm, c.position, r.*,
               (SELECT max(step) FROM data.traces t WHERE t.run = r.run) AS steps,
               (SELECT max(value) FROM data.traces t
                 WHERE t.run = r.run AND metric = 'gpu_hours') AS gpu_hours,
               (SELECT max(value) = 0 FROM data.traces t
                 WHERE t.run = r.run AND metric = 'differs_from_grpo')
               AND NOT (r.algorithm = 'grpo' AND r.settings->>'eps_low' = '0.2'
                        AND r.settings->>'eps_high' = '0.2') AS inert
          FROM data.runs r LEFT JOIN data.cells c USING (run)""",
    "labels": """
        SELECT run, arg_max(matrix, rowid) AS matrix, arg_max(arm, rowid) AS arm
          FROM data.cells GROUP BY run""",
    "traces": """
        SELECT l.matrix, l.arm, r.seed, t.run, t.step, t.metric, t.value
          FROM data.traces t JOIN data.runs r USING (run) LEFT JOIN labels l USING (run)""",
    "evals": """
        WITH problems AS (
            SELECT run, step, fraction, benchmark, problem, sum(n)::INTEGER AS n,
                   string_agg(verdicts, '' ORDER BY first) AS verdicts,
                   string_agg(stops, '' ORDER BY first) AS stops,
                   len(list_distinct(flatten(list(digests))))::INTEGER AS unique_responses,
                   sum(list_sum(lengths))::BIGINT AS tokens, arg_min(examples, first) AS examples
              FROM data.batches GROUP BY ALL)
        SELECT l.matrix, l.arm, r.seed, p.*, count_of(verdicts, 'c') AS correct,
               count_of(verdicts, 'w') AS wrong, count_of(verdicts, 'u') AS unparsed,
               count_of(verdicts, 't') AS timeout, count_of(stops, 'l') AS truncated
          FROM problems p JOIN data.runs r USING (run) LEFT JOIN labels l USING (run)""",
    "probes": """
        SELECT l.matrix, l.arm, r.seed, p.run, p.step, p.fraction, p.estimator, p.value,
               CASE p.estimator
                    WHEN 'full' THEN 'mean H_t, full vocabulary'
                    WHEN 'clamped' THEN 'mean H_t among the 67 % most likely tokens (p = 0.33)'
                    ELSE '-mean log pi of the tokens' END
               || ', nats, T = 1, on fixed responses of the base model' AS definition
          FROM data.probes p JOIN data.runs r USING (run) LEFT JOIN labels l USING (run)""",
    "benchmarks": """
        SELECT c.matrix, c.arm, r.model, r.seed, b.*
          FROM data.benchmarks b JOIN data.runs r USING (run) LEFT JOIN data.cells c USING (run)""",
    "pass_at_k": """
        SELECT c.matrix, c.arm, r.model, r.seed, s.*, p.gpu_hours
          FROM data.scores s JOIN data.runs r USING (run) LEFT JOIN data.cells c USING (run)
          LEFT JOIN data.points p USING (run, step, fraction)""",
    "leaderboard": """
        WITH last AS (
            SELECT run, max(step) AS steps, max(fraction) AS fraction
              FROM data.scores WHERE fraction > 0 GROUP BY run),
        final AS (
            SELECT l.run, l.steps, l.fraction,
                   arg_max(value, step) FILTER (metric = 'entropy') AS entropy,
                   arg_max(value, step) FILTER (metric = 'response_length') AS response_length,
                   max(value) FILTER (metric = 'gpu_hours') AS gpu_hours,
                   max(value) FILTER (metric = 'budget_fraction') - l.fraction AS overshoot
              FROM last l JOIN data.traces t ON t.run = l.run AND t.step <= l.steps
             GROUP BY l.run, l.steps, l.fraction)
        SELECT p.matrix, p.arm, p.model, p.seed, p.run, p.benchmark, p.k, p.score, p.low, p.high,
               f.entropy, f.response_length, f.gpu_hours, f.overshoot, f.steps, p.problems,
               p.samples
          FROM pass_at_k p JOIN final f USING (run, fraction)
         ORDER BY p.matrix, p.benchmark, p.k, p.score DESC""",
    "gpu_hours_to_score": """
        SELECT goal.matrix, goal.model, goal.seed, goal.benchmark, goal.k, goal.arm AS reference,
               goal.score AS goal, p.arm,
               min(p.gpu_hours) FILTER (p.score >= goal.score) AS gpu_hours,
               max(p.gpu_hours) AS spent
          FROM (SELECT matrix, model, seed, benchmark, k, arm, max(score) AS score
                  FROM pass_at_k WHERE fraction > 0 GROUP BY ALL) goal
          JOIN pass_at_k p USING (matrix, model, seed, benchmark, k)
         GROUP BY ALL ORDER BY ALL""",
}

_BATCH_FIELDS = (
    *KEY,
    *("n", "seed"),
    *("verdicts", "stops", "lengths", "digests", "answers", "examples"),
)


_BENCHMARK_FIELDS = ("benchmark", "origin", "sha256", "problems", "prompt", "prompt_digest")


class BadSpool(ValueError):
    """A spool holds a line that cannot be taken in; the message names file and position."""


class NoDatabase(FileNotFoundError):
    """There is no runs.db at the given path yet; the message says what to do."""

    def __init__(self, path: str | Path):
        super().__init__(f"no database at {path}: `suite run matrix.yaml` makes one")


def connect(path: str | Path = "runs.db", *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
    """A connection to the published snapshot at `path`.

    Readers get a snapshot: open a new connection to see later rows. With `read_only=False` the file
    itself is opened for writing, which locks every reader out: for maintenance only.

    Raises:
        NoDatabase: nothing has run there yet.
    """
    if read_only and not Path(path).exists():
        raise NoDatabase(path)
    return duckdb.connect(str(path), read_only=read_only)


class Store:
    """The conductor's side: registers cells, takes spools in, publishes snapshots."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        workspace.root.mkdir(parents=True, exist_ok=True)
        self._private = workspace.root / "ingest.db"
        if not self._private.exists() and workspace.db.exists():
            _copy(workspace.db, self._private)
        self._db = duckdb.connect(str(self._private))
        self._migrate()
        self.changed = False  # since the last publish

    def close(self) -> None:
        """Publish what is there and let go of the private database."""
        self.publish()
        self._db.close()

    def _migrate(self) -> None:
        self._db.execute("CREATE SCHEMA IF NOT EXISTS data")
        self._db.execute("CREATE TABLE IF NOT EXISTS data.migrations (name VARCHAR PRIMARY KEY)")
        done = {name for (name,) in self._db.execute("FROM data.migrations").fetchall()}
        for name, script in MIGRATIONS.items():
            if name in done:
                continue
            self._db.execute("BEGIN")
            self._db.execute(script)
            self._db.execute("INSERT INTO data.migrations VALUES (?)", [name])
            self._db.execute("COMMIT")
        self._db.execute(
            """CREATE OR REPLACE MACRO count_of(text, letter) AS
                 (length(text) - length(replace(text, letter, '')))::INTEGER"""
        )
        for name, query in VIEWS.items():
            self._db.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")

    def register(self, cells: list[Cell]) -> None:
        """Make the matrix of `cells` known; its former cells keep their runs, not their place.

        Evaluations are no matrix: each is added to those that are there.
        """
        self._db.execute("BEGIN")
        if cells[0].algorithm == EVALUATION:
            former, value = "run", cells[0].id
        else:
            former, value = "matrix", cells[0].matrix
        self._db.execute(f"DELETE FROM data.cells WHERE {former} = ?", [value])
        for position, cell in enumerate(cells):
            self._db.execute(
                "INSERT INTO data.cells VALUES (?, ?, ?, ?, ?, ?)",
                [cell.matrix, cell.arm, cell.model, cell.seed, cell.id, position],
            )
            ((unit, limit),) = cell.budget.items()
            self._db.execute(
                """INSERT INTO data.runs
                   (run, algorithm, settings, model, seed, train, evaluate, budget_unit, budget,
                    gpus, resources, identity, status, attempts, created, updated)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', 0, now(), now())
                   ON CONFLICT DO UPDATE SET evaluate = excluded.evaluate,
                       train = excluded.train, budget = excluded.budget,
                       status = CASE WHEN evaluate = excluded.evaluate AND train = excluded.train
                                     THEN status ELSE 'queued' END""",
                [
                    cell.id,
                    cell.algorithm,
                    _json(cell.settings),
                    cell.model,
                    cell.seed,
                    _json(cell.train),
                    _json(cell.evaluate),
                    unit,
                    limit,
                    cell.resources["gpus"],
                    _json(cell.resources),
                    _json(cell.identity),
                ],
            )
        self._db.execute("COMMIT")

    def set_status(self, run: str, status: str) -> None:
        """queued, running, interrupted, failed or finished."""
        self._db.execute(
            "UPDATE data.runs SET status = ?, updated = now() WHERE run = ?", [status, run]
        )

    def status(self, run: str) -> str:
        """The status of a registered run."""
        return self._db.execute("SELECT status FROM data.runs WHERE run = ?", [run]).fetchone()[0]

    def next_attempt(self, run: str) -> int:
        """A number that no attempt at this run has had, even if its files were removed since."""
        (known,) = self._db.execute(
            "SELECT coalesce(max(attempt), 0) FROM data.spool WHERE run = ?", [run]
        ).fetchone()
        return max(known + 1, spool.next_attempt(self.workspace.cell(run)))

    def points(self, run: str) -> list[dict[str, Any]]:
        """Where a run was evaluated, and what it had cost by then."""
        names = ("step", "fraction", "gpu_hours", "tokens", "samples")
        rows = self._db.execute(
            f"SELECT {', '.join(names)} FROM data.points WHERE run = ? ORDER BY ALL", [run]
        ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    # Taking spools in ------------------------------------------------------------------------

    def ingest(self, run: str) -> list[dict[str, Any]]:
        """Take in what a run's attempts have written since; returns the new lines.

        Raises:
            BadSpool: a line is not what a worker writes; nothing of its part is taken in.
        """
        folder = self.workspace.cell(run)
        fresh: list[dict[str, Any]] = []
        for attempt, path in spool.attempts(folder):
            while rows := self._ingest_part(run, attempt, path):
                fresh += rows
        return fresh

    def _ingest_part(self, run: str, attempt: int, path: Path) -> list[dict[str, Any]]:
        known = self._db.execute(
            "SELECT bytes FROM data.spool WHERE run = ? AND attempt = ?", [run, attempt]
        ).fetchone()
        before = known[0] if known else 0
        rows, after = spool.read_from(path, before)
        if after == before:
            return []
        self._db.execute("BEGIN")
        try:
            for kind, taken in _runs_of_a_kind(rows):
                getattr(self, f"_take_{kind}", self._take_event)(run, attempt, taken)
            self._db.execute(
                "INSERT OR REPLACE INTO data.spool VALUES (?, ?, ?)", [run, attempt, after]
            )
            self._db.execute("COMMIT")
        except (KeyError, TypeError, ValueError, pa.ArrowException, duckdb.DataError) as error:
            self._db.execute("ROLLBACK")
            what = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise BadSpool(f"{path}, bytes {before} to {after}: {what}") from error
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self.changed = True
        return rows

    def _take_trace(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        values = [
            (run, attempt, row["step"], metric, float(value))
            for row in rows
            for metric, value in row.items()
            if metric not in ("kind", "step", "attempt") and isinstance(value, int | float)
        ]
        self._insert("traces", values)

    def _take_eval(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """Batches of samples; one that was drawn before (and lost with its attempt) is replaced."""
        values = [(run, attempt, *(row[name] for name in _BATCH_FIELDS)) for row in rows]
        self._insert("batches", values, replace=("run", *KEY))

    def _take_evaluated(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """An evaluation point is complete: store its cost and its scores with intervals."""
        for row in rows:
            where = [run, row["step"], row["fraction"]]
            for table in ("points", "scores"):
                self._db.execute(
                    f"DELETE FROM data.{table} WHERE run = ? AND step = ? AND fraction = ?", where
                )
            cost = [row.get(name) for name in ("gpu_hours", "tokens", "samples")]
            self._insert("points", [(*where, *cost)])
            self._insert("scores", [(*where, *score) for score in self._scores(where)])
        self._take_event(run, attempt, rows)

    def _scores(self, where: list[Any]) -> list[tuple[Any, ...]]:
        """pass@k of each benchmark at each k of the matrix, with a 95 % interval over problems."""
        evaluate = self._db.execute(
            "SELECT evaluate FROM data.runs WHERE run = ?", where[:1]
        ).fetchone()[0]
        counts = self._db.execute(
            """SELECT benchmark, list(n ORDER BY problem), list(correct ORDER BY problem)
                 FROM evals WHERE run = ? AND step = ? AND fraction = ? AND n >= ?
                GROUP BY benchmark""",
            [*where, json.loads(evaluate)["samples"]],
        ).fetchall()
        scores = []
        for benchmark, n, correct in counts:
            for k in json.loads(evaluate)["pass_at"]:
                rng = np.random.default_rng(zlib.crc32(f"{where} {benchmark} {k}".encode()))
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
            kept = [row[name] for name in _BENCHMARK_FIELDS]
            ids = row["overlapping"]
            found = (None, None) if ids is None else (len(ids), _json(ids))
            values.append((run, *kept, *found))
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
                " ".join(row["command"]),
                _json(row["versions"]),
                _json(row["hardware"]),
                row["git_commit"],
                run,
            ],
        )
        self._take_event(run, attempt, rows)

    def _take_resumed(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        """Steps after the checkpoint that an attempt resumed from are void: they run again."""
        step = rows[-1]["from_step"]
        for table in ("traces", "batches", "probes"):
            self._db.execute(
                f"DELETE FROM data.{table} WHERE run = ? AND step > ? AND attempt < ?",
                [run, step, attempt],
            )
        for table in ("points", "scores"):
            self._db.execute(f"DELETE FROM data.{table} WHERE run = ? AND step > ?", [run, step])
        self._take_event(run, attempt, rows)

    _take_training = _take_resumed  # from the beginning: nothing of an earlier attempt holds

    def _take_event(self, run: str, attempt: int, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            detail = {k: v for k, v in row.items() if k not in ("kind", "time", "attempt")}
            self._db.execute(
                "INSERT INTO data.events VALUES (?, ?, to_timestamp(?)::TIMESTAMP, ?, ?)",
                [run, attempt, row["time"], row["kind"], _json(detail)],
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

    def event(self, run: str, attempt: int, kind: str, **detail: Any) -> None:
        """Note what the conductor saw of an attempt that could not say it itself."""
        row = {"kind": kind, "time": time.time(), **detail}
        self._take_event(run, attempt, [row])

    # Publishing ------------------------------------------------------------------------------

    def publish(self) -> None:
        """Replace runs.db by a snapshot of everything taken in so far.

        Raises:
            OSError: the copy failed (a full disk); the former snapshot is untouched.
        """
        self._db.execute("CHECKPOINT")
        _copy(self._private, self.workspace.db)
        self.changed = False


def _copy(source: Path, target: Path) -> None:
    """Copy in a child process and rename: closing the file here would drop DuckDB's own lock."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    copied = subprocess.run(
        ["cp", "--reflink=auto", str(source), str(partial)],
        capture_output=True,
        text=True,
        check=False,
    )
    if copied.returncode:
        partial.unlink(missing_ok=True)
        raise OSError(f"cannot publish {target}: {copied.stderr.strip()}")
    os.replace(partial, target)


def _runs_of_a_kind(rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Neighbouring lines of one kind together, in order."""
    groups: list[tuple[str, list[dict[str, Any]]]] = []
    for row in rows:
        if not groups or groups[-1][0] != row["kind"]:
            groups.append((row["kind"], []))
        groups[-1][1].append(row)
    return groups


def _json(value: Any) -> str:
    """JSON that DuckDB accepts: infinities as the strings "inf" and "-inf"."""

    def finite(item: Any) -> Any:
        if isinstance(item, float) and item in (float("inf"), float("-inf")):
            return str(item)
        if isinstance(item, dict):
            return {k: finite(v) for k, v in item.items()}
        return [finite(v) for v in item] if isinstance(item, list | tuple) else item

    return json.dumps(finite(value))

"""runs.db: everything that ever ran, in DuckDB, readable while training writes.

While one process has a DuckDB file open for writing, no other can open it at all. So the conductor
takes the spool into a private database (`ingest.db`) and publishes copies of it: CHECKPOINT, a copy
made by a child process, an atomic rename to runs.db. Readers see a complete snapshot, always, and
never a lock. The byte offset of each spool file is stored in the same transaction as its rows, so a
kill at any point neither loses nor doubles one.

Only the store writes to DuckDB: the tables are made by suite.store.migrations, filled by
suite.store.intake, and queried through suite.store.views.
"""

from __future__ import annotations

import glob
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from suite.matrix.cell import EVALUATION, Cell
from suite.spool import spool
from suite.store.intake import Intake, duckdb_json
from suite.store.merging import Merged, merge_runs
from suite.store.migrations import Unusable, migrate, migrations_of, refuse_later
from suite.text import as_sql
from suite.workspace import Workspace, whole_file

PUBLISH_SECONDS = 0.5  # between two snapshots, at least
PUBLISH_SHARE = 0.2  # of the time at most goes into copies, however large the file has become


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
    if not read_only:
        return duckdb.connect(str(path))
    if not Path(path).exists():
        raise NoDatabase(path)
    # Opened by its path, a file that was replaced shows its former content for as long as this
    # process has another connection to it; attached, it is what lies there now.
    connection = duckdb.connect()
    try:
        connection.execute(f"ATTACH {as_sql(path)} AS snapshot (READ_ONLY)")
        connection.execute("USE snapshot")
    except BaseException:
        connection.close()
        raise
    return connection


class Store:
    """The conductor's side: registers cells, takes spools in, publishes snapshots.

    Raises:
        Unusable: a later version of the suite wrote the database, or what lies at its path holds
            what the next publish would lose.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        workspace.root.mkdir(parents=True, exist_ok=True)
        self.published = workspace.db.resolve()  # a link stays one
        self.private = workspace.root / "ingest.db"  # what this process writes to
        if self.published.exists():
            _refuse_unknown(self.published)
            if not self.private.exists():
                _copy(self.published, self.private)
        self._db = duckdb.connect(str(self.private))  # no other process has it from now on
        for target in (self.published, self.private):
            for partial in target.parent.glob(f"{glob.escape(target.name)}.*.partial"):
                partial.unlink(missing_ok=True)  # a killed conductor was copying
        try:
            migrate(self._db, self.private)
            self._refuse_to_lose()
        except BaseException:
            self._db.close()
            raise
        self._db.execute("UPDATE data.runs SET status = 'interrupted' WHERE status = 'running'")
        self._intake = Intake(self._db)
        self.changed = False  # since the last publish
        self._due = 0.0  # when the next one may be, by the monotonic clock
        self._took: deque[float] = deque(maxlen=5)  # seconds of the last ones

    def _refuse_to_lose(self) -> None:
        """The next publish replaces runs.db: it may hold nothing that was not published here.

        A run of another history has another time of registration; one that was worked on elsewhere
        since has more of an attempt.
        """
        if not self.published.exists():
            return
        self._db.execute(f"ATTACH {as_sql(self.published)} AS published (READ_ONLY)")
        runs = self._db.execute(
            """SELECT run FROM published.data.runs p LEFT JOIN data.runs r USING (run)
                WHERE r.created IS DISTINCT FROM p.created UNION
               SELECT run FROM published.data.spool p LEFT JOIN data.spool s USING (run, attempt)
                WHERE p.bytes > coalesce(s.bytes, 0) ORDER BY run"""
        ).fetchall()
        self._db.execute("DETACH published")
        if runs:
            raise Unusable(
                f"{self.published} is from elsewhere: {self.private} lacks what it has of "
                f"{len(runs)} runs, {runs[0][0]} among them; move it away: the other has what ran "
                "here, and `suite db import` takes in the one that was moved"
            )

    def close(self) -> None:
        """Publish what is there and let go of the private database."""
        self.publish()
        self._db.close()

    def register(self, cells: list[Cell], *, keep: bool = False) -> None:
        """Make the matrix of `cells` known; its former cells keep their runs, not their place.

        With `keep` only those of the same arms lose theirs. Evaluations are no matrix: each is
        added to those that are there.
        """
        self._db.execute("BEGIN")
        arms = [cell.arm for cell in cells] if keep else []
        if cells[0].algorithm == EVALUATION:
            self._db.execute("DELETE FROM data.cells WHERE run = ?", [cells[0].id])
        else:
            self._db.execute(
                "DELETE FROM data.cells WHERE matrix = ? AND (? OR arm IN ?)",
                [cells[0].matrix, not keep, arms],
            )
        for position, cell in enumerate(cells):
            self._db.execute(
                "INSERT INTO data.cells VALUES (?, ?, ?, ?, ?, ?)",
                [cell.matrix, cell.arm, cell.model, cell.seed, cell.id, position],
            )
            if not cell.in_one_process:  # an arm of a matrix: it has one look for good
                self._db.execute(
                    "INSERT INTO data.arms SELECT ?, (SELECT count(*) FROM data.arms) "
                    "ON CONFLICT DO NOTHING",
                    [cell.arm],
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
                    duckdb_json(cell.settings),
                    cell.model,
                    cell.seed,
                    duckdb_json(cell.train),
                    duckdb_json(cell.evaluate),
                    unit,
                    limit,
                    cell.resources["gpus"],
                    duckdb_json(cell.resources),
                    duckdb_json(cell.identity),
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
        rows = self._db.execute("SELECT status FROM data.runs WHERE run = ?", [run]).fetchall()
        ((status,),) = rows
        return status

    def next_attempt(self, run: str) -> int:
        """A number that no attempt at this run has had, even if its files were removed since."""
        ((latest,),) = self._db.execute(
            "SELECT coalesce(max(attempt), 0) FROM data.spool WHERE run = ?", [run]
        ).fetchall()
        return max(latest + 1, spool.next_attempt(self.workspace.cell(run)))

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
            size, before, after = path.stat().st_size, -1, 0
            while before < after < size:  # what is written meanwhile is for the next time
                before = after
                rows, after = self._ingest_part(run, attempt, path)
                fresh += rows
        return fresh

    def _ingest_part(self, run: str, attempt: int, path: Path) -> tuple[list[dict[str, Any]], int]:
        """The next part of a file; its lines, and the offset behind them."""
        taken_in = self._db.execute(
            "SELECT bytes FROM data.spool WHERE run = ? AND attempt = ?", [run, attempt]
        ).fetchone()
        before = taken_in[0] if taken_in else 0
        rows, after = spool.read_from(path, before)
        if after == before:
            return [], after
        self._db.execute("BEGIN")
        try:
            self._intake.take(run, attempt, rows)
            self._db.execute(
                "INSERT OR REPLACE INTO data.spool VALUES (?, ?, ?)", [run, attempt, after]
            )
            self._db.execute("COMMIT")
        except (KeyError, TypeError, ValueError, pa.ArrowException, duckdb.DataError) as error:
            self._db.execute("ROLLBACK")
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise BadSpool(f"{path}, bytes {before} to {after}: {reason}") from error
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self.changed = True
        return rows, after

    def event(self, run: str, attempt: int, kind: str, **detail: Any) -> None:
        """Note what the conductor saw of an attempt that could not say it itself."""
        row = {"kind": kind, "time": time.time(), **detail}
        self._intake.event(run, attempt, [row])

    def merge(self, other: Path) -> Merged:
        """Take in the runs of another database of this version: see suite.store.merging."""
        merged = merge_runs(self._db, other, self.workspace)
        self.changed = True
        return merged

    # Publishing ------------------------------------------------------------------------------

    def publish(self) -> None:
        """Replace runs.db by a snapshot of everything taken in so far.

        Raises:
            OSError: the copy failed (a full disk); the former snapshot is untouched.
        """
        begun = time.monotonic()
        self._db.execute("CHECKPOINT")
        _copy(self.private, self.published)
        self.changed = False
        ended = time.monotonic()
        self._took.append(ended - begun)  # one that was held up says little: the least counts
        self._due = ended + max(PUBLISH_SECONDS, min(self._took) / PUBLISH_SHARE)

    def publish_when_due(self) -> None:
        """Publish what has changed, unless the last time was a moment ago or took too long for it.

        Raises:
            OSError: as `publish`.
        """
        if self.changed and time.monotonic() >= self._due:
            self.publish()


def _refuse_unknown(path: Path) -> None:
    """Raises Unusable when a file cannot be read, is no database of a suite, or of a later one."""
    try:
        with connect(path) as db:
            done = migrations_of(db)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        if "Could not set lock" in reason:
            raise Unusable(f"{path} is open for writing elsewhere ({reason})") from error
        raise Unusable(
            f"{path} is no database of the suite ({reason}); move it away, or name another with "
            "--db"
        ) from error
    refuse_later(path, done)


def _copy(source: Path, target: Path) -> None:
    """Copy in a child process and rename: closing the file here would drop DuckDB's own lock."""
    with whole_file(target) as partial:
        copied = subprocess.run(
            ["cp", "--reflink=auto", str(source), str(partial)],
            capture_output=True,
            text=True,
            check=False,
        )
        if copied.returncode:
            raise OSError(f"cannot publish {target}: {copied.stderr.strip()}")

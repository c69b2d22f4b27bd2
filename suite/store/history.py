"""`suite db`: is a database whole, make it small, take it elsewhere, and put two into one.

An export is a folder of Parquet files, a table each, with the names of the migrations that made
them, so that a later version can read it. A run is taken over as a whole: its rows are of one
machine, never mixed. Policies, checkpoints and responses are files beside the database and are not
part of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from suite.spool import spool
from suite.spool.lock import only_conductor
from suite.store import slim
from suite.store.merging import Merged
from suite.store.migrations import (
    KEYS,
    MIGRATIONS,
    OF_RUNS,
    TABLES,
    lacking,
    migrate,
    migrations_of,
    order,
    refuse_later,
)
from suite.store.store import Store, connect
from suite.text import as_sql
from suite.workspace import Workspace, whole_file

# check ---------------------------------------------------------------------------------------


def check(workspace: Workspace) -> list[str]:
    """What is wrong with a database, a line each; nothing when it is whole.

    Raises:
        NoDatabase: there is none.
        duckdb.Error: a block of it cannot be read.
    """
    if missing := _missing(workspace.db):
        return [missing]
    with connect(workspace.db) as db:
        for table in TABLES:  # every block is read once, and its checksum compared
            db.execute(f"SELECT bit_xor(hash(t)) FROM data.{table} t").fetchall()
        inside = [*_doubled(db), *_orphans(db), *_disagreeing(db)]
        return [*inside, *_beyond_their_files(db, workspace)]


def _missing(path: Path) -> str:
    """What is to be done with a database of an earlier version; "" for one of today's."""
    with connect(path) as db:
        missing = lacking(db)
    if not missing:
        return ""
    return (
        f"{path} was made by an earlier version, without {', '.join(missing)}: "
        "`suite db compact` updates it"
    )


def _doubled(db: duckdb.DuckDBPyConnection) -> Iterator[str]:
    for table, key in KEYS.items():
        names = ", ".join(key)
        rows = db.execute(
            f"""SELECT {names}, count(*) FROM data.{table} GROUP BY {names}
                HAVING count(*) > 1 ORDER BY ALL LIMIT 3"""
        ).fetchall()
        for *values, count in rows:
            row = ", ".join(f"{n} {v}" for n, v in zip(key, values, strict=True))
            yield f"{table}: {row} is there {count} times"


def _orphans(db: duckdb.DuckDBPyConnection) -> Iterator[str]:
    for table in OF_RUNS:
        rows = db.execute(
            f"""SELECT run, count(*) FROM data.{table} WHERE run NOT IN (SELECT run FROM data.runs)
                GROUP BY run ORDER BY run LIMIT 3"""
        ).fetchall()
        for run, count in rows:
            yield f"{table}: {count} rows of run {run}, which is not registered"


def _disagreeing(db: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Columns that say the same thing in two places."""
    traced = """SELECT run, metric, max(step) AS step, arg_max(value, step) AS value,
                       max(value) AS highest FROM data.traces GROUP BY run, metric"""
    rows = db.execute(
        f"""SELECT run, metric FROM ({traced}) t FULL JOIN data.latest l USING (run, metric)
             WHERE (t.step, t.value, t.highest) IS DISTINCT FROM (l.step, l.value, l.highest)
             ORDER BY ALL LIMIT 3"""
    ).fetchall()
    for run, metric in rows:
        yield f"latest: {metric} of run {run} is not what its traces say"
    rows = db.execute(
        """SELECT run, benchmark, problem, step, n, length(verdicts) FROM data.batches
            WHERE length(verdicts) <> n ORDER BY ALL LIMIT 3"""
    ).fetchall()
    for run, benchmark, problem, step, n, verdicts in rows:
        yield f"batches: {verdicts} verdicts of {n}: run {run}, step {step}, {benchmark} {problem}"


def _beyond_their_files(db: duckdb.DuckDBPyConnection, workspace: Workspace) -> Iterator[str]:
    """What is taken in of a file ends behind one of its lines; a file can be gone since."""
    taken = db.execute("SELECT run, attempt, bytes FROM data.spool ORDER BY ALL").fetchall()
    for run, attempt, offset in taken:
        path = spool.path_of(workspace.cell(run), attempt)
        if not path.exists() or not offset:
            continue
        with path.open("rb") as file:
            file.seek(offset - 1)
            if (size := path.stat().st_size) < offset:
                yield f"spool: {offset} bytes taken in of {path}, which has {size}"
            elif file.read(1) != b"\n":
                yield f"spool: byte {offset} of {path}, taken in so far, is inside a line"


# compact -------------------------------------------------------------------------------------


def compact(workspace: Workspace) -> tuple[int, int]:
    """Write the database anew, each table in its order; its bytes before and after.

    Raises:
        NoDatabase: there is none.
        Busy: a conductor works on it.
    """
    connect(workspace.db).close()
    with only_conductor(workspace):
        store = Store(workspace)
        store.close()
        before = workspace.db.stat().st_size
        with _beside(workspace) as new, connect(new, read_only=False) as db:
            migrate(db)
            db.execute(f"ATTACH {as_sql(store.private)} AS old (READ_ONLY)")
            for table in TABLES:
                by = order(table)
                db.execute(f"INSERT INTO data.{table} FROM old.data.{table} ORDER BY {by}")
            db.execute("DETACH old")
            db.close()
            new.replace(store.private)
        Store(workspace).close()
    return before, workspace.db.stat().st_size


# export and import ---------------------------------------------------------------------------


def export(db: Path, folder: Path, only_counts: bool = False) -> int:
    """Write every table to `folder`, which must be new, as Parquet; how many rows.

    only_counts: without what only single samples need (suite/store/slim.py).

    Raises:
        NoDatabase: there is none.
        ValueError: the folder exists, or an earlier version made the database.
    """
    if folder.exists():
        raise ValueError(f"{folder} exists already")
    if missing := _missing(db):
        raise ValueError(missing)
    rows = 0
    with connect(db) as connection, whole_file(folder) as partial:
        partial.mkdir()
        for table in ("migrations", *TABLES):
            by = "name" if table == "migrations" else order(table)
            path = as_sql(partial / f"{table}.parquet")
            query = slim.rows(table) if only_counts else f"SELECT * FROM data.{table}"
            ((count,),) = connection.execute(
                f"COPY ({query} ORDER BY {by}) TO {path} (FORMAT parquet, COMPRESSION zstd)"
            ).fetchall()
            rows += count
    return rows


def merge(workspace: Workspace, source: Path) -> Merged:
    """Take the runs of an export, or of another database, into this one.

    A run that both have is the same cell: the one that is further stays (finished, then steps, then
    samples), as a whole.

    Raises:
        ValueError: `source` is neither, or was made by a later version.
        Busy: a conductor works on the database.
    """
    with only_conductor(workspace), _beside(workspace) as staged:
        _stage(source, staged)
        store = Store(workspace)
        try:
            return store.merge(staged)
        finally:
            store.close()


def _stage(source: Path, staged: Path) -> None:
    """A database of today's version with what is in `source`."""
    if source.is_dir():
        if not (source / "migrations.parquet").is_file():
            raise ValueError(f"{source} is no export: it has no migrations.parquet")
        with connect(staged, read_only=False) as db:
            _load_export(db, source)
            migrate(db)
        return
    try:
        with connect(source) as db:
            refuse_later(source, migrations_of(db))
    except duckdb.Error as error:
        raise ValueError(f"{source} is no database: {str(error).splitlines()[0]}") from error
    shutil.copyfile(source, staged)
    with connect(staged, read_only=False) as db:
        migrate(db)


def _load_export(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """The tables of an export as its version had them."""
    names = db.read_parquet(str(folder / "migrations.parquet")).order("name").fetchall()
    done = [name for (name,) in names]
    refuse_later(folder, done)
    db.execute("CREATE SCHEMA data")
    db.execute("CREATE TABLE data.migrations (name VARCHAR PRIMARY KEY)")
    for name in done:
        db.execute(MIGRATIONS[name])
        db.execute("INSERT INTO data.migrations VALUES (?)", [name])
    for table in TABLES:
        path = folder / f"{table}.parquet"
        if path.exists():
            db.execute(f"DELETE FROM data.{table}")
            db.execute(f"INSERT INTO data.{table} BY NAME FROM read_parquet({as_sql(path)})")


@contextmanager
def _beside(workspace: Workspace) -> Iterator[Path]:
    """A path in the database's folder for a file that is gone afterwards."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.root, prefix="db-") as folder:
        yield Path(folder) / "new.db"

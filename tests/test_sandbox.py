"""SQL from a stranger: what wants more than to read is refused, what wants too much is stopped."""

import hashlib
import subprocess
import sys
import time

import pytest

from suite.store import NoDatabase, Store
from suite.store.sandbox import QueryError, query
from suite.workspace import Workspace
from tests.hostile_sql import HEAVY, REFUSED

MEMORY = 300 << 20
SECONDS = 2.0
STARTED = 15.0  # seconds: a child's start and end on a busy machine


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("sandbox") / "runs.db")
    Store(workspace).close()
    return workspace.db


@pytest.fixture(autouse=True)
def untouched(db, monkeypatch):
    """After each statement the file is as it was, and no other lies beside it."""
    monkeypatch.chdir(db.parent)
    before = hashlib.sha256(db.read_bytes()).digest(), sorted(db.parent.iterdir())
    yield
    assert (hashlib.sha256(db.read_bytes()).digest(), sorted(db.parent.iterdir())) == before


@pytest.mark.slow
@pytest.mark.parametrize("sql", REFUSED, ids=lambda sql: sql[:40].encode("ascii", "replace"))
def test_refused(db, sql):
    with pytest.raises(QueryError) as caught:
        query(db, sql, seconds=30)
    said = str(caught.value)
    assert said and "\n" not in said and "stopped" not in said


def test_a_misspelt_column_is_answered_with_those_that_there_are(db):
    with pytest.raises(QueryError, match=r'^Binder Error.*"stpe" not found.*Candidate.*"step"'):
        query(db, "SELECT stpe FROM traces")


@pytest.mark.slow
@pytest.mark.parametrize("sql", HEAVY, ids=lambda sql: sql[:40])
def test_bounded_in_time(db, sql):
    begun = time.monotonic()
    with pytest.raises(QueryError, match=r"stopped|Memory|disabled|over 16 MiB"):
        query(db, sql, seconds=SECONDS, memory=MEMORY)
    assert time.monotonic() - begun < SECONDS + STARTED


MEASURE = """
import resource, sys
from suite.store.sandbox import QueryError, query
for sql in sys.stdin.read().splitlines():
    try:
        query(sys.argv[1], sql, seconds=2, memory=int(sys.argv[2]))
        print("answered", sql)
    except QueryError:
        pass
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.slow
def test_bounded_in_memory(db, repo):
    """What DuckDB may take, and 512 MiB for the process around it; asked for: gigabytes."""
    sql = "\n".join(line for line in HEAVY if "repeat" in line or "list" in line)
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(db), str(MEMORY)],
        input=sql,
        capture_output=True,
        text=True,
        check=True,
        cwd=repo,
    )
    (kilobytes,) = ran.stdout.splitlines()
    assert int(kilobytes) << 10 < MEMORY + (512 << 20)


@pytest.mark.parametrize(
    "sql",
    ["CHECKPOINT", "FORCE CHECKPOINT", "VACUUM", "ANALYZE", "BEGIN", "SET VARIABLE x = 1"],
)
def test_idle_statements_do_nothing(db, sql):
    assert query(db, sql).rows == []


def test_rows_are_counted_off(db):
    """A trillion rows: the first three, at once."""
    result = query(db, "SELECT * FROM range(1000000000000)", rows=3)
    assert result.columns == ["range"] and result.rows == [(0,), (1,), (2,)] and result.truncated
    assert not query(db, "SELECT * FROM range(3)", rows=3).truncated
    assert len(query(db, "SELECT * FROM range(5000)", rows=4100).rows) == 4100


def test_a_result_is_as_large_as_it_may_be(db):
    assert len(query(db, "SELECT repeat('x', 1000000)", size=2 << 20).rows[0][0]) == 1_000_000
    with pytest.raises(QueryError, match="over 2 MiB"):
        query(db, "SELECT repeat('x', 3000000)", size=2 << 20)


def test_nothing_but_rows_comes_out(db):
    result = query(db, "SELECT 1 AS a, NULL AS a, 'x' AS b, [1, 2] AS c, {'y': 0.5} AS d")
    assert result.columns == ["a", "a", "b", "c", "d"]
    assert result.rows == [(1, None, "x", [1, 2], {"y": 0.5})]
    assert query(db, "SELECT matrix FROM runs").rows == []


def test_nothing_of_the_callers_environment_is_inherited(db, monkeypatch, repo):
    """A module of the caller's, or its PYTHONPATH, is not what the child runs."""
    (db.parent / "duckdb.py").write_text("raise SystemExit(9)")
    try:
        monkeypatch.setenv("PYTHONPATH", str(db.parent))
        assert query(db, "SELECT 1").rows == [(1,)]
    finally:
        (db.parent / "duckdb.py").unlink()


def test_no_database(tmp_path):
    with pytest.raises(NoDatabase, match="suite run"):
        query(tmp_path / "none.db", "SELECT 1")


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "x.db").write_text("something else")
    with pytest.raises(QueryError, match="not a valid DuckDB"):
        query(tmp_path / "x.db", "SELECT 1")

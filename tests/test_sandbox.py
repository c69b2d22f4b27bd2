"""SQL from a stranger: what wants more than to read is refused, what wants too much is stopped."""

import hashlib
import subprocess
import sys
import time

import pytest

from suite.cell import Workspace
from suite.sandbox import LENGTH, QueryError, query
from suite.store import NoDatabase, Store

MEMORY = 300 << 20
SECONDS = 2.0
STARTED = 15.0  # seconds: a child's start and end on a busy machine

WRITES = """\
INSERT INTO data.traces VALUES ('x', 1, 1, 'x', 1)
WITH x AS (INSERT INTO data.traces VALUES ('x', 1, 1, 'x', 1) RETURNING *) SELECT * FROM x
UPDATE data.runs SET status = 'finished'
DELETE FROM data.traces
TRUNCATE data.traces
DROP TABLE data.traces
DROP SCHEMA data CASCADE
ALTER TABLE data.runs ADD COLUMN x INTEGER
CREATE TABLE evil AS SELECT 1
CREATE OR REPLACE VIEW runs AS SELECT 1
CREATE MACRO evil() AS 1
CREATE SEQUENCE evil
COMMENT ON TABLE data.runs IS 'x'
COPY (SELECT 1) TO 'evil.csv'
COPY data.traces TO 'evil.parquet' (FORMAT parquet)
WITH x AS (COPY (SELECT 1) TO 'evil.csv') SELECT * FROM x
EXPLAIN ANALYZE COPY (SELECT 1) TO 'evil.csv'
PREPARE p AS COPY (SELECT 1) TO 'evil.csv'
SELECT * FROM query('COPY (SELECT 1) TO ''evil.csv''')
COPY FROM DATABASE runs TO memory
EXPORT DATABASE 'evil'
IMPORT DATABASE 'evil'
CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'b')
"""
READS = """\
SELECT * FROM read_text('/etc/passwd')
SELECT * FROM read_blob('/etc/passwd')
SELECT * FROM read_csv('/etc/passwd')
SELECT * FROM read_json('/etc/passwd')
SELECT * FROM read_parquet('*.parquet')
SELECT * FROM parquet_metadata('x.parquet')
SELECT * FROM sniff_csv('/etc/passwd')
SELECT * FROM 'x.csv'
SELECT * FROM '/etc/passwd'
SELECT * FROM glob('/etc/*')
SELECT * FROM read_duckdb('runs.db')
SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')
SELECT * FROM read_text('https://example.org')
SELECT * FROM read_csv('s3://bucket/x.csv')
SELECT getenv('HOME')
SELECT * FROM connection
SELECT * FROM sys
"""
ESCAPES = """\
ATTACH 'runs.db' AS again
ATTACH 'runs.db' AS again (READ_WRITE)
ATTACH 'evil.db'
ATTACH ':memory:' AS evil
DETACH runs
DETACH runs; ATTACH 'runs.db' AS runs
SELECT 1; SELECT 2
SELECT 1;;; COPY (SELECT 1) TO 'evil.csv'
USE memory
INSTALL httpfs
LOAD httpfs
LOAD './evil.duckdb_extension'
SET enable_external_access = true
SET GLOBAL enable_external_access = true
SET lock_configuration = false
RESET lock_configuration
SET memory_limit = '1TB'
SET max_execution_time = 0
SET disabled_filesystems = ''
SET python_enable_replacements = true
SET allowed_directories = ['/']
SET temp_directory = 'evil'
SET log_query_path = 'evil.log'
SET threads = 1000
PRAGMA enable_profiling = 'json'
PRAGMA profiling_output = 'evil.json'
CALL enable_logging(storage = 'file', storage_config = {'path': 'evil'})
"""
HEAVY = """\
SELECT count(*) FROM range(1000000) a, range(1000000) b
WITH RECURSIVE x AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM x) SELECT max(i) FROM x
WITH RECURSIVE x AS (SELECT 'a' AS i UNION ALL SELECT i || i FROM x) SELECT length(i) FROM x
SELECT range FROM range(10000000000) ORDER BY hash(range)
SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))
SELECT damerau_levenshtein(repeat('a', 100000), repeat('b', 100000))
SELECT repeat('x', 4000000000)
SELECT repeat('x', 200000000)
SELECT repeat('x', 10000000) FROM range(1000)
SELECT list(range) FROM range(10000000000)
SELECT list_sum(list_transform(range(1000000000), lambda x: x * x))
SELECT string_agg(repeat('x', 100000), '') FROM range(100000)
CREATE TEMP TABLE x AS SELECT hash(range) FROM range(1000000000)
"""
BROKEN = [
    "",
    "-- nothing",
    "SELECT nonsense",
    "SELECT \ud800",
    "\0",
    "SELECT 1\0; COPY (SELECT 1) TO 'evil.csv'",
    "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "SELECT " + "+".join(["1"] * 20_000),
    "SELECT * FROM (" * 3000 + "SELECT 1" + ")" * 3000,
    f"SELECT '{'x' * LENGTH}'",
]
REFUSED = [*WRITES.splitlines(), *READS.splitlines(), *ESCAPES.splitlines(), *BROKEN]


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


def test_there_are_enough_of_them():
    assert len({*REFUSED, *HEAVY.splitlines()}) >= 80


@pytest.mark.parametrize("sql", REFUSED, ids=lambda sql: sql[:40].encode("ascii", "replace"))
def test_refused(db, sql):
    with pytest.raises(QueryError) as caught:
        query(db, sql, seconds=30)
    said = str(caught.value)
    assert said and "\n" not in said and "stopped" not in said


@pytest.mark.parametrize("sql", HEAVY.splitlines(), ids=lambda sql: sql[:40])
def test_bounded_in_time(db, sql):
    begun = time.monotonic()
    with pytest.raises(QueryError, match=r"stopped|Memory|disabled|over 75 MiB"):
        query(db, sql, seconds=SECONDS, memory=MEMORY)
    assert time.monotonic() - begun < SECONDS + STARTED


MEASURE = """
import resource, sys
from suite.sandbox import QueryError, query
for sql in sys.stdin.read().splitlines():
    try:
        query(sys.argv[1], sql, seconds=2, memory=int(sys.argv[2]))
        print("answered", sql)
    except QueryError:
        pass
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_bounded_in_memory(db, repo):
    """What DuckDB may take, and 512 MiB for the process around it; asked for: gigabytes."""
    sql = "\n".join(line for line in HEAVY.splitlines() if "repeat" in line or "list" in line)
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

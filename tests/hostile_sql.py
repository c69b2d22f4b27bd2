"""SQL that a stranger might send: what must be refused, and what must be stopped."""

from suite.store.sandbox import LENGTH

_WRITES = """\
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
_READS = """\
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
_ESCAPES = """\
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
_HEAVY = """\
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
_BROKEN = [
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
HEAVY = _HEAVY.splitlines()
REFUSED = [*_WRITES.splitlines(), *_READS.splitlines(), *_ESCAPES.splitlines(), *_BROKEN]


def typeable(statements):
    """Those that a keyboard or a pipe can bring: text, and some of it."""
    return [sql for sql in statements if sql.strip() and sql.isascii()]


assert len({*typeable(REFUSED), *HEAVY}) >= 80

"""Every earlier version of runs.db becomes today's, with its rows."""

import hashlib

import duckdb
import pytest

from suite.store.migrations import MIGRATIONS, Unusable, migrate
from suite.store.views import VIEWS

RUN = "r1"
ROWS = {  # what a database of each version holds: table -> rows, as its columns then were
    "001_initial": {
        "spool": [(RUN, 1, 100)],
        "cells": [("m", "grpo", "tiny", 0, RUN, 0)],
        "runs": [(RUN, "grpo", '{"eps_low": 0.2, "eps_high": 0.2}', "tiny", 0, "{}", "{}")],
        "traces": [(RUN, 1, s, "entropy", 1 / s) for s in (1, 2, 4)] + [(RUN, 1, 4, "reward", 0.5)],
        "points": [(RUN, 4, 1.0, 0.1, 10, 10)],
        "scores": [(RUN, 4, 1.0, "arithmetic", 1, 0.5, 0.4, 0.6, 1, 4)],
        "events": [(RUN, 1, "2026-01-01", "start", "{}")],
    },
    "002_probes": {"probes": [(RUN, 1, 4, 1.0, "full", 0.5)]},
    "003_batches": {},
    "004_benchmarks": {
        "benchmarks": [(RUN, "arithmetic", "a file", "0", 1, "1+1=", "ab", 0, "[]")]
    },
    "005_latest": {},
    "006_arms": {"arms": [("grpo", 0)]},
    "007_views": {},
}
SCRIPTS = {  # as they went out into the world: the first digits of their SHA-256
    "001_initial": "3a6a170184de881f",
    "002_probes": "15da8b6298482417",
    "003_batches": "8a9ccb686cc3be64",
    "004_benchmarks": "71d3279be5b1e5a8",
    "005_latest": "a17eb18476309d9b",
    "006_arms": "eea0e67e83746d07",
    "007_views": "1a98886befb5315c",
}
EVALS = [(RUN, 1, 4, 1.0, "arithmetic", "p0", 4, 2, 2, 0, 0, 1, 3, 40, "ccww", '["x"]')]
BATCHES = [
    (RUN, 1, 4, 1.0, "arithmetic", "p0", 0, 4, None, "ccww", "lsss", [40], None, None, ["x"])
]
LATEST = [(RUN, "entropy", 4, 0.25, 1.0), (RUN, "reward", 4, 0.5, 0.5)]


def fill(db, table, rows):
    for row in rows:
        names = ", ".join(
            name
            for (name,) in db.execute(
                f"SELECT name FROM pragma_table_info('data.{table}')"
            ).fetchall()[: len(row)]
        )
        marks = ", ".join("?" * len(row))
        db.execute(f"INSERT INTO data.{table} ({names}) VALUES ({marks})", list(row))


def database_of(version):
    """As the code of that version made and filled it."""
    db = duckdb.connect()
    db.execute("CREATE SCHEMA data")
    db.execute("CREATE TABLE data.migrations (name VARCHAR PRIMARY KEY)")
    names = list(MIGRATIONS)
    upto = names[: names.index(version) + 1]
    for name in upto:
        db.execute(MIGRATIONS[name])
        db.execute("INSERT INTO data.migrations VALUES (?)", [name])
    for name in upto:
        for table, rows in ROWS[name].items():
            fill(db, table, rows)
    if "003_batches" in upto:
        fill(db, "batches", BATCHES)
    else:
        fill(db, "evals", EVALS)
    if "005_latest" in upto:
        fill(db, "latest", LATEST)
    return db


def test_every_version_is_tested():
    assert list(ROWS) == list(MIGRATIONS)


def test_no_step_was_edited_since_it_went_out():
    """Or a database of then would not be what these tests make of its name."""
    digests = {n: hashlib.sha256(s.encode()).hexdigest()[:16] for n, s in MIGRATIONS.items()}
    assert digests == SCRIPTS


def test_a_database_of_a_later_version_is_left_as_it_is():
    db = duckdb.connect()
    migrate(db)
    db.execute("INSERT INTO data.migrations VALUES ('999_future')")
    db.execute("DROP VIEW traces")
    with pytest.raises(Unusable, match=r"^x.db was made by a later version.*999_future"):
        migrate(db, "x.db")
    assert not db.execute("FROM duckdb_views() WHERE view_name = 'traces'").fetchall()


@pytest.mark.parametrize("version", MIGRATIONS)
def test_a_database_of_an_earlier_version_is_brought_up_with_its_rows(version):
    db = database_of(version)
    migrate(db)
    migrate(db)  # and once more changes nothing
    ask = lambda sql: db.execute(sql).fetchall()  # noqa: E731
    assert ask("SELECT name FROM data.migrations ORDER BY name") == [(n,) for n in MIGRATIONS]
    assert ask("SELECT arm, steps, status FROM runs") == [("grpo", 4, None)]
    assert ask("SELECT step, value FROM traces WHERE metric = 'entropy' ORDER BY step") == [
        (1, 1.0), (2, 0.5), (4, 0.25),
    ]  # fmt: skip
    assert ask("SELECT metric, step, value, highest FROM latest ORDER BY ALL") == [
        row[1:] for row in LATEST
    ]
    assert ask(
        "SELECT problem, n, correct, wrong, truncated, tokens, verdicts, examples FROM evals"
    ) == [("p0", 4, 2, 2, 1, 40, "ccww", ["x"])]
    assert ask("SELECT k, score, gpu_hours FROM pass_at_k") == [(1, 0.5, 0.1)]
    assert ask("SELECT entropy, steps FROM leaderboard") == [(0.25, 4)]
    assert ask("SELECT count(*) FROM data.events") == [(1,)]
    assert ask("FROM data.arms") == [("grpo", 0)]
    names = list(MIGRATIONS)
    assert ask("SELECT count(*) FROM probes") == [(int(version >= names[1]),)]
    assert ask("SELECT count(*) FROM benchmarks") == [(int(version >= names[3]),)]


@pytest.mark.parametrize("version", MIGRATIONS)
def test_what_an_earlier_version_becomes_has_the_columns_of_a_new_one(version):
    old, new = database_of(version), duckdb.connect()
    columns = "SELECT table_name, column_name, data_type FROM duckdb_columns() ORDER BY ALL"
    for db in (old, new):
        migrate(db)
    assert old.execute(columns).fetchall() == new.execute(columns).fetchall()


def test_a_migration_that_fails_leaves_the_version_before(monkeypatch):
    db = database_of("004_benchmarks")
    monkeypatch.setitem(MIGRATIONS, "005_latest", "CREATE TABLE data.x (i INT); SELECT nonsense")
    with pytest.raises(duckdb.Error):
        migrate(db)
    db.execute("ROLLBACK")
    monkeypatch.undo()
    migrate(db)
    assert db.execute("SELECT count(*) FROM latest").fetchone() == (2,)


def test_every_view_says_what_a_row_is():
    db = duckdb.connect()
    migrate(db)
    told = dict(
        db.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall()
    )
    assert told == {name: view.about for name, view in VIEWS.items()}
    assert all(told.values())

"""The tables of runs.db, as the named steps that made them: forward only, each in one transaction.

A step that is out in the world is never edited: a change is another step at the end. Tables live in
the schema `data`; what people query are the views of suite.store.views, made anew each time.

| table | a row is | written when |
|---|---|---|
| spool | how many bytes of an attempt's file are taken in | with the rows of those bytes |
| cells | the place of a run in a matrix | a matrix is registered |
| arms | an arm's place among all that there ever were | a matrix with a new one is registered |
| runs | a run: what it is, how it stands | registered, started, ended |
| traces | one metric of one step | a step |
| latest | the last and the highest value of one metric of a run | with its traces |
| batches | the samples of one problem drawn at once | an evaluation |
| points, scores | an evaluation: its cost; its pass@k | an evaluation is complete |
| probes | one estimator of the entropy probe | an evaluation |
| benchmarks | what a run is measured on | a run starts |
| events | anything else that happened | it happens |
"""

from __future__ import annotations

import duckdb

from suite.spool.responses import KEY
from suite.store import views

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
    "005_latest": """
        CREATE TABLE data.latest (run VARCHAR, metric VARCHAR, step INTEGER, value DOUBLE,
                                  highest DOUBLE, PRIMARY KEY (run, metric));
        INSERT INTO data.latest
            SELECT run, metric, max(step), arg_max(value, step), max(value)
              FROM data.traces GROUP BY run, metric;
    """,
    "006_arms": """
        CREATE TABLE data.arms (arm VARCHAR PRIMARY KEY, position INTEGER);
        INSERT INTO data.arms
            SELECT arm, row_number() OVER (ORDER BY min(r.created), min(c.position), arm) - 1
              FROM data.cells c JOIN data.runs r USING (run)
             WHERE algorithm <> 'eval' AND r.model NOT IN ('tabular', 'theory') GROUP BY arm;
    """,
    "007_views": """
        SELECT 'more views, and a late mean of entropy in `leaderboard`';
    """,
}

# What names a row, in the order in which rows are best kept: a curve is one metric of one run.
KEYS: dict[str, tuple[str, ...]] = {
    "spool": ("run", "attempt"),
    "cells": ("matrix", "run"),
    "arms": ("arm",),
    "runs": ("run",),
    "traces": ("metric", "run", "step"),
    "latest": ("run", "metric"),
    "batches": ("run", *KEY),
    "points": ("run", "step", "fraction"),
    "scores": ("run", "step", "fraction", "benchmark", "k"),
    "probes": ("run", "step", "fraction", "estimator"),
    "benchmarks": ("run", "benchmark"),
}
EVENTS = ("run", "attempt", "time", "kind")  # an order only: two can be equal
TABLES = (*KEYS, "events")
OF_RUNS = tuple(table for table in TABLES if table != "arms")  # those whose rows are a run's


class Unusable(ValueError):
    """A database that this suite cannot go on with; the message says why and what to do."""


def order(table: str) -> str:
    """ORDER BY this to have a table as it is best kept.

    Cells stay in the order in which they were registered: the matrix that came last names a run.
    """
    return "rowid" if table == "cells" else ", ".join(KEYS.get(table, EVENTS))


def migrations_of(db: duckdb.DuckDBPyConnection) -> list[str]:
    """The steps that made a database."""
    return [name for (name,) in db.execute("FROM data.migrations ORDER BY name").fetchall()]


def lacking(db: duckdb.DuckDBPyConnection) -> list[str]:
    """The steps that a database still lacks.

    Raises duckdb.CatalogException for one that is not of a suite.
    """
    done = migrations_of(db)
    return [name for name in MIGRATIONS if name not in done]


def refuse_later(source: object, done: list[str]) -> None:
    """Raises Unusable for steps that are not known here; `source` is named in the message."""
    if unknown := [name for name in done if name not in MIGRATIONS]:
        raise Unusable(
            f"{source} was made by a later version of the suite, which has {', '.join(unknown)}"
        )


def migrate(db: duckdb.DuckDBPyConnection, source: object = "the database") -> None:
    """Bring a database, empty or of any earlier version, to the tables and views of today.

    Raises:
        Unusable: a later version made it; nothing is changed. `source` is named in the message.
    """
    db.execute("CREATE SCHEMA IF NOT EXISTS data")
    db.execute("CREATE TABLE IF NOT EXISTS data.migrations (name VARCHAR PRIMARY KEY)")
    done = migrations_of(db)
    refuse_later(source, done)
    for name, script in MIGRATIONS.items():
        if name not in done:
            db.execute("BEGIN")
            db.execute(script)
            db.execute("INSERT INTO data.migrations VALUES (?)", [name])
            db.execute("COMMIT")
    views.create(db)

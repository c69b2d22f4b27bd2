"""Two histories become one: the runs of another database, each taken as a whole or not at all.

A run is named by what it is, so the same cell run on two machines has one name and two histories.
Mixed, they would be nonsense; the one that is further stays.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import duckdb

from suite.matrix.cell import EVALUATION
from suite.spool import spool
from suite.store.migrations import OF_RUNS
from suite.text import as_sql
from suite.workspace import Workspace

_PROGRESS = """
    SELECT r.run, r.status = 'finished' AS finished, coalesce(max(l.step), 0) AS steps,
           coalesce((SELECT sum(n) FROM {0}.data.batches b WHERE b.run = r.run), 0) AS samples
      FROM {0}.data.runs r LEFT JOIN {0}.data.latest l USING (run) GROUP BY ALL"""


class Merged(NamedTuple):
    """How many runs were new, took the place of ours, or were left out because ours is as far."""

    added: int
    replaced: int
    left_out: int


def merge_runs(db: duckdb.DuckDBPyConnection, other: Path, workspace: Workspace) -> Merged:
    """The runs of the database at `other` into `db`, in one transaction."""
    ((ours,),) = db.execute("SELECT current_database()").fetchall()
    db.execute(f"ATTACH {as_sql(other)} AS other (READ_ONLY)")
    try:
        db.execute(
            f"""CREATE OR REPLACE TEMP TABLE taken AS
                SELECT o.run, m.run IS NOT NULL AS known
                  FROM ({_PROGRESS.format("other")}) o
                  LEFT JOIN ({_PROGRESS.format(f'"{ours}"')}) m USING (run)
                 WHERE m.run IS NULL
                    OR (o.finished, o.steps, o.samples) > (m.finished, m.steps, m.samples)"""
        )
        db.execute("BEGIN")
        try:
            db.execute("CREATE OR REPLACE TEMP TABLE spooled AS FROM data.spool")
            db.execute(
                "CREATE OR REPLACE TEMP TABLE registered AS SELECT run, created FROM data.runs"
            )
            _take_runs(db)
            _take_places(db)
            _keep_offsets(db, workspace)
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
        ((added, replaced),) = db.execute(
            "SELECT count(*) FILTER (NOT known), count(*) FILTER (known) FROM taken"
        ).fetchall()
        ((runs,),) = db.execute("SELECT count(*) FROM other.data.runs").fetchall()
        return Merged(added, replaced, runs - added - replaced)
    finally:
        db.execute("DETACH other")


def _take_runs(db: duckdb.DuckDBPyConnection) -> None:
    for table in OF_RUNS:
        if table != "cells":
            db.execute(f"DELETE FROM data.{table} WHERE run IN (SELECT run FROM taken WHERE known)")
            db.execute(
                f"""INSERT INTO data.{table}
                    FROM other.data.{table} WHERE run IN (SELECT run FROM taken)"""
            )
    db.execute(
        """UPDATE data.runs SET status = 'interrupted'
            WHERE status = 'running' AND run IN (SELECT run FROM taken)"""
    )


def _take_places(db: duckdb.DuckDBPyConnection) -> None:
    """Places in matrices that are still free here; evaluations are no matrix and have no places."""
    db.execute(
        f"""INSERT INTO data.cells
            SELECT o.* FROM other.data.cells o JOIN other.data.runs r USING (run)
             WHERE NOT EXISTS (
                   SELECT 1 FROM data.cells m
                    WHERE m.matrix = o.matrix
                      AND (m.run = o.run
                           OR r.algorithm <> '{EVALUATION}'
                              AND (m.arm, m.model, m.seed) = (o.arm, o.model, o.seed)))
             ORDER BY o.rowid"""
    )
    db.execute(
        """INSERT INTO data.arms
           SELECT arm, (SELECT count(*) FROM data.arms) + row_number() OVER (ORDER BY position) - 1
             FROM other.data.arms WHERE arm NOT IN (SELECT arm FROM data.arms)"""
    )


def _keep_offsets(db: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    """What lay here of a run that was replaced is part of a history that is gone: passed over.

    Its attempts stay counted, and it stays registered when it was: by that the store knows its own.
    """
    db.execute(
        """INSERT INTO data.spool SELECT s.* FROM spooled s SEMI JOIN taken USING (run)
           ON CONFLICT DO UPDATE SET bytes = greatest(bytes, excluded.bytes)"""
    )
    db.execute(
        """UPDATE data.runs SET created = registered.created FROM registered
            WHERE runs.run = registered.run"""
    )
    for (run,) in db.execute("SELECT run FROM taken").fetchall():
        for attempt, path in spool.attempts(workspace.cell(run)):
            db.execute(
                "INSERT OR REPLACE INTO data.spool VALUES (?, ?, ?)",
                [run, attempt, path.stat().st_size],
            )

"""What a slim export keeps of each table: everything that a comparison needs, and no sample alone.

Counts of each problem stay, and what `suite report` and the dashboard draw of training; the order
of the samples, their answers, digests, lengths and examples go, as do metrics that nothing draws
(suite/metrics.py). Folders in commands and messages go too: they say where a machine keeps files.
"""

from __future__ import annotations

from suite.metrics import in_sql

VERDICTS, STOPS = "cwut", "sl"
_FOLDERS = r"(/[^\s/\"'',:;]+)+/"  # of a path that has at least one


def _without_folders(text: str) -> str:
    return f"regexp_replace({text}, '{_FOLDERS}', '', 'g')"


def _counted(column: str, letters: str) -> str:
    """The letters of all batches, sorted: how many of each, and nothing about any one sample."""
    parts = [f"repeat('{x}', count_of(string_agg({column}, ''), '{x}'))" for x in letters]
    return f"{' || '.join(parts)} AS {column}"


_RUNS = ", ".join(
    [f"{_without_folders(name)} AS {name}" for name in ("command", "model")]
    + [
        f"{_without_folders(f'{name}::VARCHAR')}::JSON AS {name}"
        for name in ("train", "evaluate", "identity")
    ]
)
TABLES = {
    "traces": f"SELECT * FROM data.traces WHERE {in_sql()}",
    "latest": f"SELECT * FROM data.latest WHERE {in_sql()}",
    "runs": f"SELECT * REPLACE ({_RUNS}) FROM data.runs",
    "cells": f"SELECT * REPLACE ({_without_folders('model')} AS model) FROM data.cells",
    "benchmarks": f"""SELECT * REPLACE ({_without_folders("origin")} AS origin)
                        FROM data.benchmarks""",
    "events": f"""SELECT * REPLACE ({_without_folders("detail::VARCHAR")}::JSON AS detail)
                    FROM data.events""",
    "batches": f"""SELECT run, max(attempt) AS attempt, step, fraction, benchmark, problem,
                          0 AS first, sum(n)::INTEGER AS n, NULL::BIGINT AS seed,
                          {_counted("verdicts", VERDICTS)}, {_counted("stops", STOPS)},
                          [sum(list_sum(lengths))::INTEGER] AS lengths, NULL::BIGINT[] AS digests,
                          NULL::VARCHAR[] AS answers, NULL::VARCHAR[] AS examples
                     FROM data.batches GROUP BY run, step, fraction, benchmark, problem""",
}


def rows(table: str) -> str:
    """A query for what is kept of a table: all of it unless it is named above."""
    return TABLES.get(table, f"SELECT * FROM data.{table}")

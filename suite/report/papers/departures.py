"""Where stored runs depart from the matrix that repeats a paper's table, or from its sampling.

The comparison is between settings alone. What the matrix itself cannot share with its paper is
told by the table (`differs`), as text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from suite.matrix.cell import Cell
from suite.matrix.expand import load_cells
from suite.matrix.yaml_file import MatrixError
from suite.report.papers.published import BASE, PublishedTable
from suite.report.table import Report, column
from suite.store import connect
from suite.store.intake import duckdb_json

Facts = dict[str, str]  # a setting by its name in a matrix -> its value as JSON

ABSENT = "–"
LONGEST = 60  # characters of a value that are shown
NOT_COMPARED = {  # what changes neither a score nor what it is a score of
    *("train.micro_batch_size", "train.rollout_micro_batch_size", "train.zero_stage"),
    *("train.tensor_parallel_size", "train.gradient_checkpointing", "train.checkpoint_every"),
    *("train.keep_checkpoints", "train.clip_diagnostics", "evaluate.probe_prompts"),
    *("evaluate.benchmarks", "evaluate.pass_at", "evaluate.data_files"),
}


def stored(db: Path, matrix: str) -> list[Cell]:
    """The runs of a matrix as the cells that they were started as, without identities."""
    with connect(db) as connection:
        rows = connection.execute(
            """SELECT arm, algorithm, model, seed, budget_unit, budget, settings, train, evaluate,
                      resources
                 FROM runs WHERE matrix = ? ORDER BY position""",
            [matrix],
        ).fetchall()
    cells = []
    for arm, algorithm, model, seed, unit, limit, *texts in rows:
        settings, train, evaluate, resources = map(json.loads, texts)
        cells.append(
            Cell(
                *(matrix, arm, algorithm, settings, model, seed, train, evaluate),
                *({unit: limit}, resources, {}),
            )
        )
    return cells


def _facts(cell: Cell) -> Facts:
    """Every setting that can matter, under the name that it has in a matrix."""
    limit = cell.evaluate["max_new_tokens"] or cell.train["max_new_tokens"]
    facts = {"model": cell.model, "algorithm": cell.algorithm, **cell.settings}
    for section, content in (
        ("budget", {unit: f"{value:g}" for unit, value in cell.budget.items()}),
        ("train", cell.train),
        ("evaluate", cell.evaluate | {"max_new_tokens": limit}),
        ("resources", cell.resources),
    ):
        facts |= {f"{section}.{name}": value for name, value in content.items()}
    return {name: duckdb_json(value) for name, value in facts.items() if name not in NOT_COMPARED}


def departures(
    matrix: str, runs: list[Cell], tables: dict[str, PublishedTable], notes: list[str]
) -> Report:
    """A row a setting; runs: of one model, at least one; notes: what is to be said first.

    Raises:
        MatrixError: the matrix that repeats the tables is not what they say, or has a problem.
    """
    table = next(iter(tables.values()))
    cells = _cells(table)
    there = {cell.arm: _facts(cell) | _stated(tables) for cell in cells}
    arms = _apart({run.arm: _facts(run) for run in runs if run.arm in there}, there)
    seeds = [", ".join(map(str, sorted({x.seed for x in side}))) for side in (runs, cells)]
    if seeds[0] != seeds[1]:
        arms["seeds", seeds[0], seeds[1]] = list(there)
    every = [arm for arm in dict.fromkeys(run.arm for run in runs) if arm in there]
    rows = [
        [name, _plain(here), _plain(at), "all" if set(who) >= set(every) else ", ".join(who)]
        for (name, here, at), who in sorted(arms.items())
    ]
    none = [] if rows else [f"No setting differs from those of {Path(table.file).name}."]
    told = dict.fromkeys(text for table in tables.values() for text in table.differs)
    itself = [f"The matrix itself, against the paper: {text}." for text in told]
    title = f"{matrix}: settings that differ, {Path(runs[0].model).name}"
    columns = [column(name) for name in ("setting", "here", "there", "arms")]
    about = {"matrix": matrix, "model": runs[0].model}
    return Report("departures", title, columns, rows, [*notes, *none, *itself], about)


def _apart(
    here: dict[str, Facts], there: dict[str, Facts]
) -> dict[tuple[str, str, str], list[str]]:
    """(setting, value here, value there) -> the arms of `here` of which it is so."""
    arms: dict[tuple[str, str, str], list[str]] = {}
    for arm, facts in here.items():
        for name in there[arm].keys() | facts.keys():
            pair = facts.get(name, ABSENT), there[arm].get(name, ABSENT)
            if pair[0] != pair[1]:
                arms.setdefault((name, *pair), []).append(arm)
    return arms


def _cells(table: PublishedTable) -> list[Cell]:
    """Of the matrix that repeats a table."""
    cells = load_cells(Path(table.file))
    if cells[0].matrix != table.matrix:
        name = cells[0].matrix
        raise MatrixError([f"{table.file}: its name is {name!r}, not {table.matrix!r}"])
    unknown = set(table.arms) - {cell.arm for cell in cells} - {BASE}
    if unknown:
        raise MatrixError([f"{table.file}: has no arm {', '.join(sorted(unknown))}"])
    return cells


def _stated(tables: dict[str, PublishedTable]) -> Facts:
    """The sampling that the papers name; tries where they are the same for all benchmarks."""
    stated: dict[str, Any] = {}
    for table in tables.values():
        given = table.sampling.model_dump(exclude_none=True)
        tries = given.pop("tries", None)
        counts = set(tries.values()) if isinstance(tries, dict) else {tries} - {None}
        if len(counts) == 1:
            given["samples"] = counts.pop()
        stated |= {f"evaluate.{name}": duckdb_json(value) for name, value in given.items()}
    return stated


def _plain(text: str) -> str:
    """JSON as people write it, cut where it is long."""
    plain = "not set" if text == "null" else text.strip('"').strip("[]")
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"

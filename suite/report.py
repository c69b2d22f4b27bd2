"""The comparison: a leaderboard of a matrix with intervals, for the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import catalogue
from suite.store import connect


@dataclass(frozen=True)
class Report:
    """Columns and rows of one matrix, and what is to be said about them."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]

    def table(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, caption="\n".join(self.notes), caption_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number < 2 else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """A Markdown table with its title and notes."""
        lines = [f"## {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|" + "---|" * len(self.columns))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def csv(self) -> str:
        """The same numbers for other programs."""
        out = StringIO()
        writer = csv.writer(out)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return out.getvalue()


def matrices(db: Path) -> list[str]:
    """Names of the matrices in the database, the last registered first."""
    with connect(db) as connection:
        rows = connection.execute(
            """SELECT matrix FROM runs WHERE matrix IS NOT NULL AND algorithm <> 'eval'
                GROUP BY matrix ORDER BY max(updated) DESC"""
        ).fetchall()
    return [name for (name,) in rows]


def leaderboard(db: Path, matrix: str) -> list[Report]:
    """One report a benchmark: the base model first, then the arms by pass@1."""
    with connect(db) as connection:
        found = connection.execute(
            "SELECT DISTINCT benchmark, model FROM pass_at_k WHERE matrix = ? ORDER BY ALL",
            [matrix],
        ).fetchall()
        return [_benchmark(connection, matrix, *pair) for pair in found]


def _benchmark(connection: Any, matrix: str, benchmark: str, model: str) -> Report:
    scope = [matrix, benchmark, model]
    ks = [
        k
        for (k,) in connection.execute(
            """SELECT DISTINCT k FROM pass_at_k
                WHERE matrix = ? AND benchmark = ? AND model = ? ORDER BY k""",
            scope,
        ).fetchall()
    ]
    base = connection.execute(
        """SELECT k, any_value(score), any_value(low), any_value(high), any_value(problems),
                  any_value(samples)
             FROM pass_at_k WHERE matrix = ? AND benchmark = ? AND model = ? AND step = 0
            GROUP BY k""",
        scope,
    ).fetchall()
    first = connection.execute(
        """SELECT arg_min(value, step) FILTER (metric = 'entropy'),
                  arg_min(value, step) FILTER (metric = 'response_length')
             FROM traces WHERE run = (
                  SELECT run FROM leaderboard
                   WHERE matrix = ? AND benchmark = ? AND model = ? ORDER BY run LIMIT 1)""",
        scope,
    ).fetchone()
    final = connection.execute(
        """SELECT arm, seed, k, score, low, high, entropy, response_length, gpu_hours, overshoot,
                  steps FROM leaderboard
            WHERE matrix = ? AND benchmark = ? AND model = ? ORDER BY k, score DESC""",
        scope,
    ).fetchall()
    rows = []
    if base:
        scores = {row[0]: row[1:4] for row in base}
        rows.append(
            ["base model", "", *(_score(scores.get(k)) for k in ks), *_numbers(first), "", "", ""]
        )
    arms = dict.fromkeys((arm, seed) for arm, seed, k, *_ in final if k == ks[0])
    for arm, seed in arms:
        mine = {row[2]: row for row in final if row[:2] == (arm, seed)}
        *_, entropy, length, hours, overshoot, steps = mine[ks[0]]
        rows.append(
            [
                arm,
                str(seed),
                *(_score(mine[k][3:6] if k in mine else None) for k in ks),
                *_numbers((entropy, length)),
                f"{hours:.4f}",
                f"{overshoot:+.1%}",
                str(steps),
            ]
        )
    columns = ["arm", "seed", *(f"pass@{k}" for k in ks)]
    columns += ["entropy", "length", "GPU-hours", "overshoot", "steps"]
    unfinished = connection.execute(
        """SELECT arm, seed, status, coalesce(steps, 0) FROM runs
            WHERE matrix = ? AND model = ? AND status <> 'finished' ORDER BY position""",
        [matrix, model],
    ).fetchall()
    inert = connection.execute(
        "SELECT arm, seed FROM runs WHERE matrix = ? AND model = ? AND inert ORDER BY position",
        [matrix, model],
    ).fetchall()
    notes = _notes(base, ks, final)
    notes += _floor(benchmark, ks)
    notes += _overlap(connection, scope)
    notes += [
        f"{arm} (seed {seed}): inert arm, its gradient never differed from plain GRPO's."
        for arm, seed in inert
    ]
    notes += [
        f"{arm} (seed {seed}): {status} after {steps} steps; what is shown of it is not its last."
        for arm, seed, status, steps in unfinished
    ]
    return Report(f"{matrix}: {benchmark}, {Path(model).name}", columns, rows, notes)


def _floor(benchmark: str, ks: list[int]) -> list[str]:
    """What guessing scores, where the answers are few enough to guess."""
    known = catalogue.known().get(benchmark)
    if known is None or known.floor is None:
        return []
    guessed = ", ".join(f"pass@{k} {1 - (1 - known.floor) ** k:.3f}" for k in ks)
    return [f"Guessing among all possible answers scores {guessed}."]


def _overlap(connection: Any, scope: list[str]) -> list[str]:
    """How many problems occur in the training prompts, said once for arms that agree."""
    found = connection.execute(
        """SELECT overlapping, problems, any_value(overlapping_ids),
                  string_agg(DISTINCT arm, ', ' ORDER BY arm)
             FROM benchmarks WHERE matrix = ? AND benchmark = ? AND model = ?
              AND overlapping IS NOT NULL
            GROUP BY overlapping, problems, overlapping_ids ORDER BY ALL""",
        scope,
    ).fetchall()
    notes = []
    for overlapping, problems, ids, arms in found:
        whose = "the training prompts" if len(found) == 1 else f"the training prompts of {arms}"
        first = ", ".join(json.loads(ids)[:5]) + (", ..." if overlapping > 5 else "")
        which = f" ({first})" if overlapping else ""
        text = f"{overlapping} of {problems} problems of {scope[1]} occur in {whose}{which}."
        notes.append(text)
    return notes


def _score(score: tuple[float, float, float] | None) -> str:
    return "" if score is None else f"{score[0]:.3f} [{score[1]:.3f}, {score[2]:.3f}]"


def _numbers(pair: tuple[float | None, float | None]) -> list[str]:
    entropy, length = pair
    return [
        "" if entropy is None else f"{entropy:.3f}",
        "" if length is None else f"{length:.1f}",
    ]


def _notes(base: list[tuple], ks: list[int], final: list[tuple]) -> list[str]:
    notes = ["Brackets: 95 % interval over problems. Entropy: nats a token, policy, T = 1."]
    if base:
        problems, samples = base[0][4:6]
        notes.append(f"{problems} problems, {samples} samples each.")
        if samples in ks:
            notes.append(f"pass@{samples} is k = n: a coin flip per problem at the margin.")
        low, high = next(row[2:4] for row in base if row[0] == ks[0])
        for arm, seed, k, score, arm_low, arm_high, *_ in final:
            if k == ks[0]:
                verdict = (
                    "above the base model"
                    if arm_low > high
                    else "below the base model"
                    if arm_high < low
                    else "no difference from the base model shown"
                )
                notes.append(f"{arm} (seed {seed}): pass@{k} {score:.3f}, {verdict}.")
    return notes

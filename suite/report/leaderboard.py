"""The comparison of a matrix: scores, and paired differences, for terminal, Markdown and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from suite.report import caveats
from suite.report.differences import above_base, comparisons, differences
from suite.report.scores import Scores, run_numbers, scored
from suite.report.table import Report
from suite.store import connect


def leaderboard(db: Path, matrix: str) -> list[Report]:
    """Two reports a benchmark and model: the scores, and the arms against the baseline."""
    with connect(db) as connection:
        reports = []
        for scores in scored(connection, matrix):
            reports.append(table(connection, scores))
            reports += differences(scores, comparisons(scores))
        return reports


def table(connection: Any, scores: Scores) -> Report:
    """The leaderboard: the base model, the arms by pass@1, and their seeds where there are more."""
    numbers = {
        who: found
        for who, found in run_numbers(connection, scores.matrix, scores.model).items()
        if who in scores.arms
    }
    rows = []
    if scores.base:
        cells = [scores.cell(None, k) for k in scores.ks]
        first = [n["first"] for n in numbers.values() if n["first"][0] is not None]
        rows.append(["base model", "", *cells, *_texts(_means(first)), "", "", ""])
    for arm in scores.names():
        seeds = scores.seeds(arm)
        groups = [seeds] if len(seeds) == 1 else [seeds, *([seed] for seed in seeds)]
        for group in groups:
            label = str(group[0]) if len(group) == 1 else f"all {len(group)}"
            cells = [scores.cell(arm, k, group) for k in scores.ks]
            entropy, length, hours, overshoot, steps = _means(
                [numbers[arm, seed]["last"] for seed in group]
            )
            cost = [f"{hours:.4f}", f"{overshoot:+.1%}", f"{steps:g}"]
            rows.append([arm, label, *cells, *_texts((entropy, length)), *cost])
    columns = ["arm", "seed", *(f"pass@{k}" for k in scores.ks)]
    columns += ["entropy", "length", "GPU-hours", "overshoot", "steps"]
    return Report(scores.title, columns, rows, _notes(connection, scores))


def _means(rows: list[tuple]) -> tuple:
    """Column by column; None where there is nothing."""
    if not rows:
        return (None, None)
    return tuple(
        None if any(v is None for v in column) else float(np.mean(column))
        for column in zip(*rows, strict=True)
    )


def _texts(pair: tuple[float | None, float | None]) -> list[str]:
    entropy, length = pair
    return [
        "" if entropy is None else f"{entropy:.3f}",
        "" if length is None else f"{length:.1f}",
    ]


def _notes(connection: Any, scores: Scores) -> list[str]:
    notes = ["Brackets: 95 % interval over problems. Entropy: nats a token, policy, T = 1."]
    if any(len(scores.seeds(arm)) > 1 for arm in scores.names()):
        notes[0] = notes[0].replace("problems", "problems and seeds where there are more", 1)
    counts = [n for one in [*scores.base.values(), *scores.arms.values()] for n, _ in one.values()]
    if counts:
        problems = len(next(iter([*scores.arms.values(), *scores.base.values()])))
        notes.append(f"{problems} problems, {max(counts)} samples each.")
        if max(counts) in scores.ks:
            notes.append(f"pass@{max(counts)} is k = n: a coin flip per problem at the margin.")
    notes += _comparisons_with_base(scores)
    notes += _floor(scores)
    notes += _overlap(connection, scores)
    for arm, seed, status, steps, inert in connection.execute(
        """SELECT arm, seed, status, coalesce(steps, 0), coalesce(inert, false) FROM runs
            WHERE matrix = ? AND model = ? ORDER BY position""",
        [scores.matrix, scores.model],
    ).fetchall():
        if inert:
            notes.append(
                f"{arm} (seed {seed}): inert arm, its gradient never differed from plain GRPO's."
            )
        if status != "finished":
            notes.append(
                f"{arm} (seed {seed}): {status} after {steps} steps; what is shown of it is not "
                "its last."
            )
    return notes


def _floor(scores: Scores) -> list[str]:
    """What guessing scores, where the answers are few enough to guess."""
    floor = caveats.guessing(scores.benchmark, scores.ks)
    if floor is None:
        return []
    guessed = ", ".join(f"pass@{k} {share:.3f}" for k, share in zip(scores.ks, floor, strict=True))
    return [f"Guessing among all possible answers scores {guessed}."]


def _overlap(connection: Any, scores: Scores) -> list[str]:
    """How many problems occur in the training prompts, said once for arms that agree."""
    found = connection.execute(
        """SELECT overlapping, problems, any_value(overlapping_ids),
                  string_agg(DISTINCT arm, ', ' ORDER BY arm)
             FROM benchmarks WHERE matrix = ? AND benchmark = ? AND model = ?
              AND overlapping IS NOT NULL
            GROUP BY overlapping, problems, overlapping_ids ORDER BY ALL""",
        [scores.matrix, scores.benchmark, scores.model],
    ).fetchall()
    notes = []
    for *what, arms in found:
        whose = "the training prompts" if len(found) == 1 else f"the training prompts of {arms}"
        notes.append(caveats.overlap(scores.benchmark, *what, whose))
    return notes


def _comparisons_with_base(scores: Scores) -> list[str]:
    """A line an arm: whether it is above the base model at the smallest k."""
    k = scores.ks[0]
    return [
        f"{arm}: pass@{k} {scores.of(arm, k).mean():.3f}, {found.verdict}."
        for arm, found in above_base(scores, k).items()
    ]

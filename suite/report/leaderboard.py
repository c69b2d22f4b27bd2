"""The one leaderboard: scores with intervals, entropy, length and cost of every arm.

The terminal, RESULTS.md and the dashboard show this table; its numbers beside the scores are those
of the SQL view `leaderboard`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.report import alarms, caveats
from suite.report.differences import above_base, comparisons, differences
from suite.report.scores import RunNumbers, Scores, base_numbers, run_numbers, scored
from suite.report.table import FLAG, Column, Entry, Report, Seeds, column
from suite.store import connect

BASE_ROW = "base model"
ALARMS = 10  # that are listed below the table


def leaderboard(db: Path, matrix: str) -> list[Report]:
    """Two reports a benchmark and model: the scores, and the arms against the baseline."""
    with connect(db) as connection:
        reports = []
        for scores in scored(connection, matrix):
            reports.append(table(connection, scores))
            reports += differences(scores, comparisons(scores))
        return reports


def table(connection: Any, scores: Scores, by_seed: bool = True) -> Report:
    """The base model, then the arms by pass@1.

    by_seed: with a row for each seed of an arm that has several; else one row an arm, with the
        score of each seed in a column, and without what the page says elsewhere.
    """
    numbers = run_numbers(connection, scores)
    inert = alarms.inert_runs(connection, scores.matrix)  # on any model
    rows: list[list[Entry]] = []
    if scores.base:
        seeds = sorted(scores.base)
        beside = RunNumbers(*base_numbers(connection, scores))
        rows.append([BASE_ROW, None, *_scores(scores, None, None), *beside, None])
        rows[-1].append(_each_seed(scores, None, seeds))
    for arm in scores.names():
        seeds = scores.seeds(arm)
        groups = [seeds, *([seed] for seed in seeds)] if by_seed and len(seeds) > 1 else [seeds]
        for group in groups:
            beside = _means([numbers[arm, seed] for seed in group if (arm, seed) in numbers])
            flag = any((scores.model, arm, seed) in inert for seed in group)
            row = [arm, Seeds(tuple(group)), *_scores(scores, arm, group), *beside, flag]
            rows.append([*row, _each_seed(scores, arm, group)])
    columns = [
        *(column("arm"), Column("seed", "seed" if by_seed else "")),
        *(column("score", ".3f", f"pass@{k}", k=k) for k in scores.ks),
        column("entropy", ".3f"),
        column("response_length", ".1f", "length"),
        column("gpu_hours", ".4f", "GPU-hours"),
        column("overshoot", "+.1%"),
        column("steps", ".1f"),
        Column("inert", "" if by_seed else "inert", FLAG),
        Column("", "" if by_seed else f"pass@{scores.ks[0]} of each seed"),
    ]
    about = scores.about | {"problems": scores.problems, "samples": scores.samples}
    notes = _notes(connection, scores)
    if by_seed:
        notes += [*_comparisons_with_base(scores), *_alarms(connection, scores)]
    return Report("leaderboard", scores.title, columns, rows, notes, about)


def _scores(scores: Scores, arm: str | None, seeds: list[int] | None) -> list[Entry]:
    return [scores.interval(arm, k, seeds) for k in scores.ks]


def _each_seed(scores: Scores, arm: str | None, seeds: list[int]) -> str:
    means = scores.values(arm, scores.ks[0], seeds).mean(axis=1)
    return " ".join(f"{mean:.3f}" for mean in means)


def _means(runs: Sequence[RunNumbers]) -> RunNumbers:
    """Column by column; None where a run has no such number."""
    if not runs:
        return RunNumbers()
    return RunNumbers(
        *(None if None in column else float(np.mean(column)) for column in zip(*runs, strict=True))
    )


def _notes(connection: Any, scores: Scores) -> list[str]:
    several = any(len(scores.seeds(arm)) > 1 for arm in scores.names())
    over = "problems and seeds where there are more" if several else "problems"
    notes = [
        f"Brackets: 95 % interval over {over}. Entropy: nats a token at T = 1 on the policy's own "
        "rollouts, mean over the last quarter of the steps (of the base model: at the first step)."
    ]
    if scores.samples:
        notes.append(f"{scores.problems} problems, {scores.samples} samples each.")
        if scores.samples in scores.ks:
            notes.append(f"pass@{scores.samples} is k = n: a coin flip per problem at the margin.")
    notes += _floor(scores)
    notes += _overlap(connection, scores)
    for arm, seed, status, steps in connection.execute(
        """SELECT arm, seed, status, coalesce(steps, 0) FROM runs
            WHERE matrix = ? AND model = ? AND status <> 'finished' ORDER BY position""",
        [scores.matrix, scores.model],
    ).fetchall():
        notes.append(
            f"{arm} (seed {seed}): {status} after {steps} steps; what is shown of it is not "
            "its last."
        )
    return notes


def _alarms(connection: Any, scores: Scores) -> list[str]:
    """The first few of the model's, and how many more there are."""
    raised = [a.text for a in alarms.raised(connection, scores.matrix) if a.model == scores.model]
    more = len(raised) - ALARMS
    return [*raised[:ALARMS], *([f"{more} more alarms."] if more > 0 else [])]


def _floor(scores: Scores) -> list[str]:
    """What guessing scores, where the answers are few enough to guess."""
    floor = caveats.guessing(scores.benchmark, scores.ks)
    if floor is None:
        return []
    guessed = ", ".join(f"pass@{k} {share:.3f}" for k, share in zip(scores.ks, floor, strict=True))
    return [f"Guessing among all possible answers scores {guessed}."]


def _overlap(connection: Any, scores: Scores) -> list[str]:
    """How many problems occur in the training prompts, said once for arms that agree."""
    rows = connection.execute(
        """SELECT overlapping, problems, any_value(overlapping_ids),
                  string_agg(DISTINCT arm, ', ' ORDER BY arm)
             FROM benchmarks WHERE matrix = ? AND benchmark = ? AND model = ?
              AND overlapping IS NOT NULL
            GROUP BY overlapping, problems, overlapping_ids ORDER BY ALL""",
        [scores.matrix, scores.benchmark, scores.model],
    ).fetchall()
    notes = []
    for overlapping, problems, ids, arms in rows:
        whose = "the training prompts" if len(rows) == 1 else f"the training prompts of {arms}"
        notes.append(caveats.overlap(scores.benchmark, overlapping, problems, ids, whose))
    return notes


def _comparisons_with_base(scores: Scores) -> list[str]:
    """A line an arm: whether it is above the base model at the smallest k."""
    k = scores.ks[0]
    return [
        f"{arm}: pass@{k} {scores.values(arm, k).mean():.3f}, {comparison.verdict}."
        for arm, comparison in above_base(scores, k).items()
    ]

"""What `suite eval` prints: the scores of a checkpoint, and what has to be known to read them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from suite import stats
from suite.matrix.cell import EVALUATION, Cell
from suite.report import caveats, votes
from suite.report.table import Column, Report, Value, column
from suite.store import connect

SHARES = ("truncated", "no answer", "undecided", "different")  # of the responses
Counts = dict[str, tuple[list[str], list[int], list[int]]]  # benchmark -> problems, n, correct


def card(db: Path, cell: Cell, more: bool = False) -> list[Report]:
    """The scores of a finished evaluation; `more`: other readings of the same samples."""
    with connect(db) as connection:
        counts = _counts(connection, cell)
        reports = [_scores(connection, cell, counts)]
        if more:
            reports.append(_readings(connection, cell, counts))
    return reports


def _counts(connection: Any, cell: Cell) -> Counts:
    """Of the problems that have as many samples as were asked for."""
    rows = connection.execute(
        """SELECT benchmark, list(problem ORDER BY problem), list(n ORDER BY problem),
                  list(correct ORDER BY problem)
             FROM evals WHERE run = ? AND n >= ? GROUP BY benchmark ORDER BY benchmark""",
        [cell.id, cell.evaluate["samples"]],
    ).fetchall()
    return {benchmark: tuple(rest) for benchmark, *rest in rows}


def _scores(connection: Any, cell: Cell, counts: Counts) -> Report:
    scores = {
        (benchmark, k): stats.Interval(*interval)
        for benchmark, k, *interval in connection.execute(
            "SELECT benchmark, k, score, low, high FROM pass_at_k WHERE run = ?", [cell.id]
        ).fetchall()
    }
    quality = connection.execute(
        """SELECT benchmark, sum(n), sum(tokens) / sum(n), sum(truncated) / sum(n),
                  sum(unparsed) / sum(n), sum(timeout) / sum(n), avg(unique_responses / n)
             FROM evals WHERE run = ? AND n >= ? GROUP BY benchmark ORDER BY benchmark""",
        [cell.id, cell.evaluate["samples"]],
    ).fetchall()
    ks = sorted({k for _, k in scores})
    columns = [
        *(column("benchmark"), column("problems"), column("samples")),
        *(column("score", ".3f", f"pass@{k}", k=k) for k in ks),
        *(column("majority", ".3f", "maj@n"), column("tokens", ".1f")),
        *(column(name, ".1%") for name in SHARES),
    ]
    rows: list[list[Value | stats.Interval]] = []
    for benchmark, samples, *tokens_and_shares in quality:
        voted = _votes(connection, cell, benchmark, counts)
        majority = votes.majority(voted, None, np.random.default_rng(0)) if voted else None
        rows.append(
            [
                *(benchmark, len(counts[benchmark][0]), samples),
                *(scores.get((benchmark, k)) for k in ks),
                None if majority is None else float(majority.mean()),
                *tokens_and_shares,
            ]
        )
        floor = caveats.guessing(benchmark, ks)
        if floor is not None:
            rows.append(["  by guessing", None, None, *floor, *[None] * (2 + len(SHARES))])
    notes = [
        "Brackets: 95 % interval over problems. Truncated, unanswered and undecided responses "
        "count as wrong. maj@n: the most frequent answer is right."
    ]
    drawn = {min(n) for _, n, _ in counts.values()}  # an earlier, larger evaluation counts
    for k in sorted(drawn.intersection(ks)):
        notes.append(f"pass@{k} is k = n: a coin flip per problem at the margin.")
    notes += _copies(connection, cell)
    notes += _overlap(connection, cell)
    notes += _predictions(cell, counts)
    return Report("evaluation", f"{cell.arm}, seed {cell.seed}", columns, rows, notes, _about(cell))


def _about(cell: Cell) -> dict[str, Value]:
    return {"evaluation": cell.arm, "seed": cell.seed, "run": cell.id}


def _votes(connection: Any, cell: Cell, benchmark: str, counts: Counts) -> list[votes.Vote]:
    """Of the problems that are counted; none where answers were not kept."""
    by_problem = votes.read(connection, cell.id, benchmark, 0, cell.evaluate["at"][0])
    return [by_problem[problem] for problem in counts[benchmark][0] if problem in by_problem]


def _copies(connection: Any, cell: Cell) -> list[str]:
    """A warning where batches of a problem are the same texts in the same order.

    That happens when samples are drawn twice with one seed, not by chance where a quarter of a
    batch is different texts; each copy takes a sample away from pass@k.
    """
    (copies,) = connection.execute(
        """SELECT count(*) - count(DISTINCT (benchmark, problem, digests)) FROM batches
            WHERE run = ? AND n >= 8 AND len(list_distinct(digests)) >= n / 4""",
        [cell.id],
    ).fetchone()
    if not copies:
        return []
    return [
        f"WARNING: {copies} batches repeat another batch of the same problem word for word: "
        "samples were drawn twice, and pass@k is too low."
    ]


def _overlap(connection: Any, cell: Cell) -> list[str]:
    """What of each benchmark the model was trained on, or that nobody has looked."""
    rows = connection.execute(
        """SELECT DISTINCT benchmark, overlapping, problems, overlapping_ids FROM benchmarks
            WHERE run = ? AND overlapping IS NOT NULL ORDER BY benchmark""",
        [cell.id],
    ).fetchall()
    if not rows:
        return [
            "Overlap with the training data not checked: unknown for this model "
            "(--train-data FILE)."
        ]
    return [caveats.overlap(*row) for row in rows]


def _predictions(cell: Cell, counts: Counts) -> list[str]:
    """A line for each k beyond the samples: an estimate, and labelled as one."""
    rng = np.random.default_rng(0)
    return [
        f"{benchmark}: {stats.predict_pass_at_k(n, correct, k, rng=rng)}."
        for benchmark, (_, n, correct) in counts.items()
        for k in cell.evaluate["predict_at"]
        if k > min(n)
    ]


def _readings(connection: Any, cell: Cell, counts: Counts) -> Report:
    """mean@n with the noise of sampling alone, pass^k and maj@k."""
    ks = [k for k in cell.evaluate["pass_at"] if k > 1]
    rng = np.random.default_rng(0)
    rows: list[list[Value | stats.Interval]] = []
    for benchmark, (_, n, correct) in counts.items():
        voted = _votes(connection, cell, benchmark, counts)
        reliable = [stats.pass_hat_k(n, correct, k) for k in ks]
        majorities = [votes.majority(voted, k, rng) for k in ks] if voted else []
        cells = [
            stats.hierarchical_interval(np.atleast_2d(values), rng=rng)
            for values in [*reliable, *majorities]
        ]
        absent = [None] * (2 * len(ks) - len(cells))
        rows.append([benchmark, stats.sampling_interval(n, correct), *cells, *absent])
    columns = [column("benchmark"), *reading_columns(ks)]
    notes = [
        "mean@n: the share correct; its brackets hold for these very problems, were they sampled "
        "again. The other brackets: 95 % interval over problems.",
        "pass^k: all of k samples are right. maj@k: the most frequent answer of k is right.",
    ]
    title = f"{cell.arm}, seed {cell.seed}: the same samples"
    return Report("readings", title, columns, rows, notes, _about(cell))


def reading_columns(ks: list[int]) -> list[Column]:
    """mean@n, then pass^k and maj@k of each k."""
    return [
        column("mean_at_n", ".3f", "mean@n"),
        *(column("all_of_k", ".3f", f"pass^{k}", k=k) for k in ks),
        *(column("majority_of_k", ".3f", f"maj@{k}", k=k) for k in ks),
    ]


def finished(db: Path) -> list[str]:
    """The ids of the evaluations that have scores, in the order in which they were asked for."""
    with connect(db) as connection:
        rows = connection.execute(
            """SELECT run FROM runs SEMI JOIN pass_at_k USING (run)
                WHERE algorithm = ? GROUP BY run ORDER BY min(created), run""",
            [EVALUATION],
        ).fetchall()
    return [run for (run,) in rows]


def evaluations(db: Path) -> list[Report]:
    """All finished evaluations of a database, an evaluation and benchmark a row."""
    with connect(db) as connection:
        scored = connection.execute(
            """SELECT run, p.arm, p.seed, evaluate, benchmark, any_value(problems),
                      any_value(samples), map_from_entries(list((k, [score, low, high])))
                 FROM pass_at_k p JOIN runs r USING (run, matrix)
                WHERE matrix = ? GROUP BY run, p.arm, p.seed, evaluate, benchmark, created
                ORDER BY created, benchmark""",
            [EVALUATION],
        ).fetchall()
    ks = sorted({k for *_, scores in scored for k in scores})
    rows = [
        [
            *(label, seed, run, sampled(json.loads(evaluate)), benchmark, problems, samples),
            *(stats.Interval(*scores[k]) if k in scores else None for k in ks),
        ]
        for run, label, seed, evaluate, benchmark, problems, samples, scores in scored
    ]
    names = ("evaluation", "seed", "run", "sampling", "benchmark", "problems", "samples")
    columns = [*map(column, names), *(column("score", ".3f", f"pass@{k}", k=k) for k in ks)]
    notes = [
        "Brackets: 95 % interval over problems. `suite report RUN` shows one of them in full, with "
        "what has to be known to read it."
    ]
    return [Report("evaluations", "evaluations", columns, rows, notes)]


def sampled(evaluate: dict[str, Any]) -> str:
    """ "T 0.6, top-p 0.95, top-k 20"."""
    parts: Iterable[tuple[str, Any]] = (
        ("T", evaluate["temperature"]),
        ("top-p", evaluate["top_p"] if evaluate["top_p"] < 1 else None),
        ("top-k", evaluate["top_k"]),
    )
    return ", ".join(f"{name} {value:g}" for name, value in parts if value is not None)

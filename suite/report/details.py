"""`suite report --more`: other readings of the samples that the leaderboard was made from.

A benchmark and model at a time: mean@n, pass^k and maj@k of each arm, and what stands behind each
comparison with the baseline. Then all benchmarks of a model together: the interquartile mean, and
how likely a run of an arm beats one of the baseline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite import stats
from suite.report import votes
from suite.report.differences import baseline
from suite.report.leaderboard import BASE_ROW
from suite.report.scorecard import reading_columns
from suite.report.scores import Scores, scored
from suite.report.table import Entry, Report, column
from suite.store import connect


def details(db: Path, matrix: str) -> list[Report]:
    """The further tables of a matrix; what needs a second arm or benchmark only where there is one.

    Raises as `suite.report.leaderboard` does.
    """
    with connect(db) as connection:
        scored_on = scored(connection, matrix)
        reports = []
        for scores in scored_on:
            reports.append(_readings(connection, scores))
            reports += _comparisons(scores)
    for model in dict.fromkeys(scores.model for scores in scored_on):
        reports += _across([scores for scores in scored_on if scores.model == model])
    return reports


def _readings(connection: Any, scores: Scores) -> Report:
    """mean@n, pass^k and maj@k of the base model and of each arm."""
    ks = [k for k in scores.ks if k > 1]
    voted = _voted(connection, scores)
    rows: list[list[Entry]] = []
    for arm in [*([None] if scores.base else []), *scores.names()]:
        rng = scores.rng(arm, "more")
        values = [scores.values(arm, k, estimator=stats.pass_hat_k) for k in ks]
        values += [_majority(voted[arm], k, rng) for k in ks] if voted.get(arm) else []
        cells = [stats.hierarchical_interval(values_SP, rng=rng) for values_SP in values]
        absent = [None] * (2 * len(ks) - len(cells))
        rows.append([arm or BASE_ROW, scores.interval(arm, 1), *cells, *absent])
    columns = [column("arm"), *reading_columns(ks)]
    notes = [
        "Brackets: 95 % interval over problems, and seeds where there are more. pass^k: all of k "
        "samples are right. maj@k: the most frequent answer of k is right."
    ]
    title = f"{scores.title}: the same samples"
    return Report("readings", title, columns, rows, notes, scores.about)


def _majority(
    by_seed: list[dict[str, votes.Vote]], k: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """maj@k, [seeds, problems]."""
    problems = sorted(set.intersection(*map(set, by_seed)))
    return np.array([votes.majority([cast[p] for p in problems], k, rng) for cast in by_seed])


def _voted(connection: Any, scores: Scores) -> dict[str | None, list[dict[str, votes.Vote]]]:
    """arm (None: the base model) -> its seeds' votes where their answers were kept."""
    rows = connection.execute(
        """SELECT m.arm, m.seed, run, p.step, p.fraction
             FROM matrix_runs m JOIN points p USING (run)
            WHERE m.matrix = ? AND m.model = ? ORDER BY m.position, p.fraction""",
        [scores.matrix, scores.model],
    ).fetchall()
    places: dict[tuple[str | None, int], tuple[str, int, float]] = {}
    for arm, seed, *place in rows:  # the last of an arm and seed stays
        places[None if place[1] == 0 else arm, seed] = tuple(place)
    voted: dict[str | None, list[dict[str, votes.Vote]]] = {}
    for (arm, _), (run, step, fraction) in places.items():
        vote = votes.read(connection, run, scores.benchmark, step, fraction)
        if vote:
            voted.setdefault(arm, []).append(vote)
    return voted


def _comparisons(scores: Scores) -> list[Report]:
    """Behind each difference from the baseline: how sure, and what could have been seen."""
    against, shared = baseline(scores)
    if not shared:
        return []
    rows: dict[str, list[Entry]] = {arm: [arm] for arm in scores.names() if arm != against}
    for k in scores.ks:
        for comparison in scores.compared(k, against, shared):
            rows[comparison.arm] += [
                comparison.probability_of_improvement,
                comparison.p_adjusted,
                comparison.detectable,
            ]
    columns = [column("arm")]
    for k in scores.ks:
        columns += [
            column("probability_of_improvement", ".3f", f"P(better) pass@{k}", k=k),
            column("p_adjusted", ".4f", f"p pass@{k}", k=k),
            column("detectable", "±.3f", f"detectable pass@{k}", k=k),
        ]
    notes = [
        f"P(better): how often {against} is left behind when problems (and seeds) are drawn again. "
        "p: Holm's, for all arms together. detectable: the smallest true difference that a "
        "comparison as noisy as this one shows in four of five repetitions."
    ]
    title = f"{scores.title}: behind the comparison with {against}"
    about = scores.about | {"against": against}
    return [Report("comparisons", title, columns, list(rows.values()), notes, about)]


def _across(of_benchmarks: list[Scores]) -> list[Report]:
    """The benchmarks of one model together; nothing for a single one."""
    scores = of_benchmarks[0]
    ks = sorted(set.intersection(*(set(each.ks) for each in of_benchmarks)))
    arms = [a for a in scores.names() if all(a in each.names() for each in of_benchmarks)]
    if len(of_benchmarks) < 2 or not ks or not arms:
        return []
    against, _ = baseline(scores)
    compared = against in arms and len(arms) > 1
    rng = scores.rng("across")
    rows: list[list[Entry]] = []
    for arm in arms:
        cells: list[Entry] = []
        for k in ks:
            means_RB = _means(of_benchmarks, arm, k)
            cells.append(_middle(means_RB, rng))
            if compared:
                reference_RB = _means(of_benchmarks, against, k)
                better = stats.probability_of_improvement(means_RB, reference_RB)
                cells.append(None if arm == against else better)
        rows.append([arm, len(_means(of_benchmarks, arm, ks[0])), *cells])
    columns = [column("arm"), column("seeds")]
    for k in ks:
        columns.append(column("interquartile_mean", ".3f", f"IQM pass@{k}", k=k))
        if compared:
            title = f"P(beats {against}) pass@{k}"
            columns.append(column("probability_of_improvement", ".3f", title, k=k))
    benchmarks = ", ".join(each.benchmark for each in of_benchmarks)
    notes = [
        f"Over {len(of_benchmarks)} benchmarks ({benchmarks}). IQM: the "
        "mean of the middle half of all scores; brackets, where an arm has several seeds: 95 % "
        "interval over them, too narrow below ten. P(beats): a run of the arm against one of "
        f"{against} on the same benchmark, ties half."
    ]
    title = f"{scores.matrix}: all benchmarks, {Path(scores.model).name}"
    about = {"matrix": scores.matrix, "model": scores.model, "against": against}
    return [Report("across_benchmarks", title, columns, rows, notes, about)]


def _means(of_benchmarks: list[Scores], arm: str, k: int) -> NDArray[np.float64]:
    """pass@k, [seeds that have all benchmarks, benchmarks]."""
    seeds = sorted(set.intersection(*(set(each.seeds(arm)) for each in of_benchmarks)))
    means = [each.values(arm, k, seeds).mean(axis=1) for each in of_benchmarks]
    return np.stack(means, axis=1)


def _middle(scores_RB: NDArray[np.float64], rng: np.random.Generator) -> Entry:
    """The interquartile mean; with an interval where there are several runs."""
    if len(scores_RB) == 1:
        return stats.interquartile_mean(scores_RB)
    return stats.interquartile_interval(scores_RB, rng=rng)

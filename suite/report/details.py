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
from suite.report.scorecard import interval_text
from suite.report.scores import Scores, scored
from suite.report.table import Report
from suite.store import connect


def details(db: Path, matrix: str) -> list[Report]:
    """The further tables of a matrix; what needs a second arm or benchmark only where there is one.

    Raises as `suite.report.leaderboard` does.
    """
    with connect(db) as connection:
        scores = scored(connection, matrix)
        reports = []
        for one in scores:
            reports.append(_readings(connection, one))
            reports += _comparisons(one)
    models = dict.fromkeys(one.model for one in scores)
    for model in models:
        reports += _across([one for one in scores if one.model == model])
    return reports


def _readings(connection: Any, scores: Scores) -> Report:
    """mean@n, pass^k and maj@k of the base model and of each arm."""
    ks = [k for k in scores.ks if k > 1]
    voted = _voted(connection, scores)
    rows = []
    for arm in [*([None] if scores.base else []), *scores.names()]:
        rng = scores.rng(arm, "more")
        values = [scores.of(arm, k, of=stats.pass_hat_k) for k in ks]
        values += [_majority(voted[arm], k, rng) for k in ks] if voted.get(arm) else []
        cells = [scores.cell(arm, 1), *(interval_text(one, rng) for one in values)]
        rows.append([arm or "base model", *cells, *[""] * (1 + 2 * len(ks) - len(cells))])
    columns = ["arm", "mean@n", *(f"pass^{k}" for k in ks), *(f"maj@{k}" for k in ks)]
    notes = [
        "Brackets: 95 % interval over problems, and seeds where there are more. pass^k: all of k "
        "samples are right. maj@k: the most frequent answer of k is right."
    ]
    return Report(f"{scores.title}: the same samples", columns, rows, notes)


def _majority(
    by_seed: list[dict[str, votes.Vote]], k: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """maj@k, [seeds, problems]."""
    problems = sorted(set.intersection(*(set(one) for one in by_seed)))
    return np.array([votes.majority([one[p] for p in problems], k, rng) for one in by_seed])


def _voted(connection: Any, scores: Scores) -> dict[str | None, list[dict[str, votes.Vote]]]:
    """arm (None: the base model) -> its seeds' votes where their answers were kept."""
    rows = connection.execute(
        """SELECT c.arm, c.seed, run, p.step, p.fraction
             FROM data.cells c JOIN data.points p USING (run)
            WHERE c.matrix = ? AND c.model = ? ORDER BY c.position, p.fraction""",
        [scores.matrix, scores.model],
    ).fetchall()
    places: dict[tuple[str | None, int], tuple[str, int, float]] = {}
    for arm, seed, *place in rows:  # the last of an arm and seed stays
        places[None if place[1] == 0 else arm, seed] = tuple(place)
    found: dict[str | None, list[dict[str, votes.Vote]]] = {}
    for (arm, _), (run, step, fraction) in places.items():
        vote = votes.read(connection, run, scores.benchmark, step, fraction)
        if vote:
            found.setdefault(arm, []).append(vote)
    return found


def _comparisons(scores: Scores) -> list[Report]:
    """Behind each difference from the baseline: how sure, and what could have been seen."""
    against, shared = baseline(scores)
    if not shared:
        return []
    rows: dict[str, list[str]] = {arm: [arm] for arm in scores.names() if arm != against}
    for k in scores.ks:
        for found in scores.compared(k, against, shared):
            rows[found.arm] += [
                f"{found.probability_of_improvement:.3f}",
                f"{found.p_adjusted:.4f}",
                f"±{found.detectable:.3f}",
            ]
    heads = [f"{what} pass@{k}" for k in scores.ks for what in ("P(better)", "p", "detectable")]
    notes = [
        f"P(better): how often {against} is left behind when problems (and seeds) are drawn again. "
        "p: Holm's, for all arms together. detectable: the smallest true difference that a "
        "comparison as noisy as this one shows in four of five repetitions."
    ]
    title = f"{scores.title}: behind the comparison with {against}"
    return [Report(title, ["arm", *heads], list(rows.values()), notes)]


def _across(scores: list[Scores]) -> list[Report]:
    """The benchmarks of one model together; nothing for a single one."""
    ks = sorted(set.intersection(*(set(one.ks) for one in scores)))
    arms = [arm for arm in scores[0].names() if all(arm in one.names() for one in scores)]
    if len(scores) < 2 or not ks or not arms:
        return []
    against, _ = baseline(scores[0])
    rng = scores[0].rng("across")
    rows = []
    for arm in arms:
        cells = []
        for k in ks:
            mine = _table(scores, arm, k)
            cells.append(_middle(mine, rng))
            if against in arms and len(arms) > 1:
                won = stats.probability_of_improvement(mine, _table(scores, against, k))
                cells.append("" if arm == against else f"{won:.3f}")
        rows.append([arm, str(len(_table(scores, arm, ks[0]))), *cells])
    each = ["IQM pass@{}"]
    if against in arms and len(arms) > 1:
        each.append("P(beats " + against + ") pass@{}")
    notes = [
        f"Over {len(scores)} benchmarks ({', '.join(one.benchmark for one in scores)}). IQM: the "
        "mean of the middle half of all scores; brackets, where an arm has several seeds: 95 % "
        "interval over them, too narrow below ten. P(beats): a run of the arm against one of "
        f"{against} on the same benchmark, ties half."
    ]
    columns = ["arm", "seeds", *(text.format(k) for k in ks for text in each)]
    title = f"{scores[0].matrix}: all benchmarks, {Path(scores[0].model).name}"
    return [Report(title, columns, rows, notes)]


def _table(scores: list[Scores], arm: str, k: int) -> NDArray[np.float64]:
    """pass@k, [seeds that have all benchmarks, benchmarks]."""
    seeds = sorted(set.intersection(*(set(one.seeds(arm)) for one in scores)))
    return np.stack([one.of(arm, k, seeds).mean(axis=1) for one in scores], axis=1)


def _middle(scores_RB: NDArray[np.float64], rng: np.random.Generator) -> str:
    if len(scores_RB) == 1:
        return f"{stats.interquartile_mean(scores_RB):.3f}"
    return "{:.3f} [{:.3f}, {:.3f}]".format(*stats.interquartile_interval(scores_RB, rng=rng))

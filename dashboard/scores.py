"""What the views say about scores, all of it made by the suite's own statistics.

What is drawn from scores by resampling costs seconds. It is cached by what has been evaluated,
which changes far less often than the database.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dashboard.queries import Snapshot, cached, frame, reading
from suite import stats
from suite.report import equal_cost, spending
from suite.report import leaderboard as report
from suite.report.headline import headline
from suite.report.papers import against, published
from suite.report.scores import Scores
from suite.report.table import Report


class Subject(NamedTuple):
    """What scores are of; `evaluated` tells one state of the evaluations from another."""

    path: str
    matrix: str
    benchmark: str
    model: str
    evaluated: str


@cached
def evaluated(snapshot: Snapshot, matrix: str) -> str:
    """Another text for another state of the evaluations of a matrix, or of its cells."""
    with reading(snapshot.path) as connection:
        (text,) = connection.execute(
            """SELECT md5(string_agg(text, ';' ORDER BY text))
                 FROM (SELECT concat_ws(' ', arm, run, step, fraction, benchmark, k, score) AS text
                         FROM pass_at_k WHERE matrix = $matrix
                        UNION ALL
                       SELECT concat_ws(' ', run, status) FROM runs WHERE matrix = $matrix)""",
            {"matrix": matrix},
        ).fetchone()
    return text or ""


@cached
def advice(subject: Subject, baseline: str) -> tuple[list[str], pd.DataFrame, list[str]]:
    """The headline's sentences, the table of verdicts and its notes."""
    with reading(subject.path) as connection:
        scores = Scores.read(connection, *subject[1:4])
    known = scores.names() if scores.arms else []
    found = report.comparisons(scores, baseline if baseline in known else "") if known else {}
    rows = [
        {"arm": one.arm, **{f"pass@{k}": _verdict(of_k[i]) for k, of_k in found.items()}}
        for i, one in enumerate(next(iter(found.values()), []))
    ]
    notes = [note for one in report.differences(scores, found) for note in one.notes]
    return headline(scores, found), pd.DataFrame(rows), notes


def _verdict(found: stats.Comparison) -> str:
    """ "+0.041 [+0.006, +0.078] above"."""
    said = found.verdict.split()[0] if found.shown else "no difference shown"
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}] {said}"


@cached
def scored_arms(subject: Subject) -> list[str]:
    """The arms with scores, in the order of the matrix."""
    found = frame(
        subject.path,
        """SELECT arm FROM pass_at_k p JOIN data.cells c USING (matrix, arm, run)
            WHERE p.matrix = ? AND benchmark = ? AND p.model = ?
            GROUP BY arm ORDER BY min(c.position)""",
        [*subject[1:4]],
    )
    return list(found.arm)


@cached
def ks(subject: Subject) -> list[int]:
    """Each k of pass@k that the matrix asks for."""
    found = frame(
        subject.path,
        """SELECT DISTINCT k FROM pass_at_k
            WHERE matrix = ? AND benchmark = ? AND model = ? ORDER BY k""",
        [*subject[1:4]],
    )
    return [int(k) for k in found.k]


@cached
def leaderboard(subject: Subject) -> Report:
    """The scores with their intervals, and the report's notes."""
    with reading(subject.path) as connection:
        return report.table(connection, Scores.read(connection, *subject[1:4]))


@cached
def score_curves(subject: Subject, unit: str, ks: tuple[int, ...]) -> pd.DataFrame:
    """pass@k of each arm at each evaluation with its 95 % interval over problems and seeds.

    unit: of the cost, one of suite.report.spending.UNITS. ValueError when it was not recorded.
    """
    with reading(subject.path) as connection:
        found = spending.read(connection, *subject[1:4], unit)
    rows = []
    for curve in found.curves if found else []:
        for k in ks:
            cost, mean = curve.mean(k)
            for at, scores_SP in enumerate(curve.scores(k)):
                rng = found.rng(curve.arm, k, at)
                made = stats.hierarchical_interval(scores_SP, rng=rng)
                values = (cost[at], mean[at], made.low, made.high)
                rows.append((curve.arm, k, *values, len(found.seeds)))
    names = ["arm", "k", "cost", "score", "low", "high", "seeds"]
    return pd.DataFrame(rows, columns=names)


@cached
def pass_curves(subject: Subject) -> pd.DataFrame:
    """pass@k of the last evaluation over k (powers of two up to the samples) with intervals."""
    with reading(subject.path) as connection:
        scores = Scores.read(connection, *subject[1:4])
    counts = [n for one in (*scores.arms.values(), *scores.base.values()) for n, _ in one.values()]
    samples = min(counts, default=0)
    ks = sorted({*(2**i for i in range(samples.bit_length())), samples} - {0})
    rows = []
    for arm in [None, *scores.names()] if scores.base else scores.names():
        for k in ks:
            scores_SP = scores.of(arm, k)
            made = stats.hierarchical_interval(scores_SP, rng=scores.rng(arm, k))
            rows.append((arm or "base model", k, made.estimate, made.low, made.high))
    return pd.DataFrame(rows, columns=["arm", "k", "score", "low", "high"])


@cached
def base_verdicts(subject: Subject, k: int) -> dict[str, str]:
    """What the paired comparison with the base model says of each arm at k."""
    with reading(subject.path) as connection:
        scores = Scores.read(connection, *subject[1:4])
    return {arm: one.verdict for arm, one in report.above_base(scores, k).items()}


@cached
def costs(subject: Subject, unit: str) -> list[Report]:
    """The tables of `suite report --cost`. Raises ValueError when the unit was not recorded."""
    return equal_cost.reports(Path(subject.path), subject.matrix, unit)


@cached
def beside_published(subject: Subject) -> list[Report]:
    """Ours beside the numbers of `matrices/published.yaml`, and the settings that differ.

    Empty where nothing is published for the matrix.
    """
    if not published.of(subject.matrix, published.load()):
        return []
    return against.reports(
        Path(subject.path),
        subject.matrix,
        benchmark=subject.benchmark,
        model=subject.model,
    )


@cached
def entropy_and_score(subject: Subject, _snapshot: Snapshot, k: int, source: str) -> pd.DataFrame:
    """Mean entropy and mean score over seeds at each evaluation, in order.

    source: "rollouts" (at the evaluated step; the base model's at the first) or "probe" (fixed
    responses of the base model, full vocabulary).
    """
    entropy = {
        "rollouts": """SELECT run, step, value FROM traced
                       UNION ALL SELECT run, 0, arg_min(value, step) FROM traced GROUP BY run""",
        "probe": "SELECT DISTINCT run, step, value FROM data.probes WHERE estimator = 'full'",
    }[source]
    return frame(
        subject.path,
        f"""WITH traced AS (
                SELECT run, step, value FROM data.traces
                 WHERE metric = 'entropy' AND run IN (SELECT run FROM data.cells WHERE matrix = ?))
            SELECT p.arm, p.fraction, avg(e.value) AS entropy, avg(p.score) AS score
              FROM pass_at_k p JOIN ({entropy}) e USING (run, step)
             WHERE p.matrix = ? AND p.benchmark = ? AND p.model = ? AND p.k = ?
             GROUP BY p.arm, p.fraction ORDER BY p.arm, p.fraction""",
        [subject.matrix, *subject[1:4], k],
    )

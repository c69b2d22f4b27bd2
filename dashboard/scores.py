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
from suite.report.differences import above_base, comparisons, differences
from suite.report.headline import headline
from suite.report.leaderboard import BASE_ROW, table
from suite.report.papers import against, published
from suite.report.scores import Scores
from suite.report.table import Report, difference_text


class Subject(NamedTuple):
    """What scores are of; `evaluated` tells one state of the evaluations from another."""

    path: str
    matrix: str
    benchmark: str
    model: str
    evaluated: str


@cached
def evaluated(snapshot: Snapshot, matrix: str) -> str:
    """Another text for another state of the evaluations of a matrix, or of its runs."""
    with reading(snapshot.path) as connection:
        ((text,),) = connection.execute(
            """SELECT md5(string_agg(text, ';' ORDER BY text))
                 FROM (SELECT concat_ws(' ', arm, run, step, fraction, benchmark, k, score) AS text
                         FROM pass_at_k WHERE matrix = $matrix
                        UNION ALL
                       SELECT concat_ws(' ', run, status) FROM runs WHERE matrix = $matrix)""",
            {"matrix": matrix},
        ).fetchall()
    return text or ""


@cached
def advice(subject: Subject, baseline: str) -> tuple[list[str], pd.DataFrame, list[str]]:
    """The headline's sentences, the table of verdicts and its notes."""
    with reading(subject.path) as connection:
        scores = Scores.read(connection, *subject[1:4])
    arms = scores.names() if scores.arms else []
    compared = comparisons(scores, baseline if baseline in arms else "") if arms else {}
    rows = [
        {
            "arm": comparison.arm,
            **{
                f"pass@{k}": difference_text(of_k[place], undecided="no difference shown")
                for k, of_k in compared.items()
            },
        }
        for place, comparison in enumerate(next(iter(compared.values()), []))
    ]
    notes = [note for report in differences(scores, compared) for note in report.notes]
    return headline(scores, compared), pd.DataFrame(rows), notes


@cached
def scored_arms(subject: Subject) -> list[str]:
    """The arms with scores, in the order of the matrix."""
    table = frame(
        subject.path,
        """SELECT arm FROM pass_at_k p JOIN matrix_runs m USING (matrix, arm, run)
            WHERE p.matrix = ? AND benchmark = ? AND p.model = ?
            GROUP BY arm ORDER BY min(m.position)""",
        [*subject[1:4]],
    )
    return list(table.arm)


@cached
def ks(subject: Subject) -> list[int]:
    """Each k of pass@k that the matrix asks for."""
    table = frame(
        subject.path,
        """SELECT DISTINCT k FROM pass_at_k
            WHERE matrix = ? AND benchmark = ? AND model = ? ORDER BY k""",
        [*subject[1:4]],
    )
    return [int(k) for k in table.k]


@cached
def leaderboard(subject: Subject) -> Report:
    """The scores with their intervals, and the report's notes."""
    with reading(subject.path) as connection:
        return table(connection, Scores.read(connection, *subject[1:4]))


@cached
def score_curves(subject: Subject, unit: str, ks: tuple[int, ...]) -> pd.DataFrame:
    """pass@k of each arm at each evaluation with its 95 % interval over problems and seeds.

    unit: of the cost, one of suite.report.spending.UNITS. ValueError when it was not recorded.
    """
    with reading(subject.path) as connection:
        matched = spending.read(connection, *subject[1:4], unit)
    names = ["arm", "k", "cost", "score", "low", "high", "seeds"]
    if matched is None:
        return pd.DataFrame(columns=names)
    rows = []
    for curve in matched.curves:
        for k in ks:
            cost, mean = curve.mean(k)
            for at, scores_SP in enumerate(curve.scores(k)):
                rng = matched.rng(curve.arm, k, at)
                made = stats.hierarchical_interval(scores_SP, rng=rng)
                values = (cost[at], mean[at], made.low, made.high)
                rows.append((curve.arm, k, *values, len(matched.seeds)))
    return pd.DataFrame(rows, columns=names)


@cached
def pass_curves(subject: Subject) -> pd.DataFrame:
    """pass@k of the last evaluation over k (powers of two up to the samples) with intervals."""
    with reading(subject.path) as connection:
        scores = Scores.read(connection, *subject[1:4])
    runs = (*scores.arms.values(), *scores.base.values())
    samples = min((n for counts in runs for n, _ in counts.values()), default=0)
    ks = sorted({*(2**i for i in range(samples.bit_length())), samples} - {0})
    rows = []
    for arm in [None, *scores.names()] if scores.base else scores.names():
        for k in ks:
            scores_SP = scores.values(arm, k)
            made = stats.hierarchical_interval(scores_SP, rng=scores.rng(arm, k))
            rows.append((arm or BASE_ROW, k, made.estimate, made.low, made.high))
    return pd.DataFrame(rows, columns=["arm", "k", "score", "low", "high"])


@cached
def base_verdicts(subject: Subject, k: int) -> dict[str, str]:
    """What the paired comparison with the base model says of each arm at k."""
    with reading(subject.path) as connection:
        scores = Scores.read(connection, *subject[1:4])
    return {arm: comparison.verdict for arm, comparison in above_base(scores, k).items()}


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
        "probe": "SELECT DISTINCT run, step, value FROM probes WHERE estimator = 'full'",
    }[source]
    return frame(
        subject.path,
        f"""WITH traced AS (
                SELECT run, step, value FROM steps WHERE metric = 'entropy'
                   AND run IN (SELECT run FROM matrix_runs WHERE matrix = ?))
            SELECT p.arm, p.fraction, avg(e.value) AS entropy, avg(p.score) AS score
              FROM pass_at_k p JOIN ({entropy}) e USING (run, step)
             WHERE p.matrix = ? AND p.benchmark = ? AND p.model = ? AND p.k = ?
             GROUP BY p.arm, p.fraction ORDER BY p.arm, p.fraction""",
        [subject.matrix, *subject[1:4], k],
    )

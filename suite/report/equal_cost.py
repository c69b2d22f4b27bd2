"""Arms at equal cost: what a budget bought, what a score cost, where training would end.

`suite report --cost` shows it. Costs are those of the ledger at each evaluation, in GPU-hours,
generated tokens or steps; between evaluations scores move in straight lines
(suite/stats/curves.py). A score that an arm never reached costs "> x", x being what the arm
spent; it is never dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suite import stats
from suite.report.phases import phases
from suite.report.spending import BASE, UNITS, Curve, Matched, read
from suite.report.table import COMPACT, Column, Entry, Fields, Report, column, number
from suite.stats.curves import (
    EXPONENTS,
    Draws,
    Saturation,
    cost_to,
    fit_saturation,
    mean_over_cost,
    percentile,
    score_at,
)
from suite.store import connect, timings
from suite.text import compact

RESAMPLES, FIT_RESAMPLES = 2000, 400


def reports(db: Path, matrix: str, unit: str | None = None) -> list[Report]:
    """The tables of a matrix: equal cost and cost to score, saturation, phases.

    unit: of the cost, one of UNITS; by default the budget's.

    Raises ValueError for an unknown unit, or one that the runs did not record.
    """
    if unit is not None and unit not in UNITS:
        raise ValueError(f"unknown unit {unit!r}: one of {', '.join(UNITS)}")
    tables = []
    with connect(db) as connection:
        subjects = connection.execute(
            "SELECT DISTINCT benchmark, model FROM pass_at_k WHERE matrix = ? ORDER BY ALL",
            [matrix],
        ).fetchall()
        budget = connection.execute(
            "SELECT budget_unit FROM runs WHERE matrix = ? ORDER BY position", [matrix]
        ).fetchone()
        unit = unit or (budget[0] if budget else "gpu_hours")
        for benchmark, model in subjects:
            matched = read(connection, matrix, benchmark, model, unit)
            if matched:
                fits, refused = _saturation(matched)
                tables += [_equal_cost(matched, [] if fits else refused), *fits]
        arms = dict(
            connection.execute(
                "SELECT run, arm FROM matrix_runs WHERE matrix = ? ORDER BY position", [matrix]
            ).fetchall()
        )
    runs = {timing.run: timing for timing in timings.read_timings(db, matrix)}
    traced = [replace(runs[run], arm=arm) for run, arm in arms.items() if run in runs]
    for model in dict.fromkeys(timing.model for timing in traced):
        tables.append(phases(matrix, [timing for timing in traced if timing.model == model]))
    return tables


# Equal cost, and the cost of a score ------------------------------------------------------------


def _equal_cost(matched: Matched, notes: list[str]) -> Report:
    """A row for each k and arm: what the equal cost bought, and what the best scores cost.

    notes: what else is to be said below it.
    """
    unit, baseline, cost = UNITS[matched.unit], matched.baseline, matched.equal_cost
    rows: list[list[Entry]] = []
    for k in matched.ks:
        bought = {c.arm: _bought(c, k, cost) for c in matched.curves}
        areas = {c.arm: _area(c, k, cost) for c in matched.curves}
        paid = costs_to_best(matched, k)
        against = _against(bought, matched, k, "score")
        for curve in sorted(matched.curves, key=lambda c: -bought[c.arm].mean()):
            arm = curve.arm
            score, area = (
                stats.hierarchical_interval(values[arm], rng=matched.rng(arm, k, name))
                for name, values in (("score", bought), ("area", areas))
            )
            to_best = [paid[arm].to_baseline, paid[arm].to_own]
            spent = paid[arm].to_own.spent
            rows.append([arm, f"pass@{k}", k, score, against.get(arm), *to_best, area, spent])
    columns = [
        column("arm"),
        column("measure", title="score"),
        Column("k"),
        column("score", ".3f", f"at {compact(cost)} {unit}"),
        column("difference_from_baseline", ".3f", f"less {baseline.arm}'s"),
        column("cost_to_baselines_best", COMPACT, f"{unit} to {baseline.arm}'s best"),
        column("cost_to_own_best", COMPACT, f"{unit} to own best"),
        column("mean_over_cost", ".3f", "mean over the cost"),
        Column("spent"),
    ]
    about: Fields = {**matched.about, "against": baseline.arm, "at_cost": cost}
    notes = [*_cost_notes(matched), *notes]
    return Report("equal_cost", f"{matched.title}: at equal cost", columns, rows, notes, about)


def _bought(curve: Curve, k: int, cost: float) -> NDArray[np.float64]:
    """pass@k of each seed and problem at an equal cost, [S, P]."""
    return _of_seeds(score_at, curve, k, cost)


def _area(curve: Curve, k: int, cost: float) -> NDArray[np.float64]:
    """The mean of pass@k over the cost, of each seed and problem, [S, P]."""
    return _of_seeds(mean_over_cost, curve, k, cost)


def _of_seeds(
    measure: Callable[..., NDArray[np.float64]], curve: Curve, k: int, cost: float
) -> NDArray[np.float64]:
    """`measure` of each seed's costs and scores; in [0, 1], which rounding may have left."""
    scores = curve.scores(k)
    values = [measure(curve.cost[:, s], scores[:, s], cost) for s in range(scores.shape[1])]
    return np.clip(values, 0, 1)


def _against(
    values: dict[str, NDArray[np.float64]], matched: Matched, k: int, measure: str
) -> dict[str, stats.Comparison]:
    """Each other arm's paired difference from the baseline, as under the leaderboard."""
    if len(values) < 2:
        return {}
    rng = matched.rng(k, measure, "against")
    compared = stats.compare_arms(values, matched.baseline.arm, rng=rng)
    return {comparison.arm: comparison for comparison in compared}


class Cost(NamedTuple):
    """What a score cost with its 95 % interval, inf where it was not reached within `spent`."""

    estimate: float
    low: float
    high: float
    begin: float  # cost of the first evaluation
    spent: float  # of the last one

    def text(self, form: str) -> str:
        """ "0.004 [0.003, > 0.012]": censored where the spending ended before the score came."""
        bounds = f"[{self._censored(self.low, form)}, {self._censored(self.high, form)}]"
        return f"{self._censored(self.estimate, form)} {bounds}"

    def _censored(self, cost: float, form: str) -> str:
        if np.isinf(cost):
            return f"> {number(self.spent, form)}"
        first = cost == self.begin and self.begin > 0
        return f"≤ {number(cost, form)}" if first else number(cost, form)

    def fields(self, name: str) -> Fields:
        """inf: more than was spent."""
        bounds = {f"{name}_low": self.low, f"{name}_high": self.high}
        return {name: self.estimate, **bounds}


@dataclass(frozen=True)
class Paid:
    """What an arm paid for the baseline's best score and for its own."""

    to_baseline: Cost
    to_own: Cost


def costs_to_best(matched: Matched, k: int) -> dict[str, Paid]:
    """What each arm paid for the baseline's best score and its own (AEnt, 2509.03493, Table 2).

    Best is the highest mean over the points after the base model's. Each resample of problems (and
    seeds) is the same for all arms, and has goals of its own.
    """
    base = matched.baseline
    seeds, problems = base.n.shape[1:]
    draws = Draws.make(seeds, problems, RESAMPLES, matched.rng(k, "cost"))
    goal, goal_R = (
        _best(base, score)
        for score in (base.mean(k)[1], draws.curves(base.cost, base.scores(k))[1])
    )
    paid = {}
    for curve in matched.curves:
        cost, score = curve.mean(k)
        cost_RC, score_RC = draws.curves(curve.cost, curve.scores(k))
        own_goal, own_goal_R = _best(curve, score), _best(curve, score_RC)
        to_best = []
        for target, target_R in ((goal, goal_R), (own_goal, own_goal_R)):
            resampled = [
                cost_to(spent, scored, float(reached))
                for spent, scored, reached in zip(cost_RC, score_RC, target_R, strict=True)
            ]
            to_best.append(_cost(cost, cost_to(cost, score, float(target)), resampled))
        paid[curve.arm] = Paid(*to_best)
    return paid


def _best(curve: Curve, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest score after the base model's, over the last axis, which is the points."""
    return score[..., curve.fraction > BASE].max(axis=-1)


def _cost(cost_C: NDArray[np.float64], estimate: float, resampled: list[float]) -> Cost:
    low, high = percentile([*resampled, estimate])
    ends = (float(cost_C[0]), float(cost_C[-1]))
    return Cost(estimate, min(low, estimate), max(high, estimate), *ends)


def _cost_notes(matched: Matched) -> list[str]:
    unit, baseline = UNITS[matched.unit], matched.baseline.arm
    over = "problems" + (" and seeds" if len(matched.seeds) > 1 else "")
    points = sorted({len(curve.fraction) for curve in matched.curves})
    notes = [
        f"Scores at the most {unit} that every run has spent, in straight lines between "
        f"{'/'.join(map(str, points))} evaluations; brackets: 95 % over {over}, those of "
        "differences together (Bonferroni).",
        "Best: the highest evaluation after the base model's, picked afterwards, so an own best "
        "costs what some evaluation did. A score costs what was spent where the lines first reach "
        'it; "> x": not within the x that the arm spent. Brackets: 95 % of a bootstrap over '
        f"{over}, {baseline}'s best drawn anew each time.",
        "Mean over the cost: the area under the score from 0 to that cost, over the cost.",
    ]
    if 1 < len(matched.seeds) < 5:
        notes.append(
            f"{len(matched.seeds)} seeds: the brackets of a cost understate how much another seed "
            "would change."
        )
    if len(matched.seeds) == 1:
        notes.append("One seed: nothing here says that another seed would agree.")
    if matched.left_out:
        notes.append(
            "Left out, not scored at two costs yet or with a seed that not every arm has: "
            f"{', '.join(matched.left_out)}."
        )
    return notes


# Saturation -------------------------------------------------------------------------------------


def _saturation(matched: Matched) -> tuple[list[Report], list[str]]:
    """The fitted curves in a table, when there is one, and why others were not fitted."""
    rows: list[list[Entry]] = []
    refused: dict[str, list[str]] = {}
    for k in matched.ks:
        for curve in matched.curves:
            try:
                rows.append([curve.arm, f"pass@{k}", k, *_fitted(matched, curve, k)])
            except ValueError as error:
                refused.setdefault(str(error), []).append(f"{curve.arm} pass@{k}")
    unit = UNITS[matched.unit]
    notes = [
        "R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B), ScaleRL (2510.13786); R0 is the base model's "
        "score, measured. A is where the curve would end, not a score that was reached; beyond "
        f"what was spent, nothing was measured. C_mid: {unit} to half of the way.",
        f"Brackets: 95 % of {FIT_RESAMPLES} refits to resampled problems"
        f"{' and seeds' if len(matched.seeds) > 1 else ''}.",
    ]
    refusals = [f"No saturating fit of {_all(curves)}: {why}." for why, curves in refused.items()]
    if not rows:
        return [], refusals
    columns = [
        *(column("arm"), column("measure", title="score"), Column("k")),
        column("start", COMPACT, "R0"),
        column("asymptote", COMPACT, "A"),
        column("middle", COMPACT, f"C_mid, {unit}"),
        column("exponent", COMPACT, "B"),
        column("error", ".3f", "misses by (RMS)"),
        column("told_by_the_points"),
    ]
    title = f"{matched.title}: saturation"
    notes = [*notes, *refusals]
    return [Report("saturation", title, columns, rows, notes, matched.about)], refusals


def _all(names: list[str]) -> str:
    """Names with commas, as many as a reader wants to see."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _fitted(matched: Matched, curve: Curve, k: int) -> list[Entry]:
    """R0, A, C_mid, B with intervals, the error, and whether the points tell the parameters.

    Raises ValueError where there is no honest fit.
    """
    if curve.fraction[0] > BASE:
        raise ValueError("the base model was not scored (evaluate.at has no 0)")
    cost, score = curve.mean(k)
    fit = fit_saturation(cost[1:], score[1:], score[0])
    seeds, problems = curve.n.shape[1:]
    draws = Draws.make(seeds, problems, FIT_RESAMPLES, matched.rng(curve.arm, k, "fit"))
    refits = [
        fit_saturation(c[1:], s[1:], s[0], refine=False)
        for c, s in zip(*draws.curves(curve.cost, curve.scores(k)), strict=True)
    ]
    names = ("start", "asymptote", "middle", "exponent")
    return [*(_refitted(fit, refits, name) for name in names), fit.error, _told(fit, cost[-1])]


def _told(fit: Saturation, spent: float) -> str:
    """ "yes", or which parameter the points leave open."""
    low, high = EXPONENTS
    for is_open, why in (
        (not 0.001 < fit.asymptote < 0.999, "A is at its limit"),
        (fit.middle > spent, "C_mid is beyond what was spent"),
        (not 1.01 * low < fit.exponent < 0.99 * high, "B is at its limit"),
    ):
        if is_open:
            return f"no: {why}"
    return "yes"


def _refitted(fit: Saturation, refits: list[Saturation], name: str) -> stats.Interval:
    """A parameter with the interval of its refits."""
    value = getattr(fit, name)
    low, high = percentile([getattr(refit, name) for refit in refits])
    return stats.Interval(value, min(low, value), max(high, value))

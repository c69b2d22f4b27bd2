"""Arms at equal cost: what a budget bought, what a score cost, where the GPU-hours went.

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
from suite.report.scores import with_interval
from suite.report.spending import BASE, UNITS, Curve, Matched, read
from suite.report.table import Report
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
from suite.store.timings import Timing
from suite.text import compact
from suite.worker.ledger import SECONDS_PER_HOUR

RESAMPLES, FIT_RESAMPLES = 2000, 400


def reports(db: Path, matrix: str, unit: str | None = None) -> list[Report]:
    """The tables of a matrix: equal cost and cost to score, saturation, phases.

    unit: of the cost, one of UNITS; by default the budget's.

    Raises ValueError for an unknown unit, or one that the runs did not record.
    """
    if unit is not None and unit not in UNITS:
        raise ValueError(f"unknown unit {unit!r}: one of {', '.join(UNITS)}")
    found = []
    with connect(db) as connection:
        of = connection.execute(
            "SELECT DISTINCT benchmark, model FROM pass_at_k WHERE matrix = ? ORDER BY ALL",
            [matrix],
        ).fetchall()
        own = connection.execute(
            "SELECT budget_unit FROM runs WHERE matrix = ? ORDER BY position", [matrix]
        ).fetchone()
        chosen = unit or (own[0] if own else "gpu_hours")
        for benchmark, model in of:
            matched = read(connection, matrix, benchmark, model, chosen)
            if matched:
                fits, refused = _saturation(matched)
                found += [_equal_cost(matched, [] if fits else refused), *fits]
        arms = dict(
            connection.execute(
                "SELECT run, arm FROM data.cells WHERE matrix = ? ORDER BY position", [matrix]
            ).fetchall()
        )
    runs = {timing.run: timing for timing in timings.read_timings(db, matrix)}
    traced = [replace(runs[run], arm=arm) for run, arm in arms.items() if run in runs]
    for model in dict.fromkeys(timing.model for timing in traced):
        found.append(phases(matrix, [timing for timing in traced if timing.model == model]))
    return found


# Equal cost, and the cost of a score ------------------------------------------------------------


def _equal_cost(matched: Matched, notes: list[str]) -> Report:
    """A row for each k and arm: what the equal cost bought, and what the best scores cost.

    notes: what else is to be said below it.
    """
    unit, baseline, cost = UNITS[matched.unit], matched.baseline, matched.equal_cost
    rows = []
    for k in matched.ks:
        bought = {c.arm: _bought(c, k, cost) for c in matched.curves}
        areas = {c.arm: _area(c, k, cost) for c in matched.curves}
        paid = costs_to_best(matched, k)
        against = _against(bought, matched, k, "score")
        for curve in sorted(matched.curves, key=lambda c: -bought[c.arm].mean()):
            arm = curve.arm
            rows.append(
                [
                    arm,
                    f"pass@{k}",
                    with_interval(bought[arm], matched.rng(arm, k, "score")),
                    against.get(arm, ""),
                    paid[arm].to_baseline.text,
                    paid[arm].to_own.text,
                    with_interval(areas[arm], matched.rng(arm, k, "area")),
                ]
            )
    columns = [
        *("arm", "score", f"at {compact(cost)} {unit}", f"less {baseline.arm}'s"),
        *(f"{unit} to {baseline.arm}'s best", f"{unit} to own best", "mean over the cost"),
    ]
    return Report(
        f"{matched.title}: matched compute", columns, rows, [*_cost_notes(matched), *notes]
    )


def _bought(curve: Curve, k: int, cost: float) -> NDArray[np.float64]:
    """pass@k of each seed and problem at an equal cost, [S, P]."""
    return _of_seeds(score_at, curve, k, cost)


def _area(curve: Curve, k: int, cost: float) -> NDArray[np.float64]:
    """The mean of pass@k over the cost, of each seed and problem, [S, P]."""
    return _of_seeds(mean_over_cost, curve, k, cost)


def _of_seeds(
    of: Callable[..., NDArray[np.float64]], curve: Curve, k: int, cost: float
) -> NDArray[np.float64]:
    """What `of` makes of each seed's costs and scores; in [0, 1], which rounding may have left."""
    scores = curve.scores(k)
    values = [of(curve.cost[:, s], scores[:, s], cost) for s in range(scores.shape[1])]
    return np.clip(values, 0, 1)


def _against(values: dict[str, NDArray], matched: Matched, k: int, what: str) -> dict[str, str]:
    """Each other arm's paired difference from the baseline, as under the leaderboard."""
    if len(values) < 2:
        return {}
    found = stats.compare_arms(values, matched.baseline.arm, rng=matched.rng(k, what, "against"))
    return {
        one.arm: f"{one.estimate:+.3f} [{one.low:+.3f}, {one.high:+.3f}] "
        + (one.verdict.split()[0] if one.shown else "not shown")
        for one in found
    }


class Cost(NamedTuple):
    """What a score cost with its 95 % interval, inf where it was not reached; and as text."""

    found: float
    low: float
    high: float
    text: str


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
        own, own_R = _best(curve, score), _best(curve, score_RC)
        found = []
        for one, many_R in ((goal, goal_R), (own, own_R)):
            resampled = [
                cost_to(*pair, wanted)
                for *pair, wanted in zip(cost_RC, score_RC, many_R, strict=True)
            ]
            found.append(_cost(cost, cost_to(cost, score, float(one)), resampled))
        paid[curve.arm] = Paid(*found)
    return paid


def _best(curve: Curve, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest score after the base model's, over the last axis, which is the points."""
    return score[..., curve.fraction > BASE].max(axis=-1)


def _cost(cost_C: NDArray[np.float64], found: float, resampled: list[float]) -> Cost:
    """As text "0.004 [0.003, > 0.012]": censored where the spending ended before the score came."""
    low, high = percentile([*resampled, found])
    low, high = min(low, found), max(high, found)
    bound = float(cost_C[-1])
    first = float(cost_C[0])

    def text(value: float) -> str:
        if np.isinf(value):
            return f"> {compact(bound)}"
        return f"≤ {compact(value)}" if value == first and first > 0 else compact(value)

    return Cost(found, low, high, f"{text(found)} [{text(low)}, {text(high)}]")


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
    rows, refused = [], {}
    for k in matched.ks:
        for curve in matched.curves:
            try:
                rows.append([curve.arm, f"pass@{k}", *_fitted(matched, curve, k)])
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
    refusals = [f"No saturating fit of {_all(whom)}: {why}." for why, whom in refused.items()]
    if not rows:
        return [], refusals
    columns = [
        "arm",
        "score",
        "R0",
        "A",
        f"C_mid, {unit}",
        "B",
        "misses by (RMS)",
        "told by the points",
    ]
    return [Report(f"{matched.title}: saturation", columns, rows, [*notes, *refusals])], refusals


def _all(names: list[str]) -> str:
    """Names with commas, as many as a reader wants to see."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _fitted(matched: Matched, curve: Curve, k: int) -> list[str]:
    """R0, A, C_mid, B with intervals, the error, and whether the points tell the parameters.

    Raises ValueError where there is no honest fit.
    """
    if curve.fraction[0] > BASE:
        raise ValueError("the base model was not scored (evaluate.at has no 0)")
    cost, score = curve.mean(k)
    fit = fit_saturation(cost[1:], score[1:], score[0])
    draws = Draws.make(*curve.n.shape[1:], FIT_RESAMPLES, matched.rng(curve.arm, k, "fit"))
    many = [
        fit_saturation(c[1:], s[1:], s[0], refine=False)
        for c, s in zip(*draws.curves(curve.cost, curve.scores(k)), strict=True)
    ]
    names = ("start", "asymptote", "middle", "exponent")
    texts = [_with_interval(fit, many, name) for name in names]
    return [*texts, f"{fit.error:.3f}", _told(fit, float(cost[-1]))]


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


def _with_interval(fit: Saturation, many: list[Saturation], name: str) -> str:
    value = getattr(fit, name)
    low, high = percentile([getattr(one, name) for one in many])
    return f"{compact(value)} [{compact(min(low, value))}, {compact(max(high, value))}]"


# Phases -----------------------------------------------------------------------------------------


def phases(matrix: str, runs: list[Timing]) -> Report:
    """Where the time of each arm went: shares of what was charged, and what was not.

    runs: of one model, at least one.
    """
    by_arm: dict[str, list[Timing]] = {}
    for run in runs:
        by_arm.setdefault(run.arm, []).append(run)
    names = [name for name in PHASES if any(name in run.charged for run in runs)]
    names += sorted({name for run in runs for name in run.charged} - set(names))
    rows = []
    for arm, own in by_arm.items():
        spent = {name: sum(run.charged.get(name, 0.0) for run in own) for name in names}
        total = sum(spent.values())
        hours = _hours(own, lambda run: sum(run.charged.values()))
        steps = sum(run.steps for run in own)
        beside = [
            _hours(own, lambda run: sum((run.aside or {}).values())),
            _hours(own, lambda run: run.held_at_start),
            _hours(own, lambda run: run.lost),
        ]
        rows.append(
            [
                *(arm, str(len(own)), str(steps), f"{hours / steps:.3g}"),
                *(f"{spent[name] / total:.1%}" for name in names),
                *map(compact, [hours, *beside, hours + sum(beside)]),
            ]
        )
    columns = ["arm", "runs", "steps", "GPU-hours a step", *names]
    columns += ["charged", "evaluation, idle …", "start-up", "lost", "held"]
    notes = [
        "Shares of the charged GPU-hours, all steps of all runs; then GPU-hours: charged, and what "
        "finished runs held beside it. Lost: steps and starts of attempts that came to nothing. A "
        "start-up that runs shared is counted with the first of them.",
        *_searches(by_arm),
    ]
    title = f"{matrix}: {Path(runs[0].model).name}: where the GPU-hours went"
    return Report(title, columns, rows, notes)


def held_seconds(run: Timing) -> float:
    """Of one run: charged, beside that, at its start, lost."""
    beside = sum((run.aside or {}).values()) + run.held_at_start + run.lost
    return sum(run.charged.values()) + beside


def _hours(runs: list[Timing], seconds: Callable[[Timing], float]) -> float:
    """GPU-hours of runs."""
    return sum(seconds(run) * run.gpus for run in runs) / SECONDS_PER_HOUR


def _searches(by_arm: dict[str, list[Timing]]) -> list[str]:
    """What each sweep has cost: a method that needs its settings searched for pays for that too."""
    sweeps: dict[str, list[str]] = {}
    for variant in by_arm:
        sweeps.setdefault(variant.split(" ")[0], []).append(variant)
    lines = []
    for arm, variants in sweeps.items():
        runs = [run for variant in variants for run in by_arm[variant]]
        hours = compact(_hours(runs, lambda run: sum(run.charged.values())))
        if len(variants) > 1:
            lines.append(
                f"Search: {arm} was run with {len(variants)} settings, "
                f"{hours} GPU-hours charged in all."
            )
    return lines


PHASES = ("generation", "extra_generation", "reward", "experience", "update", "sync")

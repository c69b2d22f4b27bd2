"""Where the GPU-hours of each arm went: shares of what was charged, and what was held beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from suite.metrics import SECONDS_PER_HOUR
from suite.report.table import COMPACT, Entry, Report, column
from suite.store.timings import Timing
from suite.text import compact

PHASES = ("generation", "extra_generation", "reward", "experience", "update", "sync")


def phases(matrix: str, runs: list[Timing]) -> Report:
    """Where the time of each arm went: shares of what was charged, and what was not.

    runs: of one model, at least one.
    """
    by_arm: dict[str, list[Timing]] = {}
    for run in runs:
        by_arm.setdefault(run.arm, []).append(run)
    names = [name for name in PHASES if any(name in run.charged for run in runs)]
    names += sorted({name for run in runs for name in run.charged} - set(names))
    rows: list[list[Entry]] = []
    for arm, of_arm in by_arm.items():
        spent = {name: sum(run.charged.get(name, 0.0) for run in of_arm) for name in names}
        total = sum(spent.values())
        hours = _hours(of_arm, lambda run: sum(run.charged.values()))
        steps = sum(run.steps for run in of_arm)
        beside = [
            _hours(of_arm, lambda run: sum((run.aside or {}).values())),
            _hours(of_arm, lambda run: run.held_at_start),
            _hours(of_arm, lambda run: run.lost),
        ]
        shares = [spent[name] / total for name in names]
        rows.append([arm, len(of_arm), steps, hours / steps, *shares])
        rows[-1] += [hours, *beside, hours + sum(beside)]
    columns = [
        *(column("arm"), column("runs"), column("steps")),
        column("gpu_hours_a_step", ".3g", "GPU-hours a step"),
        *(column(f"share_{name}", ".1%", name) for name in names),
        column("charged", COMPACT),
        column("aside", COMPACT, "evaluation, idle …"),
        column("start_up", COMPACT, "start-up"),
        *(column("lost", COMPACT), column("held", COMPACT)),
    ]
    notes = [
        "Shares of the charged GPU-hours, all steps of all runs; then GPU-hours: charged, and what "
        "finished runs held beside it. Lost: steps and starts of attempts that came to nothing. A "
        "start-up that runs shared is counted with the first of them.",
        *_searches(by_arm),
    ]
    title = f"{matrix}: {Path(runs[0].model).name}: where the GPU-hours went"
    return Report("phases", title, columns, rows, notes, {"matrix": matrix, "model": runs[0].model})


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

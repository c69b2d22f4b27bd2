"""The plan on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from suite.matrix.cell import Cell
from suite.metrics import SECONDS_PER_HOUR as HOUR
from suite.plan.plan import (
    Planned,
    command,
    differences,
    side_by_side,
    total,
    unfinished,
    warnings,
)
from suite.text import compact, duration
from suite.workspace import Workspace


def show(
    console: Console,
    path: Path,
    planned: list[Planned],
    workspace: Workspace,
    commands: bool,
    gpus: int | None = None,
) -> None:
    """The plan on the terminal; commands unwrapped, so that they can be copied."""
    cells = [entry.cell for entry in planned]
    console.print(_table(path, planned))
    for line in [*_total_lines(planned), *_beside_lines(planned, gpus), *_memory_lines(planned)]:
        console.print(line, markup=False, highlight=False)
    lines = differences(cells)
    if lines:
        console.print("Besides the algorithm, arms differ in:", *lines, sep="\n  ", markup=False)
    else:
        console.print("Arms differ in nothing but the algorithm and its settings.")
    for line in warnings(cells):
        console.print(line, style="yellow", markup=False, highlight=False)
    if commands:
        by_hand = "Each command trains its arm by hand, without evaluation"
        console.print(f"\n{by_hand}; `suite run` trains and scores:")
        for cell in cells:
            console.print(f"\n# {cell.arm}, seed {cell.seed}", highlight=False, markup=False)
            text = command(cell, workspace)
            console.print(text, highlight=False, markup=False, soft_wrap=True)


def _table(path: Path, planned: list[Planned]) -> Table:
    cells = [entry.cell for entry in planned]
    table = Table(title=f"{path}: {len(cells)} runs, {total_text(cells)} in all")
    table.add_column("run", no_wrap=True)
    for column in ("arm", "algorithm", "settings", "model", "seed", "budget", "GPUs"):
        table.add_column(column, overflow="fold")
    for column in ("steps", "GPU-hours", "wall time", "memory"):
        table.add_column(column, justify="right")
    for entry in planned:
        cell, estimate = entry.cell, entry.estimate
        cost = ["?", "?", "?"]
        if entry.status == "finished":
            cost = ["finished", "", ""]
        elif estimate:
            wall = duration(estimate.seconds + estimate.start_up)
            cost = [str(estimate.steps), compact(estimate.gpu_hours), wall]
        table.add_row(
            cell.id,
            cell.arm,
            cell.algorithm,
            settings_text(cell.settings),
            Path(cell.model).name,
            str(cell.seed),
            budget_text(cell.budget),
            str(cell.resources["gpus"]),
            *cost,
            {None: "?", True: "fits", False: "does not fit"}[entry.fits],
        )
    return table


def _total_lines(planned: list[Planned]) -> list[str]:
    """What is left to spend, and where the numbers come from, said once for cells that agree."""
    summed = total(planned)
    if summed.finished == summed.cells:
        return ["Every run is finished: nothing is left to spend."]
    done = f" ({summed.finished} of {summed.cells} runs are finished)" if summed.finished else ""
    if summed.gpu_hours is None or summed.held_gpu_hours is None or summed.hours is None:
        lines = [f"Estimated: the cost of at least one run is not known{done}."]
    else:
        starts = f"{summed.starts} start{'s' * (summed.starts != 1)} of the stack"
        lines = [
            f"Estimated, runs one after the other: {compact(summed.gpu_hours)} GPU-hours charged, "
            f"{compact(summed.held_gpu_hours)} held (with evaluation, checkpoints and {starts}), "
            f"{duration(summed.hours * HOUR)} of wall time{done}."
        ]
    coming = unfinished(planned)
    by_basis: dict[str, list[str]] = {}
    for entry in coming:
        if entry.estimate:
            label = {"measured": "Measured", "model": "A model, not a measurement"}
            text = f"{label[entry.estimate.source]}: {entry.estimate.basis}"
            by_basis.setdefault(text, []).append(entry.cell.arm)
    for text, arms in by_basis.items():
        lines.append(f"  {text} (for {', '.join(dict.fromkeys(arms))}).")
    notes = dict.fromkeys(note for entry in coming for note in entry.notes)
    return [*lines, *(f"    {note}" for note in notes)]


def _beside_lines(planned: list[Planned], gpus: int | None) -> list[str]:
    """How long it takes where cells run side by side; what does not fit there."""
    if not gpus:
        return []
    large = {entry.cell.arm for entry in planned if entry.cell.resources["gpus"] > gpus}
    if large:
        return [f"{', '.join(sorted(large))}: more GPUs are asked for than {gpus}."]
    hours = side_by_side(planned, gpus)
    if hours is None:
        return []
    return [f"Side by side on {gpus} GPUs: {duration(hours * HOUR)} of wall time."]


def _memory_lines(planned: list[Planned]) -> list[str]:
    """A line for each way in which cells do not fit, with what to try."""
    arms: dict[str, list[str]] = {}
    for entry in planned:
        if entry.problems:
            tried = "; no setting was found with which it fits"
            if entry.remedy:
                tried = "; try " + ", ".join(f"{k}: {_yaml(v)}" for k, v in entry.remedy.items())
            elif not entry.moments:
                tried = "; try a smaller model or a machine with more memory"
            line = "does not fit: " + "; ".join(entry.problems) + tried
            arms.setdefault(line, []).append(entry.cell.arm)
    return [f"{', '.join(dict.fromkeys(names))}: {line}" for line, names in arms.items()]


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def budget_text(budget: dict[str, float]) -> str:
    """ "0.02 GPU-hours", "40 steps", "100000 tokens"."""
    ((unit, limit),) = budget.items()
    return f"{limit:g} {'GPU-hours' if unit == 'gpu_hours' else unit}"


def total_text(cells: list[Cell]) -> str:
    """What all cells together may spend."""
    total: dict[str, float] = {}
    for cell in cells:
        ((unit, limit),) = cell.budget.items()
        total[unit] = total.get(unit, 0.0) + limit
    return " + ".join(budget_text({unit: limit}) for unit, limit in total.items())


def settings_text(settings: dict[str, Any]) -> str:
    """ "eps_low=0.2 eps_high=inf"."""
    return " ".join(f"{name}={value}" for name, value in settings.items())

"""What a matrix would do: its cells, their budgets, where arms differ, and the exact commands.

Imports neither torch, Ray nor vLLM; nothing is started and nothing is written.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import algorithms
from algorithms.openrlhf.flags import MODULE
from suite.cell import Cell, Workspace
from suite.worker import openrlhf_flags


def command(cell: Cell, workspace: Workspace) -> str:
    """The OpenRLHF command of a cell, as a shell would take it."""
    return shlex.join(["python", "-m", MODULE, *openrlhf_flags(cell, workspace)])


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


def differences(cells: list[Cell]) -> list[str]:
    """Where arms differ in anything but the algorithm and its settings, one line each."""
    lines = []
    for section in ("model", "train", "evaluate", "resources"):
        values: dict[str, dict[str, set[str]]] = {}
        for cell in cells:
            content = getattr(cell, section)
            items = content.items() if isinstance(content, dict) else [("", content)]
            for key, value in items:
                values.setdefault(key, {}).setdefault(str(value), set()).add(cell.arm)
        for key, by_value in values.items():
            arms = list(by_value.values())
            if len(by_value) > 1 and any(group != arms[0] for group in arms[1:]):
                name = f"{section}.{key}" if key else section
                text = "; ".join(f"{v} ({', '.join(sorted(a))})" for v, a in by_value.items())
                lines.append(f"{name}: {text}")
    return lines


def warnings(cells: list[Cell]) -> list[str]:
    """Arms that cannot differ from plain GRPO as the matrix is written, one line each."""
    inert = {
        cell.arm
        for cell in cells
        if cell.train["optimizer_steps_per_rollout"] == 1
        and (
            algorithms.algorithm_class(cell.algorithm).only_ratio
            or (cell.algorithm == "grpo" and not _plain(cell.settings))
        )
    }
    return [
        f"warning: {arm} will be inert: with one optimizer step on each rollout batch the ratio "
        "is 1 and no clip acts; set train.optimizer_steps_per_rollout to 4 or more"
        for arm in sorted(inert)
    ]


def _plain(settings: dict[str, Any]) -> bool:
    """Whether these settings of GRPO are the baseline's."""
    return settings["eps_low"] == settings["eps_high"] == 0.2


def settings_text(settings: dict[str, Any]) -> str:
    """ "eps_low=0.2 eps_high=inf"."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


def show(
    console: Console, path: Path, cells: list[Cell], workspace: Workspace, commands: bool
) -> None:
    """The plan on the terminal; commands unwrapped, so that they can be copied."""
    table = Table(title=f"{path}: {len(cells)} cells, {total_text(cells)} in all")
    table.add_column("cell", no_wrap=True)
    for column in ("arm", "algorithm", "settings", "model", "seed", "budget", "GPUs"):
        table.add_column(column, overflow="fold")
    for cell in cells:
        table.add_row(
            cell.id,
            cell.arm,
            cell.algorithm,
            settings_text(cell.settings),
            Path(cell.model).name,
            str(cell.seed),
            budget_text(cell.budget),
            str(cell.resources["gpus"]),
        )
    console.print(table)
    lines = differences(cells)
    if lines:
        console.print("Besides the algorithm, arms differ in:", *lines, sep="\n  ", markup=False)
    else:
        console.print("Arms differ in nothing but the algorithm and its settings.")
    for line in warnings(cells):
        console.print(line, style="yellow", markup=False, highlight=False)
    if commands:
        console.print("\nThe OpenRLHF command that each cell runs, with our classes plugged in:")
        for cell in cells:
            console.print(f"\n# {cell.arm}, seed {cell.seed}", highlight=False, markup=False)
            text = command(cell, workspace)
            console.print(text, highlight=False, markup=False, soft_wrap=True)

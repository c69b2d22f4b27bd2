"""From a cell to command lines: OpenRLHF's own, and the one that trains the cell by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from algorithms.openrlhf.flags import command_line
from suite import machine
from suite.matrix import sources
from suite.matrix.cell import Cell
from suite.workspace import ROOT, Workspace

BY_HAND = "suite.worker.by_hand"


def by_hand(cell: Cell, workspace: Workspace) -> list[str]:
    """The command that trains a cell without `suite run`, word by word.

    Everything that changes what is trained is in it, evaluation is not. It has a folder of its own,
    so that it neither resumes nor disturbs what `suite run` makes of the same cell.
    """
    train, reward = cell.train, cell.train["reward"]
    settings = {
        "algorithm": cell.algorithm,
        "settings": json.dumps(finite(cell.settings), sort_keys=True),
        "budget": _assigned(cell.budget),
        "reward": reward if isinstance(reward, str) else _assigned(reward),
        "checkpoint_every": train["checkpoint_every"],
        "clip_diagnostics": train["clip_diagnostics"],
    }
    ours = [word for name, value in settings.items() for word in (f"--suite.{name}", str(value))]
    flags = openrlhf_flags(cell, workspace, workspace.by_hand(cell.id))
    return ["python", "-m", BY_HAND, *ours, *flags]


def _assigned(single: Mapping[str, float]) -> str:
    """ "gpu_hours=0.0065" of a mapping with one entry."""
    ((name, value),) = single.items()
    return f"{name}={value}"


def finite(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON and the database have them: infinities are the text "inf" or "-inf"."""
    infinite = (float("inf"), float("-inf"))
    return {name: str(v) if v in infinite else v for name, v in settings.items()}


def infinite(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as an algorithm takes them, from what `finite` made of them."""
    return {name: float(v) if v in ("inf", "-inf") else v for name, v in settings.items()}


def openrlhf_flags(cell: Cell, workspace: Workspace, folder: Path | None = None) -> list[str]:
    """The exact OpenRLHF command line of a cell in a workspace; imports nothing heavy.

    `folder` is where checkpoints go when it is not the cell's own.
    """
    device = "gpu" if cell.resources["accelerator"] else machine.device()
    gpus = cell.resources["gpus"]
    train = dict(cell.train)
    rollouts = train["prompts_per_step"] * train["samples_per_prompt"]
    share = rollouts // train["optimizer_steps_per_rollout"] // gpus
    largest = 64 if device == "cpu" else 4
    train["micro_batch_size"] = train["micro_batch_size"] or largest_divisor(share, largest)
    train["rollout_micro_batch_size"] = train["rollout_micro_batch_size"] or largest_divisor(
        rollouts // gpus, 2 * largest
    )
    return command_line(
        train,
        gpus=gpus,
        device=device,
        seed=cell.seed,
        model=sources.model_path(cell.model, workspace.models),
        dataset=sources.data_path(train["dataset"], workspace.data, "train"),
        workspace=folder or workspace.cell(cell.id),
        reward=str(ROOT / "benchmarks" / "grading.py"),
        longest_response=max(train["max_new_tokens"], cell.evaluate["max_new_tokens"] or 0),
    )


def largest_divisor(number: int, largest: int) -> int:
    """The largest one of `number` that is at most `largest`."""
    return next(d for d in range(min(number, largest), 0, -1) if number % d == 0)


def stack_key(cell: Cell, workspace: Workspace) -> str | None:
    """Cells of one key can go through one start of the stack; None: a cell has it to itself.

    It is what OpenRLHF is told but for the cell's own folder and seed.
    """
    if cell.in_one_process:
        return None
    cell = replace(cell, seed=0)
    flags = openrlhf_flags(cell, workspace)
    own = str(workspace.cell(cell.id))
    shared = [cell.train["reward"], cell.evaluate["benchmarks"]]
    return json.dumps([[flag.replace(own, "") for flag in flags], shared])

"""What a matrix would do: cells, cost, memory, where arms differ, and the exact commands.

Imports neither torch, Ray nor vLLM; nothing is started and nothing is written. The numbers are made
in cost.py and memory.py beside this file, and printed by show.py.
"""

from __future__ import annotations

import heapq
import itertools
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import algorithms
from algorithms.grpo import GRPO
from suite import machine
from suite.matrix.cell import Cell
from suite.matrix.command import by_hand, finite, openrlhf_flags, stack_key
from suite.metrics import SECONDS_PER_HOUR as HOUR
from suite.plan import cost as estimates
from suite.plan import memory, size
from suite.plan.cost import Estimate
from suite.plan.memory import Load
from suite.plan.size import Accelerator, ModelShape
from suite.store import timings
from suite.store.timings import Timing
from suite.workspace import Workspace


def command(cell: Cell, workspace: Workspace) -> str:
    """The command that trains a cell by hand, as a shell would take it."""
    return shlex.join(by_hand(cell, workspace))


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
            or (cell.algorithm == "grpo" and not GRPO(**cell.settings).is_plain)
        )
    }
    return [
        f"warning: {arm} will be inert: with one optimizer step on each rollout batch the ratio "
        "is 1 and no clip acts; set train.optimizer_steps_per_rollout to 4 or more"
        for arm in sorted(inert)
    ]


@dataclass(frozen=True)
class Planned:
    """A cell with what is known beforehand; `status` is its place in the database or "new".

    `fits` is None where the model's or the accelerator's size is not known; `problems` says why it
    does not fit, `remedy` holds settings of the matrix with which it would (None: none was found).
    """

    cell: Cell
    status: str
    group: str
    estimate: Estimate | None
    fits: bool | None
    moments: dict[str, dict[str, float]]
    problems: list[str]
    remedy: dict[str, Any] | None
    notes: list[str]


def prepare(cells: list[Cell], workspace: Workspace) -> list[Planned]:
    """Each cell with its estimate and its memory; reads the database where there is one."""
    runs = timings.read_timings(workspace.db)
    statuses = {run.run: run.status for run in runs}
    hardware = machine.hardware()
    return [_prepared(cell, workspace, runs, statuses, hardware) for cell in cells]


def _prepared(
    cell: Cell,
    workspace: Workspace,
    runs: list[Timing],
    statuses: dict[str, str],
    hardware: dict[str, Any],
) -> Planned:
    device, notes = _device(cell, hardware)
    on_cpu = not cell.resources["accelerator"] and machine.device() == "cpu"
    shape = size.model_shape(cell.model, workspace.models)
    estimate = estimates.from_runs(cell, runs, hardware)
    if shape is None:
        notes.append(
            f"the size of {cell.model} is not known: no config.json on this machine and no "
            "size in its name"
        )
    elif estimate is None and (device or on_cpu):
        estimate = estimates.from_model(cell, shape, device, hardware["cores"])
        notes += estimates.assumptions(cell, shape, device, hardware["cores"])
    fits, moments, problems, remedy = None, {}, [], None
    if shape and (device or on_cpu):
        load = _memory_load(cell, shape, workspace)
        if device:
            moments = {moment.name: moment.parts for moment in memory.moments(load, device)}
            problems = memory.problems(load, device)
            remedy = memory.remedy(load, device)
        else:
            problems = memory.host_problems(load, hardware["memory_gib"])
            remedy = memory.host_remedy(load, hardware["memory_gib"])
        fits = not problems
    return Planned(
        cell,
        statuses.get(cell.id, "new"),
        stack_key(cell, workspace) or cell.id,
        *(estimate, fits, moments, problems, remedy, notes),
    )


def _device(cell: Cell, hardware: dict[str, Any]) -> tuple[Accelerator | None, list[str]]:
    """The accelerator that the cell asks for, or this machine's; None on a CPU or when unknown."""
    name = cell.resources["accelerator"]
    if not name and machine.device() == "gpu" and hardware["gpus"]:
        name = hardware["gpus"][0]
    if not name:
        return None, []
    device = size.accelerator(name)
    if device is None:
        return None, [f"nothing is known of an accelerator called {name}: no memory, no model"]
    return device, [device.note] if device.note else []


def _memory_load(cell: Cell, shape: ModelShape, workspace: Workspace) -> Load:
    """What decides the cell's memory, as OpenRLHF will be told it."""
    flags = openrlhf_flags(cell, workspace)
    told = dict(itertools.pairwise(flags))
    algorithm = algorithms.load(cell.algorithm, **cell.settings)
    return Load(
        shape,
        cell.resources["gpus"],
        cell.train["zero_stage"],
        cell.train["tensor_parallel_size"],
        int(told["--train.micro_batch_size"]),
        int(told["--rollout.micro_batch_size"]),
        cell.train["max_prompt_tokens"] + cell.train["max_new_tokens"],
        cell.train["gradient_checkpointing"],
        algorithm.has_bonus,
    )


@dataclass(frozen=True)
class Total:
    """Of the cells that are not finished, one after the other; None where one is not known."""

    cells: int
    finished: int
    gpu_hours: float | None
    held_gpu_hours: float | None
    hours: float | None
    starts: int


def total(planned: list[Planned]) -> Total:
    """What is still to come; cells of one group share a start of the stack."""
    coming = unfinished(planned)
    finished, starts = len(planned) - len(coming), len({entry.group for entry in coming})
    costs = _costs(coming)
    if costs is None:
        return Total(len(planned), finished, None, None, None, starts)
    charged = seconds = held = 0.0
    started: set[str] = set()
    for entry, estimate in zip(coming, costs, strict=True):
        start = 0.0 if entry.group in started else estimate.start_up
        started.add(entry.group)
        charged += estimate.gpu_hours
        seconds += estimate.seconds + start
        held += (estimate.seconds + start) * estimate.gpus
    return Total(len(planned), finished, charged, held / HOUR, seconds / HOUR, starts)


def unfinished(planned: list[Planned]) -> list[Planned]:
    """The cells that still cost something, in order."""
    return [entry for entry in planned if entry.status != "finished"]


def _costs(planned: list[Planned]) -> list[Estimate] | None:
    """The estimate of each cell; None where one of them is not known."""
    estimates = [entry.estimate for entry in planned if entry.estimate]
    return estimates if len(estimates) == len(planned) else None


def side_by_side(planned: list[Planned], gpus: int) -> float | None:
    """Hours of wall time when `gpus` GPUs take the unfinished cells as they become free.

    In the plan's order, a start of the stack for each cell, none passing another. None where a cost
    is not known, or a cell wants more than there are.
    """
    costs = _costs(unfinished(planned))
    if costs is None or any(cost.gpus > gpus for cost in costs):
        return None
    now, free = 0.0, gpus
    running: list[tuple[float, int]] = []  # when it ends, the GPUs that it holds
    for cost in costs:
        while free < cost.gpus:
            now, released = heapq.heappop(running)
            free += released
        free -= cost.gpus
        heapq.heappush(running, (now + cost.seconds + cost.start_up, cost.gpus))
    return max((end for end, _ in running), default=now) / HOUR


def as_json(
    path: Path, planned: list[Planned], workspace: Workspace, gpus: int | None = None
) -> dict[str, Any]:
    """Everything that `show` shows, for other programs; infinite settings are the text "inf"."""
    beside = {"side_by_side_hours": side_by_side(planned, gpus)} if gpus else {}
    cells = [entry.cell for entry in planned]
    return {
        "matrix": cells[0].matrix,
        "file": str(path),
        "cells": [_cell_json(entry, workspace) for entry in planned],
        "total": asdict(total(planned)) | beside,
        "differences": differences(cells),
        "warnings": warnings(cells),
    }


def _cell_json(entry: Planned, workspace: Workspace) -> dict[str, Any]:
    cell, estimate = entry.cell, entry.estimate
    numbers = {}
    if estimate:
        numbers = asdict(estimate) | {
            "gpu_hours": estimate.gpu_hours,
            "wall_hours": (estimate.seconds + estimate.start_up) / HOUR,
        }
    return {
        "id": cell.id,
        "status": entry.status,
        **{
            name: getattr(cell, name)
            for name in ("arm", "algorithm", "model", "seed", "budget", "resources")
        },
        "settings": finite(cell.settings),
        "estimate": numbers or None,
        "memory": {
            "fits": entry.fits,
            "gib": entry.moments,
            "problems": entry.problems,
            "try": entry.remedy,
        },
        "notes": entry.notes,
        "command": command(cell, workspace),
    }

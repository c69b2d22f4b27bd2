"""Logs of other trainers as runs of runs.db: CSV files, and what verl prints.

A file becomes spooled lines of a run of the algorithm "external", and goes in as any other does. It
is named by its content: the same log again adds nothing. Columns that mean what one of ours means
take our name; the rest keep theirs.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

from suite.matrix.cell import EXTERNAL, Cell
from suite.spool import spool
from suite.spool.lock import only_conductor
from suite.store.store import Store
from suite.workspace import Workspace

STEP = ("step", "global_step", "train/global_step", "training/global_step", "_step")
NAMES = {
    # TRL's GRPOTrainer
    "completions/mean_length": "response_length",
    "completions/clipped_ratio": "truncated",
    "clip_ratio/low_mean": "clip_low",
    "clip_ratio/high_mean": "clip_high",
    "frac_reward_zero_std": "groups_without_signal",
    "num_tokens": "tokens",
    # verl: "entropy_loss" is the mean entropy of the tokens, in nats
    "actor/entropy_loss": "entropy",
    "actor/entropy": "entropy",
    "critic/score/mean": "reward",
    "response_length/mean": "response_length",
    "response_length/clip_ratio": "truncated",
    # others
    "response_length_mean": "response_length",
}
_CONSOLE = re.compile(r"\bstep:(\d+) - (\S+:\S+(?: - \S+:\S+)*)")  # verl's console logger

Steps = dict[int, dict[str, float]]  # step -> metric -> value


def read_log(path: Path) -> dict[str, Steps]:
    """The runs of a log by name: those of its column `run`, else one named as the file.

    Raises:
        ValueError: no steps in it, a step twice, or text where a number belongs; file and line are
            named.
    """
    runs: dict[str, Steps] = {}
    rows = _csv(path) if path.suffix == ".csv" else _console(path)
    for line, run, step, values in rows:
        steps = runs.setdefault(run, {})
        if step in steps:
            raise ValueError(f"{path}:{line}: step {step} of {run} is there twice")
        steps[step] = _named(values)
    if not runs:
        raise ValueError(f"{path}: no steps in it: neither CSV nor lines `step:1 - name:value`")
    return runs


def _csv(path: Path) -> Iterator[tuple[int, str, int, dict[str, float]]]:
    """(line, run, step, values) of each row."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        step = next((name for name in STEP if name in names), None)
        if step is None:
            raise ValueError(f"{path}:1: no column of steps: one of {', '.join(STEP)}")
        for row in reader:
            run = row.pop("run", None) or path.stem
            if None in row or None in row.values():
                raise ValueError(f"{path}:{reader.line_num}: {len(names)} columns are expected")
            numbers = {
                name: _number(text, f"{path}:{reader.line_num}: {name}")
                for name, text in row.items()
                if text.strip()
            }
            if not float(numbers.get(step, math.nan)).is_integer():
                raise ValueError(f"{path}:{reader.line_num}: {step} is no whole number")
            yield reader.line_num, run, int(numbers.pop(step)), numbers


def _console(path: Path) -> Iterator[tuple[int, str, int, dict[str, float]]]:
    """The same of lines like `step:3 - actor/entropy_loss:0.5 - critic/score/mean:0.1`."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if match := _CONSOLE.search(line):
                pairs = [pair.rsplit(":", 1) for pair in match.group(2).split(" - ")]
                values = {name: _number(text, f"{path}:{number}: {name}") for name, text in pairs}
                yield number, path.stem, int(match.group(1)), values


def _number(text: str, place: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{place}: {text!r} is no number") from None


def _named(values: dict[str, float]) -> dict[str, float]:
    """Under our names where nothing of that name is there already.

    Weights & Biases has TRL's columns in a section `train/`, which goes.
    """
    renamed: dict[str, float] = {}
    for name, value in values.items():
        bare = name.removeprefix("train/")
        ours = NAMES.get(bare, bare)
        renamed[name if ours in values or ours in renamed else ours] = value
    return renamed


def take_in(workspace: Workspace, paths: list[Path], name: str = EXTERNAL) -> list[Cell]:
    """The runs of logs as arms of the matrix `name`; those that are there already stay as they are.

    Raises:
        ValueError: a log cannot be read (see `read_log`), or two of them hold a run of one name.
        Busy: a conductor works on the database.
    """
    logged: dict[str, tuple[Path, Steps]] = {}
    for path in paths:
        for run, steps in read_log(path).items():
            if run in logged:
                raise ValueError(f"{path}: there is a run {run} in {logged[run][0]} as well")
            logged[run] = path, steps
    cells = {run: _cell(name, run, path, steps) for run, (path, steps) in logged.items()}
    with only_conductor(workspace):
        store = Store(workspace)
        try:
            store.register(list(cells.values()), keep=True)
            for run, cell in cells.items():
                if store.status(cell.id) != "finished":
                    _spool(workspace, cell, *logged[run])
                    store.ingest(cell.id)
                    store.set_status(cell.id, "finished")
        finally:
            store.close()
    return list(cells.values())


def _cell(matrix: str, run: str, path: Path, steps: Steps) -> Cell:
    content = hashlib.sha256(repr(sorted(steps.items())).encode()).hexdigest()
    return Cell(
        matrix=matrix,
        arm=run,
        algorithm=EXTERNAL,
        settings={},
        model=EXTERNAL,
        seed=0,
        train={},
        evaluate={"benchmarks": [], "samples": 0, "pass_at": []},
        budget={"steps": float(max(steps))},
        resources={"gpus": 0},
        identity={"log": content},
    )


def _spool(workspace: Workspace, cell: Cell, path: Path, steps: Steps) -> None:
    """The log as an attempt's lines; one that was cut short is written again from its start."""
    folder = workspace.cell(cell.id)
    attempt = spool.next_attempt(folder)
    writer = spool.Spool(spool.path_of(folder, attempt))
    writer.write("training", attempt=attempt, from_step=-1, log=path.name)
    for step, values in sorted(steps.items()):
        writer.write("trace", attempt=attempt, step=step, **values)
    writer.close()

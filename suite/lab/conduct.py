"""Runs what is not finished of an experiment and keeps every run in runs.db.

The runs of an arm are trained side by side in this process; each has a spool and a row of its own,
as an LLM's cell has. A run that is finished is not trained again, whatever experiment it was in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from suite import machine
from suite.lab.experiment import Arm, LabExperiment, LabTables
from suite.matrix.cell import Cell
from suite.spool.lock import only_conductor
from suite.spool.spool import Spool, path_of
from suite.store import Store
from suite.workspace import Workspace

Progress = Callable[[Arm, float], None]  # an arm and the share of it that is done


def conduct(experiment: LabExperiment, workspace: Workspace, progress: Progress) -> None:
    """Bring every run of the experiment to "finished"; an interrupted one starts over next time.

    Raises:
        Busy: another conductor works on this database.
    """
    with only_conductor(workspace):
        store = Store(workspace)
        try:
            store.register([cell for arm in experiment.arms for cell in experiment.cells(arm)])
            for arm in experiment.arms:
                missing = [cell for cell in experiment.cells(arm) if not _finished(store, cell)]
                if missing:
                    _run(store, workspace, arm, missing, partial(progress, arm))
                progress(arm, 1.0)
        finally:
            store.close()


def _finished(store: Store, cell: Cell) -> bool:
    """Whether a run is done; one whose spool is complete but was not taken in yet is."""
    if store.status(cell.id) != "finished" and any(
        row["kind"] == "done" for row in store.ingest(cell.id)
    ):
        store.set_status(cell.id, "finished")
    return store.status(cell.id) == "finished"


def _run(
    store: Store,
    workspace: Workspace,
    arm: Arm,
    cells: list[Cell],
    progress: Callable[[float], None],
) -> None:
    """Train the cells of one arm, then write and take in their spools."""
    seeds = [cell.seed for cell in cells]
    if arm.tables is None:
        rows = _measure(arm, seeds, progress)
    else:
        rows = _train(arm, arm.tables, seeds, progress)
    about = {
        "command": ["suite", "lab", cells[0].matrix],
        "versions": machine.versions(),
        "hardware": machine.hardware(),
        "git_commit": machine.git_commit(),
    }
    for run, cell in enumerate(cells):
        attempt = store.next_attempt(cell.id)
        spool = Spool(path_of(workspace.cell(cell.id), attempt))
        spool.write("start", attempt=attempt, run=cell.id, **about)
        spool.write("training", attempt=attempt, from_step=-1)
        for row in rows:
            values = {name: of_runs[run] for name, of_runs in row.items() if name != "step"}
            spool.write("trace", attempt=attempt, step=row["step"], **values)
        spool.write("done", attempt=attempt)
        spool.close()
        store.ingest(cell.id)
        store.set_status(cell.id, "finished")


def _train(
    arm: Arm, tables: LabTables, seeds: list[int], progress: Callable[[float], None]
) -> list[dict[str, Any]]:
    """The rows of an arm that trains tables."""
    import torch

    import algorithms
    from algorithms.lab.trainer import train

    torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives
    algorithm = algorithms.load(arm.algorithm, **arm.settings)
    rows = []
    for row in train(algorithm, tables.environment, tables.training, seeds):
        rows.append(row)
        progress(row["step"] / tables.training.iterations)
    return rows


def _measure(arm: Arm, seeds: list[int], progress: Callable[[float], None]) -> list[dict[str, Any]]:
    """One row: what a check measured with each seed."""
    from algorithms.lab import checks

    check = checks.load(arm.algorithm, **arm.settings)
    by_seed = []
    for done, seed in enumerate(seeds, start=1):
        by_seed.append(check.measure(seed))
        progress(done / len(seeds))
    return [{"step": 1, **{name: [values[name] for values in by_seed] for name in by_seed[0]}}]

"""A run of the lab as a cell like any other: in a worker, with checkpoints, scheduled and resumed.

`suite lab` trains all seeds of an arm side by side in its own process, which is faster; this is for
matrices whose runs go through queue and worker.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import algorithms
from algorithms.lab.settings import Environment, Training
from suite.matrix.cell import Cell
from suite.workspace import whole_file


def run_table(cell: Cell, folder: Path, recorder: Any) -> None:
    """Train the cell's table from its last checkpoint, if it has one, tracing to `recorder`."""
    import torch

    from algorithms.lab.trainer import Lab

    torch.set_num_threads(1)
    settings = dict(cell.train)
    environment = Environment(**settings.pop("environment"))
    training = Training(**settings)
    checkpoint = folder / "checkpoint.pickle"
    ledger = recorder.ledger
    if checkpoint.exists():
        lab, state = pickle.loads(checkpoint.read_bytes())
        recorder.begin(from_step=lab.done, ledger=state)
    else:
        algorithm = algorithms.load(cell.algorithm, **cell.settings)
        lab = Lab(algorithm, environment, training, [cell.seed])
        recorder.begin(from_step=0, ledger=None)
    rows = lab.train()
    done = lab.done
    while done < training.iterations:
        with ledger.phase("update"):
            row = next(rows)
        ledger.count(steps=row["step"] - done)
        done = row["step"]
        values = {metric: of_seeds[0] for metric, of_seeds in row.items() if metric != "step"}
        recorder.write("trace", step=done, **values, **ledger.totals())
        recorder.check_lease()
        with whole_file(checkpoint) as file:
            file.write_bytes(pickle.dumps((lab, ledger.state())))
    recorder.write("finished", step=done, seconds=ledger.seconds(), **ledger.totals())

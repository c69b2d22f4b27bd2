"""What a run needs before it can start: the embedded model, data sets, a model within reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from suite.matrix import sources
from suite.matrix.cell import Cell
from suite.worker.benchmarks import write_benchmarks
from suite.workspace import Workspace, whole_file

EMBEDDED_TRAIN_PROBLEMS = 4096
EMBEDDED_TEST_PROBLEMS = 300


def materialise(cell: Cell, workspace: Workspace, log: Callable[[str], None]) -> None:
    """Make the embedded model and write the data sets that the run names, unless they exist."""
    if cell.model == sources.EMBEDDED_MODEL:
        if not Path(sources.model_path(cell.model, workspace.models)).is_dir():
            from benchmarks.arithmetic.model import cached

            cached(workspace.models, log=log)
    else:
        _check_model(cell.model)
    if sources.EMBEDDED_DATASET in (cell.train["dataset"], *cell.evaluate["benchmarks"]):
        from benchmarks.arithmetic.problems import problems, write_jsonl

        sizes = {"train": EMBEDDED_TRAIN_PROBLEMS, "test": EMBEDDED_TEST_PROBLEMS}
        for split, size in sizes.items():
            path = Path(sources.data_path(sources.EMBEDDED_DATASET, workspace.data, split))
            if not path.exists():
                with whole_file(path) as file:
                    write_jsonl(file, problems(split, size))
    write_benchmarks(cell, workspace)


def _check_model(model: str) -> None:
    """Fail now and clearly rather than inside a Ray actor: is this a model that can be reached?"""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"model {model!r} cannot be loaded: {why} (check the name, the network, HF_TOKEN)"
        ) from error

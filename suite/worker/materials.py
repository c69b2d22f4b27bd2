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
    make_model(sources.model_path(cell.model, workspace.models), log)
    if sources.EMBEDDED_DATASET in (cell.train["dataset"], *cell.evaluate["benchmarks"]):
        _make_dataset(workspace.data)
    write_benchmarks(cell, workspace)


def make_model(path: str, log: Callable[[str], None]) -> None:
    """Make the embedded model if it is the one at `path`; any other must be within reach.

    Raises:
        FileNotFoundError: it is not; the message says what to check.
    """
    folder = Path(path)
    if path != sources.model_path(sources.EMBEDDED_MODEL, folder.parent):
        _check_model(path)
    elif not folder.is_dir():
        from benchmarks.arithmetic.model import cached

        cached(folder.parent, log=log)


def make_dataset(path: str) -> None:
    """Write the embedded training set if it is the one at `path`.

    Raises:
        FileNotFoundError: `path` is a file's and there is none.
    """
    file = Path(path)
    if path == sources.data_path(sources.EMBEDDED_DATASET, file.parent, "train"):
        _make_dataset(file.parent)
    elif file.is_absolute() and not file.exists():
        raise FileNotFoundError(f"no training set at {path}")


def _make_dataset(folder: Path) -> None:
    from benchmarks.arithmetic.problems import problems, write_jsonl

    sizes = {"train": EMBEDDED_TRAIN_PROBLEMS, "test": EMBEDDED_TEST_PROBLEMS}
    for split, size in sizes.items():
        path = Path(sources.data_path(sources.EMBEDDED_DATASET, folder, split))
        if not path.exists():
            with whole_file(path) as file:
                write_jsonl(file, problems(split, size))


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

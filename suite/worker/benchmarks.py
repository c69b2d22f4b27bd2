"""What a run is measured on, settled before it trains: files, editions, prompts, contamination.

The benchmarks that are known by name are written as JSON lines below the workspace, so that a hub
that cannot be reached stops a run at its start and not at its first evaluation. Of every benchmark
one line is recorded: where its problems came from and their digest, the first prompt as the model
sees it, and which problems occur word for word among the training prompts (None: not known).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import catalogue, overlap, prompts
from benchmarks.engine import renderer
from benchmarks.sampling import read_benchmark
from suite.matrix import sources
from suite.matrix.cell import Cell
from suite.workspace import Workspace, whole_file


def benchmark_paths(cell: Cell, workspace: Workspace) -> dict[str, str]:
    """Each benchmark by the name its scores have, and the JSON lines that it is read from.

    None where nothing is scored.
    """
    if not cell.evaluate["at"]:
        return {}
    return {
        Path(name).stem: sources.data_path(name, workspace.data, "test", cell.identity.get(name))
        for name in cell.evaluate["benchmarks"]
    }


def write_benchmarks(cell: Cell, workspace: Workspace) -> None:
    """Write the benchmarks that are known by name, unless they are there.

    Raises:
        catalogue.Unreachable: neither a file nor the hub; the message says what to do.
    """
    files = cell.evaluate.get("data_files", {})
    for name, path in benchmark_paths(cell, workspace).items():
        if name in cell.evaluate["benchmarks"] and not Path(path).exists():
            rows = catalogue.load(name, files.get(name))
            write_lines(Path(path), (json.dumps(row) for row in rows))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """A text file that is there whole or not at all."""
    with whole_file(path) as file:
        file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def describe(cell: Cell, workspace: Workspace) -> Iterator[dict[str, Any]]:
    """A record of each benchmark, for the spool; see the module's docstring.

    Raises:
        ValueError: the training set has no column for the problem.
    """
    paths = benchmark_paths(cell, workspace)
    seen = None  # `suite eval` scores models whose training set nobody named
    if paths and cell.train["dataset"]:
        trained = sources.data_path(cell.train["dataset"], workspace.data, "train")
        column = cell.train.get("columns", {}).get("problem", "problem")
        seen = list(training_prompts(trained, column))
    for name, path in paths.items():
        rows = read_benchmark(Path(path))
        edition = catalogue.as_edition(name, rows, _origin(name, path, cell))
        prompt = rendered(cell, workspace, rows[0]["problem"])
        scored = rows[: cell.evaluate["problems"]]
        yield {
            "benchmark": name,
            "origin": edition.origin,
            "sha256": edition.sha256,
            "warning": edition.warning,
            "problems": len(scored),
            "prompt": prompt,
            "prompt_digest": prompts.prompt_digest(prompt),
            "overlapping": None if seen is None else overlap.overlapping(scored, seen),
        }


def _origin(name: str, path: str, cell: Cell) -> str:
    """Where a benchmark's problems come from; a file of one's own may bear a known name."""
    if name not in cell.evaluate["benchmarks"]:
        return path
    return cell.evaluate.get("data_files", {}).get(name) or catalogue.known()[name].pinned


def rendered(cell: Cell, workspace: Workspace, problem: str) -> str:
    """The prompt that the model is given for `problem`, as training and evaluation make it."""
    tokenizer = None
    if cell.train["chat_template"]:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(sources.model_path(cell.model, workspace.models))
    render = renderer(tokenizer, cell.train["prompt_template"], cell.train["chat_template"])
    return render(problem)


def training_prompts(path: str, column: str = "problem") -> Iterator[str]:
    """The training problems at a path or hub id, without any template; of a chat, the user's turns.

    Raises:
        ValueError: a row without `column`, which is what OpenRLHF is told to read.
    """
    for number, row in enumerate(_training_rows(path), start=1):
        if column not in row:
            raise ValueError(f"{path}: row {number} of the training set has no column {column!r}")
        problem = row[column]
        turns = [{"content": problem}] if isinstance(problem, str) else problem
        yield "\n".join(t["content"] for t in turns if t.get("role", "user") == "user")


def _training_rows(path: str) -> Iterable[dict[str, Any]]:
    kind = Path(path).suffix.removeprefix(".")
    if kind == "jsonl":
        with open(path, encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    from datasets import Dataset, load_dataset, load_from_disk

    if kind in ("json", "csv", "parquet", "arrow"):
        return load_dataset(kind, data_files=path, split="train")
    if (Path(path) / "state.json").is_file() or (Path(path) / "dataset_dict.json").is_file():
        saved = load_from_disk(path)
        return saved if isinstance(saved, Dataset) else saved["train"]
    return load_dataset(path, split="train")

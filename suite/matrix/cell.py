"""A cell: one arm on one model with one seed, named by what it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

EVALUATION = "eval"  # the algorithm of cells that only score a checkpoint
EXTERNAL = "external"  # of those that another trainer trained
TABULAR, THEORY = "tabular", "theory"  # what stands as the model of the lab's cells
FORMAT = 1  # raised when a change to the code makes finished cells incomparable with new ones


@dataclass(frozen=True)
class Cell:
    """Everything that determines a training run and its scores; plain data throughout.

    `identity` holds content hashes of what lies outside the matrix (local models, data sets).
    `id` covers every field but the two labels, so renaming an arm or a matrix reruns nothing, and
    neither `evaluate.data_files` nor `train.keep_checkpoints`: where a benchmark's file lies is no
    part of what it is, and what is kept of a run none of what ran. An evaluation keeps its id when
    more is asked of it, or when its model's training set becomes known: what exists is not drawn
    again.
    """

    matrix: str
    arm: str
    algorithm: str
    settings: dict[str, Any]
    model: str
    seed: int
    train: dict[str, Any]
    evaluate: dict[str, Any]
    budget: dict[str, float]
    resources: dict[str, Any]
    identity: dict[str, str]

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of a hash of the content."""
        content = {k: v for k, v in asdict(self).items() if k not in ("matrix", "arm")}
        content["evaluate"].pop("data_files", None)
        content["train"].pop("keep_checkpoints", None)
        if self.algorithm == EVALUATION:  # how much is drawn is no part of what is drawn from
            extent = ("samples", "pass_at", "predict_at", "problems")
            for key in extent:
                content["evaluate"].pop(key, None)
            content["train"] |= {"dataset": ""}  # for the contamination check, which draws nothing
            content["train"].pop("dataset_identity", None)
            content.pop("budget")
            content.pop("resources")
        text = json.dumps({"format": FORMAT, **content}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def in_one_process(self) -> bool:
        """Whether the worker itself uses the cell's GPUs; else OpenRLHF's actors do."""
        return self.algorithm == EVALUATION or self.model in (TABULAR, THEORY)

    def save(self, path: Path) -> None:
        """As JSON at `path`."""
        path.write_text(json.dumps(asdict(self), indent=2, sort_keys=True))

    @classmethod
    def load(cls, path: Path) -> Cell:
        """The cell that `save` wrote."""
        return cls(**json.loads(path.read_text()))

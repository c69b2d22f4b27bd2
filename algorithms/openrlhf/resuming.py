"""How a run begins where it stands, and keeps what that takes; see `checkpoints` for the files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algorithms.openrlhf import checkpoints
from algorithms.openrlhf.experiment import Experiment, Recorder
from algorithms.openrlhf.workers import Workers


@dataclass(frozen=True)
class Progress:
    """Where a run stands: what the next step depends on besides the policy and the ledger.

    Attributes:
        step: rollout steps that are done.
        state: the algorithm's.
        evaluated: points of the budget at which the policy has been scored.
        differed: whether any token's gradient was ever not GRPO's.
    """

    step: int
    state: dict[str, Any]
    evaluated: int = 0
    differed: bool = False


class Checkpointing:
    """Loads and saves a run."""

    def __init__(self, experiment: Experiment, recorder: Recorder, workers: Workers):
        self._experiment = experiment
        self._recorder, self._workers = recorder, workers
        self._folder = experiment.folder / "checkpoints"
        self._saved_step = 0  # that of the newest checkpoint

    def load(self, base: Path | None) -> tuple[Progress, dict[str, Any] | None]:
        """Set the workers for the run; where it stands, and the ledger's state then.

        They are those of its newest checkpoint that is whole, or of the beginning: the state at
        `base`, or the one in which the workers came up.
        """
        self._discard_torn()
        source = checkpoints.latest(self._folder) or base
        saved = self._workers.each("begin_cell", experiment=self._experiment, source=source)[0]
        self._saved_step = saved.get("step", 0)
        self._discard_policies()
        if not saved:
            return Progress(0, self._experiment.algorithm.initial_state()), None
        progress = Progress(
            saved["step"], saved["algorithm_state"], saved["evaluated"], saved["differed"]
        )
        return progress, saved["ledger"]

    def save(self, progress: Progress, *, keep: bool = False) -> None:
        """A checkpoint of everything that the next step depends on, unless this step has one.

        Policy and optimizer, the algorithm's state and the ledger. The position in the data and all
        seeds are functions of the step: workers are reseeded before each update, and every request
        to the engines carries its seed. With `keep`, later checkpoints do not take its place.
        """
        step = progress.step
        if step == self._saved_step:
            return
        saved = {
            "step": step,
            "algorithm_state": progress.state,
            "evaluated": progress.evaluated,
            "differed": progress.differed,
            "ledger": self._recorder.ledger.state(),
        }
        with self._recorder.ledger.aside("checkpoint"):
            folder = self._folder / checkpoints.unfinished_name(step)
            self._workers.each("save_state", folder=folder, progress=saved)
            self._recorder.check_lease()
            checkpoints.commit(folder, step, keep=keep)
            checkpoints.prune(self._folder)
        self._saved_step = step

    def save_policy(self, path: Path) -> None:
        """The policy as a Hugging Face folder."""
        with self._recorder.ledger.aside("checkpoint"):
            self._workers.each("save_policy", path=path)

    def _discard_torn(self) -> None:
        for path in checkpoints.torn(self._folder):
            text = f"the checkpoint of step {checkpoints.step_of(path)} is torn: passed over"
            self._recorder.write("warning", text=text)
        checkpoints.prune(self._folder)

    def _discard_policies(self) -> None:
        """Those of steps that run again: with a budget of hours they may be others."""
        for path in (self._experiment.folder / "policies").glob("step_*[0-9]"):
            if checkpoints.step_of(path) > self._saved_step:
                shutil.rmtree(path)

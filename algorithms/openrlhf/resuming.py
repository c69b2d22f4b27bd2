"""How the controller begins a cell where it stands, and keeps what that takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import ray

from algorithms.openrlhf import checkpoints
from algorithms.openrlhf.experiment import Experiment


class Resuming:
    """The part of the controller that loads and saves; see `checkpoints` for the files."""

    def _begin(self, experiment: Experiment, base: Path | None) -> tuple[int, dict[str, Any], int]:
        """Set everything for a cell; its step, algorithm state and evaluations done.

        They are those of its newest checkpoint that is whole, or of the beginning: the state at
        `base`, or the one in which the workers came up.
        """
        self.suite, self.algorithm = experiment, experiment.algorithm
        self.differed = False  # whether any token's gradient was ever not GRPO's
        self.recorder.starting()
        self._discard_torn()
        source = checkpoints.latest(self._checkpoints()) or base
        method = self.actor_model_group.async_run_method
        saved = ray.get(method("begin_cell", experiment=experiment, source=source))[0]
        self.broadcast_to_vllm()
        self.saved_step = saved.get("step", 0)
        self._discard_policies()
        self.recorder.begin(from_step=self.saved_step, ledger=saved.get("ledger"))
        if not saved:
            return 0, self.algorithm.initial_state(), 0
        self.differed = saved["differed"]
        return self.saved_step, saved["algorithm_state"], saved["evaluated"]

    def _checkpoints(self) -> Path:
        return self.suite.folder / "checkpoints"

    def _discard_torn(self) -> None:
        for path in checkpoints.torn(self._checkpoints()):
            text = f"the checkpoint of step {checkpoints.step_of(path)} is torn: passed over"
            self.recorder.write("warning", text=text)
        checkpoints.prune(self._checkpoints())

    def _discard_policies(self) -> None:
        """Those of steps that run again: with a budget of hours they may be others."""
        for path in (self.suite.folder / "policies").glob("step_*[0-9]"):
            if checkpoints.step_of(path) > self.saved_step:
                shutil.rmtree(path)

    def _save_policy(self, path: Path) -> None:
        """The policy as a Hugging Face folder."""
        with self.ledger.aside("checkpoint"):
            ray.get(self.actor_model_group.async_run_method("save_policy", path=path))

    def _save(
        self, step: int, state: dict[str, Any], evaluated: int, *, keep: bool = False
    ) -> None:
        """A checkpoint of everything that the next step depends on, unless this step has one.

        Policy and optimizer, the algorithm's state and the ledger. The position in the data and all
        seeds are functions of the step: workers are reseeded before each update, and every request
        to the engines carries its seed.
        """
        if step == self.saved_step:
            return
        own = {
            "step": step,
            "algorithm_state": state,
            "evaluated": evaluated,
            "differed": self.differed,
            "ledger": self.ledger.state(),
        }
        with self.ledger.aside("checkpoint"):
            folder = self._checkpoints() / checkpoints.unfinished_name(step)
            method = self.actor_model_group.async_run_method
            ray.get(method("save_state", folder=folder, own=own))
            self.recorder.check_lease()
            checkpoints.commit(folder, step, keep=keep)
            checkpoints.prune(self._checkpoints())
        self.saved_step = step

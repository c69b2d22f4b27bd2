"""The entropy probe: fixed responses of the base model, on which every policy is measured alike."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from algorithms.openrlhf.experiment import Recorder
from algorithms.openrlhf.rollouts import Rollout, Sample
from algorithms.openrlhf.sampling import Sampler
from algorithms.openrlhf.workers import Workers

CLAMP = 0.33  # p of the probe's clamped entropy: AEnt (2509.03493) setting (a)


class EntropyProbe:
    """Makes or reads the probe's responses, and scores the policy on them.

    Attributes:
        rollouts: the responses, once they are loaded.
    """

    def __init__(
        self, path: Path, count: int, recorder: Recorder, sampler: Sampler, workers: Workers
    ):
        """`count` responses, 0 for none, are kept in the file at `path`, which arms share."""
        self._path, self._count = path, count
        self._recorder = recorder
        self._sampler, self._workers = sampler, workers
        self.rollouts: list[Rollout] = []

    def load(self, step: int) -> None:
        """Read the responses; before the first step they are sampled if there are none.

        Raises:
            FileNotFoundError: they are gone, and the policy is no longer the base model.
        """
        if not self._count:
            return
        if not self._path.exists():
            if step:
                raise FileNotFoundError(
                    f"the entropy probe {self._path} is gone and only a new run could make it "
                    "again: restore it, or remove this run's folder"
                )
            self._make()
        pairs = map(json.loads, self._path.read_text().splitlines())
        self.rollouts = [
            Rollout("", "", prompt, Sample(ids, False), "") for prompt, ids in pairs if ids
        ]

    def score(self) -> dict[str, float]:
        """Each estimator's mean over the responses of the mean over their tokens, nats."""
        parts = self._workers.entropy_sums(self.rollouts, CLAMP)
        return {name: sum(sums[name] for sums in parts) / len(self.rollouts) for name in parts[0]}

    def _make(self) -> None:
        sampler = self._sampler
        prompts = min(self._count, sampler.dataset_size, sampler.prompts_per_step)
        with self._recorder.ledger.aside("probe"):
            each = math.ceil(self._count / prompts)
            made = sampler.groups(1, "probe", range(prompts), 1.0, each)
        lines = [json.dumps([r.prompt_ids, r.sample.token_ids]) for r in made[: self._count]]
        partial = self._path.with_suffix(f".{os.getpid()}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text("\n".join(lines) + "\n")
        partial.rename(self._path)

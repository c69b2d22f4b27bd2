"""Evaluations on the way: benchmarks answered by the warm engines, beside the entropy probe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from algorithms.openrlhf.experiment import Experiment, Grader, Recorder
from algorithms.openrlhf.probe import EntropyProbe
from algorithms.openrlhf.resuming import Checkpointing, Progress
from algorithms.openrlhf.sampling import Sampler


class Evaluation:
    """Scores the policy at fractions of the budget."""

    def __init__(
        self,
        experiment: Experiment,
        recorder: Recorder,
        grader: Grader,
        sampler: Sampler,
        probe: EntropyProbe,
        checkpointing: Checkpointing,
    ):
        self._experiment = experiment
        self._recorder, self._grader = recorder, grader
        self._sampler, self._probe = sampler, probe
        self._checkpointing = checkpointing

    def when_due(self, progress: Progress) -> Progress:
        """Evaluate at every fraction of the budget that has been reached."""
        points, ledger = self._experiment.evaluate_at, self._recorder.ledger
        while progress.evaluated < len(points) and ledger.fraction() >= points[progress.evaluated]:
            self._checkpointing.save(progress, keep=self._experiment.keep_checkpoints)
            with ledger.aside("evaluation"):
                self._evaluate(progress.step, points[progress.evaluated])
            progress = replace(progress, evaluated=progress.evaluated + 1)
        return progress

    def _evaluate(self, step: int, fraction: float) -> None:
        write = self._recorder.write
        for name, path in self._experiment.benchmarks.items():
            records = self._experiment.evaluate(self._answer, self._grader, name, path, step)
            for record in records:
                write("eval", step=step, fraction=fraction, **record)
        if self._probe.rollouts:
            write("probe", step=step, fraction=fraction, values=self._probe.score())
        write("evaluated", step=step, fraction=fraction, **self._recorder.ledger.totals())
        if step:
            policies = self._experiment.folder / "policies"
            self._checkpointing.save_policy(policies / f"step_{step:06d}")

    def _answer(
        self, problems: list[str], params: list[dict[str, Any]]
    ) -> list[list[tuple[str, int, bool]]]:
        """(text, tokens, truncated) of each sample of each problem, prompts as in training."""
        prompts = [self._sampler.render(problem) for problem in problems]
        rollouts = iter(self._sampler.sample(prompts, [""] * len(prompts), params))
        return [
            [
                (r.text, len(r.sample.token_ids), r.sample.truncated)
                for r in (next(rollouts) for _ in range(settings["n"]))
            ]
            for settings in params
        ]

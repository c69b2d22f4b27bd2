"""How the controller scores a policy: benchmarks by the warm engines, and the entropy probe."""

from __future__ import annotations

import json
import math
import os
from typing import Any

from openrlhf.datasets.prompts_dataset import preprocess_data

from algorithms.openrlhf.rollouts import Rollout, Sample, to_experience

PROBE_CLAMP = 0.33  # p of the probe's clamped entropy: AEnt (2509.03493) setting (a)


class Scoring:
    """The part of the controller that evaluates."""

    def _evaluate_when_due(self, step: int, state: dict[str, Any], evaluated: int) -> int:
        """Evaluate at every fraction of the budget that has been reached; returns how many."""
        points = self.suite.evaluate_at
        while evaluated < len(points) and self.ledger.fraction() >= points[evaluated]:
            self._save(step, state, evaluated, keep=self.suite.keep_checkpoints)
            with self.ledger.aside("evaluation"):
                self._evaluate(step, points[evaluated])
            evaluated += 1
        return evaluated

    def _evaluate(self, step: int, fraction: float) -> None:
        for name, path in self.suite.benchmarks.items():
            records = self.suite.evaluate(self._answer, self.grader, name, path, step)
            for record in records:
                self.recorder.write("eval", step=step, fraction=fraction, **record)
        if self.probe:
            self.recorder.write("probe", step=step, fraction=fraction, values=self._score_probe())
        self.recorder.write("evaluated", step=step, fraction=fraction, **self.ledger.totals())
        if step:
            self._save_policy(self.suite.folder / "policies" / f"step_{step:06d}")

    def _answer(
        self, problems: list[str], params: list[dict[str, Any]]
    ) -> list[list[tuple[str, int, bool]]]:
        """(text, tokens, truncated) of each sample of each problem, prompts as in training."""
        template = (
            self.tokenizer.apply_chat_template if self.args.data.apply_chat_template else None
        )
        prompts = [
            preprocess_data(
                {"problem": p}, self.args.data.input_template, "problem", None, template
            )[0]
            for p in problems
        ]
        rollouts = iter(self._sample(prompts, [""] * len(prompts), params))
        return [
            [
                (r.text, len(r.sample.token_ids), r.sample.truncated)
                for r in (next(rollouts) for _ in range(one["n"]))
            ]
            for one in params
        ]

    # The entropy probe ---------------------------------------------------------------------

    def _probe_rollouts(self, step: int) -> list[Rollout]:
        """Fixed responses of the base model to fixed prompts, the same for every arm.

        Raises:
            FileNotFoundError: they are gone, and the policy is no longer the base model.
        """
        count, path = self.suite.probe_prompts, self.suite.probe
        if not count:
            return []
        if not path.exists():
            if step:
                raise FileNotFoundError(
                    f"the entropy probe {path} is gone and only a new run could make it again: "
                    "restore it, or remove this cell's folder"
                )
            positions = range(min(count, len(self.prompts), self.args.rollout.batch_size))
            with self.ledger.aside("probe"):
                made = self._sample_groups(
                    1, "probe", positions, 1.0, math.ceil(count / len(positions))
                )
            lines = [json.dumps([r.prompt_ids, r.sample.token_ids]) for r in made[:count]]
            partial = path.with_suffix(f".{os.getpid()}")
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text("\n".join(lines) + "\n")
            partial.rename(path)
        pairs = map(json.loads, path.read_text().splitlines())
        return [Rollout("", "", prompt, Sample(ids, False), "") for prompt, ids in pairs if ids]

    def _score_probe(self) -> dict[str, float]:
        """Each estimator's mean over the probe's responses of the mean over their tokens, nats."""
        size = self.args.rollout.micro_batch_size
        parts = [self.probe[i : i + size] for i in range(0, len(self.probe), size)]
        batches = [to_experience(part, self.tokenizer.pad_token_id) for part in parts]
        scored = self._on_workers("score_probe", batches, clamp=PROBE_CLAMP)
        return {name: sum(sums[name] for sums in scored) / len(self.probe) for name in scored[0]}

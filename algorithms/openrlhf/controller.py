"""The single controller: OpenRLHF's PPO trainer with a measured budget in place of its epochs.

`_train_step` is the table of contents of a training run: rollouts, rewards, experience, a second
rollout where the algorithm asks for one, update, weight sync, each under its own phase of the
ledger; then the trace and the algorithm's next state. `_run` adds checkpoints and, at fractions of
the budget, evaluations with the engines that are already warm. Prompt order and sampling seeds are
functions of (seed, step), so nothing but the step has to be restored on resume.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from openrlhf.trainer.ppo_trainer import PPOTrainer
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ray.vllm_engine import batch_vllm_engine_call

from algorithms import inert
from algorithms.base import Tokens
from algorithms.openrlhf.experiment import Experiment
from algorithms.openrlhf.resuming import Resuming
from algorithms.openrlhf.rollouts import (
    Extra,
    Rollout,
    Row,
    hashed_seed,
    measured_rows,
    policy_entropy,
    prompt_indices,
    rewarded,
    state_numbers,
    statistics,
    to_experience,
    training_batch,
)
from algorithms.openrlhf.scoring import Scoring
from algorithms.openrlhf.second_rollout import SecondRollout


class Controller(SecondRollout, Scoring, Resuming, PPOTrainer.__ray_metadata__.modified_class):
    """Trains to the budget; see the module docstring."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.prompts = self.prompts_dataloader.dataset
        self.group_size = self.args.rollout.n_samples_per_prompt

    def fit(self, global_step: int = 0) -> None:
        """Every cell of the session in turn, each from the base model or its own checkpoint.

        Start-up is most of a small cell; engines and workers stay, and everything that a cell
        changes (weights, optimizer, algorithm, caches) is set back in between.
        """
        session = self.args.session
        base = Path(self.args.ckpt.path) / "_base" if len(session) > 1 else None
        with session[0].make_grader() as self.grader:
            self.grader.start()
            if base:
                ray.get(self.actor_model_group.async_run_method("save_state", folder=base))
            for position, experiment in enumerate(session):
                self.recorder = experiment.make_recorder()
                self.ledger = self.recorder.ledger
                try:
                    self._run(experiment, base if position else None)
                except BaseException as error:
                    self.recorder.fail(error)
                    raise

    def _run(self, experiment: Experiment, base: Path | None) -> None:
        """Train one cell until its ledger says that the budget is spent, evaluating on the way.

        `base` is the state to begin with, if the workers are not in it already.
        """
        step, state, evaluated = self._begin(experiment, base)
        self.probe = self._probe_rollouts(step)
        evaluated = self._evaluate_when_due(step, state, evaluated)
        while not self.ledger.exhausted():
            step, state = self._train_step(step + 1, state)
            evaluated = self._evaluate_when_due(step, state, evaluated)
            if step % self.suite.checkpoint_every == 0:
                self._save(step, state, evaluated)
        self._save(step, state, evaluated)
        self._warn_if_inert(step)
        self._save_policy(experiment.folder / "policy")
        self.recorder.write(
            "finished",
            step=step,
            overshoot=self.ledger.fraction() - 1,
            seconds=self.ledger.seconds(),
            **self.ledger.totals(),
        )
        self.recorder.write("done")

    # One training step ---------------------------------------------------------------------

    def _train_step(self, step: int, state: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        before = dict(self.ledger.charged)
        with self.ledger.phase("generation"):
            rollouts = self._roll_out(step)
        with self.ledger.phase("reward"):
            rollouts = self._reward(rollouts, "reward", step)
        with self.ledger.phase("experience"):
            rows = self._measure(rollouts, self.suite.diagnosed_states)
            measured = {**policy_entropy(rows), **statistics(rollouts, self.group_size)}
            measured["epoch"] = 1 + (step - 1) * self.args.rollout.batch_size // len(self.prompts)
            state = self.algorithm.observe(state, measured)
            self._credit(rows, state, step)
        extra, drawn = self._extra(step, state, rows, measured)
        with self.ledger.phase("update"):
            measured |= self._update(step, state, rows, extra)
        with self.ledger.phase("sync"):
            self.broadcast_to_vllm()
        with self.ledger.aside("diagnostics"):
            measured |= self._diagnose()
        self.differed |= measured["differs_from_grpo"] > 0
        sampled = rollouts + drawn
        tokens = sum(len(r.sample.token_ids) for r in sampled)
        updates = len(rollouts) // self.args.train.batch_size
        self.ledger.count(steps=1, optimizer_steps=updates, samples=len(sampled), tokens=tokens)
        seconds = {
            f"seconds/{phase}": total - before.get(phase, 0.0)
            for phase, total in self.ledger.charged.items()
        }
        self.recorder.write(
            "trace",
            step=step,
            **measured,
            **state_numbers(state),
            **seconds,
            **self.ledger.totals(),
        )
        return step, self.algorithm.next_state(state, measured)

    def _roll_out(self, step: int) -> list[Rollout]:
        """The group of each prompt of this step, prompt-major: P * G rollouts."""
        return self._sample_groups(step, "rollout", range(self.args.rollout.batch_size))

    def _sample_groups(
        self,
        step: int,
        purpose: str,
        positions: range,
        temperature: float | None = None,
        samples: int | None = None,
    ) -> list[Rollout]:
        """Groups of the prompts at these positions of the step, seeded by the purpose."""
        sampling = self.args.rollout
        indices = prompt_indices(self.suite.seed, step, sampling.batch_size, len(self.prompts))
        chosen = [indices[position] for position in positions]
        params = [
            {
                "n": samples or self.group_size,
                "temperature": sampling.temperature if temperature is None else temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_new_tokens,
                "seed": hashed_seed(self.suite.seed, purpose, step, position),
            }
            for position in positions
        ]
        prompts = [self.prompts.prompts[i] for i in chosen]
        return self._sample(prompts, [str(self.prompts.labels[i]) for i in chosen], params)

    def _sample(
        self, prompts: list[str], answers: list[str], params: list[dict[str, Any]]
    ) -> list[Rollout]:
        """Rendered prompts through the engines, spread evenly, returned in order."""
        ids = [self.tokenizer(p, add_special_tokens=False)["input_ids"] for p in prompts]
        with self._engines_awake():
            engines = self.vllm_engines
            refs = [
                engine.generate_groups.remote(ids[i :: len(engines)], params[i :: len(engines)])
                for i, engine in enumerate(engines)
            ]
            parts = ray.get(refs)
        groups = [parts[i % len(engines)][i // len(engines)] for i in range(len(prompts))]
        ids_of_each = [tuple(sample.token_ids) for group in groups for sample in group]
        different = list(dict.fromkeys(ids_of_each))  # many are the same
        texts = self.tokenizer.batch_decode(different, skip_special_tokens=True)
        text_of = dict(zip(different, texts, strict=True))
        decoded = iter([text_of[ids] for ids in ids_of_each])
        return [
            Rollout(prompt, answer, prompt_ids, sample, next(decoded))
            for prompt, answer, prompt_ids, group in zip(prompts, answers, ids, groups, strict=True)
            for sample in group
        ]

    @contextmanager
    def _engines_awake(self) -> Iterator[None]:
        """With --vllm.enable_sleep the engines give their memory back outside generation."""
        if not self.args.vllm.enable_sleep:
            yield
            return
        batch_vllm_engine_call(self.vllm_engines, "wake_up")
        try:
            yield
        finally:
            batch_vllm_engine_call(self.vllm_engines, "sleep")

    def _reward(self, rollouts: list[Rollout], purpose: str, step: int) -> list[Rollout]:
        """Verdicts by the grader, rewards by the matrix's rule."""
        verdicts = self.grader.grade([(r.answer, r.text) for r in rollouts])
        correct = [verdict.status == "correct" for verdict in verdicts]
        seed = hashed_seed(self.suite.seed, purpose, step, len(rollouts))
        return rewarded(rollouts, correct, self.suite.reward, seed)

    def _measure(self, rollouts: list[Rollout], states: int = 0) -> list[Row]:
        """Log-probs and entropies of pi_old; the workers keep `states` of them to diagnose."""
        size = self.args.rollout.micro_batch_size
        parts = [rollouts[i : i + size] for i in range(0, len(rollouts), size)]
        batches = [to_experience(part, self.tokenizer.pad_token_id) for part in parts]
        results = self._on_workers(
            "forward",
            batches,
            temperatures=self.algorithm.temperatures,
            states=states,
        )
        return [
            row
            for part, batch, values in zip(parts, batches, results, strict=True)
            for row in measured_rows(part, batch, *values)
        ]

    def _on_workers(self, method: str, batches: list[Experience], **same: Any) -> list[Any]:
        """Run a method on batches spread over the policy workers; the results in order."""
        group = self.actor_model_group
        workers = len(group._actor_handlers) // group.duplicate_actors
        sent = batches + batches[:1] * (workers - len(batches))  # each worker wants one
        refs = group.async_run_method_batch(
            method_name=method,
            sequences=[b.sequences for b in sent],
            action_mask=[b.action_mask for b in sent],
            attention_mask=[b.attention_mask for b in sent],
            **{name: [value] * len(sent) for name, value in same.items()},
        )
        parts = ray.get(refs)[:: group.duplicate_actors]
        return [result for part in parts for result in part][: len(batches)]

    def _credit(self, rows: list[Row], state: dict[str, Any], step: int) -> None:
        """Advantages and marks of every response token, over the whole global batch at once."""
        rewards_PG = torch.tensor([r.rollout.reward for r in rows]).view(-1, self.group_size)
        lengths = [len(row.log_probs) for row in rows]
        count_B = torch.tensor(lengths)

        def spread(values_PG: torch.Tensor) -> torch.Tensor:
            return values_PG.reshape(-1).repeat_interleave(count_B)

        tokens = Tokens(
            advantages=spread(self.algorithm.advantages(rewards_PG)),
            entropy=torch.cat([row.entropy for row in rows]),
            log_probs=torch.cat([row.log_probs for row in rows]),
            rewards=spread(rewards_PG),
            tempered={
                t: torch.cat([row.tempered[t] for row in rows]) for t in self.algorithm.temperatures
            },
            seed=hashed_seed(self.suite.seed, "tokens", step),
        )
        credit_N = self.algorithm.credit(tokens, state)
        marks_N = self.algorithm.marks(tokens)
        if marks_N is None:
            marks_N = torch.zeros_like(credit_N)
        reference_N = spread(inert.reference(self.algorithm).advantages(rewards_PG))
        columns = (x.split(lengths) for x in (credit_N, reference_N, marks_N))
        for row, *values in zip(rows, *columns, strict=True):
            row.advantages, row.reference, row.marks = values

    # Update --------------------------------------------------------------------------------

    def _update(
        self, step: int, state: dict[str, Any], rows: list[Row], extra: Extra | None
    ) -> dict[str, float]:
        """The optimizer steps of this rollout batch; returns the workers' reduced metrics."""
        group, batches = self.actor_model_group, self._batches(rows)
        refs = group.async_run_method_batch(method_name="append", experience=batches)
        refs += group.async_run_method(
            method_name="begin_step", step=step, state=state, extra=extra
        )
        ray.get(refs)
        status = self.ppo_train(step)
        renamed = {"actor_lr": "learning_rate", "actor_grad_norm": "gradient_norm"}
        return {renamed.get(name, name): float(value) for name, value in status.items()}

    def _batches(self, rows: list[Row]) -> list[Experience]:
        size, pad = self.args.rollout.micro_batch_size, self.tokenizer.pad_token_id
        return [training_batch(rows[i : i + size], pad) for i in range(0, len(rows), size)]

    def _diagnose(self) -> dict[str, float]:
        """CLIP's per-state quantities after the update, means over the sampled states."""
        if not self.suite.diagnosed_states:
            return {}
        refs = self.actor_model_group.async_run_method(method_name="diagnose")
        found = [part for part in ray.get(refs) if part]
        means = {
            name: sum(part[name] for part in found) / len(found)
            for name in (found[0] if found else {})
        }
        return {f"clip/{name}": mean for name, mean in means.items() if math.isfinite(mean)}

    def _warn_if_inert(self, step: int) -> None:
        """An arm that trained exactly as GRPO would is no comparison: say so."""
        if step and not self.differed and self.algorithm != inert.reference(self.algorithm):
            self.recorder.write(
                "warning",
                step=step,
                text=f"inert arm: in {step} steps no token's gradient differed from plain GRPO's",
            )

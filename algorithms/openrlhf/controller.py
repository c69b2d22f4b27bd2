"""The single controller: OpenRLHF's PPO trainer with a measured budget in place of its epochs.

`_train_step` is the table of contents of a training run: rollouts, rewards, experience, a second
rollout where the algorithm asks for one, update, weight sync, each under its own phase of the
ledger; then the trace and the algorithm's next state. `_run` adds checkpoints and, at fractions of
the budget, evaluations with the engines that are already warm. Prompt order and sampling seeds are
functions of (seed, step), so nothing but the step has to be restored on resume.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from openrlhf.trainer.ppo_trainer import PPOTrainer

from algorithms import inert
from algorithms.openrlhf.credit import give_credit
from algorithms.openrlhf.evaluation import Evaluation
from algorithms.openrlhf.experiment import Experiment, Grader, Recorder
from algorithms.openrlhf.probe import EntropyProbe
from algorithms.openrlhf.resuming import Checkpointing, Progress
from algorithms.openrlhf.rollouts import (
    Extra,
    Rollout,
    Row,
    hashed_seed,
    policy_entropy,
    rewarded,
    state_numbers,
    statistics,
)
from algorithms.openrlhf.sampling import Sampler
from algorithms.openrlhf.second_rollout import SecondRollout
from algorithms.openrlhf.sync import check_sync
from algorithms.openrlhf.workers import Workers


class Controller(PPOTrainer.__ray_metadata__.modified_class):
    """Trains to the budget; see the module docstring."""

    # OpenRLHF's
    args: Any  # its parsed command line, with our `session`
    tokenizer: Any
    actor_model_group: Any
    vllm_engines: list[Any]
    prompts_dataloader: Any

    # of the session
    workers: Workers
    grader: Grader

    # of the cell in training: `_compose` sets them
    experiment: Experiment
    recorder: Recorder
    sampler: Sampler
    second_rollout: SecondRollout
    checkpointing: Checkpointing
    probe: EntropyProbe
    evaluation: Evaluation

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        size = self.args.rollout.micro_batch_size
        self.workers = Workers(self.actor_model_group, size, self.tokenizer.pad_token_id)

    def fit(self, global_step: int = 0) -> None:
        """Every cell of the session in turn, each from the base model or its own checkpoint.

        Start-up is most of a small cell; engines and workers stay, and everything that a cell
        changes (weights, optimizer, algorithm, caches) is set back in between.
        """
        session: list[Experiment] = self.args.session
        base = Path(self.args.ckpt.path) / "_base" if len(session) > 1 else None
        with session[0].make_grader() as self.grader:
            self.grader.start()
            if base:
                self.workers.each("save_state", folder=base)
            for position, experiment in enumerate(session):
                self._compose(experiment)
                try:
                    self._run(base if position else None)
                except BaseException as error:
                    self.recorder.fail(error)
                    raise

    def _compose(self, experiment: Experiment) -> None:
        """The parts that train a cell; nothing of an earlier one is left."""
        recorder, workers = experiment.make_recorder(), self.workers
        sampler = Sampler(
            self.args,
            self.tokenizer,
            self.vllm_engines,
            self.prompts_dataloader.dataset,
            experiment.seed,
        )
        self.experiment, self.recorder, self.sampler = experiment, recorder, sampler
        self.second_rollout = SecondRollout(
            experiment.algorithm, recorder, sampler, workers, self._reward
        )
        self.checkpointing = Checkpointing(experiment, recorder, workers)
        self.probe = EntropyProbe(
            experiment.probe, experiment.probe_prompts, recorder, sampler, workers
        )
        self.evaluation = Evaluation(
            experiment, recorder, self.grader, sampler, self.probe, self.checkpointing
        )

    def _run(self, base: Path | None) -> None:
        """Train the cell until its ledger says that the budget is spent, evaluating on the way.

        `base` is the state to begin with, if the workers are not in it already.
        """
        ledger = self.recorder.ledger
        progress = self._begin(base)
        self.probe.load(progress.step)
        progress = self.evaluation.when_due(progress)
        while not ledger.exhausted():
            progress = self._train_step(progress)
            progress = self.evaluation.when_due(progress)
            if progress.step % self.experiment.checkpoint_every == 0:
                self.checkpointing.save(progress)
        self.checkpointing.save(progress)
        self._warn_if_inert(progress)
        self.checkpointing.save_policy(self.experiment.folder / "policy")
        self.recorder.write(
            "finished",
            step=progress.step,
            overshoot=ledger.fraction() - 1,
            seconds=ledger.seconds(),
            **ledger.totals(),
        )
        self.recorder.write("done")

    def _begin(self, base: Path | None) -> Progress:
        """Weights, optimizer and books as its newest checkpoint has them, or as at the start."""
        self.recorder.starting()
        progress, ledger = self.checkpointing.load(base)
        self.broadcast_to_vllm()
        self.recorder.begin(from_step=progress.step, ledger=ledger)
        return progress

    # One training step ---------------------------------------------------------------------

    def _train_step(self, progress: Progress) -> Progress:
        step, algorithm, ledger = progress.step + 1, self.experiment.algorithm, self.recorder.ledger
        before = dict(ledger.charged)
        with ledger.phase("generation"):
            rollouts = self._roll_out(step)
        with ledger.phase("reward"):
            rollouts = self._reward(rollouts, "reward", step)
        with ledger.phase("experience"):
            states = self.experiment.diagnosed_states
            rows = self.workers.measure(rollouts, algorithm.temperatures, states)
            measured = {**policy_entropy(rows), **self._statistics(rollouts, step)}
            measured |= check_sync(step, rows, self.args.ds.param_dtype)
            state = algorithm.observe(progress.state, measured)
            seed = hashed_seed(self.experiment.seed, "tokens", step)
            give_credit(algorithm, rows, state, self.sampler.group_size, seed)
        extra, drawn = self.second_rollout.draw(step, state, rows, measured)
        with ledger.phase("update"):
            measured |= self._update(step, state, rows, extra)
        with ledger.phase("sync"):
            self.broadcast_to_vllm()
        with ledger.aside("diagnostics"):
            measured |= self._diagnose()
        sampled = rollouts + drawn
        tokens = sum(len(r.sample.token_ids) for r in sampled)
        updates = len(rollouts) // self.args.train.batch_size
        ledger.count(steps=1, optimizer_steps=updates, samples=len(sampled), tokens=tokens)
        seconds = {
            f"seconds/{phase}": total - before.get(phase, 0.0)
            for phase, total in ledger.charged.items()
        }
        self.recorder.write(
            "trace", step=step, **measured, **state_numbers(state), **seconds, **ledger.totals()
        )
        differed = progress.differed or measured["differs_from_grpo"] > 0
        return Progress(step, algorithm.next_state(state, measured), progress.evaluated, differed)

    def _roll_out(self, step: int) -> list[Rollout]:
        """The group of each prompt of this step, prompt-major: P * G rollouts.

        The first prompt of each engine comes with its log-probs, for `check_sync`. They are those
        of temperature 1; of another one the trainer has its log-probs at that.
        """
        checked = len(self.vllm_engines) if self.args.rollout.temperature == 1 else 0
        positions = range(self.sampler.prompts_per_step)
        return self.sampler.groups(step, "rollout", positions, log_probs=checked)

    def _reward(self, rollouts: list[Rollout], purpose: str, step: int) -> list[Rollout]:
        """Verdicts by the grader, rewards by the matrix's rule."""
        verdicts = self.grader.grade([(r.answer, r.text) for r in rollouts])
        correct = [verdict.status == "correct" for verdict in verdicts]
        seed = hashed_seed(self.experiment.seed, purpose, step, len(rollouts))
        return rewarded(rollouts, correct, self.experiment.reward, seed)

    def _statistics(self, rollouts: list[Rollout], step: int) -> dict[str, float]:
        """What to trace of the step's rollouts, and the epoch, from 1, that its prompts are of."""
        prompts_before = (step - 1) * self.sampler.prompts_per_step
        epoch = 1 + prompts_before // self.sampler.dataset_size
        return {**statistics(rollouts, self.sampler.group_size), "epoch": epoch}

    # Update --------------------------------------------------------------------------------

    def _update(
        self, step: int, state: dict[str, Any], rows: list[Row], extra: Extra | None
    ) -> dict[str, float]:
        """The optimizer steps of this rollout batch; returns the workers' reduced metrics."""
        self.workers.begin_step(step, state, rows, extra)
        status = self.ppo_train(step)
        renamed = {"actor_lr": "learning_rate", "actor_grad_norm": "gradient_norm"}
        return {renamed.get(name, name): float(value) for name, value in status.items()}

    def _diagnose(self) -> dict[str, float]:
        """CLIP's per-state quantities after the update, means over the sampled states."""
        if not self.experiment.diagnosed_states:
            return {}
        parts = [part for part in self.workers.each("diagnose") if part]
        means = {
            name: sum(part[name] for part in parts) / len(parts)
            for name in (parts[0] if parts else {})
        }
        return {f"clip/{name}": mean for name, mean in means.items() if math.isfinite(mean)}

    def _warn_if_inert(self, progress: Progress) -> None:
        """An arm that trained exactly as GRPO would is no comparison: say so."""
        step, algorithm = progress.step, self.experiment.algorithm
        if step and not progress.differed and algorithm != inert.reference(algorithm):
            self.recorder.write(
                "warning",
                step=step,
                text=f"inert arm: in {step} steps no token's gradient differed from plain GRPO's",
            )

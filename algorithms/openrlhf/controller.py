"""The single controller: OpenRLHF's PPO trainer with a measured budget in place of its epochs.

`fit` is the table of contents of a training run: rollouts, rewards, experience, update, weight
sync, each under its own phase of the ledger; then the trace, the algorithm's next state, a
checkpoint and, at fractions of the budget, an evaluation with the engines that are already warm.
Prompt order and sampling seeds are functions of (seed, step), so nothing but the step has to be
restored on resume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from openrlhf.datasets.prompts_dataset import preprocess_data
from openrlhf.trainer.ppo_trainer import PPOTrainer
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ray.vllm_engine import batch_vllm_engine_call
from torch import Tensor

from algorithms.objective import aggregate
from algorithms.openrlhf.engine import Sample


@dataclass(frozen=True)
class Rollout:
    """One sampled response with its prompt and, once graded, its reward."""

    prompt: str
    answer: str
    prompt_ids: list[int]
    sample: Sample
    text: str
    reward: float = 0.0


class Controller(PPOTrainer.__ray_metadata__.modified_class):
    """Trains to the budget; see the module docstring."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.suite = self.args.suite
        self.algorithm = self.suite.algorithm
        self.prompts = self.prompts_dataloader.dataset
        self.group_size = self.args.rollout.n_samples_per_prompt
        self.saved_step = 0

    def fit(self, global_step: int = 0) -> None:
        """Train until the ledger says that the budget is spent, evaluating on the way."""
        self.recorder = self.suite.make_recorder()
        self.ledger = self.recorder.ledger
        with self.suite.make_grader() as self.grader:
            self.grader.start()
            step, state, evaluated = self._restore()
            evaluated = self._evaluate_when_due(step, state, evaluated)
            while not self.ledger.exhausted():
                step, state = self._train_step(step + 1, state)
                evaluated = self._evaluate_when_due(step, state, evaluated)
                if step % self.suite.checkpoint_every == 0:
                    self._save(step, state, evaluated)
            self._save(step, state, evaluated)
            self.recorder.write(
                "finished", step=step, uncharged=self.ledger.uncharged, **self.ledger.totals()
            )

    # One training step ---------------------------------------------------------------------

    def _train_step(self, step: int, state: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        before = dict(self.ledger.charged)
        with self.ledger.phase("generation"):
            rollouts = self._roll_out(step)
        with self.ledger.phase("reward"):
            rollouts = self._reward(rollouts)
        with self.ledger.phase("experience"):
            experiences, entropy = self._make_experiences(rollouts)
        with self.ledger.phase("update"):
            status = self._update(step, state, experiences)
        with self.ledger.phase("sync"):
            self.broadcast_to_vllm()
        measured = {"entropy": entropy, **_reward_statistics(rollouts, self.group_size), **status}
        measured["epoch"] = 1 + (step - 1) * self.args.rollout.batch_size // len(self.prompts)
        tokens = sum(len(r.sample.token_ids) for r in rollouts)
        self.ledger.count(steps=1, samples=len(rollouts), tokens=tokens)
        seconds = {
            f"seconds/{phase}": total - before.get(phase, 0.0)
            for phase, total in self.ledger.charged.items()
        }
        numbers = {f"state/{k}": v for k, v in state.items() if isinstance(v, int | float)}
        self.recorder.write(
            "trace", step=step, **measured, **numbers, **seconds, **self.ledger.totals()
        )
        return step, self.algorithm.next_state(state, measured)

    def _roll_out(self, step: int) -> list[Rollout]:
        """The group of each prompt of this step, prompt-major: P * G rollouts."""
        indices = prompt_indices(
            self.suite.seed, step, self.args.rollout.batch_size, len(self.prompts)
        )
        prompts = [self.prompts.prompts[i] for i in indices]
        answers = [str(self.prompts.labels[i]) for i in indices]
        params = [
            {
                "n": self.group_size,
                "temperature": self.args.rollout.temperature,
                "top_p": self.args.rollout.top_p,
                "max_tokens": self.args.rollout.max_new_tokens,
                "seed": hashed_seed(self.suite.seed, "rollout", step, position),
            }
            for position in range(len(prompts))
        ]
        return self._sample(prompts, answers, params)

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
        texts = self.tokenizer.batch_decode(
            [sample.token_ids for group in groups for sample in group], skip_special_tokens=True
        )
        decoded = iter(texts)
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

    def _reward(self, rollouts: list[Rollout]) -> list[Rollout]:
        """R = 1 for a correct answer, 0 for anything else."""
        verdicts = self.grader.grade([(r.answer, r.text) for r in rollouts])
        return [
            Rollout(
                r.prompt, r.answer, r.prompt_ids, r.sample, r.text, float(v.status == "correct")
            )
            for r, v in zip(rollouts, verdicts, strict=True)
        ]

    def _make_experiences(self, rollouts: list[Rollout]) -> tuple[list[Experience], float]:
        """Micro-batches with old log-probs and advantages, and the policy entropy in nats.

        The entropy is the mean over responses of the mean over their tokens of the exact H_t on
        the states that pi_old visited (CLIP eq. 4).
        """
        size = self.args.rollout.micro_batch_size
        pad = self.tokenizer.pad_token_id
        batches = [
            to_experience(rollouts[i : i + size], pad) for i in range(0, len(rollouts), size)
        ]
        refs = self.actor_model_group.async_run_method_batch(
            method_name="forward",
            sequences=[b.sequences for b in batches],
            action_mask=[b.action_mask for b in batches],
            attention_mask=[b.attention_mask for b in batches],
        )
        copies = self.args.ds.ring_attn_size * self.args.ds.tensor_parallel_size
        results = [result for part in ray.get(refs)[::copies] for result in part]

        rewards_PG = torch.tensor([r.reward for r in rollouts]).view(-1, self.group_size)
        advantages_B = self.algorithm.advantages(rewards_PG).reshape(-1).split(size)
        masks = [b.action_mask.bool() for b in batches]
        flat = [
            a.unsqueeze(-1).expand(m.shape)[m] for a, m in zip(advantages_B, masks, strict=True)
        ]
        entropies = [entropy_BT[mask] for (_, entropy_BT), mask in zip(results, masks, strict=True)]
        shaped_N = self.algorithm.shape(torch.cat(flat), torch.cat(entropies))  # the global batch
        parts = shaped_N.split([len(part) for part in flat])
        entropy = 0.0
        for batch, mask_BT, part_N, (log_probs_BT, entropy_BT) in zip(
            batches, masks, parts, results, strict=True
        ):
            batch.action_log_probs = log_probs_BT
            batch.advantages = torch.zeros(mask_BT.shape).masked_scatter(mask_BT, part_N)
            entropy += float(aggregate(entropy_BT, mask_BT, total=len(rollouts)))
        return batches, entropy

    def _update(
        self, step: int, state: dict[str, Any], experiences: list[Experience]
    ) -> dict[str, float]:
        """The optimizer steps of this rollout batch; returns the workers' reduced metrics."""
        group = self.actor_model_group
        refs = group.async_run_method_batch(method_name="append", experience=experiences)
        refs += group.async_run_method(method_name="begin_step", step=step, state=state)
        ray.get(refs)
        status = self.ppo_train(step)
        renamed = {"actor_lr": "learning_rate", "actor_grad_norm": "gradient_norm"}
        return {renamed.get(name, name): float(value) for name, value in status.items()}

    # Checkpoints and evaluation ------------------------------------------------------------

    def _restore(self) -> tuple[int, dict[str, Any], int]:
        """Step, algorithm state and evaluations done: from the checkpoint, or the beginning."""
        saved = self.init_checkpoint_states()
        step = saved.get("global_step", 0)
        if step == 0 and "ledger" not in saved:
            self.recorder.begin(from_step=0, ledger=None)
            return 0, self.algorithm.initial_state(), 0
        self.saved_step = step
        self.recorder.begin(from_step=step, ledger=saved["ledger"])
        self.broadcast_to_vllm()
        return step, saved["algorithm_state"], saved["evaluated"]

    def _save(self, step: int, state: dict[str, Any], evaluated: int) -> None:
        """A checkpoint: policy, optimizer, algorithm state and ledger, never a part of them.

        A step is saved once: writing over the checkpoint that "latest" names could tear it.
        """
        if step == self.saved_step:
            return
        self.saved_step = step
        client_states = {
            "global_step": step,
            "algorithm_state": state,
            "evaluated": evaluated,
            "ledger": self.ledger.state(),
        }
        with self.ledger.aside("checkpoint"):
            ray.get(
                self.actor_model_group.async_run_method(
                    method_name="save_checkpoint",
                    tag=f"global_step{step}",
                    client_states=client_states,
                )
            )

    def _evaluate_when_due(self, step: int, state: dict[str, Any], evaluated: int) -> int:
        """Evaluate at every fraction of the budget that has been reached; returns how many."""
        points = self.suite.evaluate_at
        while evaluated < len(points) and self.ledger.fraction() >= points[evaluated]:
            self._save(step, state, evaluated)
            with self.ledger.aside("evaluation"):
                self._evaluate(step, points[evaluated])
            evaluated += 1
        return evaluated

    def _evaluate(self, step: int, fraction: float) -> None:
        for name, path in self.suite.benchmarks.items():
            records = self.suite.evaluate(self._answer, self.grader, name, path, step)
            for record in records:
                self.recorder.write("eval", step=step, fraction=fraction, **record)
        self.recorder.write("evaluated", step=step, fraction=fraction, **self.ledger.totals())
        if step:
            path = Path(self.args.ckpt.path).parent / "policies" / f"step_{step:06d}"
            ray.get(self.actor_model_group.async_run_method(method_name="save_policy", path=path))

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


def prompt_indices(seed: int, step: int, count: int, size: int) -> list[int]:
    """Which prompts step `step` (from 1) uses: a fresh permutation of the data set each epoch.

    A function of its arguments alone, the same for every arm: arms see the same prompts.
    """
    start = (step - 1) * count
    chosen = []
    for position in range(start, start + count):
        epoch, offset = divmod(position, size)
        chosen.append(int(_permutation(seed, epoch, size)[offset]))
    return chosen


_permutations: dict[tuple[int, int, int], Tensor] = {}


def _permutation(seed: int, epoch: int, size: int) -> Tensor:
    key = (seed, epoch, size)
    if key not in _permutations:
        generator = torch.Generator().manual_seed(hashed_seed(seed, "prompts", epoch))
        _permutations[key] = torch.randperm(size, generator=generator)
    return _permutations[key]


def hashed_seed(*parts: object) -> int:
    """A 31-bit seed from a hash: neighbouring steps and prompts share no random numbers.

    vLLM gives child i of a request with n samples the seed + i, so plain counters would overlap.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def to_experience(rollouts: list[Rollout], pad_token_id: int) -> Experience:
    """A right-padded micro-batch. Masks [B, S - 1] mark response tokens shifted by one."""
    rows = [r.prompt_ids + r.sample.token_ids for r in rollouts]
    length = max(len(row) for row in rows)
    sequences = torch.full((len(rows), length), pad_token_id, dtype=torch.long)
    attention = torch.zeros(len(rows), length, dtype=torch.long)
    action = torch.zeros(len(rows), length - 1, dtype=torch.long)
    for i, (row, rollout) in enumerate(zip(rows, rollouts, strict=True)):
        sequences[i, : len(row)] = torch.tensor(row)
        attention[i, : len(row)] = 1
        action[i, len(rollout.prompt_ids) - 1 : len(row) - 1] = 1
    return Experience(
        sequences=sequences,
        attention_mask=attention,
        action_mask=action,
        rewards=torch.tensor([r.reward for r in rollouts]),
        response_length=torch.tensor([len(r.sample.token_ids) for r in rollouts]),
        truncated=torch.tensor([r.sample.truncated for r in rollouts]),
        total_length=torch.tensor([len(row) for row in rows]),
        prompts=[r.prompt for r in rollouts],
        labels=[r.answer for r in rollouts],
    )


def _reward_statistics(rollouts: list[Rollout], group_size: int) -> dict[str, float]:
    rewards_PG = torch.tensor([r.reward for r in rollouts]).view(-1, group_size)
    equal_P = (rewards_PG == rewards_PG[:, :1]).all(-1)
    lengths = torch.tensor([len(r.sample.token_ids) for r in rollouts], dtype=torch.float)
    truncated = torch.tensor([r.sample.truncated for r in rollouts], dtype=torch.float)
    return {
        "reward": float(rewards_PG.mean()),
        "groups_without_signal": float(equal_P.float().mean()),
        "response_length": float(lengths.mean()),
        "truncated": float(truncated.mean()),
    }

"""Run by test_stack.py in a process of its own: the real stack with a controller that measures.

    python tests/stack_probe.py MODEL OUT WORKERS

Everything is OpenRLHF's production wiring (driver, Ray, DeepSpeed, vLLM, our actor and engine);
only `fit` is replaced, by one that takes gradients and log-probs and writes OUT/measured.pt.
"""

import dataclasses
import json
import sys
from pathlib import Path

from algorithms.openrlhf import cpu

cpu.prepare_process()

import ray  # noqa: E402
import torch  # noqa: E402
from deepspeed.utils import safe_get_full_grad  # noqa: E402
from openrlhf.trainer.ray.vllm_engine import batch_vllm_engine_call  # noqa: E402
from vllm import SamplingParams  # noqa: E402

import algorithms  # noqa: E402
from algorithms.openrlhf.credit import give_credit  # noqa: E402
from algorithms.openrlhf.driver import train  # noqa: E402
from algorithms.openrlhf.experiment import Experiment  # noqa: E402
from algorithms.openrlhf.flags import command_line  # noqa: E402
from algorithms.openrlhf.rollouts import (  # noqa: E402
    Extra,
    hashed_seed,
    policy_entropy,
    training_batch,
)
from benchmarks.arithmetic.problems import problems, write_jsonl  # noqa: E402

ARMS = {
    "grpo": ("grpo", {}),
    "dr_grpo": ("grpo", {"std": False}),
    "clip_higher": ("clip", {"eps_low": 0.2, "eps_high": 0.28}),
    "clip_low": ("clip", {"eps_low": 0.15, "eps_high": float("inf")}),
    "clip_low_off": ("clip", {"eps_low": 1.0, "eps_high": 0.2}),
    "entreg": ("entreg", {"coefficient": 0.5}),
    "aent": ("aent", {"coefficient": 0.5, "p": 0.95}),  # 3 of 44 tokens
    "gspo": ("gspo", {"eps_low": 0.02, "eps_high": 0.02}),
    "kl_cov": ("kl_cov", {"share": 0.1}),
    "aepo": ("aepo", {}),
}
PROMPTS, GROUP = 8, 4
EXTRA_ROWS, EXTRA_DRAWN, EXTRA_COEFFICIENT = 5, 11, 2.0  # of the aepo arm: rows 7, 8, ... again


def make_policy():
    from algorithms.openrlhf.actor import PolicyActor

    class ProbedPolicy(PolicyActor):
        """Keeps the gradient of each optimizer step and lets the step change nothing."""

        def gradient(self, algorithm, parts, extra):
            trainer, engine = self.trainer, self.actor.model
            share = PROMPTS * GROUP // self._world_size
            own, trainer.algorithm = trainer.algorithm, algorithm
            ranks = self._world_size
            trainer.begin_step(algorithm.initial_state(), extra, self._rank, ranks)
            trainer.replay_buffer.sample_batch_size = share // parts
            engine.set_train_micro_batch_size(share // parts)
            engine.micro_steps = 0
            engine._config.gradient_accumulation_steps = parts
            engine.optimizer.gradient_accumulation_steps = parts
            self.strategy.accumulated_gradient = parts
            kept, step = {}, self.strategy.optimizer_step

            def keep_then_step(optimizer, model, scheduler, **_):
                if engine.is_gradient_accumulation_boundary():
                    for name, parameter in engine.module.named_parameters():
                        kept[name] = safe_get_full_grad(parameter).clone()
                for group in optimizer.param_groups:
                    group["lr"] = 0.0
                step(optimizer, model, scheduler)

            self.strategy.optimizer_step = keep_then_step
            trainer.ppo_train(0.0)
            self.strategy.optimizer_step = step
            trainer.algorithm = own
            return kept

        def clear(self):
            self.trainer.replay_buffer.clear()

    return ProbedPolicy


def make_controller(out):  # noqa: C901  a class with its helpers
    from algorithms.openrlhf import controller

    class Probe(controller.Controller):
        def fit(self, global_step=0):
            self.grader = self.args.suite.make_grader()
            self._compose(self.args.suite)
            measured = {"gradients": {}, "marks": {}}
            generator = torch.Generator().manual_seed(1)
            rewards = self._rewards(generator)
            rollouts = [
                dataclasses.replace(rollout, reward=reward)
                for rollout, reward in zip(self._roll_out(1), rewards, strict=True)
            ]
            rows = self.workers.measure(rollouts)
            measured["entropy"] = policy_entropy(rows)["entropy"]
            for row in rows:  # ratios on both sides of every clip bound
                row.log_probs += 0.4 * torch.randn(row.log_probs.shape, generator=generator)
            group, pad = self.actor_model_group, self.tokenizer.pad_token_id
            seed = hashed_seed(self.experiment.seed, "tokens", 1)
            for name, (algorithm, settings) in ARMS.items():
                chosen = algorithms.load(algorithm, **settings)
                give_credit(chosen, rows, chosen.initial_state(), GROUP, seed)
                size = self.args.rollout.micro_batch_size
                batches = [
                    training_batch(rows[i : i + size], pad) for i in range(0, len(rows), size)
                ]
                measured["marks"][name] = [batch.values for batch in batches]
                extra = self._extra_of(rows, pad) if name == "aepo" else None
                for parts in (1, 4):
                    refs = group.async_run_method_batch(method_name="append", experience=batches)
                    ray.get(refs)
                    refs = group.async_run_method(
                        method_name="gradient", algorithm=chosen, parts=parts, extra=extra
                    )
                    measured["gradients"][name, parts] = ray.get(refs)[0]
                    ray.get(group.async_run_method(method_name="clear"))
            fields = ("sequences", "attention_mask", "action_mask", "action_log_probs")
            measured["batches"] = [{f: getattr(b, f).clone() for f in fields} for b in batches]
            give_credit(algorithms.load("grpo"), rows, {}, GROUP, seed)
            measured["log_probs"] = [self._both_log_probs(batches)]
            for step in (1, 2):
                self._update(step, {}, rows, None)
                self.broadcast_to_vllm()
                measured["log_probs"].append(self._both_log_probs(batches))
            torch.save(measured, out / "measured.pt")

        def _rewards(self, generator):
            rewards = torch.randint(0, 2, (PROMPTS * GROUP,), generator=generator).float()
            rewards[:GROUP] = 1.0  # one group without signal
            return rewards.tolist()

        def _extra_of(self, rows, pad):
            extra = [dataclasses.replace(row) for row in rows[7 : 7 + EXTRA_ROWS]]
            for row in extra:
                row.advantages = torch.ones_like(row.log_probs)
                row.reference = row.marks = torch.zeros_like(row.log_probs)
            return Extra(training_batch(extra, pad), EXTRA_DRAWN, 99, EXTRA_COEFFICIENT)

        def _both_log_probs(self, batches):
            """(trainer's, vLLM's) log-probs of the responses' tokens, each response apart."""
            trained = [log_probs for log_probs, *_ in self.workers.over("forward", batches)]
            pairs = []
            for batch, log_probs in zip(batches, trained, strict=True):
                for i in range(len(batch.sequences)):
                    ids = batch.sequences[i][batch.attention_mask[i].bool()].tolist()
                    mask = batch.action_mask[i][: len(ids) - 1].bool()
                    output = batch_vllm_engine_call(
                        self.vllm_engines,
                        "generate",
                        ids,
                        SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=1.0),
                    )[-1]
                    sampled = torch.tensor(
                        [
                            found[token].logprob
                            for token, found in zip(
                                ids[1:], output.prompt_logprobs[1:], strict=True
                            )
                        ]
                    )
                    pairs.append((log_probs[i][: len(ids) - 1][mask], sampled[mask]))
            return pairs

    return Probe


def main():
    model, out, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    write_jsonl(out / "train.jsonl", problems("train", 200))
    settings = json.loads((out / "train.json").read_text())
    flags = command_line(
        settings,
        gpus=workers,
        device="cpu",
        seed=0,
        model=model,
        dataset=str(out / "train.jsonl"),
        workspace=out,
        reward=str(Path(__file__).parent.parent / "benchmarks" / "grading.py"),
        longest_response=settings["max_new_tokens"],
    )
    experiment = Experiment(
        algorithm=algorithms.load("grpo"),
        folder=out,
        make_recorder=dict,
        make_grader=dict,
        evaluate=dict,
    )
    train(
        flags,
        [experiment],
        gpus=workers,
        controller=make_controller(out),
        policy=make_policy(),
    )


if __name__ == "__main__":
    main()

"""Run by test_arms.py in a process of its own: every algorithm through one start of the stack.

    python tests/arms_probe.py MODEL OUT

The production controller trains a few steps with one algorithm, then with the next, each from a
checkpoint of the base model; an arm's lines go to OUT/ARM.jsonl as a worker's recorder writes them.
"""

import dataclasses
import functools
import json
import sys
from pathlib import Path

from algorithms.openrlhf import cpu

cpu.prepare_process()

import algorithms  # noqa: E402
from algorithms.openrlhf.driver import train  # noqa: E402
from algorithms.openrlhf.experiment import Experiment  # noqa: E402
from algorithms.openrlhf.flags import command_line  # noqa: E402
from benchmarks.arithmetic.problems import problems, write_jsonl  # noqa: E402
from benchmarks.grading import Grader  # noqa: E402
from suite.worker.ledger import Budget  # noqa: E402
from suite.worker.recorder import Recorder  # noqa: E402


def make_controller(out, arms, steps):
    from algorithms.openrlhf.controller import Controller

    class EveryArm(Controller):
        def fit(self, global_step=0):
            session, base = self.args.session[0], out / "base"
            with session.make_grader() as self.grader:
                self.grader.start()
                self.workers.each("save_state", folder=base)
                for name, arm in arms.items():
                    self.train_arm(session, base, name, **arm)

        def _reward(self, rollouts, purpose, step):
            """As ever, but that no extra sample of the arm "fruitless" is right."""
            rewarded = super()._reward(rollouts, purpose, step)
            if self.fruitless and purpose.startswith("extra"):
                return [dataclasses.replace(r, reward=0.0) for r in rewarded]
            return rewarded

        def train_arm(self, session, base, name, algorithm, settings, reward):
            experiment = dataclasses.replace(
                session,
                algorithm=algorithms.load(algorithm, **settings),
                folder=out / "cells" / name,
                make_recorder=functools.partial(
                    Recorder, out / f"{name}.jsonl", 1, Budget("steps", steps), 1
                ),
                reward=reward,
            )
            self.fruitless = name == "fruitless"
            self._compose(experiment)
            progress = self._begin(base)
            self.probe.load(0)
            while not self.recorder.ledger.exhausted():
                progress = self._train_step(progress)
            values = self.probe.score()
            self.recorder.write("probe", step=progress.step, fraction=1.0, values=values)
            self._warn_if_inert(progress)

    return EveryArm


def main():
    model, out = sys.argv[1], Path(sys.argv[2])
    plan = json.loads((out / "plan.json").read_text())
    write_jsonl(out / "train.jsonl", problems("train", 200))
    flags = command_line(
        plan["train"],
        gpus=1,
        device="cpu",
        seed=0,
        model=model,
        dataset=str(out / "train.jsonl"),
        workspace=out,
        reward=str(Path(__file__).parent.parent / "benchmarks" / "grading.py"),
        longest_response=plan["train"]["max_new_tokens"],
    )
    experiment = Experiment(
        algorithm=algorithms.load("grpo"),
        folder=out,
        make_recorder=dict,
        make_grader=Grader,
        evaluate=dict,
        diagnosed_states=64,
        probe_prompts=16,
        probe=out / "probe.jsonl",
    )
    train(
        flags,
        [experiment],
        gpus=1,
        controller=make_controller(out, plan["arms"], plan["steps"]),
    )


if __name__ == "__main__":
    main()

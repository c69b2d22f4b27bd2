"""OpenRLHF's `train_ppo_ray` with its own trainer, engine and policy, for stack_bench.py.

    python tests/bench/plain_openrlhf.py STEPS.jsonl FLAGS...

FLAGS are those of `python -m openrlhf.cli.train_ppo_ray`. What is added is what OpenRLHF 0.11.2
needs to run without a GPU at all (see algorithms/openrlhf/cpu.py: dtype, weight transport, logical
GPUs) and a stopwatch: after each step one line of STEPS.jsonl with the time and OpenRLHF's own
timings. On a machine with a GPU only the stopwatch is left.
"""

import json
import runpy
import sys
import time

from algorithms.openrlhf import cpu
from algorithms.openrlhf.driver import start_ray, stop_ray
from algorithms.openrlhf.flags import MODULE

cpu.prepare_process()

import openrlhf.trainer.ppo_trainer as ppo_trainer  # noqa: E402
import openrlhf.trainer.ray.ppo_actor as ppo_actor  # noqa: E402
import openrlhf.trainer.ray.vllm_engine as vllm_engine  # noqa: E402
import openrlhf.utils as openrlhf_utils  # noqa: E402
import ray  # noqa: E402
from openrlhf.utils.utils import get_strategy  # noqa: E402


def engine_for_cpu():
    """The rollout actor in float32, receiving weights over gloo."""

    class Engine(vllm_engine.RolloutRayActor.__ray_metadata__.modified_class):
        async def __init__(self, *args, **kwargs):
            kwargs["dtype"] = "float32"
            kwargs["worker_extension_cls"] = "algorithms.openrlhf.cpu.WeightReceiver"
            await super().__init__(*args, **kwargs)

    return Engine


def policy_for_cpu():
    """The policy worker, sending weights over gloo."""

    class Policy(ppo_actor.PolicyModelActor.__ray_metadata__.modified_class):
        def init_model_from_pretrained(self, *args, **kwargs):
            cpu.patch_trainer(ppo_actor)
            return super().init_model_from_pretrained(*args, **kwargs)

    return Policy


def timed_trainer(path):
    """The controller, writing down when training began and when each step was done."""

    class Trainer(ppo_trainer.PPOTrainer.__ray_metadata__.modified_class):
        def _note(self, **fields):
            with open(path, "a") as lines:
                lines.write(json.dumps({"time": time.time(), **fields}) + "\n")

        def fit(self, global_step=0):
            self._note(step=0)
            super().fit(global_step)

        def save_logs_and_checkpoints(self, global_step, logs_dict=None, client_states=None):
            kept = ("timing/", "rollout/")
            numbers = {k: v for k, v in (logs_dict or {}).items() if k.startswith(kept)}
            self._note(step=global_step, **numbers)
            super().save_logs_and_checkpoints(global_step, logs_dict, client_states)

    return Trainer


def float32_strategy(args):
    cpu.use_float32(args)
    return get_strategy(args)


def main():
    path, *flags = sys.argv[1:]
    start_ray(gpus=1)
    if cpu.active():
        openrlhf_utils.get_strategy = float32_strategy
        vllm_engine.RolloutRayActor = ray.remote(engine_for_cpu())
        ppo_actor.PolicyModelActor = ray.remote(num_gpus=1)(policy_for_cpu())
    ppo_trainer.PPOTrainer = ray.remote(timed_trainer(path))
    sys.argv = [MODULE, *flags]
    try:
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
    finally:
        stop_ray()


if __name__ == "__main__":
    main()

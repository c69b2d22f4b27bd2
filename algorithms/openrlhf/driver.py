"""Runs OpenRLHF's own `train_ppo_ray`, flags and all, with our three classes in place of its own.

The command-line module builds its parser under `__main__` and looks classes up by module when it
runs, so setting them on those modules and handing the flags to runpy is all that is needed. What
the flags cannot carry (the algorithm, the recorder, the grader) travels on `args.suite`, which
OpenRLHF passes to every worker inside its strategy.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import threading
from types import SimpleNamespace
from typing import Any

from algorithms.openrlhf import cpu
from algorithms.openrlhf.experiment import Experiment
from algorithms.openrlhf.flags import MODULE

GANG = "SUITE_GANG"  # NAMESPACE/NAME of the placement group to live in, on a cluster
CARRIED = ("SUITE_", "HF_", "PYTHONPATH")  # environment that a cluster's processes need as well


def start_ray(gpus: int, tuning: dict[str, str] | None = None) -> None:
    """Join the cluster at RAY_ADDRESS, or start a private one with `gpus` (logical on CPU).

    tuning: environment of its processes that is for speed alone.
    """
    import ray

    environment = {
        "TOKENIZERS_PARALLELISM": "false",
        "NCCL_DEBUG": os.environ.get("NCCL_DEBUG", "WARN"),
        "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
    }
    if cpu.active():
        environment |= cpu.ENVIRONMENT | (tuning or {})
    options: dict[str, Any] = {
        "runtime_env": {
            "env_vars": environment,
            "worker_process_setup_hook": "algorithms.openrlhf.cpu.prepare_process",
        },
    }
    if os.environ.get("RAY_ADDRESS"):
        environment |= {k: v for k, v in os.environ.items() if k.startswith(CARRIED)}
        options["namespace"] = os.environ.get(GANG, "").partition("/")[0] or None
    else:
        options |= {
            "address": "local",
            "num_gpus": gpus,
            "num_cpus": max(8, 4 * gpus),
            "include_dashboard": False,
        }
    ray.init(**options)


def train(
    flags: list[str],
    session: list[Experiment],
    *,
    gpus: int,
    controller: type | None = None,
    policy: type | None = None,
) -> None:
    """Run `python -m openrlhf.cli.train_ppo_ray FLAGS` with our classes plugged in.

    Args:
        flags: OpenRLHF's command line, as `flags.command_line` makes it.
        session: cells that share these flags, trained one after the other by the same workers.
        gpus: GPUs that a private Ray cluster offers.
        controller, policy: classes in place of `Controller` and `PolicyActor`, for tests.
    """
    cpu.prepare_process()
    if cpu.active() and not os.environ.get("RAY_ADDRESS"):
        _start_ray_and_import(gpus)
    else:
        start_ray(gpus, cpu.ALLOCATION)
    try:
        _plug_in(session, controller, policy)
        saved, sys.argv = sys.argv, [MODULE, *flags]
        try:
            runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
        finally:
            sys.argv = saved
    finally:
        stop_ray()


def _start_ray_and_import(gpus: int) -> None:
    """Imports are most of a start without a GPU; this process makes its own while Ray comes up."""
    importing = threading.Thread(target=_import_everything)
    importing.start()
    start_ray(gpus, cpu.ALLOCATION)
    importing.join()


def _import_everything() -> None:
    import algorithms.openrlhf.actor
    import algorithms.openrlhf.controller
    import algorithms.openrlhf.engine  # noqa: F401


class _InThisProcess:
    """A class under the names of a Ray actor: made and called in the driver, one process fewer."""

    def __init__(self, cls: type):
        self._cls = cls

    def remote(self, *args: Any, **kwargs: Any) -> _Methods:
        """The object; its methods return references as an actor's do."""
        return _Methods(self._cls(*args, **kwargs))


class _Methods:
    def __init__(self, instance: Any):
        self._instance = instance

    def __getattr__(self, name: str) -> Any:
        import ray

        method = getattr(self._instance, name)
        return SimpleNamespace(remote=lambda *args, **kwargs: ray.put(method(*args, **kwargs)))


def stop_ray() -> None:
    """Shut Ray down and end what a private cluster leaves behind.

    Actors that hold a gloo group outlive their raylet: whatever still runs among our descendants a
    moment later is killed.
    """
    import psutil
    import ray

    descendants = psutil.Process().children(recursive=True)
    ray.shutdown()
    _, alive = psutil.wait_procs(descendants, timeout=0.5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=10)


def _plug_in(session: list[Experiment], controller: type | None, policy: type | None) -> None:
    import openrlhf.trainer.ppo_trainer as ppo_trainer
    import openrlhf.trainer.ray.ppo_actor as ppo_actor
    import openrlhf.trainer.ray.vllm_engine as vllm_engine
    import openrlhf.utils as openrlhf_utils
    import ray
    from openrlhf.utils.utils import get_strategy

    from algorithms.openrlhf.actor import PolicyActor
    from algorithms.openrlhf.controller import Controller
    from algorithms.openrlhf.engine import EngineActor

    def get_suite_strategy(args: Any) -> Any:
        refuse_lora(args)
        args.session, args.suite = session, session[0]
        if cpu.active():
            cpu.use_float32(args)
        return get_strategy(args)

    openrlhf_utils.get_strategy = get_suite_strategy
    vllm_engine.RolloutRayActor = ray.remote(EngineActor)
    ppo_actor.PolicyModelActor = ray.remote(num_gpus=1)(policy or PolicyActor)
    controller = controller or Controller
    if os.environ.get("RAY_ADDRESS"):
        ppo_trainer.PPOTrainer = ray.remote(controller)
        _live_in_gang(ppo_trainer)
    else:
        ppo_trainer.PPOTrainer = _InThisProcess(controller)


def refuse_lora(args: Any) -> None:
    """Raises ValueError where OpenRLHF's parsed command line asks for adapters.

    OpenRLHF 0.11.2 sends the engines an adapter's parameters under names that they do not have.
    """
    if args.ds.lora.rank:
        raise ValueError(
            f"--ds.lora.rank {args.ds.lora.rank}: adapters cannot be trained, for the engines "
            "would not get them; leave the flag out and train all weights"
        )


def _live_in_gang(ppo_trainer: Any) -> None:
    """On a cluster the GPUs are reserved already: OpenRLHF gets that group, and the controller too.

    A second placement group for the same cell could deadlock with those of other cells.
    """
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    name = os.environ.get(GANG, "").partition("/")[2]
    if not name:
        return
    gang = ray.util.get_placement_group(name)

    def placement_group(bundles: list[dict[str, float]], **_: Any) -> Any:
        if len(bundles) != gang.bundle_count:
            raise ValueError(f"{len(bundles)} GPUs wanted, {gang.bundle_count} are reserved")
        return gang

    module: Any = sys.modules["ray.util.placement_group"]  # whose function is replaced
    module.placement_group = placement_group
    ppo_trainer.PPOTrainer = ppo_trainer.PPOTrainer.options(
        num_cpus=0, scheduling_strategy=PlacementGroupSchedulingStrategy(gang, 0)
    )

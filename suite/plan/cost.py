"""What a cell will cost: from earlier runs like it, else from a model whose assumptions are said.

A model of the cost is a guess to plan with: floating-point operations over a stated utilisation,
no slower phase of a real run (stragglers, long answers that a policy learns, a busy disk) in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import algorithms
from benchmarks import catalogue
from suite.matrix.cell import Cell
from suite.matrix.command import finite
from suite.metrics import SECONDS_PER_HOUR
from suite.plan.size import Accelerator, ModelShape
from suite.store.timings import Timing
from suite.text import count

# What a model of the cost assumes. Nothing measured here: overwritten by the first real runs.
UPDATE_UTILISATION = 0.35  # of the peak, forward and backward
GENERATION_UTILISATION = 0.10  # decoding is bound by memory, batching makes up for some of it
RESPONSE_SHARE = 0.5  # of max_new_tokens, the mean length of a response
PROMPT_SHARE = 0.25  # of max_prompt_tokens
GPU_START_UP = 180.0  # seconds: Ray, DeepSpeed, vLLM with its compilation
STEP_OVERHEAD = 5.0  # seconds: grading, putting to sleep and waking, moving states
SYNC_BANDWIDTH = 20e9  # bytes a second, bf16 weights to the engines
CORE_FLOPS = 20e9  # of a CPU core, fp32, small matrices
CPU_START_UP, CPU_STEP_OVERHEAD = 45.0, 0.5
EXTRA_GENERATION = 0.25  # of the rollouts, what an algorithm with a second rollout draws besides

# Settings of `train` that change what is learned and not how long a step takes.
_FREE = {"lr", "weight_decay", "max_grad_norm", "loss_aggregation", "checkpoint_every", "reward"}


@dataclass(frozen=True)
class Estimate:
    """Seconds of a step by phase, and what follows from them; `aside` is not charged.

    `source` is "measured" or "model"; `basis` says from what, in words.
    """

    source: str
    basis: str
    gpus: int
    steps: int
    per_step: dict[str, float]
    aside: dict[str, float]
    start_up: float

    @property
    def gpu_hours(self) -> float:
        """Charged: seconds * GPUs / 3600."""
        return self.steps * sum(self.per_step.values()) * self.gpus / SECONDS_PER_HOUR

    @property
    def seconds(self) -> float:
        """Wall time without the start-up, which cells can share."""
        return self.steps * sum(self.per_step.values()) + sum(self.aside.values())


def from_runs(cell: Cell, runs: list[Timing], hardware: Mapping[str, Any]) -> Estimate | None:
    """From earlier runs of this model with these training settings on this hardware, or None.

    Runs of the same algorithm with the same settings are preferred to those of any other that has
    no second rollout. `hardware` is this machine's (machine.hardware), for cells that name no
    accelerator. Each number is the median over the runs; a run's own is the mean over its steps,
    since the slow ones have to be paid for too.
    """
    alike = [run for run in runs if _alike(cell, run) and _same_hardware(cell, run, hardware)]
    siblings = [run for run in alike if run.algorithm == cell.algorithm]
    exact = [run for run in siblings if run.settings == finite(cell.settings)]
    plain = [] if _draws_twice(cell) else [r for r in alike if "extra_generation" not in r.per_step]
    basis = exact or siblings or plain
    if not basis:
        return None
    phases = sorted({name for run in basis for name in run.per_step})
    per_step = {name: median(run.per_step.get(name, 0.0) for run in basis) for name in phases}
    steps = _steps(cell, per_step, median(run.tokens_per_step for run in basis))
    starts = [run.start_up for run in alike if run.start_up is not None]
    arms = sorted({run.arm for run in basis})
    text = f"{len(basis)} earlier run{'s' * (len(basis) > 1)} of {', '.join(arms)}"
    if not exact:
        text += " (other settings)" if siblings else " (another algorithm)"
    finished = [run for run in basis if run.aside is not None]
    return Estimate(
        "measured",
        text,
        cell.resources["gpus"],
        steps,
        per_step,
        _aside_of(cell, finished, steps),
        median(starts) if starts else 0.0,
    )


def from_model(cell: Cell, shape: ModelShape, device: Accelerator | None, cores: int) -> Estimate:
    """From floating-point operations: 2 a parameter and token to generate or score, 6 to train.

    device None: this machine's `cores`. Gradient checkpointing adds a forward pass. Generation is
    at least one reading of the weights for each token of the longest response. Attention's own
    operations are left out (some per cent at a few thousand tokens).
    """
    train, gpus = cell.train, cell.resources["gpus"]
    rollouts = train["prompts_per_step"] * train["samples_per_prompt"]
    response = RESPONSE_SHARE * train["max_new_tokens"]
    tokens = rollouts * (response + PROMPT_SHARE * train["max_prompt_tokens"])
    flops = gpus * device.flops if device else cores * CORE_FLOPS
    training, generating = flops * UPDATE_UTILISATION, flops * GENERATION_UTILISATION
    if not device:
        training = generating = flops
    once = 2 * shape.parameters * tokens
    floor = 0.0
    if device:
        read = 2 * shape.parameters / train["tensor_parallel_size"] / device.bandwidth
        floor = train["max_new_tokens"] * read
    generation = max(once / generating, floor)
    per_step = {
        "generation": generation,
        "experience": once / training,
        "update": (4 if train["gradient_checkpointing"] else 3) * once / training,
        "sync": 2 * shape.parameters / SYNC_BANDWIDTH,
        "overhead": STEP_OVERHEAD if device else CPU_STEP_OVERHEAD,
    }
    if _draws_twice(cell):
        per_step["extra_generation"] = EXTRA_GENERATION * generation
    longest = cell.evaluate["max_new_tokens"] or train["max_new_tokens"]
    each = 2 * shape.parameters * RESPONSE_SHARE * longest / generating
    return Estimate(
        "model",
        "no earlier run like it",
        gpus,
        _steps(cell, per_step, rollouts * response),
        per_step,
        {"evaluation": answers(cell) * each},
        GPU_START_UP if device else CPU_START_UP,
    )


def assumptions(cell: Cell, shape: ModelShape, device: Accelerator | None, cores: int) -> list[str]:
    """What `from_model` takes for granted, to be printed with its numbers."""
    speed = (
        f"{device.flops / 1e12:g} TFLOP/s and {device.bandwidth / 1e12:g} TB/s per {device.name} "
        f"(data sheet, bf16), {UPDATE_UTILISATION:.0%} of it in training and "
        f"{GENERATION_UTILISATION:.0%} in generation"
        if device
        else f"{cores} cores of {CORE_FLOPS / 1e9:g} GFLOP/s"
    )
    start, overhead = (GPU_START_UP, STEP_OVERHEAD) if device else (CPU_START_UP, CPU_STEP_OVERHEAD)
    second = [f"a second rollout of {EXTRA_GENERATION:.0%} of the first"]
    return [
        f"{count(shape.parameters)} parameters ({shape.source})",
        speed,
        f"responses of {RESPONSE_SHARE:.0%} of max_new_tokens, prompts of {PROMPT_SHARE:.0%} of "
        "max_prompt_tokens, on average",
        "2 operations a parameter and token to generate and to score, 6 to train (8 with gradient "
        "checkpointing)",
        f"{overhead:g} s a step for everything else, {start:g} s to start the stack",
        *(second if _draws_twice(cell) else []),
    ]


def answers(cell: Cell) -> int:
    """How many responses all evaluations of a cell draw; unknown benchmarks count as none."""
    evaluate = cell.evaluate
    problems = 0
    for name in evaluate["benchmarks"]:
        there = _problems(name)
        problems += min(there, evaluate["problems"] or there)
    return len(evaluate["at"]) * problems * evaluate["samples"]


def _problems(name: str) -> int:
    if name in catalogue.known():
        return catalogue.known()[name].problems
    try:
        with Path(name).open() as file:
            return sum(1 for line in file if line.strip())
    except OSError:
        return 0


def _steps(cell: Cell, per_step: Mapping[str, float], tokens: float) -> int:
    """Steps to the first boundary at or past the budget."""
    ((unit, limit),) = cell.budget.items()
    hours = sum(per_step.values()) * cell.resources["gpus"] / SECONDS_PER_HOUR
    a_step = {"steps": 1.0, "tokens": tokens, "gpu_hours": hours}[unit]
    return max(1, math.ceil(limit / a_step - 1e-9)) if a_step else 1


def _aside_of(cell: Cell, runs: list[Timing], steps: int) -> dict[str, float]:
    """Each account by what it grows with: answers drawn, checkpoints written, else steps."""
    points, every = len(cell.evaluate["at"]), cell.train["checkpoint_every"]
    scaled = {}
    for name in sorted({name for run in runs for name in run.aside or {}}):
        rates = [
            (run.aside or {}).get(name, 0.0)
            / _extent(name, run.answers, run.points, run.steps, run.train["checkpoint_every"])
            for run in runs
        ]
        scaled[name] = median(rates) * _extent(name, answers(cell), points, steps, every)
    return scaled


def _extent(name: str, drawn: int, points: int, steps: int, every: int) -> int:
    """How much of it there is: a probe is drawn once, a checkpoint written at every evaluation."""
    extents = {"evaluation": drawn, "checkpoint": points + steps // every, "probe": 1}
    return max(1, extents.get(name, steps))


def _alike(cell: Cell, run: Timing) -> bool:
    ours, theirs = (
        {name: value for name, value in train.items() if name not in _FREE}
        for train in (cell.train, run.train)
    )
    return run.model == cell.model and ours == theirs and run.resources == cell.resources


def _same_hardware(cell: Cell, run: Timing, hardware: Mapping[str, Any]) -> bool:
    kind = cell.resources["accelerator"]
    if kind:
        return any(kind.lower() in name.lower() for name in run.hardware["gpus"])
    return all(run.hardware[name] == hardware[name] for name in ("gpus", "cores"))


def _draws_twice(cell: Cell) -> bool:
    """Whether the algorithm overrides the second rollout."""
    base = algorithms.algorithm_class("grpo")
    return algorithms.algorithm_class(cell.algorithm).extra_rollouts is not base.extra_rollouts

"""`--shrink`: a matrix for large hardware, rehearsed on the embedded model in minutes.

Kept: arms, algorithms, their settings and sweeps, reward modes, how many optimizer steps a rollout
batch is used for, how losses are averaged and gradients clipped, the sampling of evaluations.
Everything that makes it large is replaced: model, data set and benchmarks by the embedded ones,
batches, lengths, budget, samples and seeds by small ones, hardware by one device. The learning rate
is one that moves so small a model. The scores mean nothing; that everything runs does.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import algorithms
from suite.matrix import sources
from suite.matrix.cell import Cell
from suite.matrix.schema import Resources, Train

SUFFIX = "-shrunk"
STEPS = 4
PROMPTS, GROUP = 8, 8  # at most: fewer where the matrix has fewer, more where something needs it
LR = 5.0e-4
SAMPLES, PROBLEMS, PROBE, STATES = 8, 16, 16, 64  # at most

KEPT = (
    "optimizer_steps_per_rollout",
    "loss_aggregation",
    "weight_decay",
    "max_grad_norm",
    "reward",
)


def shrunk(cells: list[Cell]) -> list[Cell]:
    """The cells of the first seed, small; arms that were told apart only by size become one."""
    of_a_seed = [cell for cell in cells if cell.seed == cells[0].seed]
    group = _group(of_a_seed)
    prompts = _prompts(of_a_seed, group)
    by_id: dict[str, Cell] = {}
    for cell in of_a_seed:
        small = _shrunk(cell, prompts, group)
        by_id.setdefault(small.id, small)
    return list(by_id.values())


def _shrunk(cell: Cell, prompts: int, group: int) -> Cell:
    return replace(
        cell,
        matrix=cell.matrix + SUFFIX,
        model=sources.EMBEDDED_MODEL,
        train=_train(cell.train, prompts, group),
        evaluate=_evaluate(cell.evaluate),
        budget={"steps": STEPS},
        resources=Resources().model_dump(),
        identity=sources.identity([sources.EMBEDDED_MODEL, sources.EMBEDDED_DATASET]),
    )


def _group(cells: list[Cell]) -> int:
    """Responses a prompt, the same for all arms: the fewest from GROUP on that each can take.

    Where the matrix itself has groups smaller than GROUP, its smallest.
    """
    smallest = min(cell.train["samples_per_prompt"] for cell in cells)
    loaded = [algorithms.load(cell.algorithm, **cell.settings) for cell in cells]
    return next(
        group
        for group in count(min(smallest, GROUP))
        if not any(algorithm.group_problem(group) for algorithm in loaded)
    )


def _prompts(cells: list[Cell], group: int) -> int:
    """Prompts a step, the same for all arms: every arm's optimizer steps divide the batch."""
    steps = {cell.train["optimizer_steps_per_rollout"] for cell in cells}
    return next(n for n in count(PROMPTS) if all(n * group % k == 0 for k in steps))


def _train(train: dict[str, Any], prompts: int, group: int) -> dict[str, Any]:
    small = Train(
        dataset=sources.EMBEDDED_DATASET,
        prompts_per_step=prompts,
        samples_per_prompt=group,
        lr=LR,
        clip_diagnostics=min(train["clip_diagnostics"], STATES),
        max_prompt_tokens=sources.EMBEDDED_LENGTHS["max_prompt_tokens"],
        max_new_tokens=sources.EMBEDDED_LENGTHS["max_new_tokens"],
    )
    return small.model_dump() | {name: train[name] for name in KEPT}


def _evaluate(evaluate: dict[str, Any]) -> dict[str, Any]:
    """Scored first and last only; every k of pass@k as large as the samples allow."""
    samples = min(evaluate["samples"], SAMPLES)
    points = evaluate["at"]
    return evaluate | {
        "benchmarks": [sources.EMBEDDED_DATASET],
        "data_files": {},
        "at": sorted({*points[:1], *points[-1:]}),
        "samples": samples,
        "pass_at": sorted({min(k, samples) for k in evaluate["pass_at"]}),
        "problems": min(evaluate["problems"] or PROBLEMS, PROBLEMS),
        "max_new_tokens": None,
        "probe_prompts": min(evaluate["probe_prompts"], PROBE),
    }

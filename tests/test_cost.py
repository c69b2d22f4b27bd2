"""What a cell will cost: from earlier runs, else from a model; against sums done by hand."""

from dataclasses import replace

import pytest

from suite.matrix.command import finite
from suite.plan import cost as estimate
from suite.plan.size import GIB, ModelShape, accelerator
from suite.store.timings import Timing
from tests.conftest import SMALL

BILLION = ModelShape(float(GIB), 20, 2048, 8192, 512, 100_000, "made up")  # 2^30 parameters

HARDWARE = {"gpus": [], "cores": 2, "memory_gib": 16}


def timing(cell, **changes):
    """4 steps of 2 s, 1.5 to generate, 0.5 to update, 100 tokens each; 40 answers in 8 s, and 2 s
    for 4 checkpoints, one at each evaluation."""
    ran = Timing(
        run="r",
        arm=cell.arm,
        model=cell.model,
        algorithm=cell.algorithm,
        settings=finite(cell.settings),
        train=cell.train,
        resources=cell.resources,
        hardware=HARDWARE,
        status="finished",
        gpus=1,
        steps=4,
        gpu_hours=0.1,
        tokens_per_step=100.0,
        charged={"generation": 6.0, "update": 2.0},
        aside={"evaluation": 8.0, "checkpoint": 2.0},
        points=4,
        answers=40,
        start_up=30.0,
    )
    return replace(ran, **changes)


def test_measured_seconds_make_the_cost(cells):
    """10 steps of 2 s; 2 points x 5 problems x 4 samples = 40 answers in 8 s; 3 checkpoints of
    0.5 s, one of them at step 10."""
    cell, _ = cells()
    found = estimate.from_runs(cell, [timing(cell)], HARDWARE)
    assert (found.source, found.steps) == ("measured", 10)
    assert found.gpu_hours == pytest.approx(20 / 3600)
    assert found.aside == {"evaluation": 8.0, "checkpoint": 1.5}
    assert (found.seconds, found.start_up) == (29.5, 30.0)


@pytest.mark.parametrize(
    ("budget", "steps"), [("steps: 7", 7), ("tokens: 950", 10), ("gpu_hours: 0.01", 18)]
)
def test_steps_that_a_budget_buys(cells, budget, steps):
    """950 tokens are 9.5 steps of 100; 36 GPU-seconds are 18 steps of 2."""
    cell, _ = cells(SMALL.replace("steps: 10", budget))
    assert estimate.from_runs(cell, [timing(cell)], HARDWARE).steps == steps


def test_the_median_over_runs_and_the_nearest_ones_first(cells):
    grpo, clip = cells()
    slow, slower = (timing(grpo, charged={"update": 4 * s}) for s in (3.0, 9.0))
    found = estimate.from_runs(
        grpo, [timing(grpo, charged={"update": 4.0}), slow, slower], HARDWARE
    )
    assert found.per_step == {"update": 3.0}
    other = estimate.from_runs(clip, [slow], HARDWARE)
    assert "another algorithm" in other.basis and other.per_step == {"update": 3.0}
    own = timing(clip, settings={"eps_high": 0.5}, charged={"update": 16.0})
    found = estimate.from_runs(clip, [slow, own], HARDWARE)
    assert "other settings" in found.basis and found.per_step == {"update": 4.0}
    exact = estimate.from_runs(clip, [slow, own, timing(clip)], HARDWARE)
    assert exact.basis == "1 earlier run of clip", "an infinite setting is found again"


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "another"},
        {"resources": {"gpus": 2, "accelerator": None}},
        {"hardware": HARDWARE | {"cores": 64}},
    ],
    ids=["model", "GPUs", "machine"],
)
def test_runs_that_are_not_alike_do_not_count(cells, changes):
    cell, _ = cells()
    assert estimate.from_runs(cell, [timing(cell, **changes)], HARDWARE) is None
    longer = timing(cell, train=cell.train | {"max_new_tokens": 999})
    assert estimate.from_runs(cell, [longer], HARDWARE) is None
    faster = timing(cell, train=cell.train | {"lr": 0.5})
    assert estimate.from_runs(cell, [faster], HARDWARE) is not None


def test_a_second_rollout_is_not_estimated_from_arms_without_one(cells):
    grpo, aepo = cells(SMALL.replace("clip: {eps_high: .inf}", "aepo: {}"))
    assert estimate.from_runs(aepo, [timing(grpo)], HARDWARE) is None
    assert estimate.from_runs(aepo, [timing(aepo)], HARDWARE) is not None


def test_the_model_by_hand(cells):
    """2^30 parameters, 32 responses of 500 tokens and prompts of 100, on two A100.

    Update: 6 * 2^30 * 32 * 600 operations at 0.35 * 2 * 312e12 a second. Generation would take
    0.66 s at a tenth of the peak, less than 1,000 readings of the weights at 2.039 TB/s: 1.05 s.
    """
    text = SMALL.replace("prompts_per_step: 8", "prompts_per_step: 8, max_new_tokens: 1000")
    text = text.replace("prompts_per_step", "max_prompt_tokens: 400, prompts_per_step")
    text = text.replace("arithmetic-tiny", "some/model")
    cell, _ = cells(text + "resources: {gpus: 2, accelerator: A100-80GB}\n")
    found = estimate.from_model(cell, BILLION, accelerator("A100-80GB"), 2)
    update = 6 * GIB * 32 * 600 / (0.35 * 2 * 312e12)
    assert found.source == "model"
    assert found.per_step["update"] == pytest.approx(update)
    assert found.per_step["experience"] == pytest.approx(update / 3)
    assert found.per_step["generation"] == pytest.approx(1000 * 2 * GIB / 2.039e12)
    assert found.aside["evaluation"] == pytest.approx(40 * 2 * GIB * 500 / (0.1 * 2 * 312e12))
    assert found.gpu_hours == pytest.approx(10 * sum(found.per_step.values()) * 2 / 3600)

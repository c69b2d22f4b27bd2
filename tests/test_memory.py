"""Whether a cell fits, against sums done by hand."""

from dataclasses import replace

import pytest

from suite.plan import memory
from suite.plan.memory import Load
from suite.plan.size import GIB, ModelShape, accelerator

BILLION = ModelShape(float(GIB), 20, 2048, 8192, 512, 100_000, "made up")  # 2^30 parameters
SEVEN_BILLION = ModelShape(7.6e9, 28, 3584, 18944, 512, 152_064, "made up")
LOAD = Load(BILLION, 4, 2, 1, 2, 4, 1024, False)


def parts(load, moment):
    found = {one.name: one.parts for one in memory.moments(load, accelerator("A100-80GB"))}
    return found[moment]


def test_states_are_sharded_as_the_stage_says():
    """2^30 parameters: 2 + 2 + 12 GiB, over 4 GPUs; stage 1 the 12, 2 the gradients, 3 all."""
    for stage, expected in ((0, (2, 2, 12)), (1, (2, 2, 3)), (2, (2, 0.5, 3)), (3, (0.5, 0.5, 3))):
        found = parts(replace(LOAD, zero_stage=stage), "update")
        assert [found[n] for n in ("weights", "gradients", "optimizer")] == list(expected)
    assert parts(LOAD, "generation") == {"weights": 2, "engine": 48, "reserved": memory.RESERVED}


def test_an_optimizer_step_has_its_gradients_in_fp32():
    """4 bytes of the shard's 2^28 parameters; one GPU has all 2^30."""
    assert parts(LOAD, "optimizer step")["fp32 gradients"] == 1
    assert parts(replace(LOAD, gpus=1), "optimizer step")["fp32 gradients"] == 4


def test_logits_and_activations_by_hand():
    """2 responses x 1,024 tokens x 100,000 x 10 bytes; a layer keeps 108,544 bytes a token:
    2 (6 * 2048 + 2 * 512 + 4 * 8192) + 8 * 2048; 20 layers, or 20 inputs of 4,096 and one layer."""
    found = parts(LOAD, "update")
    assert found["logits"] == pytest.approx(2 * 1024 * 100_000 * 10 / GIB)
    layer = 2 * (6 * 2048 + 2 * 512 + 4 * 8192) + 8 * 2048
    assert layer == 108_544
    assert found["activations"] == pytest.approx(2 * 1024 * 20 * layer / GIB)
    lean = parts(replace(LOAD, checkpointing=True), "update")
    assert lean["activations"] == pytest.approx(2 * 1024 * (20 * 4096 + layer) / GIB)
    with_bonus = parts(replace(LOAD, bonus=True), "update")
    assert with_bonus["logits"] == pytest.approx(found["logits"] * 1.4)


def test_seven_billion_on_one_gpu_does_not_fit_and_more_gpus_are_named():
    """16 bytes a parameter are 113 GiB before the first token."""
    load = replace(LOAD, shape=SEVEN_BILLION, gpus=1, length=4096)
    device = accelerator("A100-80GB")
    problems = memory.problems(load, device)
    assert any(p.startswith("update needs") and "optimizer 85" in p for p in problems)
    remedy = memory.remedy(load, device)
    assert remedy["resources.gpus"] in (2, 4)
    assert memory.problems(memory._with(load, remedy), device) == []
    for name in remedy:  # and every change of it is needed
        fewer = {key: value for key, value in remedy.items() if key != name}
        assert memory.problems(memory._with(load, fewer), device)


def test_what_fits_needs_no_remedy_and_what_never_can_has_none():
    device = accelerator("H200")
    assert memory.problems(LOAD, device) == [] and memory.remedy(LOAD, device) == {}
    huge = replace(LOAD, shape=replace(BILLION, parameters=5e12))
    assert memory.remedy(huge, device) is None


def test_an_engine_that_cannot_hold_one_response():
    """40 GiB: 24 for the engine, 30 GiB of weights; two engines' halves fit."""
    load = replace(LOAD, shape=replace(BILLION, parameters=15.0 * GIB), zero_stage=3, gpus=64)
    found = memory.problems(load, accelerator("A100-40GB"))
    assert len(found) == 1 and "hold 30 GiB of weights" in found[0]
    assert memory.remedy(load, accelerator("A100-40GB")) == {"train.tensor_parallel_size": 2}


def test_a_machine_without_a_gpu_shares_its_memory():
    small = replace(LOAD, gpus=1, shape=replace(BILLION, layers=2, vocabulary=100))
    assert memory.host_problems(small, 40) == []
    assert "update needs" in memory.host_problems(replace(LOAD, gpus=1), 16)[0]


def test_without_a_gpu_the_advice_is_a_micro_batch_that_fits():
    """A response of 1,024 tokens has 1.14 GiB of logits at 12 bytes each of 100,000.

    Of 15.2 usable GiB the empty processes leave 9.2: seven responses, and the largest divisor of
    16 and of 32 that is no more is 4.
    """
    tiny = ModelShape(float(2**20), 2, 64, 128, 64, 100_000, "made up")
    load = Load(tiny, 1, 2, 1, 16, 32, 1024, False)
    assert "logits 37" in memory.host_problems(load, 16)[0]
    advice = memory.host_remedy(load, 16)
    assert advice == {"train.rollout_micro_batch_size": 4, "train.micro_batch_size": 4}
    assert memory.host_problems(replace(load, micro_batch=4, rollout_micro_batch=4), 16) == []
    assert memory.host_problems(replace(load, micro_batch=8, rollout_micro_batch=8), 16)
    assert memory.host_remedy(load, 64) == {}
    assert memory.host_remedy(replace(LOAD, gpus=1), 16) is None  # 24 GiB of weights and states

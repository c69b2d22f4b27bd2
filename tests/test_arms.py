"""Every algorithm end to end on the real stack: Ray, DeepSpeed, vLLM and OpenRLHF, started once."""

import itertools
import json
import math
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from algorithms import ALGORITHMS, load  # noqa: E402
from suite.spool.spool import read_from  # noqa: E402

pytestmark = pytest.mark.stack

STEPS = 3
TRAIN = {
    "prompts_per_step": 8,
    "samples_per_prompt": 4,
    "optimizer_steps_per_rollout": 4,
    "max_new_tokens": 40,
    "max_prompt_tokens": 40,
    "lr": 5e-4,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "loss_aggregation": "seq-mean-token-mean",
    "micro_batch_size": 4,
    "rollout_micro_batch_size": 16,
    "zero_stage": 2,
    "tensor_parallel_size": 1,
    "gradient_checkpointing": False,
    "prompt_template": None,
    "chat_template": False,
}
SETTINGS = {  # where the defaults are for large batches, or would do nothing in three steps
    "aent": {"coefficient": 0.0, "coefficient_low": 0.0, "entropy_low": 5.0, "entropy_high": 6.0}
    | {"moves_from": 1},
    "aepo": {"positives_up": 6, "positives_down": 3, "target": 2.0},
    "aepo-eq2": {"positives_up": 6, "positives_down": 3},
    "aepo-eq3": {"positives_up": 6, "positives_down": 3},
    "clip_cov": {"share": 0.1, "cov_low": 0.1},
    "pass_at_k": {"k": 2},
    "skywork": {"target": 2.0},
}
ARMS = {
    name: {"algorithm": name, "settings": SETTINGS.get(name, {}), "reward": "verified"}
    for name in ALGORITHMS
} | {
    "replace": {
        "algorithm": "aepo",
        "settings": {"inject": "replace", "positives_up": 6, "positives_down": 3},
        "reward": "verified",
    },
    "fruitless": {
        "algorithm": "aepo",
        "settings": {"target": 3.0, "prompts": 0.25},
        "reward": "verified",
    },
    "bernoulli": {"algorithm": "clip-low", "settings": {}, "reward": {"bernoulli": 0.5}},
    "gaussian": {"algorithm": "grpo", "settings": {}, "reward": {"gaussian": 1.0}},
}
BY_DEFINITION_GRPO = {"grpo", "gaussian", "fruitless"}


@pytest.fixture(scope="module")
def arms(arithmetic_model, tmp_path_factory):
    """Arm -> its lines."""
    out = tmp_path_factory.mktemp("arms")
    (out / "plan.json").write_text(json.dumps({"train": TRAIN, "arms": ARMS, "steps": STEPS}))
    log = out / "stack.log"
    with log.open("wb") as output:
        code = subprocess.run(
            [sys.executable, __file__.replace("test_arms", "arms_probe"), arithmetic_model, out],
            stdout=output,
            stderr=output,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        ).returncode
    assert code == 0, log.read_text()[-4000:]
    return {name: read_from(out / f"{name}.jsonl", 0)[0] for name in ARMS}


def traces(arms, name):
    return [row for row in arms[name] if row["kind"] == "trace"]


@pytest.mark.parametrize("name", ARMS)
def test_it_trains_with_finite_numbers(name, arms):
    rows = traces(arms, name)
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        numbers = [v for v in row.values() if isinstance(v, int | float)]
        assert all(math.isfinite(v) for v in numbers)
        assert row["gradient_norm"] > 0
        assert 0 < row["entropy"] < math.log(44)


@pytest.mark.parametrize("name", ARMS)
def test_it_is_flagged_when_and_only_when_it_trained_as_grpo_does(name, arms):
    """Four updates a rollout batch: every algorithm shows."""
    warned = [row["text"] for row in arms[name] if row["kind"] == "warning"]
    differed = [row["differs_from_grpo"] for row in traces(arms, name)]
    if name in BY_DEFINITION_GRPO:
        assert not any(differed)
        assert bool(warned) == (name == "fruitless")
    else:
        assert any(differed) and not warned


@pytest.mark.parametrize("name", ARMS)
def test_its_own_traces_are_there(name, arms):
    algorithm = load(ARMS[name]["algorithm"], **ARMS[name]["settings"])
    state = algorithm.initial_state()
    for row in traces(arms, name):
        assert {"clip_low", "clip_high", "clip/p", "clip/q", "entropy_sampled"} <= set(row)
        assert 0 < row["sync/log_prob_mean"] < row["sync/log_prob_max"] < 1e-4
        assert ("bonus_statistic" in row) == algorithm.has_bonus
        assert {f"state/{key}" for key in state} <= set(row)
        asked = algorithm.extra_rollouts(algorithm.observe(state, row)) is not None
        assert ("extra/samples" in row) == ("seconds/extra_generation" in row) == asked


def test_every_arm_starts_from_the_base_model(arms):
    """The first step samples it on the same prompts with the same seeds."""
    assert len({traces(arms, name)[0]["entropy"] for name in ARMS}) == 1


def test_aent_comes_alive_from_coefficient_zero_by_the_statistic_of_its_loss(arms):
    """Entropy is below the band of 5 .. 6: lambda rises by beta times what is missing."""
    rows = traces(arms, "aent")
    assert rows[0]["state/coefficient"] == 0.0
    for before, after in itertools.pairwise(rows):
        moved = before["state/coefficient"] + 0.002 * (5.0 - before["bonus_statistic"])
        assert after["state/coefficient"] == pytest.approx(min(moved, 0.009), abs=1e-12)


@pytest.mark.parametrize("name", ["aepo", "aepo-eq2", "aepo-eq3", "replace"])
def test_extra_samples_end_with_the_quota_and_are_charged(name, arms):
    for row in traces(arms, name):
        quota = 6 if row["entropy"] < ARMS[name]["settings"].get("target", 0.5) else 3
        assert row["extra/positives"] <= quota
        assert row["extra/positives"] == quota or row["extra/samples"] == 32
        assert row["seconds/extra_generation"] > 0
        if name != "aepo-eq3":
            assert row["extra/trained"] == row["extra/positives"]
    last = traces(arms, name)[-1]
    assert last["samples"] == 3 * 32 + sum(r["extra/samples"] for r in traces(arms, name))


def test_aepo_draws_hotter_below_its_target(arms):
    assert {row["extra/temperature"] for row in traces(arms, "aepo")} == {1.2}
    assert {row["extra/temperature"] for row in traces(arms, "aepo-eq2")} == {1.0}


def test_without_a_positive_the_step_is_plain_grpo(arms):
    """No extra sample is right: a quarter of the prompts is drawn again for nothing."""
    for row, grpo in zip(traces(arms, "fruitless"), traces(arms, "grpo"), strict=True):
        assert (row["extra/samples"], row["extra/positives"], row["extra/trained"]) == (8, 0, 0)
        for metric in ("entropy", "reward", "policy_loss", "gradient_norm", "kl_old"):
            assert row[metric] == grpo[metric], metric


def test_random_rewards_do_not_touch_the_accuracy_trace(arms):
    for name in ("bernoulli", "gaussian"):
        for row in traces(arms, name):
            assert 0 <= row["accuracy"] <= 1 and row["reward"] != row["accuracy"]


def test_the_probe_scores_three_estimators_that_agree_on_the_base_models_scale(arms):
    for name in ARMS:
        (values,) = (row["values"] for row in arms[name] if row["kind"] == "probe")
        assert 0 < values["clamped"] <= values["full"] + 1e-6 and values["sampled"] > 0

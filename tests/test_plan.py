"""Every cell's command line is one that OpenRLHF 0.11.2 itself accepts and understands as meant."""

import json
import subprocess
import sys

import pytest

from suite.cell import Workspace
from suite.matrix import load_cells
from suite.plan import warnings
from suite.worker import openrlhf_flags

MATRIX = """\
name: m
model: arithmetic-tiny
train:
  prompts_per_step: 32
  samples_per_prompt: 8
  optimizer_steps_per_rollout: 4
  max_prompt_tokens: 48
  max_new_tokens: 40
  lr: 5.0e-4
  prompt_template: "Solve: {}"
budget: {steps: 1}
arms:
  grpo: {}
  clip: {resources: {gpus: 8, accelerator: A100}, train: {tensor_parallel_size: 2}}
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory, repo):
    """OpenRLHF's arguments of the CPU cell and of the A100 one."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "m.yaml").write_text(MATRIX)
    arguments = {}
    for cell in load_cells(folder / "m.yaml"):
        flags = openrlhf_flags(cell, Workspace(folder / "runs.db"))
        ran = subprocess.run(
            [sys.executable, repo / "tests" / "flags_probe.py", *flags],
            capture_output=True,
            text=True,
            cwd=repo,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(repo), "SUITE_DEVICE": "cpu"},
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        arguments[cell.arm] = json.loads(ran.stdout.splitlines()[-1])
    return arguments


def test_batches_and_sampling_arrive_as_meant(parsed):
    args = parsed["grpo"]
    assert args["rollout"]["batch_size"] == 32
    assert args["rollout"]["n_samples_per_prompt"] == 8
    assert args["rollout"]["temperature"] == 1.0 and args["rollout"]["top_p"] == 1.0
    assert args["train"]["batch_size"] == 64  # 32 * 8 rollouts in 4 optimizer steps
    assert args["data"]["max_len"] == 88
    assert args["data"]["input_template"] == "Solve: {}"


def test_the_papers_common_ground(parsed):
    """No KL and no reference model, constant learning rate, AdamW, sequence-mean aggregation."""
    args = parsed["grpo"]
    assert args["algo"]["kl"]["init_coef"] == 0
    assert args["actor"]["adam"]["lr"] == 5e-4
    assert args["actor"]["lr_scheduler"] == "constant_with_warmup"
    assert args["actor"]["lr_warmup_ratio"] == 0
    assert args["actor"]["loss_agg_mode"] == "seq-mean-token-mean"
    assert args["actor"]["entropy_coef"] is None, "the bonus is the algorithm's, not OpenRLHF's"


def test_policy_and_engines_share_the_gpus(parsed):
    for arm, gpus, engines in (("grpo", 1, 1), ("clip", 8, 4)):
        args = parsed[arm]
        assert args["train"]["colocate_all"]
        assert args["actor"]["num_gpus_per_node"] == gpus
        assert args["vllm"]["num_engines"] == engines


def test_devices_differ_in_what_they_must(parsed):
    assert parsed["grpo"]["vllm"]["sync_backend"] == "gloo"
    assert not parsed["grpo"]["vllm"]["enable_sleep"]
    assert parsed["clip"]["vllm"]["sync_backend"] == "nccl"
    assert parsed["clip"]["vllm"]["enable_sleep"] and parsed["clip"]["ds"]["enable_sleep"]


def test_every_cell_can_be_resumed(parsed):
    for args in parsed.values():
        assert args["ckpt"]["load_enable"] and args["ckpt"]["max_num"] == 2


def test_arms_that_cannot_differ_are_named_before_they_run(tmp_path):
    """One optimizer step a rollout batch: the clip arms, and none of the others."""
    one_step = "train: {optimizer_steps_per_rollout: 1}"
    arms = f"arms: {{grpo: {{}}, dapo: {{}}, gspo: {{}}, entreg: {{}}, clip: {{{one_step}}}}}\n"
    arms = arms.replace("grpo: {}", "grpo: {}, high-off: {algorithm: grpo, eps_high: .inf}")
    head = "name: m\nmodel: arithmetic-tiny\nbudget: {steps: 1}\n"
    (tmp_path / "m.yaml").write_text(head + arms)
    assert [w.split()[1] for w in warnings(load_cells(tmp_path / "m.yaml"))] == ["clip"]
    (tmp_path / "m.yaml").write_text(head + one_step + "\n" + arms)
    named = [w.split()[1] for w in warnings(load_cells(tmp_path / "m.yaml"))]
    assert named == ["clip", "dapo", "gspo", "high-off"]

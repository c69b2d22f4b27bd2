"""The plan: commands that OpenRLHF 0.11.2 accepts and understands as meant, costs, memory, JSON."""

import itertools
import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

import algorithms
from suite.matrix.cell import Cell
from suite.matrix.command import openrlhf_flags
from suite.matrix.expand import load_cells
from suite.plan import cost as estimate
from suite.plan import plan
from suite.plan.plan import warnings
from suite.worker.ledger import Budget
from suite.worker.suite_flags import parse
from suite.workspace import Workspace
from tests.conftest import SMALL
from tests.parsing import flags_parsed_by_openrlhf, parsed_by_openrlhf

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
    cells = load_cells(folder / "m.yaml")
    found = parsed_by_openrlhf(cells, Workspace(folder / "runs.db"), repo)
    return {cell.arm: args for cell, args in zip(cells, found, strict=True)}


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


def read_back(cell, workspace):
    """The printed command of a cell as a shell would hand it over, and what that asks for."""
    words = shlex.split(plan.command(cell, workspace))
    assert words[:3] == ["python", "-m", "suite.worker.by_hand"]
    training = parse(words[3:])
    assert training.command == words
    return training


@pytest.mark.slow  # imports OpenRLHF
def test_the_commands_of_the_quickstart_carry_their_arms(repo, tmp_path, monkeypatch):
    """All different, and OpenRLHF takes its part as it takes the one that a worker gives it."""
    monkeypatch.setenv("SUITE_DEVICE", "cpu")
    workspace, cells = Workspace(tmp_path / "runs.db"), load_cells(repo / "matrix.yaml")
    assert len({plan.command(cell, workspace) for cell in cells}) == len(cells) == 4
    trainings = [read_back(cell, workspace) for cell in cells]
    assert [one.algorithm for one in trainings] == [
        algorithms.load("grpo"),
        algorithms.load("entreg", coefficient=0.02),
        algorithms.load("clip", eps_low=0.2, eps_high=0.28),
        algorithms.load("clip", eps_low=0.15, eps_high=float("inf")),
    ]
    assert {one.budget for one in trainings} == {Budget("gpu_hours", 0.0065)}
    by_workers = [openrlhf_flags(cell, workspace) for cell in cells]
    parsed = flags_parsed_by_openrlhf([*(one.flags for one in trainings), *by_workers], repo)
    for training, args, by_worker in zip(trainings, parsed[:4], parsed[4:], strict=True):
        assert args["ckpt"].pop("path") == str(training.folder / "checkpoints")
        assert args["ckpt"].pop("output_dir") == str(training.folder / "policy")
        assert "by-hand" in training.folder.parts, "`suite run` keeps its runs elsewhere"
        del by_worker["ckpt"]["path"], by_worker["ckpt"]["output_dir"]
        assert args == by_worker


def test_every_command_of_every_matrix_reads_back_as_its_cell(repo, tmp_path, monkeypatch):
    """Every algorithm, both rules of random rewards, all units of budgets, infinite settings."""
    monkeypatch.setenv("SUITE_DEVICE", "cpu")
    workspace = Workspace(tmp_path / "runs.db")
    paths = [repo / "matrix.yaml", *(repo / "matrices").rglob("*.yaml")]
    others = ("/lab/", "/claims/", "/base.yaml", "/published.yaml")
    loaded = [load_cells(path) for path in paths if not any(part in str(path) for part in others)]
    (tmp_path / "m.yaml").write_text(SMALL.replace("steps: 10", "tokens: 99") + "seeds: [7]\n")
    for cell in [*itertools.chain(*loaded), *load_cells(tmp_path / "m.yaml")]:
        training = read_back(cell, workspace)
        cell.save(tmp_path / "cell.json")
        sent = Cell.load(tmp_path / "cell.json")  # to the worker, which records its command
        assert plan.command(sent, workspace) == plan.command(cell, workspace)
        assert training.algorithm == algorithms.load(cell.algorithm, **cell.settings)
        assert {training.budget.unit: training.budget.limit} == cell.budget
        assert (training.reward, training.seed) == (cell.train["reward"], cell.seed)
        assert training.checkpoint_every == cell.train["checkpoint_every"]
        assert training.diagnosed_states == cell.train["clip_diagnostics"]
        assert training.gpus == cell.resources["gpus"]


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


def test_starts_are_shared_and_finished_cells_cost_nothing():
    """Two cells share a start of 30 s, a third has its own; the finished one counts for nothing."""
    one = estimate.Estimate("measured", "", 2, 10, {"update": 36.0}, {"evaluation": 40.0}, 30.0)

    def planned(group, status):
        return SimpleNamespace(group=group, status=status, estimate=one)

    plans = [planned("a", "new"), planned("a", "failed"), planned("b", "new")]
    found = plan.total([*plans, planned("c", "finished")])
    assert (found.cells, found.finished, found.starts) == (4, 1, 2)
    assert found.gpu_hours == pytest.approx(3 * 0.2)
    assert found.hours == pytest.approx((3 * 400 + 2 * 30) / 3600)
    assert found.held_gpu_hours == pytest.approx(2 * found.hours)


@pytest.mark.parametrize(("gpus", "turns"), [(2, 3), (3, 3), (4, 2), (6, 1), (1, None)])
def test_the_wall_time_of_cells_side_by_side(gpus, turns):
    """Three cells of two GPUs, 400 s each and 30 s to start."""
    one = estimate.Estimate("measured", "", 2, 10, {"update": 36.0}, {"evaluation": 40.0}, 30.0)
    cells = [SimpleNamespace(status="new", estimate=one)] * 3
    finished = SimpleNamespace(status="finished", estimate=None)
    found = plan.side_by_side([*cells, finished], gpus)
    assert found == (turns and pytest.approx(turns * 430 / 3600))


def test_a_long_cell_does_not_hold_up_what_fits_beside_it():
    def cell(gpus, seconds):
        one = estimate.Estimate("measured", "", gpus, 1, {"update": seconds}, {}, 0.0)
        return SimpleNamespace(status="new", estimate=one)

    planned = [cell(4, 3600.0), cell(4, 600.0), cell(4, 600.0), cell(8, 60.0)]
    assert plan.side_by_side(planned, 8) == pytest.approx(3660 / 3600)


@pytest.fixture
def suite(tmp_path, repo):
    def call(*arguments, **options):
        ran = subprocess.run(
            [sys.executable, "-m", "suite.cli", "plan", "m.yaml", *arguments],
            cwd=tmp_path,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": str(repo),
                "SUITE_DEVICE": "cpu",
                **options,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return call


def test_the_plan_as_one_json_object(cells, suite, tmp_path):
    cells()
    found = json.loads(suite("--json"))
    grpo, clip = found["cells"]
    assert grpo["id"] == cells()[0].id and clip["settings"]["eps_high"] == "inf"
    assert grpo["estimate"]["source"] == "model" and grpo["estimate"]["steps"] == 10
    assert grpo["memory"]["fits"] and grpo["command"].startswith("python -m suite.worker.by_hand")
    assert found["total"]["cells"] == 2 and found["total"]["gpu_hours"] > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.yaml"], "nothing was written"


def test_a_plan_for_hardware_that_is_elsewhere(cells, suite, tmp_path):
    text = SMALL.replace("arithmetic-tiny", "Qwen/Qwen2.5-7B")
    cells(text + "resources: {gpus: 1, accelerator: A100}\n")
    printed = " ".join(suite("--no-commands", HF_HUB_CACHE=str(tmp_path)).split())
    assert "A model, not a measurement: no earlier run like it (for grpo, clip)." in printed
    assert "A100 comes with 40 or 80 GB; 40 assumed" in printed
    assert "grpo, clip: does not fit: generation needs" in printed
    assert "; try " in printed and "resources.gpus: " in printed


def test_what_is_not_known_is_said(cells, suite, tmp_path):
    text = SMALL.replace("arithmetic-tiny", "some/model") + "resources: {accelerator: MI300X}\n"
    cells(text)
    printed = " ".join(suite("--no-commands", HF_HUB_CACHE=str(tmp_path)).split())
    assert "the cost of at least one run is not known" in printed
    assert "the size of some/model is not known" in printed
    assert "nothing is known of an accelerator called MI300X" in printed

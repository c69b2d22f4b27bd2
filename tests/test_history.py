"""`suite db`: what check finds, what compact, export and import keep, what outside logs become."""

import csv
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from suite.cli.app import app
from suite.matrix.expand import load_cells
from suite.spool import spool
from suite.spool.lock import Busy, only_conductor
from suite.store import NoDatabase, Store, connect, history, outside
from suite.store.migrations import TABLES
from suite.workspace import Workspace

MATRIX = """\
name: m
model: arithmetic-tiny
budget: {steps: 4}
arms: {grpo: {}, clip: {}}
evaluate: {samples: 4, pass_at: [1, 2], at: [0, 1.0]}
"""


def made(folder, steps=(4, 4), name="m", finished=True):
    """A database with runs of so many steps, an evaluation each, as their workers spooled them."""
    folder.mkdir(exist_ok=True)
    (folder / "m.yaml").write_text(MATRIX.replace("name: m", f"name: {name}"))
    cells, workspace = load_cells(folder / "m.yaml"), Workspace(folder / "runs.db")
    store = Store(workspace)
    store.register(cells)
    for cell, count in zip(cells, steps, strict=True):
        if not count:
            continue
        write = spool.Spool(spool.path_of(workspace.cell(cell.id), 1)).write
        for step in range(1, count + 1):
            write("trace", attempt=1, step=step, entropy=1 / step, reward=step / 10)
        write("probe", attempt=1, step=count, fraction=1.0, values={"full": 0.5})
        batch = {"verdicts": "ccww", "stops": "ssss", "lengths": [1] * 4, "digests": [1, 2, 3, 4]}
        batch |= {"n": 4, "seed": 0, "answers": ["1", None, "2", "3"], "examples": ["x"]}
        where = {"attempt": 1, "step": count, "fraction": 1.0}
        for problem in ("p0", "p1"):
            write("eval", **where, benchmark="b", problem=problem, first=0, **batch)
        write("evaluated", **where, gpu_hours=0.1, tokens=1, samples=1)
        store.ingest(cell.id)
        store.set_status(cell.id, "finished" if finished else "running")
    store.close()
    return workspace


def contents(workspace):
    with connect(workspace.db) as db:
        return {
            t: sorted(map(repr, db.execute(f"FROM data.{t}").fetchall()))
            for t in (*TABLES, "migrations")
        }


def steps(workspace):
    with connect(workspace.db) as db:
        return db.execute("SELECT arm, steps, status FROM runs ORDER BY ALL").fetchall()


# check ---------------------------------------------------------------------------------------


def test_a_good_database_is_whole(tmp_path):
    assert history.check(made(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("INSERT INTO data.traces FROM data.traces WHERE step = 3", "is there 2 times"),
        ("INSERT INTO data.scores FROM data.scores", "scores: run"),
        ("DELETE FROM data.runs WHERE algorithm = 'clip'", "not registered"),
        ("UPDATE data.latest SET value = 7 WHERE metric = 'reward'", "latest: reward of run"),
        ("DELETE FROM data.traces WHERE metric = 'entropy'", "latest: entropy of run"),
        ("UPDATE data.batches SET n = 5 WHERE problem = 'p1'", "batches: 4 verdicts of 5"),
        ("UPDATE data.spool SET bytes = bytes + 1", "which has"),
        ("UPDATE data.spool SET bytes = bytes - 1", "is inside a line"),
    ],
)
def test_damage_is_found(tmp_path, damage, found):
    workspace = made(tmp_path)
    with connect(workspace.db, read_only=False) as db:
        db.execute(damage)
    lines = history.check(workspace)
    assert lines and all(found in line for line in lines), lines
    ran = CliRunner().invoke(app, ["db", "check", "--db", str(workspace.db)])
    assert ran.exit_code == 1 and found in ran.output


def test_a_spool_that_was_removed_is_no_damage(tmp_path):
    workspace = made(tmp_path)
    for path in workspace.root.glob("cells/*/attempt-*.jsonl"):
        path.unlink()
    assert history.check(workspace) == []


def test_a_block_that_rotted_is_noticed(tmp_path):
    workspace = made(tmp_path)
    data = bytearray(workspace.db.read_bytes())
    for start in range(3 * 4096, len(data), 262144):
        data[start + 64 : start + 128] = bytes(64)
    workspace.db.write_bytes(data)
    with pytest.raises(duckdb.Error):
        history.check(workspace)


# compact -------------------------------------------------------------------------------------


def test_compact_keeps_every_row_and_sorts(tmp_path):
    workspace = made(tmp_path)
    before = contents(workspace)
    history.compact(workspace)
    assert contents(workspace) == before and history.check(workspace) == []
    with connect(workspace.db) as db:
        order = db.execute("SELECT metric, run, step FROM data.traces").fetchall()
    assert order == sorted(order)
    store = Store(workspace)  # the conductor goes on with it
    assert [store.ingest(folder.name) for folder in workspace.root.glob("cells/*")] == [[], []]
    store.close()
    assert {path.name for path in workspace.root.iterdir()} == {
        *("cells", "conductor.lock", "ingest.db")
    }


def test_the_matrix_that_came_last_names_a_run_for_good(tmp_path):
    workspace = made(tmp_path / "one", name="b")
    (tmp_path / "one" / "m.yaml").write_text(MATRIX.replace("name: m", "name: a"))
    store = Store(workspace)
    store.register(load_cells(tmp_path / "one" / "m.yaml"))
    store.close()
    history.compact(workspace)
    history.export(workspace.db, tmp_path / "out")
    other = Workspace(tmp_path / "other" / "runs.db")
    other.db.parent.mkdir()
    history.merge(other, tmp_path / "out")
    for place in (workspace, other):
        with connect(place.db) as db:
            assert db.execute("SELECT DISTINCT matrix FROM traces").fetchall() == [("a",)]


def test_a_slim_export_does_not_say_where_files_lie(tmp_path):
    workspace = made(tmp_path)
    store = Store(workspace)
    store._db.execute(
        """UPDATE data.runs SET model = '/home/somebody/models/tiny',
                  train = '{"dataset": "/home/somebody/mine.jsonl", "lr": 1.0}',
                  identity = '{"/home/somebody/models/tiny": "abc"}'"""
    )
    store.publish()
    store.close()
    history.export(workspace.db, tmp_path / "out", only_counts=True)
    for path in (tmp_path / "out").glob("*.parquet"):
        assert "somebody" not in str(pq.read_table(path).to_pylist()), path.name
    for run in pq.read_table(tmp_path / "out" / "runs.parquet").to_pylist():
        assert run["model"] == "tiny"
        assert json.loads(run["train"]) == {"dataset": "mine.jsonl", "lr": 1.0}


def test_what_a_killed_conductor_was_copying_does_not_stay(tmp_path):
    workspace = made(tmp_path)
    left = workspace.db.with_name("runs.db.4242.partial")
    left.write_bytes(b"half")
    store = Store(workspace)
    store.publish()
    store.close()
    assert not left.exists()


def test_compact_and_import_wait_for_no_conductor(tmp_path):
    workspace = made(tmp_path / "a")
    with only_conductor(workspace):
        with pytest.raises(Busy):
            history.compact(workspace)
        with pytest.raises(Busy):
            history.merge(workspace, workspace.db)


# export and import ---------------------------------------------------------------------------


def test_an_export_comes_back_equal(tmp_path):
    workspace = made(tmp_path / "a")
    rows = history.export(workspace.db, tmp_path / "out")
    assert rows == sum(len(found) for found in contents(workspace).values())
    other = Workspace(tmp_path / "b" / "runs.db")
    other.db.parent.mkdir()
    assert history.merge(other, tmp_path / "out") == history.Merged(2, 0, 0)
    assert contents(other) == contents(workspace)
    assert history.merge(other, tmp_path / "out") == history.Merged(0, 0, 2)
    assert contents(other) == contents(workspace) and history.check(other) == []


def test_an_export_is_never_written_over(tmp_path):
    workspace = made(tmp_path / "a")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        history.export(workspace.db, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["export", "database"])
def test_of_two_histories_of_a_cell_the_one_that_is_further_stays(tmp_path, form):
    """Ours: grpo at 2 steps, clip at 4. Theirs: grpo at 4, clip at 3, and a matrix of their own."""
    ours, theirs = made(tmp_path / "a", (2, 4)), made(tmp_path / "b", (4, 3))
    source = theirs.db
    if form == "export":
        source = tmp_path / "out"
        history.export(theirs.db, source)
    assert history.merge(ours, source) == history.Merged(0, 1, 1)
    assert steps(ours) == [("clip", 4, "finished"), ("grpo", 4, "finished")]
    with connect(ours.db) as db:
        assert db.execute("SELECT count(*) FROM traces WHERE metric = 'entropy'").fetchone() == (8,)
        assert db.execute("SELECT count(*) FROM pass_at_k").fetchone() == (4,)
    assert history.check(ours) == []
    assert history.merge(theirs, ours.db) == history.Merged(0, 1, 1)
    for table, rows in contents(theirs).items():
        if table not in ("spool", "runs"):  # offsets are of files here; `created` differs
            assert rows == contents(ours)[table], table


def test_what_lies_here_of_a_run_that_was_replaced_is_passed_over(tmp_path):
    """A line that was not taken in before the merge belongs to the history that went."""
    ours, theirs = made(tmp_path / "a", (2, 0), finished=False), made(tmp_path / "b", (4, 0))
    run = load_cells(tmp_path / "a" / "m.yaml")[0].id
    path = spool.path_of(ours.cell(run), 1)
    spool.Spool(path).write("trace", attempt=1, step=3, entropy=9.0)
    history.merge(ours, theirs.db)
    store = Store(ours)
    assert store.ingest(run) == [] and store.next_attempt(run) == 2
    store.close()
    assert history.check(ours) == []


def test_matrices_of_two_machines_stand_side_by_side(tmp_path):
    """The same cells under another name are the same runs, listed twice."""
    ours, theirs = made(tmp_path / "a"), made(tmp_path / "b", name="other")
    assert history.merge(ours, theirs.db) == history.Merged(0, 0, 2)
    with connect(ours.db) as db:
        listed = db.execute("SELECT matrix, count(*) FROM runs GROUP BY 1 ORDER BY 1").fetchall()
        assert listed == [("m", 2), ("other", 2)]
        assert db.execute("SELECT count(*) FROM data.runs").fetchone() == (2,)


def test_a_run_that_was_on_its_way_is_interrupted_here(tmp_path):
    theirs = made(tmp_path / "b", (2, 0), finished=False)
    ours = Workspace(tmp_path / "runs.db")
    history.merge(ours, theirs.db)
    assert ("grpo", 2, "interrupted") in steps(ours)


def test_what_is_no_history_is_refused(tmp_path):
    ours = made(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.db").write_bytes(b"12345678DUCK nothing")
    for source, says in ((tmp_path / "empty", "no export"), (tmp_path / "x.db", "no database")):
        with pytest.raises(ValueError, match=says):
            history.merge(ours, source)
    later = made(tmp_path / "b")
    with connect(later.db, read_only=False) as db:
        db.execute("INSERT INTO data.migrations VALUES ('999_future')")
    with pytest.raises(ValueError, match="a later version of the suite, which has 999_future"):
        history.merge(ours, later.db)
    with pytest.raises(NoDatabase):
        history.export(tmp_path / "none.db", tmp_path / "out")
    assert history.check(ours) == []


# logs of other trainers ----------------------------------------------------------------------


def traced(workspace, metric, arm):
    with connect(workspace.db) as db:
        return db.execute(
            "SELECT step, value FROM traces WHERE metric = ? AND arm = ? ORDER BY step",
            [metric, arm],
        ).fetchall()


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs.db")


def test_a_csv_with_runs_in_it(workspace, tmp_path):
    (tmp_path / "log.csv").write_text(
        "run,step,entropy,train/completions/mean_length,train/lr\n"
        "a,0,0.5,100,1e-6\na,1,0.25,,1e-6\nb,0,nan,90,1e-6\n"
    )
    for _ in range(2):  # the second time adds nothing
        cells = outside.take_in(workspace, [tmp_path / "log.csv"], "logs")
    assert [(cell.matrix, cell.arm) for cell in cells] == [("logs", "a"), ("logs", "b")]
    assert traced(workspace, "entropy", "a") == [(0, 0.5), (1, 0.25)]
    assert traced(workspace, "response_length", "a") == [(0, 100.0)]
    assert traced(workspace, "lr", "b") == [(0, 1e-6)]
    assert traced(workspace, "entropy", "b") == []
    assert steps(workspace) == [("a", 1, "finished"), ("b", 0, "finished")]
    assert history.check(workspace) == []


def test_a_longer_log_takes_the_place_of_the_shorter_one(workspace, tmp_path):
    (tmp_path / "log.csv").write_text("step,reward\n1,0.1\n")
    (tmp_path / "other.csv").write_text("step,reward\n1,0.7\n")
    outside.take_in(workspace, [tmp_path / "log.csv"])
    outside.take_in(workspace, [tmp_path / "other.csv"])
    (tmp_path / "log.csv").write_text("step,reward\n1,0.1\n2,0.2\n")
    outside.take_in(workspace, [tmp_path / "log.csv"])
    with connect(workspace.db) as db:
        assert db.execute(
            "SELECT arm, steps FROM runs WHERE matrix = 'external' ORDER BY arm"
        ).fetchall() == [("log", 2), ("other", 1)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", ":1: no column of steps"),
        ("step,x\n1,2\n1,3\n", ":3: step 1 of log is there twice"),
        ("step,x\n1,two\n", ":2: x: 'two' is no number"),
        ("step,x\n1.5,2\n", ":2: step is no whole number"),
        ("step,x\n1,2,3\n", ":2: 2 columns are expected"),
        ("step,x\n", "no steps in it"),
    ],
)
def test_a_bad_log_is_refused_whole(workspace, tmp_path, text, says):
    (tmp_path / "log.csv").write_text(text)
    ran = CliRunner().invoke(
        app, ["db", "import", str(tmp_path / "log.csv"), "--db", str(workspace.db)]
    )
    assert ran.exit_code == 2
    with pytest.raises(ValueError, match=says):
        outside.take_in(workspace, [tmp_path / "log.csv"])
    assert not workspace.db.exists()


@pytest.fixture(scope="module")
def logs(repo):
    folder = repo.parent / "shared" / "data" / "training_logs"
    if not folder.is_dir():
        pytest.skip(f"no logs of other trainers at {folder}")
    return folder


@pytest.mark.parametrize(
    ("name", "metric", "column"),
    [
        ("ppo_verl_qwen25_0.5b_gsm8k.csv", "entropy", "actor/entropy_loss"),
        ("ppo_verl_gemma2_2b_gsm8k.csv", "reward", "critic/score/mean"),
        ("grpo_trl_qwen25_1.5b_gsm8k_50step.csv", "response_length", "completions/mean_length"),
        ("grpo_trl_qwen25_1.5b_gsm8k_50step.csv", "kl", "kl"),
    ],
)
def test_real_logs_of_verl_and_trl(workspace, logs, name, metric, column):
    outside.take_in(workspace, [logs / name])
    with (logs / name).open(newline="") as file:
        wanted = [(int(r["step"]), float(r[column])) for r in csv.DictReader(file) if r[column]]
    assert len(wanted) >= 50 and traced(workspace, metric, Path(name).stem) == wanted


def test_seven_runs_of_one_file_and_the_collapse_of_one(workspace, logs):
    """Entropy falls from 0.65 to 0.022 at its lowest: shared/data says so of this run."""
    cells = outside.take_in(workspace, [logs / "grpo_qwen25math15b_cs336.csv"])
    assert len(cells) == 7
    with connect(workspace.db) as db:
        (low,) = db.execute("SELECT min(value) FROM traces WHERE metric = 'entropy'").fetchone()
    assert low == pytest.approx(0.022, abs=5e-4)


def test_what_verl_prints_is_the_same_as_its_csv(workspace, logs):
    stem = "ppo_verl_qwen25_0.5b_gsm8k"
    paths = [logs / f"{stem}.csv", logs / f"{stem}.console_excerpt.txt"]
    outside.take_in(workspace, paths)
    printed = traced(workspace, "entropy", paths[1].stem)
    assert len(printed) > 10
    assert set(printed) <= set(traced(workspace, "entropy", stem))

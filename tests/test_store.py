"""runs.db: every spooled row exactly once, void steps gone, readers never in the way."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from suite.matrix.expand import load_cells
from suite.report.leaderboard import leaderboard
from suite.spool import spool
from suite.store import NoDatabase, Store, connect
from suite.store.migrations import Unusable
from suite.store.views import VIEWS
from suite.workspace import Workspace

MATRIX = """\
name: m
model: arithmetic-tiny
budget: {steps: 4}
arms: {grpo: {}, clip: {}}
evaluate: {samples: 4, pass_at: [1, 2], at: [0, 1.0]}
"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs.db")


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(MATRIX)
    return load_cells(path)


@pytest.fixture
def store(workspace, cells):
    store = Store(workspace)
    store.register(cells)
    yield store
    with contextlib.suppress(duckdb.ConnectionException):  # a test may have closed it
        store.close()


def attempt(workspace, cell, number=1):
    folder = workspace.cell(cell.id)
    writer = spool.Spool(folder / f"attempt-{number:03d}.jsonl")

    def write(kind, **fields):
        writer.write(kind, attempt=number, **fields)

    return write


def trace(write, step, **more):
    write("trace", step=step, entropy=1.0 / step, gpu_hours=0.1 * step, **more)


def evaluate(write, step, fraction, correct, first=0):
    for i, c in enumerate(correct):
        write(
            "eval",
            step=step,
            fraction=fraction,
            benchmark="arithmetic",
            problem=f"p{i}",
            first=first,
            n=4,
            seed=i,
            verdicts="c" * c + "w" * (4 - c),
            stops="sssl",
            lengths=[10, 11, 12, 7],
            digests=[first + 1, first + 1, first + 2, first + 3],
            answers=["1", None, "2", "3"],
            examples=["x"],
        )
    write("evaluated", step=step, fraction=fraction, gpu_hours=0.1 * step, tokens=1, samples=1)


def rows(store, query):
    store.publish()
    with connect(store.workspace.db) as connection:
        return connection.execute(query).fetchall()


def test_traces_arrive_once_however_often_they_are_taken_in(store, workspace, cells):
    write = attempt(workspace, cells[0])
    trace(write, 1)
    assert [r["kind"] for r in store.ingest(cells[0].id)] == ["trace"]
    assert store.ingest(cells[0].id) == []
    trace(write, 2)
    store.ingest(cells[0].id)
    found = rows(
        store, "SELECT arm, step, value FROM traces WHERE metric = 'entropy' ORDER BY step"
    )
    assert found == [("grpo", 1, 1.0), ("grpo", 2, 0.5)]


def test_a_worker_that_never_pauses_does_not_hold_the_conductor_up(store, workspace, cells):
    """What is spooled while lines are taken in waits for the next time: here, for ever more."""
    write = attempt(workspace, cells[0])
    trace(write, 1)
    take, steps = store._ingest_part, iter(range(2, 100))

    def while_more_is_written(*of):
        trace(write, next(steps))
        return take(*of)

    store._ingest_part = while_more_is_written
    assert len(store.ingest(cells[0].id)) <= 2
    assert next(steps) <= 4


def test_steps_after_the_checkpoint_of_a_resume_are_void(store, workspace, cells):
    first, second = (attempt(workspace, cells[0], n) for n in (1, 2))
    first("training", from_step=0)
    for step in (1, 2, 3):
        trace(first, step, reward=0.0)
    evaluate(first, 3, 0.5, [4, 4])
    second("resumed", from_step=2, lost_gpu_hours=0.1)
    for step in (3, 4):
        trace(second, step, reward=1.0)
    store.ingest(cells[0].id)
    found = rows(store, "SELECT step, value FROM traces WHERE metric = 'reward' ORDER BY step")
    assert found == [(1, 0.0), (2, 0.0), (3, 1.0), (4, 1.0)]
    assert rows(store, "SELECT count(*) FROM evals") == [(0,)]
    assert rows(store, "SELECT count(*) FROM pass_at_k") == [(0,)]
    lost = rows(store, "SELECT detail->>'lost_gpu_hours' FROM data.events WHERE kind = 'resumed'")
    assert float(lost[0][0]) == pytest.approx(0.1)


def test_scores_are_the_unbiased_estimator_with_an_interval(store, workspace, cells):
    """c = 4, 2, 0 of n = 4: pass@1 = 1/2; pass@2 = (1 + (1 - C(2,2)/C(4,2)) + 0) / 3 = 11/18."""
    write = attempt(workspace, cells[0])
    evaluate(write, 4, 1.0, [4, 2, 0])
    trace(write, 4, budget_fraction=1.0, response_length=9.0)
    store.ingest(cells[0].id)
    found = rows(store, "SELECT k, score, low, high, problems, samples FROM pass_at_k ORDER BY k")
    assert [(k, problems, samples) for k, _, _, _, problems, samples in found] == [
        (1, 3, 4),
        (2, 3, 4),
    ]
    assert [row[1] for row in found] == pytest.approx([1 / 2, 11 / 18])
    assert all(0 <= low < score < high <= 1 for _, score, low, high, *_ in found)
    assert rows(store, "SELECT arm, k, steps FROM leaderboard ORDER BY k") == [
        ("grpo", 1, 4),
        ("grpo", 2, 4),
    ]


def test_an_evaluation_cut_short_is_replaced_whole(store, workspace, cells):
    first, second = (attempt(workspace, cells[0], n) for n in (1, 2))
    evaluate(first, 0, 0.0, [1, 1, 1])
    second("training", from_step=0)
    evaluate(second, 0, 0.0, [4, 4, 4])
    store.ingest(cells[0].id)
    assert rows(store, "SELECT sum(correct), count(*) FROM evals") == [(12, 3)]
    assert rows(store, "SELECT score FROM pass_at_k WHERE k = 1") == [(1.0,)]


def test_an_arm_that_was_only_scored_as_the_base_is_not_on_the_leaderboard(store, workspace, cells):
    write = attempt(workspace, cells[0])
    evaluate(write, 0, 0.0, [1, 2, 3])
    trace(write, 1, budget_fraction=0.25)
    store.ingest(cells[0].id)
    assert rows(store, "SELECT count(*) FROM pass_at_k") == [(2,)]
    assert rows(store, "SELECT count(*) FROM leaderboard") == [(0,)]


def test_a_score_is_shown_with_the_cost_and_entropy_of_its_step(store, workspace, cells):
    write = attempt(workspace, cells[0])
    for step in (1, 2, 3):
        trace(write, step, budget_fraction=step / 4)
        if step == 2:
            evaluate(write, 2, 0.5, [1, 2, 3])
    store.ingest(cells[0].id)
    found = rows(store, "SELECT DISTINCT steps, entropy, gpu_hours, overshoot FROM leaderboard")
    assert found == [(2, 0.5, pytest.approx(0.2), 0.0)]


def test_an_attempt_is_never_numbered_twice(store, workspace, cells):
    trace(attempt(workspace, cells[0], 3), 1)
    store.ingest(cells[0].id)
    spool.path_of(workspace.cell(cells[0].id), 3).unlink()
    assert store.next_attempt(cells[0].id) == 4
    assert store.next_attempt(cells[1].id) == 1


def test_cost_to_score(store, workspace, cells):
    for cell, correct in zip(cells, ([2, 2], [4, 4]), strict=True):
        write = attempt(workspace, cell)
        evaluate(write, 2, 0.5, [1, 1])
        evaluate(write, 4, 1.0, correct)
        store.ingest(cell.id)
    found = rows(
        store,
        "SELECT reference, arm, gpu_hours, spent FROM gpu_hours_to_score WHERE k = 1 ORDER BY ALL",
    )
    assert found == [
        ("clip", "clip", pytest.approx(0.4), pytest.approx(0.4)),
        ("clip", "grpo", None, pytest.approx(0.4)),
        ("grpo", "clip", pytest.approx(0.4), pytest.approx(0.4)),
        ("grpo", "grpo", pytest.approx(0.4), pytest.approx(0.4)),
    ]


def test_a_new_reader_sees_the_new_snapshot_while_an_old_one_is_open(store, workspace, cells):
    """Both in one process, as the sessions of a dashboard are."""
    store.publish()
    with connect(workspace.db) as old:
        assert old.execute("SELECT count(DISTINCT step) FROM traces").fetchone() == (0,)
        trace(attempt(workspace, cells[0]), 1)
        store.ingest(cells[0].id)
        store.publish()
        with connect(workspace.db) as new:
            assert new.execute("SELECT count(DISTINCT step) FROM traces").fetchone() == (1,)
        assert old.execute("SELECT count(DISTINCT step) FROM traces").fetchone() == (0,)


def test_a_reader_keeps_its_snapshot_while_new_ones_are_published(store, workspace, cells):
    write = attempt(workspace, cells[0])
    trace(write, 1)
    store.ingest(cells[0].id)
    store.publish()
    script = (
        "import sys, duckdb; c = duckdb.connect(sys.argv[1], read_only=True);"
        "count = lambda: c.execute('select max(step) from traces').fetchone()[0];"
        "print(count(), flush=True); sys.stdin.readline(); print(count(), flush=True)"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", script, str(workspace.db)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout.readline() == "1\n"
    trace(write, 2)
    store.ingest(cells[0].id)
    store.publish()
    assert reader.communicate("\n")[0] == "1\n"
    assert rows(store, "SELECT max(step) FROM traces") == [(2,)]


WRITER = """
import sys
from pathlib import Path
from suite.workspace import Workspace
from suite.store import Store
store = Store(Workspace(Path(sys.argv[1])))
print("ready", flush=True)
while True:
    store.ingest(sys.argv[2]); store.publish()
"""


@pytest.mark.slow
def test_killing_the_writer_at_any_moment_loses_and_doubles_nothing(workspace, cells, repo):
    store = Store(workspace)
    store.register(cells)
    store.close()
    write, run = attempt(workspace, cells[0]), cells[0].id
    step = 0
    for round_ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(workspace.db), run],
            stdout=subprocess.PIPE,
            cwd=repo,
            text=True,
        )
        assert writer.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 0.15 + 0.05 * round_
        while time.monotonic() < deadline:
            step += 1
            trace(write, step)
            if step % 10 == 0:
                write("probe", step=step, fraction=step / 1e6, values={"full": 0.5})
                evaluate(write, step, fraction=step / 1e6, correct=[step % 5, 4])
            time.sleep(0.002)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        with connect(workspace.db) as connection:  # always a whole database
            connection.execute("SELECT count(*) FROM traces").fetchone()
    store = Store(workspace)
    store.ingest(run)
    points = step // 10
    wanted = {
        "traces WHERE metric = 'entropy'": (step, step),
        "data.batches": (2 * points, points),  # two problems
        "data.points": (points, points),
        "data.scores": (2 * points, points),  # two k
        "data.probes": (points, points),
        "(SELECT detail->'step' AS step FROM data.events WHERE kind = 'evaluated')": (
            points, points,
        ),
    }  # fmt: skip
    counted = "SELECT count(*), count(DISTINCT step) FROM"
    found = {table: rows(store, f"{counted} {table}")[0] for table in wanted}
    store.close()
    assert found == wanted


def test_a_lost_private_database_is_made_again_from_the_snapshot(store, workspace, cells):
    write = attempt(workspace, cells[0])
    trace(write, 1)
    store.ingest(cells[0].id)
    store.close()
    (workspace.root / "ingest.db").unlink()
    again = Store(workspace)
    trace(write, 2)
    again.ingest(cells[0].id)
    assert rows(again, "SELECT count(*) FROM traces WHERE metric = 'entropy'") == [(2,)]
    again.close()


def copied_back(workspace, cells, tmp_path):
    """The database was taken elsewhere, trained on there, and put back without its folder."""
    other = Workspace(tmp_path / "other" / "runs.db")
    shutil.copytree(workspace.root, other.root)
    shutil.copy(workspace.db, other.db)
    theirs = Store(other)
    trace(attempt(other, cells[0]), 2)
    theirs.ingest(cells[0].id)
    theirs.close()
    shutil.copy(other.db, workspace.db)


def another_history(workspace, cells, tmp_path):
    """The same cells, trained on another machine from the beginning, less far than here."""
    theirs = Store(other := Workspace(tmp_path / "other" / "runs.db"))
    theirs.register(cells)
    theirs.close()
    shutil.copy(other.db, workspace.db)


def later_version(workspace, cells, tmp_path):
    with connect(workspace.db, read_only=False) as db:
        db.execute("INSERT INTO data.migrations VALUES ('999_future')")


def text_file(workspace, cells, tmp_path):
    workspace.db.write_text("notes")


@pytest.mark.parametrize(
    ("put", "says"),
    [
        (copied_back, "lacks what it has of 1 runs, {run} among them; move it away"),
        (another_history, "lacks what it has of 2 runs, .* among them; move it away"),
        (later_version, "was made by a later version of the suite, which has 999_future"),
        (text_file, "is no database of the suite.*move it away"),
    ],
)
def test_what_is_no_copy_of_ours_is_not_written_over(store, workspace, cells, tmp_path, put, says):
    """Someone put another file in the place of runs.db: nothing of it may be lost."""
    trace(attempt(workspace, cells[0]), 1)
    store.ingest(cells[0].id)
    store.close()
    ours = workspace.db.read_bytes()
    put(workspace, cells, tmp_path)
    found = workspace.db.read_bytes()
    with pytest.raises(Unusable, match=says.format(run=cells[0].id)):
        Store(workspace)
    assert workspace.db.read_bytes() == found != ours
    workspace.db.write_bytes(ours)  # one of ours, however old, holds nothing that we lack
    again = Store(workspace)
    trace(attempt(workspace, cells[0]), 2)
    again.ingest(cells[0].id)
    again.close()
    workspace.db.write_bytes(ours)
    Store(workspace).close()
    assert workspace.db.read_bytes() != ours


@pytest.mark.parametrize("put", [later_version, text_file])
def test_a_database_that_cannot_be_begun_with_leaves_nothing_behind(
    store, workspace, tmp_path, put
):
    """Once it is moved away, the suite begins anew."""
    store.close()
    shutil.rmtree(workspace.root)
    put(workspace, None, tmp_path)
    with pytest.raises(Unusable):
        Store(workspace)
    workspace.db.unlink()
    Store(workspace).close()
    with connect(workspace.db) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_a_database_that_is_a_link_stays_one(workspace, cells, tmp_path):
    (tmp_path / "big").mkdir()
    workspace.db.symlink_to(tmp_path / "big" / "runs.db")
    for _ in range(2):
        store = Store(workspace)
        store.register(cells)
        store.close()
    assert workspace.db.is_symlink() and (tmp_path / "big" / "runs" / "ingest.db").exists()


def test_an_older_suite_writes_nothing_into_a_later_database(store, workspace):
    store.close()
    private = workspace.root / "ingest.db"
    with connect(private, read_only=False) as db:
        db.execute("INSERT INTO data.migrations VALUES ('999_future')")
    before = private.read_bytes()
    with pytest.raises(Unusable, match=f"^{private} was made by a later version"):
        Store(workspace)
    assert private.read_bytes() == before


def test_what_a_killed_conductor_left_running_is_interrupted(store, workspace, cells):
    """Whichever matrix the next one works on: nothing runs in a database that one opens."""
    store.set_status(cells[0].id, "running")
    store.close()
    again = Store(workspace)
    assert [again.status(cell.id) for cell in cells] == ["interrupted", "queued"]
    again.close()


def test_an_arm_keeps_its_place_when_an_earlier_one_is_dropped(store, workspace, cells, tmp_path):
    (tmp_path / "m.yaml").write_text(
        MATRIX.replace("{grpo: {}, clip: {}}", "{cispo: {}, clip: {}}")
    )
    store.register(load_cells(tmp_path / "m.yaml"))
    assert rows(store, "SELECT arm FROM runs WHERE matrix = 'm' ORDER BY position") == [
        ("cispo",), ("clip",),
    ]  # fmt: skip
    assert rows(store, "FROM data.arms ORDER BY position") == [
        ("grpo", 0), ("clip", 1), ("cispo", 2),
    ]  # fmt: skip


def test_a_run_of_two_matrices_is_traced_once_and_listed_twice(store, workspace, cells, tmp_path):
    trace(attempt(workspace, cells[0]), 1)
    store.ingest(cells[0].id)
    (tmp_path / "other.yaml").write_text(MATRIX.replace("name: m", "name: other"))
    store.register(load_cells(tmp_path / "other.yaml"))
    assert rows(
        store, "SELECT matrix, count(*) FROM traces WHERE metric = 'entropy' GROUP BY 1"
    ) == [("other", 1)]
    listed = rows(store, "SELECT matrix FROM runs WHERE arm = 'grpo' ORDER BY matrix")
    assert listed == [("m",), ("other",)]


def test_infinite_settings_survive_as_json(store, workspace, cells):
    assert rows(store, "SELECT settings->>'eps_high' FROM runs WHERE arm = 'clip'") == [("inf",)]


def test_no_database_yet_says_what_to_do(tmp_path):
    with pytest.raises(NoDatabase, match="suite run"):
        connect(tmp_path / "runs.db")


def test_snapshots_cannot_be_written_to(store, workspace):
    store.publish()
    with connect(workspace.db) as connection, pytest.raises(duckdb.Error):
        connection.execute("DELETE FROM data.traces")


def test_a_full_disk_keeps_the_former_snapshot(store, workspace, cells, monkeypatch, tmp_path):
    store.publish()
    before = workspace.db.read_bytes()
    failing = tmp_path / "bin"
    failing.mkdir()
    (failing / "cp").write_text("#!/bin/sh\necho 'cp: No space left on device' >&2\nexit 1\n")
    (failing / "cp").chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{failing}:{os.environ['PATH']}")
        with pytest.raises(OSError, match="No space left"):
            store.publish()
    assert workspace.db.read_bytes() == before
    assert not list(Path(workspace.db.parent).glob("*.partial"))


@pytest.mark.slow
def test_copies_take_a_fifth_of_the_time_at_most(store, workspace, monkeypatch, tmp_path):
    """Copies that take 0.4 s are two seconds apart, even though there is news."""
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "cp").write_text(f'#!/bin/sh\nsleep 0.4\nexec {shutil.which("cp")} "$@"\n')
    (slow / "cp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}:{os.environ['PATH']}")
    store.publish()
    ended, first = time.monotonic(), workspace.db.stat().st_ino
    store.changed = True
    while workspace.db.stat().st_ino == first:
        store.publish_when_due()
        time.sleep(0.01)
    assert time.monotonic() - ended > 2
    store.publish_when_due()  # nothing has changed since
    assert not store.changed


def test_every_view_answers_on_an_empty_database(store, workspace):
    store.publish()
    with connect(workspace.db) as connection:
        for view in VIEWS:
            connection.execute(f"SELECT * FROM {view}").fetchall()


def test_evaluate_settings_are_readable_json(store):
    (text,) = rows(store, "SELECT evaluate FROM runs WHERE arm = 'grpo'")[0]
    assert json.loads(text)["pass_at"] == [1, 2]


def benchmark(write, overlapping, name="math500"):
    write(
        "benchmark",
        benchmark=name,
        origin="a file",
        sha256="0" * 64,
        problems=500,
        prompt="1+1=",
        prompt_digest="ab",
        overlapping=overlapping,
    )


def test_what_a_run_is_measured_on_is_kept_once(store, workspace, cells):
    first, second = (attempt(workspace, cells[0], n) for n in (1, 2))
    benchmark(first, ["x-1"])
    benchmark(first, [], "aime24")
    benchmark(second, ["x-1", "x-7"])
    store.ingest(cells[0].id)
    found = rows(
        store,
        """SELECT arm, benchmark, problems, overlapping, overlapping_ids FROM benchmarks
            ORDER BY benchmark""",
    )
    assert found == [
        ("grpo", "aime24", 500, 0, "[]"),
        ("grpo", "math500", 500, 2, '["x-1", "x-7"]'),
    ]


def test_the_report_says_what_of_a_benchmark_was_trained_on(store, workspace, cells):
    for cell, ids in zip(cells, ([], [f"p{i}" for i in range(7)]), strict=True):
        write = attempt(workspace, cell)
        for step, fraction in ((0, 0.0), (4, 1.0)):
            trace(write, step or 1, budget_fraction=fraction, response_length=3.0)
            evaluate(write, step, fraction, [1, 2])
        benchmark(write, ids, "arithmetic")
        store.ingest(cell.id)
    store.publish()
    report, *_ = leaderboard(workspace.db, "m")
    assert [note for note in report.notes if "training prompts" in note] == [
        "0 of 500 problems of arithmetic occur in the training prompts of grpo.",
        "7 of 500 problems of arithmetic occur in the training prompts of clip "
        "(p0, p1, p2, p3, p4, ...).",
    ]


def test_an_arm_that_never_differed_from_grpo_is_inert(store, workspace, cells):
    for cell in cells:
        write = attempt(workspace, cell)
        trace(write, 1, differs_from_grpo=0.0)
        trace(write, 2, differs_from_grpo=0.0)
        store.ingest(cell.id)
    assert rows(store, "SELECT arm, inert FROM runs ORDER BY arm") == [
        ("clip", True),
        ("grpo", False),
    ]
    trace(attempt(workspace, cells[1]), 3, differs_from_grpo=0.01)
    store.ingest(cells[1].id)
    assert rows(store, "SELECT arm FROM runs WHERE inert") == []


def test_the_entropy_probe_is_kept_once_with_its_definition(store, workspace, cells):
    first, second = (attempt(workspace, cells[0], n) for n in (1, 2))
    for write, value in ((first, 0.5), (second, 0.4)):
        write("probe", step=0, fraction=0.0, values={"full": value, "sampled": 0.7})
    store.ingest(cells[0].id)
    found = rows(store, "SELECT estimator, value, definition FROM probes ORDER BY estimator")
    assert [row[:2] for row in found] == [("full", 0.4), ("sampled", 0.7)]
    assert all("nats, T = 1" in definition for *_, definition in found)


def test_batches_of_a_problem_add_up(store, workspace, cells):
    """A batch drawn twice (its attempt was lost) counts once."""
    first, second = (attempt(workspace, cells[0], n) for n in (1, 2))
    evaluate(first, 0, 0.0, [4, 2])
    evaluate(second, 0, 0.0, [4, 2])
    evaluate(second, 0, 0.0, [0, 1], first=4)
    store.ingest(cells[0].id)
    found = rows(
        store,
        """SELECT problem, n, correct, wrong, truncated, unique_responses, tokens, verdicts
             FROM evals ORDER BY problem""",
    )
    assert found == [
        ("p0", 8, 4, 4, 2, 6, 80, "ccccwwww"),
        ("p1", 8, 3, 5, 2, 6, 80, "ccwwcwww"),
    ]

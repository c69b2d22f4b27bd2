"""Grading again: what a newer grader would say is shown, and put in place on request."""

import json

import pytest

from suite.matrix import checkpoint
from suite.report.regrade import apply, audit, audit_report, regrade
from suite.spool.spool import path_of
from suite.store import Store, connect
from suite.worker.ledger import Budget
from suite.worker.recorder import Recorder
from suite.workspace import Workspace

TEXTS = ["\\boxed{2}", "\\boxed{4/2}", "\\boxed{3}", "so 2"]


@pytest.fixture
def run(tmp_path):
    """A workspace and the id of an evaluation whose grader knew no fractions."""
    (tmp_path / "config.json").write_text("{}")
    benchmark = tmp_path / "b.jsonl"
    golds = {"p": "2", "q": "3", "r": "3 \\%"}
    rows = [{"id": name, "problem": "?", "answer": gold} for name, gold in golds.items()]
    benchmark.write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace = Workspace(tmp_path / "runs.db")
    cell = checkpoint.from_options(
        str(tmp_path),
        workspace,
        benchmarks=[str(benchmark)],
        pass_at="1",
        preset="",
        sampling={"samples": 4},
        prompting=checkpoint.Prompting(),
        seed=0,
        resources={"gpus": 1, "engines": 1},
    )
    store = Store(workspace)
    store.register([cell])
    folder = workspace.cell(cell.id)
    folder.mkdir(parents=True)
    cell.save(folder / "cell.json")
    recorder = Recorder(path_of(folder, 1), 1, Budget("samples", 4), 1)
    point = {"step": 0, "fraction": 1.0}
    recorder.write(
        "eval",
        **point,
        benchmark="b",
        problem="p",
        first=0,
        n=4,
        seed=5,
        verdicts="cwwu",
        stops="ssss",
        lengths=[1, 2, 3, 4],
        digests=[1, 2, 3, 4],
        answers=["2", "4/2", "3", None],
        texts=TEXTS,
    )
    recorder.write("evaluated", **point, samples=4)
    store.ingest(cell.id)
    store.close()
    return workspace, cell.id


def scores(workspace):
    with connect(workspace.db) as connection:
        return connection.execute(
            "SELECT e.verdicts, round(s.score, 9) FROM evals e, data.scores s"
        ).fetchall()


def test_what_changed_is_found_and_nothing_is_written(run):
    workspace, cell = run
    found = regrade(workspace, cell)
    assert found.responses == 4 and dict(found.changed) == {("w", "c"): 1}
    assert found.examples == [("p", "2", "4/2", "w", "c")]
    assert scores(workspace) == [("cwwu", 0.25)]


def test_applied_verdicts_and_scores_take_the_old_ones_place(run):
    workspace, cell = run
    apply(workspace, cell, regrade(workspace, cell))
    assert scores(workspace) == [("ccwu", 0.5)]
    assert regrade(workspace, cell).changed == {}


def test_a_run_that_is_not_here(run):
    with pytest.raises(ValueError, match="no run nonsense"):
        regrade(run[0], "nonsense")


def test_the_audit_holds_answers_against_other_problems_golds(run):
    """2, 4/2 and 3 against 3 and 3 %, which math-verify takes for 3; 3 is 3 by coincidence."""
    workspace, cell = run
    before = scores(workspace)
    found = audit(workspace, cell)
    assert list(found) == ["b"] and found["b"].offenders == [("3 \\%", "3")]
    assert found["b"].pairs == 5 and found["b"].rate == 1 / 5
    assert scores(workspace) == before
    report = audit_report(found)
    row = dict(zip(report.titles, report.texts()[0], strict=True))
    assert row["rate"].startswith("20.000% [") and report.notes[1] == "b: 3 for 3 \\%"
    with pytest.raises(ValueError, match="no run nonsense"):
        audit(workspace, "nonsense")

"""Alarms: what looks wrong with a run, said of that run and no other."""

import pytest

from suite.matrix.expand import load_cells
from suite.report.alarms import inert_runs, raised
from suite.report.progress import seconds_left
from suite.spool import spool
from suite.store import Store, connect
from suite.workspace import Workspace

MATRIX = """\
name: m
model: [owner/a, owner/b]
train: {dataset: owner/d, prompts_per_step: 8, samples_per_prompt: 4}
budget: {steps: 4}
arms: {clip-higher: {}, entreg: {}}
evaluate: {benchmarks: [arithmetic], samples: 4, pass_at: [1], at: []}
"""
ENTROPY = {  # by (arm, model): of four steps, the last one is the last quarter
    ("clip-higher", "owner/a"): [1.0, 0.9, 0.5, 0.1],
    ("clip-higher", "owner/b"): [1.0, 1.0, 1.0, 1.0],
    ("entreg", "owner/a"): [1.0, 1.5, 2.0, 2.5],
    ("entreg", "owner/b"): [1.0, 1.0, 1.0, 1.0],
}
INERT = ("clip-higher", "owner/b")
CUT = ("entreg", "owner/b")


@pytest.fixture
def db(tmp_path):
    (tmp_path / "m.yaml").write_text(MATRIX)
    cells, workspace = load_cells(tmp_path / "m.yaml"), Workspace(tmp_path / "runs.db")
    store = Store(workspace)
    store.register(cells)
    for cell in cells:
        run = (cell.arm, cell.model)
        writer = spool.Spool(spool.path_of(workspace.cell(cell.id), 1))
        for step, entropy in enumerate(ENTROPY[run], start=1):
            shares = {
                "differs_from_grpo": float(run != INERT),
                "truncated": 0.5 * (run == CUT and step == 4),
            }
            writer.write("trace", attempt=1, step=step, entropy=entropy, **shares)
        writer.close()
        store.ingest(cell.id)
    store.close()
    return workspace.db


def test_each_alarm_names_its_run_and_model(db):
    with connect(db) as connection:
        alarms = raised(connection, "m")
    assert {(a.kind, a.arm, a.model) for a in alarms} == {
        ("collapse", "clip-higher", "owner/a"),
        ("explosion", "entreg", "owner/a"),
        ("truncation", *CUT),
        ("inert", *INERT),
    }
    texts = [alarm.text for alarm in alarms]
    assert "Collapse: entropy of clip-higher (seed 0, a) fell from 1.000 to 0.100." in texts
    assert "Truncation: 50% of the last responses of entreg (seed 0, b) were cut off." in texts


def test_an_arm_that_is_inert_on_one_model_is_not_on_another(db):
    with connect(db) as connection:
        assert inert_runs(connection, "m") == [("owner/b", "clip-higher", 0)]


def test_time_left_is_at_each_runs_own_pace_or_the_others():
    def row(status, seconds=None, left=None):
        return {"status": status, "seconds": seconds, "seconds_left": left}

    assert seconds_left([row("finished", 100.0, 0.0)]) == 0
    assert seconds_left([row("running"), row("queued")]) is None
    rows = [row("running", 100.0, 40.0), row("running", 200.0, 60.0), row("queued")]
    assert seconds_left(rows) == (40 + 60 + 150) / 2  # side by side
    stopped = [row("interrupted", 150.0, 40.0)]
    assert seconds_left(stopped) == 0  # nothing runs that would go on with it
    assert seconds_left([*stopped, *rows]) == (40 + 40 + 60 + 150) / 2

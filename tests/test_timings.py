"""What earlier runs took, read back from the database that their spools make."""

import pytest

from suite.matrix.expand import load_cells
from suite.spool import spool
from suite.store import Store, timings
from suite.workspace import Workspace

MATRIX = """\
name: m
model: arithmetic-tiny
budget: {steps: 4}
arms: {grpo: {}, clip: {eps_high: .inf}}
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """grpo in two attempts: 3 steps, killed, steps 2 to 4 again; clip finished nothing."""
    (tmp_path / "m.yaml").write_text(MATRIX)
    workspace, cells = Workspace(tmp_path / "runs.db"), load_cells(tmp_path / "m.yaml")
    clock = iter(range(1000, 2000, 10))
    monkeypatch.setattr(spool.time, "time", lambda: float(next(clock)))
    store = Store(workspace)
    store.register(cells)
    started = {"command": [], "versions": {}, "git_commit": None}
    for number, steps in ((1, (1, 2, 3)), (2, (2, 3, 4))):
        write = spool.Spool(spool.path_of(workspace.cell(cells[0].id), number)).write
        write("preparing", attempt=number)
        write("start", attempt=number, hardware={"gpus": [], "cores": 2}, **started)
        write("resumed" if number == 2 else "training", attempt=number, from_step=number - 1)
        for step in steps:
            numbers = {"seconds/update": float(step**2), "seconds/sync": 1.0}
            write(
                "trace", attempt=number, step=step, tokens=50 * step, gpu_hours=step / 8, **numbers
            )
    write(
        "finished",
        attempt=2,
        step=4,
        seconds={"update": 30.0, "evaluation": 7.0, "start_up": 5.0, "lost": 2.0},
    )
    write = spool.Spool(spool.path_of(workspace.cell(cells[1].id), 1)).write
    write("start", attempt=1, hardware={"gpus": [], "cores": 2}, **started)
    for cell in cells:
        store.ingest(cell.id)
    store.close()
    return workspace


def test_a_run_in_numbers(workspace):
    """Updates took 1, 4, 9, 16 s: 30 s, 7.5 a step. Each line is 10 s after the one before, so
    "training" and "resumed" come 20 s after "preparing"."""
    (found,) = timings.read_timings(workspace.db)
    assert (found.arm, found.algorithm, found.gpus, found.steps) == ("grpo", "grpo", 1, 4)
    assert found.per_step == {"update": 7.5, "sync": 1.0}
    assert found.charged == {"update": 30.0, "sync": 4.0}
    assert (found.gpu_hours, found.tokens_per_step) == (0.5, 50.0)
    assert found.aside == {"evaluation": 7.0} and (found.points, found.answers) == (0, 0)
    assert (found.start_up, found.held_at_start, found.lost) == (20.0, 5.0, 2.0)
    assert found.train["prompts_per_step"] == 32 and found.hardware["cores"] == 2


def test_no_database_is_no_earlier_run(tmp_path):
    assert timings.read_timings(tmp_path / "runs.db") == []
    assert list(tmp_path.iterdir()) == []

"""This machine as the place where cells run: which GPUs a cell gets, and how its worker ends."""

import os
import signal
import subprocess
import time
from dataclasses import replace

import psutil
import pytest

from suite import machine
from suite.matrix.cell import Cell
from suite.run import conductor, places
from suite.run.cluster import NoCluster
from suite.run.processes import MARK, Lost, Start, killed
from suite.store import connect
from suite.workspace import Workspace
from tests.conftest import SMALL

CELL = Cell("m", "a", "grpo", {}, "tabular", 0, {}, {}, {"steps": 1}, {}, {})


def asking(gpus, kind=None):
    return replace(CELL, resources={"gpus": gpus, "accelerator": kind})


@pytest.fixture
def start(tmp_path):
    """A worker with nothing to do: it ends at once, with an error of its own."""
    return Start([str(tmp_path / "runs.db")], str(tmp_path / "cell"), tmp_path / "log")


@pytest.fixture
def eight(monkeypatch):
    """A machine with eight GPUs, as far as the books go."""
    monkeypatch.setattr(machine, "device", lambda: "gpu")
    monkeypatch.setattr(machine, "gpus", lambda: ["NVIDIA A100-SXM4-80GB"] * 8)
    return places.Machine()


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(machine, "device", lambda: "cpu")
    return places.Machine()


def test_without_a_gpu_cells_run_one_after_the_other_whatever_they_ask_for(no_gpu, start):
    assert no_gpu.impossible(asking(16)) is None and no_gpu.slots(asking(16)) == 1
    held = no_gpu.start(asking(16), start)
    assert not no_gpu.fits(asking(1))
    held.release()
    assert no_gpu.fits(asking(1))


def test_an_accelerator_that_is_not_here(no_gpu, eight):
    assert "wants 4 x A100, this machine has no GPU" in no_gpu.impossible(asking(4, "A100"))
    assert eight.impossible(asking(8, "a100")) is None
    assert "wants 1 x H100" in eight.impossible(asking(1, "H100"))
    assert "wants 9 GPUs, this machine has 8" in eight.impossible(asking(9))


def environment(held, seconds=30):
    """Of a worker, once it is one: between fork and exec it still has ours."""
    deadline = time.monotonic() + seconds
    process = psutil.Process(held._worker.pid)
    while MARK not in process.environ() and time.monotonic() < deadline:
        time.sleep(0.01)
    return process.environ()


def devices(held):
    return environment(held)["CUDA_VISIBLE_DEVICES"]


def test_cells_side_by_side_have_gpus_of_their_own(eight, start):
    assert eight.slots(asking(3)) == 2
    another = replace(start, mark=f"{start.mark}-2")
    first = eight.start(asking(3), start)
    assert devices(first) == "0,1,2"  # at once: there is nothing for it to do
    second = eight.start(asking(4), another)
    assert devices(second) == "3,4,5,6"
    assert eight.fits(asking(1)) and not eight.fits(asking(2))
    first.release()
    assert eight.fits(asking(4)) and not eight.fits(asking(5))
    second.release()
    assert eight.fits(asking(8))


def ended(held, seconds=60):
    deadline = time.monotonic() + seconds
    while (code := held.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return code


def test_a_worker_that_ends_by_itself_has_a_status(no_gpu, start):
    held = no_gpu.start(asking(1), start)
    assert ended(held) == 1
    held.release()
    assert "Error" in start.log.read_text()


def test_a_worker_that_was_killed_is_lost(no_gpu, start):
    held = no_gpu.start(asking(1), start)
    held._worker.send_signal(signal.SIGKILL)
    with pytest.raises(Lost, match="SIGKILL") as lost:
        ended(held)
    assert lost.value.kind == "worker lost"
    held.release()


def test_memory_is_told_apart():
    assert killed(-signal.SIGKILL, 1).kind == "out of memory"
    assert killed(-signal.SIGTERM, 0).kind == "worker lost"


def test_a_release_leaves_nothing_of_the_cell(no_gpu, start):
    held = no_gpu.start(asking(1), start)
    child = psutil.Process(held._worker.pid)
    assert environment(held)[MARK] == start.mark
    held.release()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert psutil.pid_exists(os.getpid())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379"])
def test_a_cluster_that_is_not_there_is_one_clear_error(address):
    with pytest.raises(NoCluster, match=f"no Ray cluster at {address}"):
        places.open_place(address, [])


def test_what_an_earlier_attempt_left_is_gone_before_the_next_begins(no_gpu, start, tmp_path):
    """A killed conductor cleans up nothing; its worker's actors can outlive both."""
    marked = os.environ | {MARK: f"{tmp_path / 'another'}{os.pathsep}{start.mark}"}
    other = os.environ | {MARK: str(tmp_path / "another")}
    with (
        subprocess.Popen(["sleep", "60"], env=marked) as left,
        subprocess.Popen(["sleep", "60"], env=other) as stranger,
    ):
        held = no_gpu.start(asking(1), start)
        alive = [psutil.pid_exists(process.pid) for process in (left, stranger)]
        left.kill()
        stranger.kill()
        assert alive == [False, True]
    held.release()


class SlowToEnd:
    """A place with room for everything, whose workers take a second to end when asked to."""

    reuse = False

    def __init__(self):
        self.stopping, self.stopped = [], []

    def impossible(self, cell):
        return None

    def slots(self, cell):
        return 8

    def fits(self, cell):
        return True

    def start(self, cell, what):
        return self

    def poll(self):
        return None

    def stop(self):
        self.stopping.append(time.monotonic())
        time.sleep(1)
        self.stopped.append(time.monotonic())

    def release(self):
        pass


def test_sessions_are_stopped_side_by_side(cells, tmp_path):
    workspace, running = Workspace(tmp_path / "runs.db"), []

    class Display:
        def cell(self, cell, status):
            if status == "running":
                running.append(cell)
                if len(running) == 4:
                    raise KeyboardInterrupt

        def line(self, cell, row):
            pass

    four = cells(SMALL.replace("budget:", "seeds: [0, 1]\nbudget:"))
    place = SlowToEnd()
    with pytest.raises(KeyboardInterrupt):
        conductor.run(four, workspace, Display(), place)
    assert len(place.stopping) == 4 and max(place.stopping) < min(place.stopped)
    with connect(workspace.db) as connection:
        statuses = connection.execute("SELECT DISTINCT status FROM runs").fetchall()
    assert statuses == [("interrupted",)]

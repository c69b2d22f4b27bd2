"""Cells on a Ray cluster of several nodes: a head and three nodes of eight logical A100s.

One cluster serves every test; its nodes are raylets of this machine, as Ray's own tests use them.
"""

import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from algorithms.lab.settings import Environment, Training
from suite.matrix.cell import TABULAR, Cell
from suite.run import conductor
from suite.run.cluster import Cluster
from suite.run.queue import Queue
from suite.store import connect
from suite.workspace import Workspace

pytestmark = pytest.mark.stack

NODES, GPUS = 3, 8
ITERATIONS, TRACE_EVERY = 3000, 100
TRAIN = asdict(Training(iterations=ITERATIONS, trace_every=TRACE_EVERY))
CELL = Cell(
    matrix="cluster",
    arm="grpo",
    algorithm="grpo",
    settings={},
    model=TABULAR,
    seed=0,
    train={**TRAIN, "environment": asdict(Environment())},
    evaluate={},
    budget={"steps": ITERATIONS},
    resources={"gpus": 4, "accelerator": "A100"},
    identity={},
)


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    kind = {"accelerator_type:A100": 1}
    cluster.workers = [
        cluster.add_node(num_cpus=32, num_gpus=GPUS, resources=kind) for _ in range(NODES)
    ]
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def place(cluster):
    place = Cluster(cluster.address)
    yield place
    place.close()


class Watching:
    """A display that keeps what it is told."""

    def __init__(self):
        self.told, self.statuses = [], {}

    def cell(self, cell, status):
        self.told.append((cell.id, "status", status))
        self.statuses[cell.id] = status

    def line(self, cell, row):
        self.told.append((cell.id, row["kind"], row))


def asking(gpus, kind=None, train=None):
    resources = {"gpus": gpus, "accelerator": kind}
    return replace(CELL, resources=resources, **({} if train is None else {"train": train}))


def test_what_the_cluster_has(place):
    assert sorted(node.gpus for node in place.nodes().values()) == [GPUS] * NODES
    assert place.slots(CELL) == 6


@pytest.mark.parametrize(
    ("gpus", "kind", "said"),
    [
        (9, None, "arm grpo wants 9 GPUs at a time, the cluster has 8 x A100, 8 x A100, 8 x A100"),
        (4, "H100", "arm grpo wants 4 x H100 at a time, the cluster has"),
        (25, "A100", "arm grpo wants 25 x A100 at a time"),
    ],
)
def test_what_can_never_run_is_refused_before_anything_is_queued(place, gpus, kind, said):
    assert said in place.impossible(asking(gpus, kind))


def test_a_cell_of_several_nodes_fits_when_openrlhf_spreads_it(place):
    spread = replace(asking(16, "A100"), model="some/model")
    assert place.impossible(spread) is None and place.slots(spread) == 1
    reserved = place.reserve(spread)
    assert sorted(reserved.nodes.values()) == [8, 8]
    reserved.release()


def test_no_schedule_deadlocks_or_holds_more_than_there_is(place):
    """Sixty random schedules of real placement groups, kept for random short times."""
    ray, late = place._ray, 0
    for seed in range(60):
        rng = random.Random(seed)
        kinds = [(size, model) for size in (1, 2, 4, 6, 8, 12, 24) for model in (TABULAR, "llm")]
        kinds = [(size, model) for size, model in kinds if size <= GPUS or model == "llm"]
        cells = []
        for number in range(rng.randint(12, 18)):
            gpus, model = rng.choice(kinds)
            resources = {"gpus": gpus, "accelerator": "A100"}
            cells.append(replace(CELL, seed=number, model=model, resources=resources))
        queue, held, done = Queue(cells), [], 0
        started = time.monotonic()
        while queue or held:
            while taken := queue.take(place.fits, place.slots):
                reserved = place.reserve(taken[0])
                if reserved is None:  # Ray was slow to give something back: the conductor waits too
                    late += 1
                    queue.again(taken[0])
                    break
                held.append(reserved)
                assert all(node.held <= node.gpus for node in place.nodes().values())
            if held:
                held.pop(rng.randrange(len(held))).release()
                done += 1
            else:
                assert late, "nothing runs and nothing fits: a deadlock"
                time.sleep(0.5)
            assert time.monotonic() - started < 120
        assert done == len(cells)
    assert late <= 3, "it fits by our books and not by Ray's"
    assert wait_for(lambda: ray.available_resources().get("GPU") == NODES * GPUS, 90)


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


@pytest.fixture(scope="module")
def story(cluster, place, tmp_path_factory):
    """Twelve cells of 4 GPUs; a node dies as soon as two of its cells have a checkpoint."""
    workspace = Workspace(tmp_path_factory.mktemp("cluster") / "runs.db")
    arms = (("grpo", {}), ("aent", {}), ("clip", {}))
    cells = [
        replace(CELL, arm=name, algorithm=name, settings=settings, seed=seed)
        for seed in range(4)
        for name, settings in arms
    ]
    watching, most = Watching(), []
    ended = threading.Event()

    def look():
        while not ended.wait(0.1):
            most.append(sum(node.held for node in place.nodes().values()))

    def kill_a_node():
        def kept():
            return [c.id for c in cells if (workspace.cell(c.id) / "checkpoint.pickle").exists()]

        full = NODES * GPUS
        while (len(kept()) < 4 or max(most, default=0) < full) and not ended.wait(0.05):
            continue
        cluster.remove_node(cluster.workers.pop(), allow_graceful=False)

    threads = [threading.Thread(target=target) for target in (look, kill_a_node)]
    for thread in threads:
        thread.start()
    try:
        outcomes = conductor.run(cells, workspace, watching, place)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    return workspace, cells, watching, outcomes, max(most)


def query(story, sql):
    with connect(story[0].db) as connection:
        return connection.execute(sql).fetchall()


def test_every_cell_is_finished_in_spite_of_the_dead_node(story):
    assert [outcome.status for outcome in story[3]] == ["finished"] * 12


def test_never_more_than_fits_and_all_that_fits(story):
    assert story[4] == NODES * GPUS


def test_the_dead_node_cost_its_cells_a_resume_and_nothing_else(story):
    lost = query(story, "SELECT run, detail->>'fault' FROM data.events WHERE kind = 'lost'")
    assert {kind for _, kind in lost} == {"node lost"} and 1 <= len(lost) <= 2
    attempts = dict(query(story, "SELECT run, attempts FROM runs"))
    assert {run for run, number in attempts.items() if number > 1} == {run for run, _ in lost}
    assert max(attempts.values()) == 2
    resumed = query(story, "SELECT run FROM data.events WHERE kind = 'resumed'")
    assert {run for (run,) in resumed} <= {run for run, _ in lost}


def test_every_step_is_there_once(story):
    steps = query(story, "SELECT list(step ORDER BY step) FROM traces GROUP BY run, metric")
    wanted = list(range(TRACE_EVERY, ITERATIONS + 1, TRACE_EVERY))
    assert len(steps) > 12 and all(row[0] == wanted for row in steps)


def test_a_resumed_cell_ends_as_an_uninterrupted_one(story, tmp_path):
    """Bit for bit: the table, its optimizer, its generators and the controller are all kept."""
    import algorithms
    from algorithms.lab.trainer import train

    (run,) = query(story, "SELECT run FROM data.events WHERE kind = 'lost' ORDER BY time LIMIT 1")[
        0
    ]
    cell = next(cell for cell in story[1] if cell.id == run)
    settings = {k: v for k, v in cell.train.items() if k != "environment"}
    rows = train(
        algorithms.load(cell.algorithm, **cell.settings),
        Environment(**cell.train["environment"]),
        Training(**settings),
        [cell.seed],
    )
    expected = list(rows)[-1]
    found = dict(
        query(
            story, f"SELECT metric, value FROM traces WHERE run = '{run}' AND step = {ITERATIONS}"
        )
    )
    assert found["entropy"] == expected["entropy"][0]
    assert found["reward"] == expected["reward"][0]


def test_arms_interleave(story):
    """The first cells to start are of all arms, not all of one."""
    started = [run for run, kind, text in story[2].told if (kind, text) == ("status", "running")]
    arms = {cell.id: cell.arm for cell in story[1]}
    assert {arms[run] for run in started[:3]} == {"grpo", "aent", "clip"}


def test_an_orphan_of_a_lost_attempt_cannot_write(story):
    """A worker that is believed dead and is not: its lease has gone to the next attempt."""
    from suite.spool.spool import Fenced, check_lease

    (run,) = query(story, "SELECT run FROM data.events WHERE kind = 'lost' LIMIT 1")[0]
    folder = story[0].cell(run)
    check_lease(folder, 2)
    with pytest.raises(Fenced, match="attempt 2 has taken the place of attempt 1"):
        check_lease(folder, 1)


MATRIX = """\
name: joined
model: arithmetic-tiny
train: {dataset: arithmetic, prompts_per_step: 8, samples_per_prompt: 4, lr: 3.0e-4}
budget: {steps: 2}
arms: {grpo: {}}
evaluate: {benchmarks: [arithmetic], at: [1.0], samples: 2, pass_at: [1], problems: 8}
resources: {gpus: 1}
"""


def test_openrlhf_lives_inside_the_gang_that_was_reserved(
    cluster, place, arithmetic_model, model_cache, tmp_path, repo
):
    """A real cell on the cluster by the command line: no placement group besides ours."""
    (tmp_path / "m.yaml").write_text(MATRIX)
    env = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo)}
    command = [sys.executable, "-m", "suite.cli", "run", "m.yaml", "--address", cluster.address]
    before = {row["placement_group_id"] for row in groups(place)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = [row for row in groups(place) if row["placement_group_id"] not in before]
    assert len(made) == 1 and made[0]["state"] == "REMOVED"
    with connect(tmp_path / "runs.db") as connection:
        (found,) = connection.execute("SELECT status, attempts, steps FROM runs").fetchall()
    assert found == ("finished", 1, 2)
    assert wait_for(
        lambda: place._ray.available_resources().get("GPU") == len(cluster.workers) * GPUS
    )


def groups(place):
    return list(place._ray.util.placement_group_table().values())


def test_where_the_log_of_a_cell_is(story):
    for cell in story[1]:
        assert Path(story[0].cell(cell.id) / "attempt-001.log").exists()

"""Whatever dies, a matrix of real OpenRLHF cells ends complete, every step once, its cost counted.

Workers, policy actors, engines, raylets and conductors are killed with SIGKILL at random moments of
training. A dead conductor is started again with the same command, as its user would; everything
else the conductor has to notice and repair by itself.
"""

import os
import random
import signal
import threading
import time

import psutil
import pytest

from suite.matrix.expand import load_cells
from suite.run.processes import MARK
from suite.spool.spool import attempts, read_from
from suite.store import connect
from suite.workspace import Workspace
from tests.running import marked, suite, traced_steps

pytestmark = pytest.mark.stack

STEPS = 12
MATRIX = f"""\
name: chaos
model: arithmetic-tiny
train:
  dataset: arithmetic
  prompts_per_step: 8
  samples_per_prompt: 4
  optimizer_steps_per_rollout: 4
  lr: 3.0e-4
  checkpoint_every: 2
budget: {{steps: {STEPS}}}
arms:
  aent: {{coefficient: 0.01, beta: 0.01, coefficient_high: 1.0, moves_from: 1}}
  aepo: {{target: 0.6}}
  grpo: {{}}
evaluate: {{benchmarks: [arithmetic], at: [0, 0.5, 1.0], samples: 4, pass_at: [1, 4], problems: 16}}
"""
VICTIMS = {  # name -> what the title of its process begins with, at work or waiting
    "worker": ("suite.worker",),  # OpenRLHF's controller is in it
    "policy": ("ray::PolicyActor", "ray::PolicyModelActor"),
    "engine": ("ray::EngineActor", "ray::RolloutRayActor", "VLLM::EngineCore"),
    "raylet": ("raylet/raylet",),
    "conductor": (),
}
SEED = int(os.environ.get("CHAOS_SEED", "0"))


class Chaos(threading.Thread):
    """Kills each victim once, in random order, a few steps after the start that its kill led to."""

    def __init__(self, folders, conductor):
        super().__init__(daemon=True)
        self.folders, self.conductor = folders, conductor
        self.rng = random.Random(SEED)
        self.waiting = self.rng.sample(list(VICTIMS), len(VICTIMS))
        self.killed = []
        self.over = threading.Event()

    def run(self):
        for begun, victim in enumerate(self.waiting):
            more = self.rng.randint(2, 3)
            if not self.until(lambda begun=begun: self.starts() > begun):
                return
            seen = self.steps()
            if not self.until(lambda wanted=seen + more: self.steps() >= wanted):
                return
            time.sleep(self.rng.uniform(0, 0.4))
            self.killed.append((victim, self.kill(victim)))

    def until(self, condition):
        """Whether it came true before all was over."""
        while not condition():
            if self.over.wait(0.1):
                return False
        return True

    def starts(self):
        """How often the stack was started."""
        files = [path for folder in self.folders for _, path in attempts(folder)]
        return sum(row["kind"] == "preparing" for path in files for row in read_from(path, 0)[0])

    def steps(self):
        return sum(len(traced_steps(folder)) for folder in self.folders)

    def kill(self, victim):
        """How many processes it was."""
        if victim == "conductor":
            self.conductor().kill()
            return 1
        found = {p for folder in self.folders for p in marked(folder)}
        dead = 0
        for process in found:
            try:
                title = " ".join(process.cmdline())
                if any(name in title for name in VICTIMS[victim]):
                    process.send_signal(signal.SIGKILL)
                    dead += 1
            except psutil.Error:
                continue
        return dead


@pytest.fixture(scope="module")
def story(arithmetic_model, model_cache, tmp_path_factory, repo):
    folder = tmp_path_factory.mktemp("chaos")
    (folder / "chaos.yaml").write_text(MATRIX)
    env = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo)}
    env.pop(MARK, None)
    workspace = Workspace(folder / "runs.db")
    folders = [workspace.cell(cell.id) for cell in load_cells(folder / "chaos.yaml")]
    conductor = suite(["run", "chaos.yaml"], folder, env)
    chaos = Chaos(folders, lambda: conductor)
    chaos.start()
    output = conductor.communicate(timeout=900)[0]
    starts = 1
    while conductor.returncode == -signal.SIGKILL and starts < 5:
        conductor = suite(["run", "chaos.yaml"], folder, env)
        starts += 1
        output += conductor.communicate(timeout=900)[0]
    chaos.over.set()
    chaos.join()
    print(output)
    return workspace, folders, chaos.killed, conductor.returncode, output


def query(story, sql):
    with connect(story[0].db) as connection:
        return connection.execute(sql).fetchall()


def test_everything_was_killed_once(story):
    assert sorted(victim for victim, _ in story[2]) == sorted(VICTIMS)
    assert all(number > 0 for _, number in story[2]), story[2]


def test_every_cell_is_finished(story):
    assert story[3] == 0, story[4]
    assert query(story, "SELECT DISTINCT status, steps FROM runs") == [("finished", STEPS)]


def test_every_step_of_every_run_is_there_exactly_once(story):
    found = query(
        story,
        """SELECT list(step ORDER BY step) FROM traces
            WHERE metric IN ('reward', 'gpu_hours', 'seconds/update') GROUP BY run, metric""",
    )
    assert len(found) == 9 and all(steps == list(range(1, STEPS + 1)) for (steps,) in found)


def test_every_evaluation_is_there_exactly_once(story):
    found = query(
        story, "SELECT run, step, problem, sum(n) FROM data.batches GROUP BY ALL HAVING sum(n) <> 4"
    )
    assert found == []
    assert query(story, "SELECT count(*) FROM data.batches") == [(3 * 3 * 16,)]


def test_cost_is_the_sum_of_the_recorded_phases(story):
    found = query(
        story,
        """SELECT sum(value) FILTER (metric LIKE 'seconds/%') / 3600,
                  max(value) FILTER (metric = 'gpu_hours') FROM traces GROUP BY run""",
    )
    for phases, total in found:
        assert phases == pytest.approx(total, rel=1e-9)


def test_no_cell_is_more_than_a_step_over_its_budget(story):
    assert query(story, "SELECT max(value) FROM traces WHERE metric = 'budget_fraction'") == [
        (1.0,)
    ]


def test_what_was_lost_is_said_and_what_was_the_conductor_is_not(story):
    """Each victim but the conductor is one attempt lost to the infrastructure, told apart."""
    lost = [
        row[0]
        for row in query(story, "SELECT detail->>'fault' FROM data.events WHERE kind = 'lost'")
    ]
    assert len(lost) == len(VICTIMS) - 1, lost


def test_nothing_is_left_running(story):
    assert [p for folder in story[1] for p in marked(folder)] == []
    assert [
        n for folder in story[1] for n, path in attempts(folder) if not read_from(path, 0)[0]
    ] == []

"""Cells that share a stack, cells that are killed, cells that resume: nothing shows in the numbers.

Three starts of the production stack, AEnt's controller and AEPO's second rollouts in each:

    fresh     aent to the end, then aepo, killed while its last checkpoint is half written
    mirrored  aepo to the end, then aent, killed before its last update; its last checkpoint is torn
    resumed   aepo and aent where those two left them, to the end; then a third cell, whose lease
              goes to a later attempt while it writes a checkpoint

The first cell of a start finds the stack as a process of its own would. The kills are SIGKILLs.
"""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from algorithms.openrlhf import checkpoints
from suite.matrix.expand import load_cells
from suite.spool.spool import attempts, read_from
from suite.workspace import Workspace

STEPS = 6
MATRIX = f"""\
name: resume
model: arithmetic-tiny
train:
  dataset: arithmetic
  prompts_per_step: 8
  samples_per_prompt: 4
  optimizer_steps_per_rollout: 4
  max_prompt_tokens: 48
  max_new_tokens: 40
  lr: 5.0e-4
  checkpoint_every: 2
budget: {{steps: {STEPS}}}
seeds: [0, 1]
arms:
  aent: {{coefficient: 0.01, beta: 0.002, coefficient_high: 1.0, moves_from: 1}}
  aepo: {{positives_up: 6, positives_down: 3, target: 2.0}}
evaluate:
  {{benchmarks: [arithmetic], at: [0, 0.5, 1.0], samples: 4, pass_at: [1], problems: 16,
   probe_prompts: 16}}
"""
ARMS = {"aent": 0, "aepo": 1}  # the seed of each
FENCED = "fenced aent"  # with seed 1
RESUMED_FROM = {"aent": 3, "aepo": 4}
OF_TIME = ("time", "attempt", "gpu_hours", "held_gpu_hours", "lost_gpu_hours", "attempt_seconds")


@dataclass
class Start:
    """A workspace after one start of the stack in it."""

    workspace: Workspace
    cells: dict

    def folder(self, arm: str) -> Path:
        return self.workspace.cell(self.cells[arm].id)

    def lines(self, arm: str, kind: str) -> list[dict]:
        """Of the arm's last attempt."""
        return [row for row in self.attempt(arm, -1) if row["kind"] == kind]

    def attempt(self, arm: str, which: int) -> list[dict]:
        return read_from(attempts(self.folder(arm))[which][1], 0)[0]


class Starter:
    """Starts the stack in a folder of its own, with cells of one matrix."""

    def __init__(self, root, environment):
        self.root, self.environment = root, environment
        (root / "m.yaml").write_text(MATRIX)
        cells = load_cells(root / "m.yaml")
        self.cells = {c.arm: c for c in cells if ARMS[c.arm] == c.seed}
        (self.cells[FENCED],) = [c for c in cells if (c.arm, c.seed) == ("aent", 1)]

    def start(self, name, wanted, kill, code=-signal.SIGKILL):
        """`wanted` maps arms, in order, to attempts; `kill` is (arm, step, point)."""
        start = Start(Workspace(self.root / f"{name}.db"), self.cells)
        for arm in wanted:
            start.folder(arm).mkdir(parents=True, exist_ok=True)
            self.cells[arm].save(start.folder(arm) / "cell.json")
        words = [f"{self.cells[arm].id}:{attempt}" for arm, attempt in wanted.items()]
        arm, *where = kill
        words += ["--kill", ":".join([self.cells[arm].id, *map(str, where)])]
        log = self.root / f"{name}.log"
        with log.open("wb") as output:
            ended = subprocess.run(
                [
                    sys.executable,
                    Path(__file__).with_name("resume_probe.py"),
                    start.workspace.db,
                    *words,
                ],
                stdout=output,
                stderr=output,
                env=self.environment,
                check=False,
            ).returncode
        assert ended == code, log.read_text()[-4000:]
        return start


@dataclass
class Story:
    """The three starts, and what the third one found."""

    fresh: Start
    mirrored: Start
    resumed: Start
    left: dict

    def reference(self, arm: str) -> Start:
        """Where the arm was trained to the end as the first of its process."""
        return {"aent": self.fresh, "aepo": self.mirrored}[arm]

    def second(self, arm: str) -> Start:
        """Where it was trained after the other, until it was killed."""
        return {"aent": self.mirrored, "aepo": self.fresh}[arm]


@pytest.fixture(scope="module")
def story(arithmetic_model, model_cache, tmp_path_factory, repo):
    root = tmp_path_factory.mktemp("resume")
    environment = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo)}
    starter = Starter(root, environment)
    fresh = starter.start("fresh", {"aent": 1, "aepo": 1}, kill=("aepo", STEPS, "saving"))
    mirrored = starter.start("mirrored", {"aepo": 1, "aent": 1}, kill=("aent", STEPS, "updating"))
    shutil.copytree(mirrored.workspace.root, root / "resumed")
    again = Start(Workspace(root / "resumed.db"), starter.cells)
    shutil.rmtree(again.folder("aepo"))
    shutil.copytree(fresh.folder("aepo"), again.folder("aepo"))
    tear(again.folder("aent") / "checkpoints" / checkpoints.name_of(4))
    left = {arm: names(again.folder(arm) / "checkpoints") for arm in ARMS}
    wanted = {"aepo": 2, "aent": 2, FENCED: 1}
    resumed = starter.start("resumed", wanted, kill=(FENCED, 4, "fenced"), code=1)
    return Story(fresh, mirrored, resumed, left)


def tear(folder):
    """Half of the optimizer's file is gone."""
    (file,) = folder.glob("*optim_states.pt")
    os.truncate(file, file.stat().st_size // 2)


def names(folder):
    return sorted(path.name for path in folder.glob("step_*"))


def numbers(rows):
    """What a trace says besides times."""
    return [
        {k: v for k, v in row.items() if k not in OF_TIME and not k.startswith("seconds/")}
        for row in rows
    ]


# The real stack ----------------------------------------------------------------------------


@pytest.mark.stack
@pytest.mark.parametrize("arm", ARMS)
def test_the_second_cell_of_a_stack_equals_the_first_of_a_fresh_one(story, arm):
    """Bit for bit: weights, optimizer, caches and random numbers are set back between cells."""
    alone = numbers(story.reference(arm).lines(arm, "trace"))
    second = numbers(story.second(arm).lines(arm, "trace"))
    assert len(alone) == STEPS and len(second) >= STEPS - 1
    assert {"reward", "entropy", "gradient_norm", "policy_loss", "kl_old"} <= set(alone[0])
    assert second == alone[: len(second)]


@pytest.mark.stack
@pytest.mark.parametrize("arm", ARMS)
def test_a_resumed_cell_equals_one_that_was_never_stopped(story, arm):
    """Bit for bit: traces, the algorithm's state in them, verdicts, probe and final weights."""
    never = story.reference(arm)
    expected = numbers(never.lines(arm, "trace"))
    begun = RESUMED_FROM[arm]
    assert numbers(story.resumed.lines(arm, "trace")) == expected[begun:]
    for kind, what in (("eval", "verdicts"), ("probe", "values")):
        found, wanted = (
            [row[what] for row in start.lines(arm, kind) if row["step"] == STEPS]
            for start in (story.resumed, never)
        )
        assert found == wanted and found
    weights = [s.folder(arm) / "policy" / "model.safetensors" for s in (story.resumed, never)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.stack
def test_both_algorithms_were_at_work(story):
    """AEnt's coefficient moved at every step; AEPO trained on samples of its second rollout."""
    aent = [row["state/coefficient"] for row in story.fresh.lines("aent", "trace")]
    assert len(set(aent)) == STEPS
    assert sum(row["extra/trained"] for row in story.mirrored.lines("aepo", "trace")) > 0


@pytest.mark.stack
def test_the_kills_left_what_they_should(story):
    """aepo a third checkpoint half written; aent one that was whole before it was torn."""
    first, second, third = story.left["aepo"]
    assert (first, second) == ("step_000003", "step_000004")
    assert third.startswith("step_000006.") and third.endswith(".partial")
    assert story.left["aent"] == ["step_000003", "step_000004"]


@pytest.mark.stack
@pytest.mark.parametrize("arm", ARMS)
def test_it_resumed_from_the_newest_whole_checkpoint(story, arm):
    (resumed,) = story.resumed.lines(arm, "resumed")
    assert resumed["from_step"] == RESUMED_FROM[arm]
    warnings = [row["text"] for row in story.resumed.lines(arm, "warning")]
    torn = [text for text in warnings if "torn" in text]
    assert torn == {"aepo": [], "aent": ["the checkpoint of step 4 is torn: passed over"]}[arm]


@pytest.mark.stack
@pytest.mark.parametrize("arm", ARMS)
def test_the_evaluated_checkpoints_and_the_last_are_kept(story, arm):
    folder = story.resumed.folder(arm)
    kept = ["step_000003", "step_000006"]
    assert names(folder / "checkpoints") == names(folder / "policies") == kept


@pytest.mark.stack
@pytest.mark.parametrize("arm", ARMS)
def test_the_ledger_knows_where_every_second_went(story, arm):
    """Earlier attempts and this one, charged or not, lost or not; nothing twice."""
    (finished,) = story.resumed.lines(arm, "finished")
    seconds = finished["seconds"]
    killed = story.resumed.attempt(arm, 0)[-1]["attempt_seconds"]
    held = killed + finished["attempt_seconds"]
    assert sum(seconds.values()) == pytest.approx(held, abs=0.5)  # of a phase there is more
    assert finished["held_gpu_hours"] == pytest.approx(held / 3600, abs=0.5 / 3600)
    charged = ("generation", "reward", "experience", "extra_generation", "update", "sync")
    cost = sum(seconds.get(name, 0.0) for name in charged)
    assert finished["gpu_hours"] == pytest.approx(cost / 3600)
    steps = [row for row in story.resumed.attempt(arm, 0) if row["kind"] == "trace"]
    again = [row["seconds/update"] for row in steps if row["step"] > RESUMED_FROM[arm]]
    assert seconds["lost"] > sum(again) > 0
    assert seconds["start_up"] > 0 and seconds["evaluation"] > 0 and seconds["idle"] > 0


@pytest.mark.stack
def test_an_attempt_that_lost_its_lease_leaves_no_checkpoint(story):
    """It had written step 4 whole when the lease went; it stopped and said nothing more."""
    found = names(story.resumed.folder(FENCED) / "checkpoints")
    assert found[0] == "step_000003"
    assert [name.split(".")[0] for name in found[1:]] == ["step_000004"]
    assert found[1].endswith(".partial")
    rows = story.resumed.attempt(FENCED, -1)
    assert max(row["step"] for row in rows if row["kind"] == "trace") == 4
    assert not {"failed", "done"} & {row["kind"] for row in rows}
    log = (story.resumed.workspace.root.parent / "resumed.log").read_text()
    assert "attempt 99 has taken the place of attempt 1" in log


@pytest.mark.stack
def test_the_first_cell_of_a_start_has_its_start_up(story):
    """Ray, DeepSpeed and vLLM take seconds to come up; the second cell finds them running."""
    fresh = {arm: story.fresh.lines(arm, "evaluated")[0] for arm in ARMS}
    assert fresh["aent"]["held_gpu_hours"] * 3600 > 5
    assert fresh["aepo"]["held_gpu_hours"] < fresh["aent"]["held_gpu_hours"] / 2


@pytest.mark.stack
@pytest.mark.parametrize("arm", ARMS)
def test_optimizer_steps_are_those_that_deepspeed_took(story, arm):
    import torch

    (finished,) = story.resumed.lines(arm, "finished")
    path = story.resumed.folder(arm) / "checkpoints" / checkpoints.name_of(STEPS)
    saved = torch.load(path / "mp_rank_00_model_states.pt", weights_only=False)
    assert finished["optimizer_steps"] == saved["global_steps"] == 4 * STEPS
    assert saved["own"]["ledger"]["counts"]["optimizer_steps"] == 4 * STEPS


@pytest.mark.stack
@pytest.mark.parametrize("how", ["gone", "empty", "half", "a byte short"])
def test_a_checkpoint_of_deepspeed_that_lacks_anything_is_passed_over(story, tmp_path, how):
    source = story.resumed.folder("aent") / "checkpoints"
    for file in sorted((source / checkpoints.name_of(STEPS)).iterdir()):
        folder = tmp_path / file.name
        shutil.copytree(source, folder)
        assert checkpoints.latest(folder) == folder / checkpoints.name_of(STEPS)
        torn, size = folder / checkpoints.name_of(STEPS) / file.name, file.stat().st_size
        if how == "gone":
            torn.unlink()
        else:
            os.truncate(torn, {"empty": 0, "half": size // 2, "a byte short": size - 1}[how])
        assert checkpoints.latest(folder) == folder / checkpoints.name_of(3)


# Kills at every point ----------------------------------------------------------------------


def killed_after(events, act):
    """Run `act` in a child that kills itself at its n-th change to the disk; False: it survived."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = [events]

    def count(event, arguments):
        changes = event in ("os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")
        if changes or (event == "open" and "w" in str(arguments[1])):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(count)
    act()
    os._exit(0)


def written(folder, step):
    """A checkpoint as it is before it counts: every file there, under another name."""
    path = folder / checkpoints.unfinished_name(step)
    path.mkdir(parents=True)
    for name in ("model_states.pt", "optim_states.pt"):
        (path / name).write_bytes(os.urandom(100 + step))
    return path


def test_a_kill_at_any_point_leaves_a_whole_checkpoint(tmp_path):
    """Killed before its n-th change to the disk, for every n: the old one or the new one counts."""
    events, survived = 0, False
    while not survived:
        folder = tmp_path / str(events)
        checkpoints.commit(written(folder, 2), 2, keep=True)
        checkpoints.commit(written(folder, 4), 4, keep=False)
        new = written(folder, 6)

        def save(folder=folder, new=new):
            checkpoints.commit(new, 6, keep=False)
            checkpoints.prune(folder)

        survived = not killed_after(events, save)
        found = checkpoints.step_of(checkpoints.latest(folder))
        assert found in (4, 6), f"killed before change {events}"
        assert checkpoints.kept(folder / "step_000002") is True
        checkpoints.prune(folder)
        assert names(folder) == ["step_000002", checkpoints.name_of(found)]
        events += 1
    assert events > 5 and found == 6


def test_the_checkpoint_of_another_attempt_at_the_same_step_is_replaced(tmp_path):
    for content in (b"old", b"new"):
        path = written(tmp_path, 4)
        (path / "model_states.pt").write_bytes(content)
        checkpoints.commit(path, 4, keep=False)
    assert names(tmp_path) == ["step_000004"]
    assert (checkpoints.latest(tmp_path) / "model_states.pt").read_bytes() == b"new"


def test_without_any_checkpoint_there_is_no_latest(tmp_path):
    assert checkpoints.latest(tmp_path / "missing") is None
    written(tmp_path, 2)
    assert checkpoints.latest(tmp_path) is None


def test_more_than_a_million_steps_keep_their_order(tmp_path):
    for step in (999_999, 1_000_000):
        checkpoints.commit(written(tmp_path, step), step, keep=True)
    assert checkpoints.step_of(checkpoints.latest(tmp_path)) == 1_000_000

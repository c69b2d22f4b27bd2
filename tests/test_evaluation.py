"""`suite eval` on the real vLLM: killed, resumed, extended, on one engine or two; nothing twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import prompts
from suite.matrix import checkpoint
from suite.matrix.checkpoint import Prompting
from suite.matrix.expand import load_cells
from suite.spool import responses
from suite.store import connect
from suite.worker.evaluate import drawn
from suite.workspace import Workspace

PROBLEMS, SAMPLES = 30, 1024


def options(workspace, name="arithmetic-tiny", **changed):
    given = {
        "benchmarks": ["arithmetic"],
        "pass_at": "1,8",
        "preset": "",
        "sampling": {"samples": 16},
        "prompting": Prompting(),
        "seed": 0,
        "resources": {"gpus": 1, "engines": 1},
    }
    return checkpoint.from_options(name, workspace, **given | changed)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs.db")


def test_presets_are_the_papers_and_can_be_overridden(workspace):
    aent = options(workspace, preset="aent", sampling={}).evaluate
    assert [aent[k] for k in ("temperature", "top_p", "top_k", "samples")] == [0.6, 0.95, 20, 4]
    mine = options(workspace, preset="clip", sampling={"top_p": 0.9}).evaluate
    assert (mine["temperature"], mine["top_p"], mine["samples"]) == (0.6, 0.9, 64)


def test_more_samples_are_the_same_evaluation_and_other_sampling_another(workspace):
    one = options(workspace)
    assert one.id == options(workspace, sampling={"samples": 99, "problems": 3}, pass_at="1").id
    assert one.id != options(workspace, sampling={"temperature": 0.5}).id
    assert one.id != options(workspace, seed=1).id


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "no/such/model"}, "unknown model"),
        ({"name": "0123456789ab"}, "has kept no policy"),
        ({"benchmarks": ["arithmetics"]}, "did you mean 'arithmetic'"),
        ({"preset": "aepo"}, "unknown preset 'aepo': did you mean 'aepo-pass"),
        ({"pass_at": "32"}, "pass@32 needs at least 32 samples, there are 16"),
        ({"pass_at": "one"}, "whole numbers with commas"),
        ({"pass_at": "0,1"}, "k is at least 1"),
        ({"benchmarks": ["arithmetic", "arithmetic"]}, "one of them twice"),
        ({"sampling": {"top_p": 0.0}}, "--top-p is above 0"),
        ({"sampling": {"temperature": 0.0}}, "temperature 0 always gives the same answer"),
        ({"prompting": Prompting(template="Solve")}, "unknown prompt template 'Solve'"),
        (
            {"sampling": {"samples": 16, "max_new_tokens": 81}},
            "a prompt of 48 and a response of 81 tokens exceed the context of arithmetic-tiny, 128",
        ),
        (
            {"prompting": Prompting(max_prompt_tokens=100)},
            "a prompt of 100 and a response of 40 tokens exceed the context",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(workspace, changed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        options(workspace, **changed)


def test_a_step_of_a_run_is_a_model(workspace):
    run = "0123456789ab"
    for step in (10, 200):
        folder = workspace.cell(run) / "policies" / f"step_{step:06d}"
        folder.mkdir(parents=True)
    assert checkpoint.resolve(run, workspace) == (str(folder), f"{run}@200")
    assert checkpoint.resolve(f"{run}@10", workspace)[0].endswith("step_000010")
    with pytest.raises(ValueError, match=r"no policy of step 7; there are: \[10, 200\]"):
        checkpoint.resolve(f"{run}@7", workspace)


def test_lengths_may_fill_the_context_and_are_bounded_only_where_it_is_known(workspace, tmp_path):
    longest = {"samples": 16, "max_new_tokens": 80}  # and prompts of 48, in a context of 128
    assert options(workspace, sampling=longest).evaluate["max_new_tokens"] == 80
    for context, fits in ((5120, True), (5119, False), (None, True)):
        config = {} if context is None else {"max_position_embeddings": context}
        (tmp_path / "config.json").write_text(json.dumps(config))
        if fits:
            found = options(workspace, str(tmp_path))
            assert found.evaluate["max_new_tokens"] == 4096
            assert found.train["max_prompt_tokens"] == 1024
        else:
            with pytest.raises(ValueError, match=r"exceed the context of .*, 5119 tokens"):
                options(workspace, str(tmp_path))


def test_a_run_knows_what_it_was_trained_on_while_it_is_what_it_was(workspace, tmp_path):
    (tmp_path / "train.jsonl").write_text('{"problem": "1+1="}\n')
    (tmp_path / "m.yaml").write_text(
        "name: m\nmodel: arithmetic-tiny\nbudget: {steps: 4}\narms: {grpo: {}}\n"
        "train: {dataset: train.jsonl, prompt_template: boxed, max_new_tokens: 8}\n"
    )
    (run,) = load_cells(tmp_path / "m.yaml")
    (workspace.cell(run.id) / "policies" / "step_000004").mkdir(parents=True)
    (workspace.cell(run.id) / "policies" / "step_000004" / "config.json").write_text("{}")
    run.save(workspace.cell(run.id) / "cell.json")

    def known(name, given=""):
        asked = options(workspace, name)
        found = checkpoint.trained_on(asked, name, given, workspace)
        assert found.id == asked.id
        return found.train["dataset"]

    mine = str(tmp_path / "train.jsonl")
    assert known(run.id) == known(f"{run.id}@4") == mine
    assert known(run.id, "arithmetic") == "arithmetic", "what is given comes first"
    assert known("arithmetic-tiny") == "" and known("arithmetic-tiny", mine) == mine
    (tmp_path / "train.jsonl").write_text('{"problem": "1+2="}\n')
    assert known(run.id) == "", "it was trained on something else"
    (tmp_path / "train.jsonl").unlink()
    assert known(run.id) == ""
    as_trained = options(workspace, run.id).train["prompt_template"]
    assert as_trained == run.train["prompt_template"] == prompts.template("boxed")
    otherwise = options(workspace, run.id, prompting=Prompting(template="none"))
    assert otherwise.train["prompt_template"] is None
    with pytest.raises(ValueError, match=r"--train-data: no data set at .*train\.jsonl"):
        known(run.id, "train.jsonl")
    with pytest.raises(ValueError, match="--train-data: unknown data set 'aritmetic': did you"):
        known("arithmetic-tiny", "aritmetic")


# On the real engine ------------------------------------------------------------------------


def suite_eval(folder, samples, env, *more, engines=1):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "suite.cli", "eval", "arithmetic-tiny"),
            *("--engines", str(engines)),
            *("--benchmarks", "arithmetic", "--problems", str(PROBLEMS)),
            *("--samples", str(samples), "--pass-at", f"1,8,64,{SAMPLES}", *more),
        ],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def story(arithmetic_model, model_cache, tmp_path_factory, repo):
    """64 samples, then 1024 of which a kill loses the conductor, then 1024 again."""
    folder = tmp_path_factory.mktemp("eval")
    env = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo)}
    outputs = []
    first = suite_eval(folder, 64, env)
    outputs.append(first.communicate()[0])
    assert first.returncode == 0, outputs
    (cell,) = (folder / "runs" / "cells").iterdir()
    conductor = suite_eval(folder, SAMPLES, env, engines=2)
    deadline = time.monotonic() + 300
    while len(drawn(cell)) < PROBLEMS + 70:
        assert conductor.poll() is None and time.monotonic() < deadline, conductor.stdout.read()
        time.sleep(0.05)
    conductor.send_signal(signal.SIGKILL)
    conductor.wait()
    time.sleep(1)  # the worker dies with it
    at_kill = drawn(cell)
    last = suite_eval(folder, SAMPLES, env)
    outputs.append(last.communicate()[0])
    assert last.returncode == 0, outputs
    return Path(folder / "runs.db"), cell, at_kill, outputs


def query(story, sql):
    with connect(story[0]) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.stack
def test_killed_and_resumed_it_has_every_sample_once(story):
    _, cell, at_kill, _ = story
    assert PROBLEMS + 70 <= len(at_kill) < PROBLEMS * SAMPLES // 64
    assert drawn(cell).keys() > at_kill.keys()
    counted = query(story, "SELECT count(*), min(n), max(n), sum(correct) FROM evals")
    assert counted[0][:3] == (PROBLEMS, SAMPLES, SAMPLES)
    per_run = query(
        story,
        """SELECT count(*), count(DISTINCT (problem, seed + i)),
                  count(DISTINCT (problem, first + i))
             FROM data.batches, range(n) t(i)""",
    )
    assert per_run == [(PROBLEMS * SAMPLES,) * 3]


@pytest.mark.stack
def test_what_existed_was_not_drawn_again(story):
    again = query(
        story,
        """SELECT count(*) FROM data.batches b JOIN data.spool s USING (run)
            WHERE b.attempt = 1 AND s.attempt = 1""",
    )
    assert again == [(PROBLEMS,)]  # the first 64 of each problem are still the first attempt's


@pytest.mark.stack
def test_responses_are_kept_and_are_what_was_graded(story):
    kept = list(responses.read_responses(story[1]))
    assert sum(len(row["texts"]) for row in kept) == PROBLEMS * SAMPLES
    longest = query(story, "SELECT min(len(answers)), max(n) FROM data.batches")
    assert longest == [(64, 64)]


@pytest.mark.stack
def test_scores_come_with_intervals_and_what_to_know_about_them(story):
    output = story[3][-1]
    for text in ("pass@1024", "pass@64", "maj@n", "truncated", "no answer", "30720"):
        assert text in output.replace("\n", " ")
    scores = query(story, "SELECT k, score, low, high FROM data.scores ORDER BY k")
    assert [k for k, *_ in scores] == [1, 8, 64, 1024]
    assert all(low <= score <= high for _, score, low, high in scores)
    assert 0.25 < scores[0][1] < 0.45


@pytest.mark.stack
def test_a_k_beyond_the_samples_is_estimated_and_says_so(story):
    output = " ".join(story[3][0].split())  # a narrow terminal breaks lines
    assert "pass@1024 ≈" in output and "estimated from 64 samples" in output
    assert "≈" not in story[3][-1]


@pytest.mark.stack
def test_a_finished_evaluation_prints_at_once(story, model_cache, repo):
    env = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo)}
    again = suite_eval(story[0].parent, SAMPLES, env)
    output, _ = again.communicate()
    assert again.returncode == 0 and "sampling" not in output and "pass@64" in output


@pytest.mark.stack
def test_the_training_set_named_afterwards_is_checked_without_drawing(story, model_cache, repo):
    assert all("not checked: unknown for this model" in output for output in story[3])
    env = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo)}
    before = query(story, "SELECT count(*), max(attempt) FROM data.batches")
    again = suite_eval(story[0].parent, SAMPLES, env, "--train-data", "arithmetic", "--more")
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert f"0 of {PROBLEMS} problems of arithmetic occur in the training prompts" in output
    assert "not checked" not in output and "pass^64" in output and "maj@64" in output
    assert query(story, "SELECT count(*), max(attempt) FROM data.batches") == before
    overlap = query(story, "SELECT benchmark, problems, overlapping FROM benchmarks")
    assert overlap == [("arithmetic", PROBLEMS, 0)]


@pytest.mark.stack
def test_a_database_of_evaluations_has_a_report(story, repo):
    def report(*arguments):
        ran = subprocess.run(
            [sys.executable, "-m", "suite.cli", "report", *arguments],
            cwd=story[0].parent,
            env=os.environ | {"PYTHONPATH": str(repo)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    run = story[1].name
    assert run in report() and run in report("eval")
    assert "maj@n" in report(run) and "pass^64" in report(run, "--more")

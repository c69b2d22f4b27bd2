"""The tutorial and the page on adding an algorithm, followed to the letter in clean folders.

Files and commands are read from the pages. The clone is a copy of what is tested, so that the new
algorithm's file and line go into it as the page says; the study lies elsewhere, as a user's would.
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from suite.matrix.expand import load_cells
from suite.run.processes import MARK
from suite.store import connect
from tests.browsing import Visitor, dashboard

BLOCK = re.compile(r"(?:`([\w./-]+)`[^`\n]*:\n\n)?```(\w*)\n(.*?)```", re.DOTALL)
SET_UP = ("make setup\n", ". .venv/bin/activate\n")  # what these tests run in was made so
STAYS = "suite dashboard\n"
ARMS = ("grpo", "entreg", "clip-higher", "raft")
TABLE_FILE, TABLE = "algorithms/__init__.py", "ALGORITHMS: dict[str, str] = {\n"


@dataclass
class Place:
    """A clone, a folder beside it, and what each block of commands printed, in order."""

    clone: Path
    study: Path
    env: dict
    said: list = field(default_factory=list)

    def follow(self, page):
        """Write each file that the page names before a block, run each block of commands."""
        for name, language, text in blocks(page):
            if language == "sh":
                self.say(text)
            elif name == TABLE_FILE:  # a line of it
                table = (self.clone / name).read_text()
                assert table.count(TABLE) == 1 and text.count("\n") == 1
                (self.clone / name).write_text(table.replace(TABLE, TABLE + text))
            elif name:
                ((self.clone if "/" in name else self.study) / name).write_text(text)

    def say(self, text):
        """One block; what stays (the dashboard) is opened in a browser by its own test."""
        text = "".join(line for line in text.splitlines(keepends=True) if line not in SET_UP)
        if text == STAYS:
            return
        ran = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=self.study,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{text}\n{ran.stdout}"
        self.said.append((text, ran.stdout))

    def outputs(self, command):
        """What each block that has this command printed."""
        return [output for text, output in self.said if f"{command}\n" in text]


def blocks(page):
    """(file name or "", language, text) of each fenced block."""
    return BLOCK.findall(page.read_text())


def newcomer(repo, folder, model_cache):
    """A copy of the code, and an empty folder of one's own beside it."""
    clone, study = folder / "clone", folder / "study"
    study.mkdir()
    for name in ("suite", "algorithms", "benchmarks", "dashboard"):
        shutil.copytree(repo / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PATH": path, "PYTHONPATH": str(clone), "COLUMNS": "160"}
    env |= {"SUITE_CACHE": str(model_cache), "OMP_NUM_THREADS": "1"}
    env.pop(MARK, None)
    return Place(clone, study, env)


@pytest.fixture(scope="module")
def place(arithmetic_model, model_cache, tmp_path_factory, repo):
    place = newcomer(repo, tmp_path_factory.mktemp("newcomer"), model_cache)
    place.follow(repo / "docs" / "tutorial.md")
    place.follow(repo / "docs" / "add-an-algorithm.md")
    return place


def test_the_set_up_is_a_target_of_the_makefile(repo):
    first = next(
        text for _, language, text in blocks(repo / "docs/tutorial.md") if language == "sh"
    )
    assert tuple(first.splitlines(keepends=True)[:2]) == SET_UP
    assert re.search(r"^setup:", (repo / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.stack
def test_every_arm_of_the_pages_was_trained_once_at_equal_cost(place):
    with connect(place.study / "runs.db") as connection:
        runs = connection.execute(
            "SELECT arm, status, attempts, gpu_hours FROM runs ORDER BY arm"
        ).fetchall()
    assert [row[:3] for row in runs] == [(arm, "finished", 1) for arm in sorted(ARMS)]
    assert all(0.004 <= cost < 0.006 for *_, cost in runs)


@pytest.mark.stack
def test_only_what_was_added_ran_again(place):
    trained = [
        set(re.findall(r"(\S+) \(seed 0\)  training", output))
        for output in place.outputs("suite run first.yaml")
    ]
    assert trained == [{"grpo", "entreg"}, {"clip-higher"}, {"raft"}]


@pytest.mark.stack
def test_the_plans_show_what_there_is(place):
    before, after = place.outputs("suite plan first.yaml")
    assert "entreg" in before and "raft" not in before
    assert "raft" in after and "suite.worker.by_hand --suite.algorithm raft" in after


@pytest.mark.stack
def test_the_new_algorithm_is_what_the_page_says(place, repo):
    blocks_of_page = blocks(repo / "docs" / "add-an-algorithm.md")
    (printed,) = [text for _, language, text in blocks_of_page if not language]
    (output,) = [output for text, output in place.said if "algorithms.load('raft')" in text]
    assert output == printed
    (file,) = [text for name, *_, text in blocks_of_page if name == "algorithms/raft.py"]
    assert len([line for line in file.splitlines() if line.strip()]) <= 36


@pytest.mark.stack
def test_the_report_and_the_costs_have_every_arm(place):
    first, *_, last = place.outputs("suite report first")
    assert "raft" not in first and all(arm in last for arm in ARMS)
    (tutorial,) = place.outputs("suite report first --cost")
    assert "grpo" in tutorial and "entreg" in tutorial


@pytest.mark.stack
def test_the_machine_is_found_in_order_and_sql_answers(place):
    (doctor,) = place.outputs("suite doctor")
    assert doctor.endswith("nothing is wrong\n")
    (answer,) = [answer for asked, answer in place.said if "% 10 = 0" in asked]
    printed = answer.split("┃ step ┃")[-1]  # behind what the reports before it said
    rows = re.findall(r"│ +(\d+) +│ ([a-z]+) +│ +([\d.]+) +│", printed)
    assert {arm for _, arm, _ in rows} == {"grpo", "entreg"}
    assert {int(step) % 10 for step, *_ in rows} == {0}
    assert all(0 < float(entropy) < math.log(44) for *_, entropy in rows)  # 44 tokens


@pytest.mark.stack
def test_the_dashboard_shows_the_new_algorithm(place, repo, browser):
    assert ("", "sh", STAYS) in blocks(repo / "docs" / "tutorial.md")
    log = place.study / "dashboard.log"
    with dashboard(place.study / "runs.db", log, place.env) as address:
        visitor = Visitor(browser, address)
        for view in ("", "compare", "entropy", "cost"):
            assert "raft" in visitor.open(view).text(), view
        assert visitor.complaints == [] and visitor.exceptions() == []


def test_the_page_on_benchmarks_does_what_it_says(tmp_path, model_cache, repo):
    place = newcomer(repo, tmp_path, model_cache)
    place.follow(repo / "docs" / "add-a-benchmark.md")
    (_, unreadable), (_, digest) = place.said
    assert unreadable == ""
    assert re.fullmatch(r"2 [0-9a-f]{64}\n", digest)
    bad = {"id": "c", "problem": "?", "answer": r"\frac{"}
    with (place.study / "mine.jsonl").open("a") as lines:
        lines.write(json.dumps(bad) + "\n")
    place.say(place.said[0][0])
    assert place.said[-1][1] == "unparsed \\frac{\n"


def test_a_file_of_problems_is_a_benchmark_of_a_matrix(tmp_path, repo):
    pages = {name: blocks(repo / "docs" / f"{name}.md") for name in ("tutorial", "add-a-benchmark")}
    (problems,) = [text for name, _, text in pages["add-a-benchmark"] if name == "mine.jsonl"]
    (part,) = [text for _, language, text in pages["add-a-benchmark"] if language == "yaml"]
    (matrix,) = [text for name, _, text in pages["tutorial"] if name == "first.yaml"]
    (tmp_path / "mine.jsonl").write_text(problems)
    matrix = yaml.safe_load(matrix) | yaml.safe_load(part)
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(matrix))
    cells = load_cells(tmp_path / "m.yaml")
    assert cells[0].evaluate["benchmarks"] == [str(tmp_path / "mine.jsonl")]

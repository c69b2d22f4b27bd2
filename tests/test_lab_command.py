"""`suite lab`: files refused with their line, the list, verdicts, rows, pictures, nothing twice."""

import os
import subprocess
import sys

import pytest

from suite.lab import experiment
from suite.matrix.yaml_file import MatrixError

FILE = """\
name: tiny
claim: entropy falls
source: a test
environment: {states: 2, actions: 6, correct: 2}
train: {iterations: 20, lr: 0.5, trace_every: 5}
seeds: 3
arms:
  grpo: {}
  bonus: {algorithm: entreg, coefficient: [0.5, 1.0]}
  lemma: {check: lemma-b5, policies: 20}
measure: [{metric: entropy}, {metric: violations}]
expect:
  - {claim: it falls, arm: grpo, metric: entropy, at: change, sign: "-"}
  - {claim: the bonus raises it, arm: bonus coefficient=1.0, against: grpo, metric: entropy,
     sign: +}
  - {claim: this one is wrong, arm: grpo, metric: entropy, at_least: 9}
plots:
  - {title: entropy, metric: entropy, arms: [grpo]}
  - {title: violations, kind: points, metric: violations}
"""


def test_the_experiments_that_come_with_the_suite_are_good():
    found = [experiment.load(path) for path in experiment.paths()]
    assert {one.name for one in found} == {path.stem for path in experiment.paths()}
    assert len(found) == 5 and all(one.seeds >= 20 for one in found)
    for one in found:
        assert one.file.plots and one.file.notes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("states: 2", "stats: 2", "4: environment.stats: unknown key: did you mean 'states'?"),
        ("lr: 0.5", "lr: 0", "5: train.lr: lr must be > 0"),
        ("iterations: 20", "iterations: x", "5: train.iterations: Input should be a valid integer"),
        ("algorithm: entreg", "algorithm: entrg", "9: arms.bonus.algorithm: unknown algorithm"),
        ("[0.5, 1.0]", "-1", "9: arms.bonus.coefficient: coefficient must be >= 0"),
        ("lemma-b5", "lemma-b6", "10: arms.lemma.check: unknown check 'lemma-b6': did you mean"),
        ("policies", "polices", "10: arms.lemma.polices: unknown key: did you mean 'policies'?"),
        ("at: change, sign", "att: change, sign", "13: expect.0.att: unknown key: did you mean"),
        ("against: grpo", "against: gpro", "14: expect.1.against: no arm 'gpro': did you mean"),
        ("at_least: 9", "at_least: 9, at_most: 9", "16: expect.2: give exactly one of sign"),
        ("arms: [grpo]", "arms: [x y]", "18: plots.0.arms: no arm 'x y'"),
        ("seeds: 3", "seeds: 1", "6: seeds: "),
        ("grpo: {}", "grpo: {environment: 3}", "8: arms.grpo.environment: must be a mapping"),
        ("grpo: {}", "aepo: {inject: replace}", "8: arms.aepo.inject: the lab appends"),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path, old, new, message):
    assert old in FILE
    (tmp_path / "tiny.yaml").write_text(FILE.replace(old, new, 1))
    with pytest.raises(MatrixError) as caught:
        experiment.load(tmp_path / "tiny.yaml")
    assert f"tiny.yaml:{message}" in caught.value.problems[0]


@pytest.fixture
def suite(tmp_path, repo):
    (tmp_path / "tiny.yaml").write_text(FILE)

    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "suite.cli", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


def test_lab_lists_what_there_is(suite):
    printed = suite("lab").stdout
    for path in experiment.paths():
        assert path.stem in printed


@pytest.mark.parametrize("name", ["aepo-target", "none.yaml"])
def test_a_bad_name_is_one_line(suite, name):
    result = suite("lab", name)
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2 and len(lines) == 1 and name in lines[0]
    assert "aepo-targets" in lines[0] or "cannot be read" in lines[0]


@pytest.mark.slow
def test_a_run_of_the_lab(suite, tmp_path):
    """Verdicts, rows, pictures; a claim that fails is no error; nothing is trained twice."""
    result = suite("lab", "tiny.yaml", "--markdown", "lab.md")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(" reproduced") - result.stdout.count("not reproduced") == 2
    assert result.stdout.count("not reproduced") == 1
    for title in ("entropy", "violations"):
        for kind in ("png", "svg"):
            assert (tmp_path / "runs" / "lab" / f"tiny-{title}.{kind}").stat().st_size > 1000
    text = (tmp_path / "lab.md").read_text()
    assert "Of 3 expectations, 2 came out" in text and "| bonus coefficient=1.0 |" in text
    count = "SELECT count(*) AS n, count(DISTINCT run) AS runs, min(status) FROM runs"
    assert "12" in suite("sql", count).stdout
    traced = suite("sql", "SELECT count(*) FROM traces WHERE metric = 'entropy' AND arm = 'grpo'")
    assert "15" in traced.stdout, "3 seeds, at 0, 5, 10, 15 and 20"
    files = sorted((tmp_path / "runs" / "cells").rglob("*.jsonl"))
    again = suite("lab", "tiny.yaml", "--out", "pictures")
    assert again.returncode == 0 and (tmp_path / "pictures" / "tiny-entropy.png").exists()
    assert sorted((tmp_path / "runs" / "cells").rglob("*.jsonl")) == files
    assert "tiny" not in suite("status").stdout
    assert "suite lab tiny" in " ".join(suite("report", "tiny").stderr.split())

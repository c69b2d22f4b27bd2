"""Tables at equal cost from a database whose scores and costs are known beforehand."""

import math
import re
import subprocess
import sys

import pandas as pd
import pytest

from suite.matrix.expand import load_cells
from suite.report import equal_cost
from suite.spool import spool
from suite.store import Store
from suite.workspace import Workspace

MATRIX = """\
name: m
model: arithmetic-tiny
budget: {BUDGET}
seeds: SEEDS
arms: {clip: {}, grpo: {}, entreg: {}}
evaluate: {samples: 4, pass_at: [1], at: FRACTIONS}
"""
PROBLEMS = 12


@pytest.fixture
def database(tmp_path):
    """Makes runs.db: arm or (arm, seed) -> how many of 4 samples are correct at each fraction."""

    def make(correct, fractions, *, seeds=(0,), budget="gpu_hours: 1", cost=None, entreg="{}"):
        text = MATRIX.replace("BUDGET", budget).replace("SEEDS", str(list(seeds)))
        text = text.replace("entreg: {}", f"entreg: {entreg}")
        (tmp_path / "m.yaml").write_text(text.replace("FRACTIONS", str(list(fractions))))
        workspace, cells = Workspace(tmp_path / "runs.db"), load_cells(tmp_path / "m.yaml")
        store = Store(workspace)
        store.register(cells)
        for cell in cells:
            spent = (cost or {}).get(cell.arm, 1.0)
            right = correct.get((cell.arm, cell.seed), correct.get(cell.arm, []))
            _write(workspace, cell, fractions, right, spent)
            store.ingest(cell.id)
            store.set_status(cell.id, "finished")
        store.close()
        return workspace.db

    return make


def _write(workspace, cell, fractions, correct, spent):
    """Problem 0 keeps one wrong sample, so that no score is without spread."""
    write = spool.Spool(spool.path_of(workspace.cell(cell.id), 1)).write
    hardware = {"gpus": [], "cores": 2}
    write("preparing", attempt=1)
    write("start", attempt=1, command=[], versions={}, hardware=hardware, git_commit=None)
    write("training", attempt=1, from_step=0)
    for number, (fraction, right) in enumerate(zip(fractions, correct, strict=False)):
        for problem in range(PROBLEMS):
            good = min(right, 3) if problem == 0 else right
            write(
                "eval",
                attempt=1,
                step=10 * number,
                fraction=fraction,
                benchmark="arithmetic",
                problem=f"p{problem}",
                first=0,
                n=4,
                seed=0,
                verdicts="c" * good + "w" * (4 - good),
                stops="ssss",
                lengths=[5] * 4,
                digests=[1, 2, 3, 4],
                answers=[None] * 4,
                examples=[],
            )
        costs = {"gpu_hours": fraction * spent, "tokens": int(1e6 * fraction), "samples": 1}
        write("evaluated", attempt=1, step=10 * number, fraction=fraction, **costs)
    for step in (1, 2):
        seconds = {"seconds/generation": 3.0, "seconds/update": 1.0 if step == 1 else 5.0}
        totals = {"gpu_hours": 0.5 * spent * step, "tokens": 1000 * step, "entropy": 0.1}
        totals |= {"budget_fraction": step / 2, "response_length": 9.0}
        write("trace", attempt=1, step=step, **seconds, **totals)
    accounts = {"generation": 6.0, "update": 6.0, "evaluation": 24.0, "checkpoint": 12.0}
    accounts |= {"start_up": 36.0, "lost": 72.0}
    write("finished", attempt=1, step=2, seconds=accounts)


HALVES = (0.0, 0.5, 1.0)


def rows_of(report):
    """Rows as dictionaries, by (arm, score)."""
    return {(row[0], row[1]): dict(zip(report.titles, row, strict=True)) for row in report.texts()}


def test_what_equal_cost_bought_and_what_a_score_cost(database):
    """Of 4 samples 1, 2, 3 are right for grpo: 0.25, 0.5, 0.75 at 0, 0.5, 1 GPU-hours.

    clip climbs to 0.5 and never sees 0.75; entreg has 0.75 at half of the cost. Areas: grpo 0.5;
    clip (0.375 + 0.5) / 2; entreg (0.5 + 0.75) / 2.
    """
    db = database({"grpo": [1, 2, 3], "clip": [1, 2, 2], "entreg": [1, 3, 3]}, HALVES)
    table = rows_of(equal_cost.reports(db, "m")[0])
    grpo, clip, entreg = (table[arm, "pass@1"] for arm in ("grpo", "clip", "entreg"))
    assert [row["at 1 GPU-hours"][:5] for row in (grpo, clip, entreg)] == [
        "0.750",
        "0.500",
        "0.750",
    ]
    paid = [row["GPU-hours to grpo's best"].split(" [")[0] for row in (grpo, clip, entreg)]
    assert paid == ["1", "> 1", "0.5"]
    assert clip["GPU-hours to own best"].startswith("0.5 [")
    areas = [float(row["mean over the cost"][:5]) for row in (grpo, clip, entreg)]
    assert areas == pytest.approx([0.5, 0.4375, 0.625], abs=6e-4)
    assert clip["less grpo's"].startswith("-0.250 [") and "below" in clip["less grpo's"]
    assert grpo["less grpo's"] == ""


def test_a_score_between_two_evaluations_is_interpolated(database):
    """To 0.5 = grpo's best, entreg goes from 0.25 at 0 to 0.75 at 0.5: half of that, 0.25."""
    db = database({"grpo": [1, 1, 2], "clip": [1, 1, 1], "entreg": [1, 3, 3]}, HALVES)
    table = rows_of(equal_cost.reports(db, "m")[0])
    assert table["entreg", "pass@1"]["GPU-hours to grpo's best"].startswith("0.25 [")


def test_equal_cost_is_what_the_cheapest_run_has_spent(database):
    """clip stopped at 0.8 GPU-hours: there grpo, 0.5 at 0.5 and 0.75 at 1, has 0.65."""
    right = {"grpo": [1, 2, 3], "clip": [1, 2, 2], "entreg": [1, 2, 2]}
    table = rows_of(equal_cost.reports(database(right, HALVES, cost={"clip": 0.8}), "m")[0])
    assert table["grpo", "pass@1"]["at 0.8 GPU-hours"].startswith("0.650 [")


@pytest.mark.parametrize(
    ("unit", "goal"), [("gpu_hours", "0.5"), ("tokens", "500,000"), ("steps", "10")]
)
def test_costs_are_in_the_unit_asked_for(database, unit, goal):
    db = database({"grpo": [1, 2, 3], "clip": [1, 2, 2], "entreg": [1, 3, 3]}, HALVES)
    report = equal_cost.reports(db, "m", unit)[0]
    paid = rows_of(report)["entreg", "pass@1"][f"{equal_cost.UNITS[unit]} to grpo's best"]
    assert paid.startswith(f"{goal} [")


def test_the_budget_names_the_unit(database):
    right = {arm: [1, 2, 3] for arm in ("grpo", "clip", "entreg")}
    report = equal_cost.reports(database(right, HALVES, budget="steps: 20"), "m")[0]
    assert "at 20 steps" in report.titles
    with pytest.raises(ValueError, match="one of gpu_hours, tokens, steps"):
        equal_cost.reports(database(right, HALVES), "m", "euros")


def test_an_arm_scored_once_is_left_out_by_name(database):
    db = database({"grpo": [1, 2, 3], "clip": [1], "entreg": [1, 2, 2]}, HALVES)
    report = equal_cost.reports(db, "m")[0]
    assert {row[0] for row in report.texts()} == {"grpo", "entreg"}
    assert any(note.endswith("clip (seed 0).") for note in report.notes)


def test_arms_are_compared_on_the_seeds_that_all_have(database):
    """entreg was scored with seed 0 only: seed 1 of the others does not count."""
    right = {arm: [1, 2, 3] for arm in ("grpo", "clip")}
    right |= {("grpo", 1): [0, 0, 0], ("entreg", 0): [1, 2, 2]}
    report = equal_cost.reports(database(right, HALVES, seeds=(0, 1)), "m")[0]
    assert rows_of(report)["grpo", "pass@1"]["at 1 GPU-hours"].startswith("0.750")
    assert report.notes[-2].endswith(": clip (seed 1), grpo (seed 1).")


def test_seeds_are_pooled_and_said_to_be_few(database):
    right = {arm: [1, 2, 3] for arm in ("grpo", "clip", "entreg")}
    report = equal_cost.reports(database(right, HALVES, seeds=(0, 1)), "m")[0]
    assert any("2 seeds: the brackets of a cost understate" in note for note in report.notes)
    assert len(report.texts()) == 3


def test_no_fit_to_few_points_and_that_is_said(database):
    right = {arm: [1, 2, 3] for arm in ("grpo", "clip", "entreg")}
    first, *others = equal_cost.reports(database(right, HALVES), "m")
    assert not any("saturation" in report.title for report in others)
    assert any("2 points after the base model's; 3 parameters need 5" in n for n in first.notes)


def test_a_fit_where_there_are_points_enough(database):
    """One right of four, then three: half of the way is gone before the first evaluation ends."""
    fractions = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    right = {"grpo": [0, 1, 2, 3, 3, 3, 3], "clip": [1] * 7, "entreg": [0, 1, 2, 2, 3, 3, 3]}
    table = rows_of(equal_cost.reports(database(right, fractions), "m")[1])
    grpo = table["grpo", "pass@1"]
    value, low, high = map(float, re.findall(r"[\d.]+", grpo["A"]))
    assert low <= value <= high and 0.7 < value < 0.85
    assert 0.1 < float(grpo["C_mid, GPU-hours"].split()[0]) < 0.25
    assert grpo["told by the points"] == "yes"


def test_phases_are_shares_of_what_was_charged(database):
    """3 + 3 s of generation, 1 + 5 s of update: half each; 24 + 12 s, 36 s and 72 s beside it."""
    right = {arm: [1, 2, 3] for arm in ("grpo", "clip", "entreg")}
    report = equal_cost.reports(database(right, HALVES), "m")[-1]
    row = dict(zip(report.titles, report.texts()[0], strict=True))
    assert (row["arm"], row["generation"], row["update"]) == ("clip", "50.0%", "50.0%")
    assert row["steps"] == "2"
    assert (row["evaluation, idle …"], row["start-up"], row["lost"]) == ("0.01", "0.01", "0.02")
    assert float(row["held"]) == pytest.approx((12 + 24 + 12 + 36 + 72) / 3600, rel=1e-2)
    assert not any("Search" in note for note in report.notes)


def test_what_a_search_cost_is_said(database):
    """Two settings of entreg, 12 s each."""
    arms = {"grpo": [1, 2, 3], "clip": [1, 2, 3]}
    arms |= {f"entreg coefficient={x}": [1, 2, 3] for x in (0.1, 0.2)}
    report = equal_cost.reports(database(arms, HALVES, entreg="{coefficient: [0.1, 0.2]}"), "m")[-1]
    (note,) = [note for note in report.notes if "Search" in note]
    assert note == "Search: entreg was run with 2 settings, 0.00667 GPU-hours charged in all."


@pytest.mark.slow
def test_on_the_command_line(database, repo, tmp_path):
    database({"grpo": [1, 2, 3], "clip": [1, 2, 2], "entreg": [1, 3, 3]}, HALVES)

    def suite(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "suite.cli", "report", *arguments],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(repo)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert "at equal cost" not in suite().stdout
    shown = suite("--cost", "--markdown", "r.md", "--csv", "tables")
    assert shown.returncode == 0 and "where the GPU-hours went" in shown.stdout
    assert "> 1" in (tmp_path / "r.md").read_text()
    table = pd.read_csv(tmp_path / "tables" / "equal_cost.csv").set_index("arm")
    costs = table.cost_to_baselines_best
    assert (costs["grpo"], costs["clip"], costs["entreg"]) == (1, math.inf, 0.5)
    less = table.difference_from_baseline
    assert less["clip"] == pytest.approx(-0.25) and math.isnan(less["grpo"])
    assert (table.low <= table.score).all() and (table.score <= table.high).all()
    assert table.difference_from_baseline_low["clip"] <= less["clip"]
    phases = pd.read_csv(tmp_path / "tables" / "phases.csv")
    assert list(phases.share_update) == pytest.approx([0.5] * 3)
    refused = suite("--csv", "r.md")
    assert refused.returncode == 2 and "r.md is a file" in refused.stderr
    refused = suite("--unit", "euros")
    assert refused.returncode == 2 and "one of gpu_hours" in refused.stderr

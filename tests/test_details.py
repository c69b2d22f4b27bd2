"""`suite report --more`: numbers by hand on two arms, two seeds and two benchmarks."""

import pytest

from suite.matrix.expand import load_cells
from suite.report.details import details
from suite.report.leaderboard import leaderboard
from suite.spool import spool
from suite.store import Store
from suite.workspace import Workspace

MATRIX = """\
name: m
model: arithmetic-tiny
seeds: [0, 1]
budget: {steps: 2}
arms: {grpo: {}, clip: {}}
evaluate: {benchmarks: [BENCHMARKS], samples: 4, pass_at: [1, 2], at: [0, 1.0]}
"""
PROBLEMS = 12
# The answers to every problem of a benchmark, 7 being right, by arm (None: before training).
SAID = {
    "arithmetic_chain": {None: "3337", "grpo": "7337", "clip": "7777"},
    "arithmetic_fractions": {None: "3333", "grpo": "7777", "clip": "7733"},
}


def history(folder, benchmarks):
    """A database as four finished runs leave it."""
    (folder / "m.yaml").write_text(MATRIX.replace("BENCHMARKS", ", ".join(benchmarks)))
    workspace, cells = Workspace(folder / "runs.db"), load_cells(folder / "m.yaml")
    store = Store(workspace)
    store.register(cells)
    for cell in cells:
        write = spool.Spool(spool.path_of(workspace.cell(cell.id), 1)).write
        for arm, step, fraction in ((None, 0, 0.0), (cell.arm, 2, 1.0)):
            point = {"attempt": 1, "step": step, "fraction": fraction}
            for benchmark in benchmarks:
                for problem in range(PROBLEMS):
                    said = SAID[benchmark][arm]
                    write(
                        "eval",
                        **point,
                        benchmark=benchmark,
                        problem=str(problem),
                        first=0,
                        n=4,
                        seed=0,
                        verdicts=said.replace("7", "c").replace("3", "w"),
                        stops="ssss",
                        lengths=[10] * 4,
                        digests=[1, 2, 3, 4],
                        answers=list(said),
                        examples=[],
                    )
            write("evaluated", **point, gpu_hours=0.1 * step)
        numbers = {"entropy": 0.5, "response_length": 9.0, "budget_fraction": 1.0}
        write("trace", attempt=1, step=2, gpu_hours=0.1, **numbers)
        store.ingest(cell.id)
        store.set_status(cell.id, "finished")
    store.close()
    return workspace.db


def rows_of(report):
    return {row[0]: dict(zip(report.titles, row, strict=True)) for row in report.texts()}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    db = history(tmp_path_factory.mktemp("two"), list(SAID))
    return {report.title: rows_of(report) for report in details(db, "m")}


def test_pass_hat_and_majority_of_each_arm(tables):
    chain = tables["m: arithmetic_chain, arithmetic-tiny: the same samples"]
    start = {arm: [row[c].split()[0] for c in ("mean@n", "pass^2")] for arm, row in chain.items()}
    # Of the 6 pairs of 3337 none is 77, of 7337 one, of 7777 all.
    assert start == {
        "base model": ["0.250", "0.000"],
        "clip": ["1.000", "1.000"],
        "grpo": ["0.500", "0.167"],
    }
    # 3337: of two, 3 of 6 pairs are a tie, won half the time.
    assert float(chain["base model"]["maj@2"].split()[0]) == pytest.approx(0.25, abs=0.01)
    assert float(chain["grpo"]["maj@2"].split()[0]) == pytest.approx(0.5, abs=0.01)
    assert chain["clip"]["maj@2"].startswith("1.000 [")


def test_what_stands_behind_a_comparison(tables):
    found = tables["m: arithmetic_chain, arithmetic-tiny: behind the comparison with grpo"]
    assert list(found) == ["clip"]
    assert found["clip"]["P(better) pass@1"] == "1.000" and float(found["clip"]["p pass@1"]) < 0.01
    assert found["clip"]["detectable pass@1"] == "±0.000", "every problem differs by the same"


def test_benchmarks_together(tables):
    found = tables["m: all benchmarks, arithmetic-tiny"]
    # pass@1 grpo .5 and 1, clip 1 and .5, in both seeds: the middle half of .5 .5 1 1 is .5 and 1.
    for arm in ("grpo", "clip"):
        assert found[arm]["IQM pass@1"].startswith("0.750 [0.750, 0.750]")
        assert found[arm]["seeds"] == "2"
    assert found["clip"]["P(beats grpo) pass@1"] == "0.500"
    # pass@2: grpo 5/6 and 1, clip 1 and 5/6.
    assert found["clip"]["IQM pass@2"].startswith("0.917 [")


def test_one_benchmark_has_no_others_to_be_together_with(tmp_path):
    db = history(tmp_path, ["arithmetic_chain"])
    titles = [report.title for report in details(db, "m")]
    assert len(titles) == 2 and not any("all benchmarks" in title for title in titles)


def test_the_intervals_of_both_reports_agree(tmp_path):
    """mean@n is pass@1: one number must not have two intervals."""
    db = history(tmp_path, ["arithmetic_chain"])
    short, long = rows_of(leaderboard(db, "m")[0]), rows_of(details(db, "m")[0])
    assert long["base model"]["mean@n"] == short["base model"]["pass@1"]

"""A table of numbers: what people read of it, and what programs get."""

import json
import math

import pandas as pd
import pytest
from typer.testing import CliRunner

from suite.cli.app import app
from suite.report.page.study import opened
from suite.report.table import COMPACT, Column, Report, Seeds, Worded, as_json, column, write_csv
from suite.stats import Comparison, Interval

NUMBERS = ("score", "low", "high", "difference", "p_value", "p_adjusted", "detectable")


def comparison(arm, estimate, low, high, p):
    return Comparison(
        arm=arm,
        reference="grpo",
        estimate=estimate,
        low=low,
        high=high,
        probability_of_improvement=0.9,
        standard_error=0.1,
        p_value=p,
        p_adjusted=p,
        detectable=0.3,
        family=1,
        seeds=3,
        level=0.95,
    )


@pytest.fixture
def report():
    """Two arms at k = 1 and 4; the second has no score at 4 and a cost that is no number."""
    columns = [
        *(column("arm"), column("seed")),
        *(column("score", ".3f", f"pass@{k}", k=k) for k in (1, 4)),
        *(column("cost", COMPACT, "GPU-hours"), Column("run"), Column("", "each seed")),
    ]
    rows = [
        [
            "a",
            Seeds((0, 1)),
            Interval(0.5, 0.4, 0.6),
            Interval(0.75, 0.7, 1.0),
            1234.5,
            "x1",
            "0.4 0.6",
        ],
        ["b|c", Seeds((2,)), Interval(0.25, 0.0, 0.5), None, Worded(math.inf, "> 3"), "x2", ""],
    ]
    return Report("scores", "m: all", columns, rows, ["a note"], {"matrix": "m"})


def test_people_read_texts(report):
    assert report.titles == ["arm", "seed", "pass@1", "pass@4", "GPU-hours", "each seed"]
    assert report.texts() == [
        ["a", "all 2", "0.500 [0.400, 0.600]", "0.750 [0.700, 1.000]", "1,234", "0.4 0.6"],
        ["b|c", "2", "0.250 [0.000, 0.500]", "", "> 3", ""],
    ]
    assert report.markdown().splitlines()[2:5] == [
        "| arm | seed | pass@1 | pass@4 | GPU-hours | each seed |",
        "|---|---|---|---|---|---|",
        "| a | all 2 | 0.500 [0.400, 0.600] | 0.750 [0.700, 1.000] | 1,234 | 0.4 0.6 |",
    ]


def test_programs_read_a_row_for_each_arm_and_k(report):
    first, second, third, fourth = report.records()
    assert first == {
        **{"matrix": "m", "arm": "a", "seed": None, "seeds": 2, "cost": 1234.5, "run": "x1"},
        **{"k": 1, "score": 0.5, "low": 0.4, "high": 0.6},
    }
    assert (second["k"], second["score"], third["seed"]) == (4, 0.75, 2)
    assert fourth["k"] == 4 and fourth["score"] is None and "low" not in fourth


def test_a_difference_is_numbers_and_a_verdict():
    shown, undecided = comparison("a", 0.041, 0.006, 0.078, 0.01), comparison("b", 0, -1, 1, 1.0)
    columns = [column("arm"), column("difference", ".3f", "pass@1", k=1)]
    table = Report("differences", "t", columns, [["a", shown], ["b", undecided]])
    assert [row[1] for row in table.texts()] == [
        "+0.041 [+0.006, +0.078] above",
        "+0.000 [-1.000, +1.000] not shown",
    ]
    record = table.records()[0]
    assert (record["difference"], record["low"], record["high"]) == (0.041, 0.006, 0.078)
    assert (record["p_value"], record["verdict"], record["seeds"]) == (0.01, "above", 3)


def test_two_columns_never_share_a_field():
    columns = [column("score"), column("difference")]
    row = [Interval(0.5, 0.4, 0.6), comparison("a", 0.1, 0.0, 0.2, 0.5)]
    with pytest.raises(ValueError, match="two columns have the field high, low"):
        Report("both", "t", columns, [row]).records()


def test_json_has_null_for_what_is_no_number(report):
    (table,) = json.loads(as_json([report]))["tables"]
    assert table["table"] == "scores" and table["notes"] == ["a note"]
    assert [row["cost"] for row in table["rows"]] == [1234.5, 1234.5, None, None]


def test_tables_of_one_kind_share_a_file(report, tmp_path):
    other = Report("scores", "n", [column("arm"), column("score")], [["d", 0.125]])
    (path,) = write_csv([report, other], tmp_path / "new" / "folder")
    frame = pd.read_csv(path)
    assert list(frame.arm) == ["a", "a", "b|c", "b|c", "d"]
    assert frame.score.dtype == float and frame.cost[2] == math.inf
    assert math.isnan(frame.score[3]) and frame.score[4] == 0.125


@pytest.fixture(scope="module")
def tables(repo, tmp_path_factory):
    """Every CSV of `suite report` on the published comparison, read back by pandas."""
    folder = tmp_path_factory.mktemp("csv")
    with opened(repo / "results" / "miniature") as db:
        command = ["report", "--db", str(db), "--csv", str(folder), "--cost", "--more"]
        ran = CliRunner().invoke(app, command)
        printed = CliRunner().invoke(app, ["report", "--db", str(db), "--json"])
    assert ran.exit_code == 0, ran.output
    tables = {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}
    return tables, json.loads(printed.stdout)


@pytest.mark.slow
def test_every_csv_of_the_miniature_reads_back_as_numbers(tables):
    tables, _ = tables
    assert tables.keys() >= {"leaderboard", "differences", "equal_cost", "phases", "readings"}
    for name, frame in tables.items():
        for heading in frame:
            if heading in NUMBERS or heading.endswith(("_low", "_high")):
                assert frame[heading].dtype == float, f"{name}.csv, {heading}"
        texts = frame.select_dtypes(exclude="number").astype(str)
        assert not texts.apply(lambda c: c.str.contains(r"[\[\]]").any()).any(), name


@pytest.mark.slow
def test_the_leaderboard_has_each_arm_seed_and_k(tables):
    tables, printed = tables
    board = tables["leaderboard"]
    per_run = board[board.seed.notna()]
    assert len(per_run) == per_run.arm.nunique() * per_run.seed.nunique() * per_run.k.nunique()
    assert board[["score", "low", "high", "entropy", "gpu_hours"]].dtypes.eq(float).all()
    assert ((board.low <= board.score) & (board.score <= board.high)).all()
    kinds = {table["table"]: table["rows"] for table in printed["tables"]}
    assert [row["score"] for row in kinds["leaderboard"]] == pytest.approx(list(board.score))

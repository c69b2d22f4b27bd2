"""The published numbers are what the papers print, and a file of them is checked on load."""

from pathlib import Path

import pytest

from benchmarks.catalogue import known
from suite.matrix.expand import load_cells
from suite.matrix.yaml_file import MatrixError
from suite.report.papers import published
from suite.report.papers.published import AVERAGE, COSTS

# As the papers print them: a line an arm, shares without their zero, AEPO's in percent.
AENT = ["math_hard", "math500", "aime24", "minerva_math", "olympiadbench", "amc23"]
TABLE_1 = """
base   .368/.661 .584/.792 .083/.225 .179/.311 .279/.432 .406/.594
grpo   .524/.773 .756/.865 .192/.367 .311/.347 .364/.576 .550/.769
entreg .546/.808 .752/.872 .167/.342 .316/.359 .370/.576 .562/.794
aent   .552/.813 .750/.882 .217/.392 .330/.359 .377/.591 .581/.825
"""
TABLE_3 = """
base   .443 .626 .183 .143 .290 .469
grpo   .622 .808 .250 .358 .412 .631
entreg .620 .810 .214 .365 .437 .644
aent   .657 .828 .258 .379 .493 .637
"""
TABLE_2 = """
grpo   .234|.303 57|237 57|237
entreg .253|.316 49|215 52|238
aent   .256|.324 35|186 69|275
"""
AVERAGES = {
    "aepo-table1-qwen2.5-7b": "base 36.24 grpo 47.70 entreg 47.65 entropy_adv 47.79 aepo 49.57",
    "aepo-table1-qwen2.5-math-7b": (
        "base 32.56 grpo 51.60 entreg 51.10 entropy_adv 51.76 aepo 53.87"
    ),
    "aepo-table1-qwen3-4b": "base 57.03 grpo 67.77 aepo 69.20",
}
PASS_AT_K = {
    ("aime24", 512): "71.7 63.3 70.0",
    ("aime24", 1024): "80.0 73.3 83.3",
    ("aime25", 512): "61.7 60.0 66.7",
    ("aime25", 1024): "73.3 63.3 73.3",
    ("minerva_math", 128): "69.8 65.8 67.0",
    ("olympiadbench", 128): "77.8 72.9 74.1",
}


def rows(text, columns, matrices, separator):
    """(matrix, arm, column) -> value, of a table whose cells have a number a matrix."""
    return {
        (matrix, line.split()[0], column): float(number)
        for line in text.strip().splitlines()
        for column, cell in zip(columns, line.split()[1:], strict=True)
        for matrix, number in zip(matrices, cell.split(separator), strict=True)
    }


def printed():
    """(matrix, arm, (benchmark, k or cost)) -> value."""
    both, scores = ("aent-table1a", "aent-table1b"), [(name, 1) for name in AENT]
    found = rows(TABLE_1, scores, both, "/") | rows(TABLE_3, scores, ("aent-table3",), " ")
    found |= rows(TABLE_2, [("", cost) for cost in COSTS], both, "|")
    for matrix, line in AVERAGES.items():
        words = line.split()
        for arm, text in zip(words[::2], words[1::2], strict=True):
            found[matrix, arm, (AVERAGE, 1)] = float(text) / 100
    for column, line in PASS_AT_K.items():
        for arm, text in zip(("base", "grpo", "aepo"), line.split(), strict=True):
            found["aepo-table2", arm, column] = float(text) / 100
    return found


def test_every_number_of_the_tables_is_there_and_no_other():
    told = {}
    for table in published.load().values():
        for arm, values in table.arms.items():
            for column, value in zip(table.read(), values, strict=True):
                key = (table.matrix, arm, (column.benchmark, column.cost or column.k))
                assert key not in told
                told[key] = value
    assert told == pytest.approx(printed())
    assert len(told) == 48 + 24 + 18 + 13 + 18


def test_what_the_papers_say_of_the_numbers_follows_from_them():
    """AEnt's price is +9.4 % and +6.9 % an update; AEPO's best gain over GRPO is 2.27 points."""
    tables = published.load()
    for name, price in (("AEnt Table 2 (a)", 0.094), ("AEnt Table 2 (b)", 0.069)):
        arms = tables[name].arms
        assert arms["aent"][0] / arms["grpo"][0] - 1 == pytest.approx(price, abs=5e-4)
    arms = tables["AEPO Table 1, Qwen2.5-Math-7B"].arms
    assert arms["aepo"][0] - arms["grpo"][0] == pytest.approx(0.0227)


@pytest.mark.parametrize("name", published.load())
def test_a_table_is_of_the_matrix_that_it_names(name):
    """Its arms, its model, its sampling and its benchmarks, but for what `differs` tells."""
    table = published.load()[name]
    cells = load_cells(Path(table.file))
    assert cells[0].matrix == table.matrix and cells[0].model == table.model
    assert set(table.arms) - {"base"} == {cell.arm for cell in cells}
    evaluate = cells[0].evaluate
    for setting in ("temperature", "top_p", "top_k"):
        assert getattr(table.sampling, setting) in (None, evaluate[setting])
    for column in table.read():
        if not column.benchmark or column.benchmark == AVERAGE:
            continue
        assert column.benchmark in known()
        if column.benchmark not in evaluate["benchmarks"]:
            assert any("not in the matrix" in text for text in table.differs)
        elif column.k > 1:
            assert column.k in evaluate["pass_at"]
    assert set(table.average_of) in (set(), set(evaluate["benchmarks"]))


GOOD = """\
tables:
  Mine:
    paper: "2501.00001"
    matrix: m
    file: m.yaml
    model: some/model
    sampling: {tries: 4, temperature: 0.6}
    columns: [aime24 pass@1, gpu_hours_to_own_best]
    arms:
      grpo: [.5, 12]
"""


@pytest.mark.parametrize(
    ("good", "bad", "line", "said"),
    [
        ("aime24 pass@1", "aime_24 pass@1", 8, "did you mean 'aime24'?"),
        ("aime24 pass@1", "aime24", 8, "neither BENCHMARK pass@K nor one of"),
        ("aime24 pass@1", "average pass@1", 8, "Give average_of"),
        ("[aime24 pass@1,", "[aime24 pass@1, aime24 pass@1,", 8, "the same column twice"),
        ("[.5, 12]", "[.5]", 10, "tables.Mine.arms.grpo: 1 numbers for 2 columns"),
        ("[.5, 12]", "[50, 12]", 10, "a score is a share of 1, got 50"),
        ("[.5, 12]", "[.5, 0]", 10, "above 0"),
        ("[.5, 12]", "[.5, many]", 10, "valid number"),
        ("temperature", "temprature", 7, "did you mean 'temperature'?"),
        ("    model:", "    modle:", 6, "did you mean 'model'?"),
        ("file: m.yaml", "file: n.yaml", 5, "no file at"),
        ('"2501.00001"', '"a talk"', 3, "pattern"),
    ],
)
def test_a_bad_file_says_where_and_what_to_write(tmp_path, good, bad, line, said):
    (tmp_path / "m.yaml").write_text("name: m\n")
    path = tmp_path / "p.yaml"
    path.write_text(GOOD)
    assert list(published.load(path)) == ["Mine"]
    path.write_text(GOOD.replace(good, bad))
    with pytest.raises(MatrixError) as caught:
        published.load(path)
    assert any(
        problem.startswith(f"{path}:{line}: ") and said in problem
        for problem in caught.value.problems
    ), caught.value.problems


def test_without_tables_there_is_nothing_to_read(tmp_path):
    (tmp_path / "p.yaml").write_text("arms: {}\n")
    with pytest.raises(MatrixError, match="must be a mapping `tables`"):
        published.load(tmp_path / "p.yaml")
    with pytest.raises(MatrixError, match="neither `published` nor a file"):
        published.find("publishd")

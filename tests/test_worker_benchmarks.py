"""What a cell is measured on: written before training, recorded with prompt and overlap."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import catalogue, prompts
from suite.matrix.expand import load_cells
from suite.worker import benchmarks
from suite.worker.recorder import record_benchmarks
from suite.workspace import Workspace

MATRIX = """\
name: m
model: {model}
train: {{dataset: train.jsonl, prompt_template: boxed, max_prompt_tokens: 8, max_new_tokens: 8}}
budget: {{steps: 4}}
arms: {{grpo: {{}}}}
evaluate:
  benchmarks: [aime24, own.jsonl, arithmetic_chain]
  data_files: {{aime24: exam.jsonl}}
  problems: 3
"""


def rows(prefix, *problems):
    return [{"id": f"{prefix}{i}", "problem": p, "answer": "070"} for i, p in enumerate(problems)]


def write(path, content):
    path.write_text("".join(json.dumps(row) + "\n" for row in content))


def lines(path):
    return Path(path).read_text().splitlines()


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs.db")


@pytest.fixture
def cell(tmp_path):
    write(tmp_path / "exam.jsonl", rows("e", "Find $x$.", "Find y.", "Find z.", "Find w."))
    write(tmp_path / "own.jsonl", rows("o", "Seen nowhere."))
    write(tmp_path / "train.jsonl", rows("t", "find  x", "FIND Z", "find w", "other"))
    (tmp_path / "m.yaml").write_text(MATRIX.format(model="arithmetic-tiny"))
    return load_cells(tmp_path / "m.yaml")[0]


def test_known_benchmarks_are_files_before_training(cell, workspace):
    benchmarks.write_benchmarks(cell, workspace)
    paths = benchmarks.benchmark_paths(cell, workspace)
    assert list(paths) == ["aime24", "own", "arithmetic_chain"]
    assert [json.loads(line)["answer"] for line in lines(paths["aime24"])] == ["070"] * 4
    assert len(lines(paths["arithmetic_chain"])) == 300
    assert not list(workspace.data.glob("*.[0-9]*"))


def test_nothing_is_looked_up_where_nothing_is_scored(cell, workspace):
    unscored = replace(cell, evaluate=cell.evaluate | {"at": []})
    benchmarks.write_benchmarks(unscored, workspace)
    assert benchmarks.benchmark_paths(unscored, workspace) == {}
    assert list(benchmarks.describe(unscored, workspace)) == []
    assert not workspace.data.exists()


def test_a_benchmark_out_of_reach_stops_the_cell_at_its_start(cell, workspace, monkeypatch):
    def away(benchmark):
        raise catalogue.Unreachable(f"{benchmark.name} cannot be downloaded")

    monkeypatch.setattr(catalogue, "_download", away)
    cell.evaluate["data_files"].clear()
    with pytest.raises(catalogue.Unreachable, match="aime24"):
        benchmarks.write_benchmarks(cell, workspace)


def test_each_benchmark_is_recorded_with_prompt_and_overlap(cell, workspace, tmp_path):
    benchmarks.write_benchmarks(cell, workspace)
    (tmp_path / "exam.jsonl").unlink()  # what was written is enough to go on
    found = {record["benchmark"]: record for record in benchmarks.describe(cell, workspace)}
    exam = found["aime24"]
    # The fourth problem occurs too, but only three are asked.
    assert exam["overlapping"] == ["e0", "e2"] and exam["problems"] == 3
    assert exam["prompt"] == prompts.render("boxed", "Find $x$.")
    assert exam["prompt_digest"] == prompts.prompt_digest(exam["prompt"])
    assert exam["origin"].endswith("exam.jsonl") and "not the edition" in exam["warning"]
    assert found["own"]["overlapping"] == [] and found["own"]["warning"] is None
    assert found["arithmetic_chain"]["origin"] == "embedded: chain"


def test_a_file_of_ones_own_may_bear_a_known_name(tmp_path, workspace, cell):
    write(tmp_path / "aime24.jsonl", rows("mine", "Find x."))
    text = MATRIX.replace("[aime24, own.jsonl, arithmetic_chain]", "[./aime24.jsonl]")
    text = text.replace("  data_files: {{aime24: exam.jsonl}}\n", "")
    (tmp_path / "own.yaml").write_text(text.format(model="arithmetic-tiny"))
    (own,) = load_cells(tmp_path / "own.yaml")
    benchmarks.write_benchmarks(own, workspace)
    (record,) = benchmarks.describe(own, workspace)
    assert record["origin"] == str(tmp_path / "aime24.jsonl")
    assert record["overlapping"] == ["mine0"] and "not the edition" in record["warning"]


def test_overlap_and_foreign_editions_are_said_aloud(cell, workspace):
    benchmarks.write_benchmarks(cell, workspace)
    said = []
    record_benchmarks(cell, workspace, lambda kind, **fields: said.append((kind, fields)))
    assert [kind for kind, _ in said] == ["benchmark", "warning", "warning", *["benchmark"] * 2]
    assert said[2][1]["text"] == "2 of 3 problems of aime24 occur in the training prompts"
    assert "warning" not in said[0][1]


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet", "saved", "split"])
def test_training_prompts_of_every_format(ending, tmp_path):
    datasets = pytest.importorskip("datasets")
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "asked"}]
    for content in ("asked", chat):
        data = datasets.Dataset.from_list([{"problem": content}])
        path = tmp_path / f"{type(content).__name__}.{ending}"
        if ending == "saved":
            data.save_to_disk(path)
        elif ending == "split":
            datasets.DatasetDict(train=data).save_to_disk(path)
        elif ending == "parquet":
            data.to_parquet(path)
        else:
            data.to_json(path)
        assert list(benchmarks.training_prompts(str(path))) == ["asked"]


def test_a_training_set_without_problems(tmp_path):
    write(tmp_path / "x.jsonl", [{"question": "q"}])
    with pytest.raises(ValueError, match="row 1 of the training set has no column 'problem'"):
        list(benchmarks.training_prompts(str(tmp_path / "x.jsonl")))


def test_an_evaluation_does_not_know_what_the_model_was_trained_on(cell, workspace):
    alone = replace(cell, train=cell.train | {"dataset": ""})
    benchmarks.write_benchmarks(alone, workspace)
    assert {record["overlapping"] for record in benchmarks.describe(alone, workspace)} == {None}


def test_training_prompts_under_another_name(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"question": "asked", "final_answer": "1"}\n')
    assert list(benchmarks.training_prompts(str(tmp_path / "x.jsonl"), "question")) == ["asked"]

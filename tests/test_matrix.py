"""Matrix files: what a good one expands to, and one clear line for everything that can be wrong."""

from dataclasses import replace

import pytest

from benchmarks import catalogue, prompts
from suite.matrix.expand import load_cells
from suite.matrix.yaml_file import MatrixError

GOOD = """\
name: test
model: arithmetic-tiny
train:
  dataset: arithmetic
  prompts_per_step: 16
  samples_per_prompt: 8
  optimizer_steps_per_rollout: 4
  lr: 5e-4
budget: {steps: 3}
seeds: [0, 1]
arms:
  grpo: {}
  entreg: {coefficient: 0.01}
  clip-higher: {algorithm: clip, eps_low: 0.2, eps_high: .inf}
evaluate:
  benchmarks: [arithmetic]
  samples: 16
  pass_at: [1, 8]
"""


@pytest.fixture
def read(tmp_path):
    def cells(text):
        path = tmp_path / "m.yaml"
        path.write_text(text)
        return load_cells(path)

    return cells


def edited(line, replacement):
    assert line in GOOD
    return GOOD.replace(line, replacement)


def test_cells_interleave_arms_and_carry_every_default(read):
    cells = read(GOOD)
    arms = [(cell.seed, cell.arm) for cell in cells]
    names = ["grpo", "entreg", "clip-higher"]
    assert arms == [(seed, name) for seed in (0, 1) for name in names]
    assert cells[0].settings == {"eps_low": 0.2, "eps_high": 0.2, "std": True}
    assert cells[2].algorithm == "clip" and cells[2].settings["eps_high"] == float("inf")
    assert cells[0].train["lr"] == 5e-4 and cells[0].train["weight_decay"] == 0.0
    assert cells[0].budget == {"steps": 3.0}


def test_a_matrix_may_score_nothing(read):
    assert read(edited("  samples: 16", "  samples: 16\n  at: []"))[0].evaluate["at"] == []


def test_ids_name_the_content_and_nothing_else(read):
    ids = {(c.arm, c.seed): c.id for c in read(GOOD)}
    assert len(set(ids.values())) == 6
    renamed = read(GOOD.replace("name: test", "name: other").replace("clip-higher", "high"))
    assert {c.id for c in renamed} == set(ids.values())
    changed = {
        (c.arm, c.seed): c.id for c in read(edited("coefficient: 0.01", "coefficient: 0.02"))
    }
    assert {key for key in ids if ids[key] != changed[key]} == {("entreg", 0), ("entreg", 1)}
    every = read(edited("lr: 5e-4", "lr: 1e-4"))
    assert not {c.id for c in every} & set(ids.values())


def test_a_default_written_out_changes_no_id(read):
    written = read(edited("  grpo: {}", "  grpo: {eps_low: 0.2, std: true}"))
    assert [c.id for c in written] == [c.id for c in read(GOOD)]


def test_a_list_is_a_sweep(read):
    swept = read(
        edited("{coefficient: 0.01}", "{coefficient: [0.01, 0.02], train: {lr: [1e-4, 2e-4]}}")
    )
    arms = [c.arm for c in swept if c.seed == 0 and c.algorithm == "entreg"]
    labels = [f" coefficient={c} lr={lr}" for c in (0.01, 0.02) for lr in ("1e-4", "2e-4")]
    assert arms == ["entreg" + label for label in labels]
    assert {
        (c.settings["coefficient"], c.train["lr"]) for c in swept if c.algorithm == "entreg"
    } == {
        (0.01, 1e-4),
        (0.01, 2e-4),
        (0.02, 1e-4),
        (0.02, 2e-4),
    }


def test_arms_may_override_sections(read):
    cells = read(edited("  grpo: {}", "  grpo: {train: {lr: 1e-5}, resources: {gpus: 2}}"))
    assert cells[0].train["lr"] == 1e-5 and cells[1].train["lr"] == 5e-4
    assert cells[0].resources["gpus"] == 2


def test_local_models_are_known_by_content(read, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    text = edited("model: arithmetic-tiny", "model: ./model")
    before = [c.id for c in read(text)]
    assert [c.id for c in read(text)] == before
    (folder / "config.json").write_text('{"hidden_size": 1}')
    assert not set(before) & {c.id for c in read(text)}


BENCHMARK = '{"id": "1", "problem": "1+1=", "answer": "2"}\n'


def known(files="", names="[aime24, arithmetic_chain]"):
    return edited("benchmarks: [arithmetic]", f"benchmarks: {names}\n  data_files: {{{files}}}")


def test_benchmarks_are_known_by_name_and_pinned_in_the_id(read, monkeypatch):
    monkeypatch.delenv("SUITE_DATA", raising=False)
    cell = read(known())[0]
    assert cell.evaluate["benchmarks"] == ["aime24", "arithmetic_chain"]
    assert cell.evaluate["data_files"] == {}
    assert {"aime24", "arithmetic_chain"} <= set(cell.identity)
    pinned = catalogue.known()["aime24"]
    other = dict(catalogue.known()) | {"aime24": replace(pinned, revision="0" * 40)}
    monkeypatch.setattr(catalogue, "known", lambda: other)
    assert read(known())[0].id != cell.id


def test_a_local_benchmark_is_known_by_content_wherever_it_lies(read, tmp_path, monkeypatch):
    monkeypatch.delenv("SUITE_DATA", raising=False)
    hub = read(known())[0]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "aime24.jsonl").write_text(BENCHMARK)
    given = read(known("aime24: a/aime24.jsonl"))[0]
    assert given.evaluate["data_files"] == {"aime24": str(tmp_path / "a" / "aime24.jsonl")}
    assert given.id != hub.id
    assert read(known("aime24: b"))[0].id == given.id
    monkeypatch.setenv("SUITE_DATA", str(tmp_path / "b"))
    assert read(known())[0].id == given.id
    (tmp_path / "b" / "aime24.jsonl").write_text(BENCHMARK.replace('"2"', '"3"'))
    assert read(known())[0].id != given.id
    (tmp_path / "b" / "aime24.jsonl").write_text("{}\n")
    with pytest.raises(MatrixError, match=r"m.yaml:16: .*row 1 has no id, problem and answer"):
        read(known())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arithmetic", "is made here and takes no file"),
        ("amc23", "is no known benchmark of this evaluation"),
        ("aime42", "did you mean 'aime24'"),
    ],
)
def test_files_for_what_takes_none(name, message, read, tmp_path):
    (tmp_path / "x.jsonl").write_text(BENCHMARK)
    text = known(f"{name}: x.jsonl", "[aime24, arithmetic]")
    with pytest.raises(MatrixError, match=f"m.yaml:17: evaluate.data_files.{name}: .*{message}"):
        read(text)


def test_a_template_is_kept_as_its_text(read):
    cell = read(edited("lr: 5e-4", "lr: 5e-4\n  prompt_template: boxed"))[0]
    assert cell.train["prompt_template"] == prompts.TEMPLATES["boxed"]
    plain = read(edited("lr: 5e-4", "lr: 5e-4\n  prompt_template: none"))
    assert [c.id for c in plain] == [c.id for c in read(GOOD)]


# (a line of GOOD, what stands there instead, line number, what the message must say)
BAD = {
    "more tokens than the model holds": (
        "  lr: 5e-4",
        "  lr: 5e-4\n  max_new_tokens: 400",
        9,
        "exceed the context of arithmetic-tiny, 128 tokens",
    ),
    "an empty sweep": ("coefficient: 0.01", "coefficient: []", 13, "an empty list sweeps nothing"),
    "an infinite number": ("lr: 5e-4", "lr: .inf", 8, "finite number"),
    "greedy samples": (
        "  samples: 16",
        "  samples: 16\n  temperature: 0",
        15,
        "temperature 0 always",
    ),
    "unknown key": ("name: test", "name: test\nmodle: x", 2, "did you mean 'model'"),
    "unknown train key": (
        "  lr: 5e-4",
        "  learning_rate: 5e-4",
        8,
        "train.learning_rate: unknown key",
    ),
    "unknown train key, close": ("  lr: 5e-4", "  promts_per_step: 4", 8, "'prompts_per_step'"),
    "wrong type": ("lr: 5e-4", "lr: fast", 8, "train.lr: Input should be a valid number"),
    "negative": ("lr: 5e-4", "lr: -1", 8, "greater than 0"),
    "group of one": (
        "samples_per_prompt: 8",
        "samples_per_prompt: 1",
        6,
        "greater than or equal to 2",
    ),
    "unknown algorithm": (
        "  grpo: {}",
        "  grop: {}",
        12,
        "unknown algorithm 'grop': did you mean 'grpo'",
    ),
    "unknown algorithm of an arm": (
        "algorithm: clip",
        "algorithm: clop",
        14,
        "did you mean 'clip'",
    ),
    "unknown setting": ("coefficient:", "coeficient:", 13, "did you mean 'coefficient'"),
    "setting out of range": ("eps_low: 0.2", "eps_low: 2", 14, "eps_low must be in [0, 1]"),
    "setting of a wrong type": ("coefficient: 0.01", "coefficient: lots", 13, "valid number"),
    "k above n": ("pass_at: [1, 8]", "pass_at: [1, 32]", 18, "pass@32 needs at least 32 samples"),
    "batches that do not divide": (
        "optimizer_steps_per_rollout: 4",
        "optimizer_steps_per_rollout: 3",
        7,
        "128 / 3 is not whole",
    ),
    "GPUs that do not divide": (
        "  grpo: {}",
        "  grpo: {resources: {gpus: 3}}",
        7,
        "spread over 3 GPUs",
    ),
    "micro-batches that do not divide": (
        "lr: 5e-4",
        "lr: 5e-4\n  micro_batch_size: 5",
        9,
        "32 / 5 is not whole",
    ),
    "tensor parallel that does not divide": (
        "lr: 5e-4",
        "lr: 5e-4\n  tensor_parallel_size: 2",
        9,
        "engines of 2",
    ),
    "missing model": ("model: arithmetic-tiny", "model: ./nowhere", 2, "no model at"),
    "misspelt model": (
        "model: arithmetic-tiny",
        "model: arithmetic-tinny",
        2,
        "did you mean 'arithmetic-tiny'",
    ),
    "not a model": ("model: arithmetic-tiny", "model: .", 2, "holds no config.json"),
    "missing data set": ("dataset: arithmetic", "dataset: ./prompts.jsonl", 4, "no data set at"),
    "unknown benchmark": ("[arithmetic]", "[aritmetic]", 16, "did you mean 'arithmetic'"),
    "misspelt benchmark": ("[arithmetic]", "[arithmetic, math50]", 16, "did you mean 'math500'"),
    "a data file that is not there": (
        "  samples: 16",
        "  data_files: {aime24: ./none.jsonl}\n  samples: 16",
        17,
        "evaluate.data_files.aime24: ",
    ),
    "a benchmark twice": ("[arithmetic]", "[arithmetic, arithmetic]", 16, "'arithmetic' twice"),
    "a template that is none": (
        "  lr: 5e-4",
        "  lr: 5e-4\n  prompt_template: boxd",
        9,
        "unknown prompt template 'boxd': did you mean 'boxed'?",
    ),
    "two templates": (
        "  lr: 5e-4",
        "  lr: 5e-4\n  prompt_template: boxed\n  chat_template: true",
        3,
        "drop one of them",
    ),
    "two budgets": ("{steps: 3}", "{steps: 3, gpu_hours: 1}", 9, "exactly one of"),
    "no budget": ("budget: {steps: 3}", "", 1, "budget: is missing"),
    "empty budget": ("{steps: 3}", "{}", 9, "exactly one of"),
    "same seed twice": ("[0, 1]", "[1, 1]", 10, "the same seed twice"),
    "fractions in disorder": (
        "  samples: 16",
        "  samples: 16\n  at: [1, 0.5]",
        18,
        "increasing fractions",
    ),
    "no arms": ("arms:\n", "arms: {}\nx:\n", 11, "arms: "),
    "twins": (
        "  grpo: {}",
        "  grpo: {}\n  also: {algorithm: grpo}",
        13,
        "the same experiment as arm 'grpo'",
    ),
    "duplicate key": ("  grpo: {}", "  grpo: {}\n  grpo: {std: false}", 13, "the same key twice"),
    "not YAML": ("seeds: [0, 1]", "seeds: [0, 1", 11, "not YAML"),
    "a name that is no file name": ("name: test", "name: a/b", 1, "name: String should match"),
    "a random reward that is no law": (
        "train:",
        "train:\n  reward: {poisson: 1}",
        4,
        "must be verified, {bernoulli: p}",
    ),
    "pass@k of a whole group": (
        "  grpo: {}",
        "  pass_at_k: {k: 8}",
        12,
        "needs more than 8 samples_per_prompt",
    ),
    "an override that is no section": ("  grpo: {}", "  grpo: {train: 3}", 12, "must be a mapping"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_matrices_say_where_and_what_to_do(case, read, tmp_path):
    line, replacement, number, message = BAD[case]
    with pytest.raises(MatrixError) as caught:
        read(edited(line, replacement))
    problem = next((p for p in caught.value.problems if message in p), None)
    assert problem, caught.value.problems
    assert problem.startswith(f"{tmp_path / 'm.yaml'}:{number}: "), problem
    assert "\n" not in problem


def test_all_problems_of_a_file_are_reported_together(read):
    with pytest.raises(MatrixError) as caught:
        read(GOOD.replace("lr: 5e-4", "lr: x").replace("coefficient:", "cofficient:"))
    assert len(caught.value.problems) == 2


def test_missing_file(tmp_path):
    with pytest.raises(MatrixError, match="cannot be read"):
        load_cells(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: caf\xe9\n", "is not UTF-8 text"),
        (b"name: a\x00b\n", "not YAML that can be read"),
        (b"name: 2026-13-45\n", "not YAML that can be read"),
    ],
)
def test_files_that_are_no_text_or_no_yaml(tmp_path, content, message):
    (tmp_path / "m.yaml").write_bytes(content)
    with pytest.raises(MatrixError, match=message):
        load_cells(tmp_path / "m.yaml")


def test_a_list_is_not_a_matrix(read):
    with pytest.raises(MatrixError, match="a matrix is a mapping"):
        read("- 1\n- 2\n")


def test_the_quickstart_parses(repo):
    cells = load_cells(repo / "matrix.yaml")
    assert {"grpo", "entreg", "clip"} <= {cell.algorithm for cell in cells}


def test_a_preset_is_spelled_out_and_what_stands_beside_it_comes_first(read):
    plain, preset = (
        read(GOOD.replace("samples: 16", text))[0]
        for text in ("samples: 16\n  top_p: 0.95", "samples: 16\n  preset: aepo-passk")
    )
    assert preset == plain, "a preset is no setting of its own"
    aent = read(
        GOOD.replace(
            "samples: 16\n  pass_at: [1, 8]", "preset: aent\n  pass_at: [1, 4]\n  top_p: 0.9"
        )
    )
    found = [aent[0].evaluate[k] for k in ("samples", "temperature", "top_p", "top_k")]
    assert found == [4, 0.6, 0.9, 20]
    own = "evaluate: {preset: aent, pass_at: [1]}"
    arm = read(
        GOOD.replace("grpo: {}", f"grpo: {{{own}}}").replace("samples:", "top_p: 1\n  samples:")
    )
    assert arm[0].evaluate["top_p"] == 0.95, "an arm's preset comes before the matrix's settings"
    with pytest.raises(MatrixError, match=r"m\.yaml:18: evaluate\.preset: .* 'aepo': did you"):
        read(GOOD.replace("pass_at: [1, 8]", "preset: aepo"))


# Inheritance -------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Writes files, loads the first one."""

    def load(**texts):
        for stem, text in texts.items():
            path = tmp_path / f"{stem.replace('__', '/')}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return load_cells(tmp_path / f"{next(iter(texts)).replace('__', '/')}.yaml")

    return load


BASE = GOOD.replace("name: test\n", "")
CHILD = """\
extends: base.yaml
name: child
train: {lr: 1e-4}
budget: {gpu_hours: 2}
seeds: [7]
arms:
  entreg: {std: false}
  aent: {}
evaluate: {pass_at: [2]}
"""


def test_a_matrix_on_top_of_another_one(files):
    """Mappings merge, lists and what is one choice (budget) are replaced, arms too are mappings."""
    cells = files(child=CHILD, base=BASE)
    assert [(cell.seed, cell.arm) for cell in cells] == [
        (7, arm) for arm in ("grpo", "entreg", "clip-higher", "aent")
    ]
    assert {cell.matrix for cell in cells} == {"child"}
    assert cells[1].settings["coefficient"] == 0.01 and cells[1].settings["std"] is False
    assert cells[0].train["lr"] == 1e-4 and cells[0].train["prompts_per_step"] == 16
    assert cells[0].evaluate["pass_at"] == [2] and cells[0].evaluate["samples"] == 16
    assert cells[0].budget == {"gpu_hours": 2}


def test_a_matrix_written_out_whole_is_the_same_experiment(files, read):
    whole = (
        GOOD.replace("lr: 5e-4", "lr: 1e-4")
        .replace("{steps: 3}", "{gpu_hours: 2}")
        .replace("[0, 1]", "[7]")
        .replace("{coefficient: 0.01}", "{coefficient: 0.01, std: false}\n  aent: {}")
        .replace("pass_at: [1, 8]", "pass_at: [2]")
    )
    inherited = {cell.arm: cell.id for cell in files(child=CHILD, base=BASE)}
    assert inherited == {cell.arm: cell.id for cell in read(whole)}


def test_the_deeper_file_wins_over_two_generations(files):
    cells = files(
        c="extends: b.yaml\ntrain: {lr: 3e-4}\n",
        b="extends: a.yaml\nname: b\ntrain: {lr: 2e-4, weight_decay: 0.1}\n",
        a=GOOD,
    )
    assert {(c.matrix, c.train["lr"], c.train["weight_decay"]) for c in cells} == {("b", 3e-4, 0.1)}


def test_columns_belong_to_one_data_set_and_are_not_mixed(files):
    base = GOOD.replace("lr: 5e-4", "lr: 5e-4\n  columns: {problem: question}")
    assert "columns" in files(a=base)[0].train
    assert "columns" not in files(b="extends: a.yaml\ntrain: {columns: {}}\n", a=base)[0].train
    (columns,) = {
        tuple(cell.train["columns"].items())
        for cell in files(b="extends: a.yaml\ntrain: {columns: {answer: gold}}\n", a=base)
    }
    assert columns == (("answer", "gold"),)
    with pytest.raises(MatrixError, match=r"b\.yaml:2: train\.columns\.probem"):
        files(b="extends: a.yaml\ntrain: {columns: {probem: x}}\n", a=base)


def test_paths_are_relative_to_the_file_that_wrote_them(files, tmp_path):
    (tmp_path / "lib" / "model").mkdir(parents=True)
    (tmp_path / "lib" / "model" / "config.json").write_text("{}")
    (tmp_path / "lib" / "p.jsonl").write_text(BENCHMARK)
    (tmp_path / "own.jsonl").write_text(BENCHMARK)
    base = (
        GOOD.replace("model: arithmetic-tiny", "model: ./model")
        .replace("dataset: arithmetic", "dataset: p.jsonl\n  max_new_tokens: 40")
        .replace("[arithmetic]", "[aime24]\n  data_files: {aime24: p.jsonl}")
    )
    lib = tmp_path / "lib"
    cell = files(child="extends: lib/base.yaml\ntrain: {lr: 1e-4}\n", lib__base=base)[0]
    assert cell.model == str(lib / "model") and cell.train["dataset"] == str(lib / "p.jsonl")
    assert cell.evaluate["data_files"] == {"aime24": str(lib / "p.jsonl")}
    child = "extends: lib/base.yaml\ntrain: {dataset: own.jsonl}\n"
    assert files(child=child, lib__base=base)[0].train["dataset"] == str(tmp_path / "own.jsonl")


@pytest.mark.parametrize(
    ("child", "base", "place", "message"),
    [
        ("", ("lr: 5e-4", "lr: fast"), "base.yaml:7", "train.lr: Input should be a valid number"),
        ("", ("coefficient:", "coeficient:"), "base.yaml:12", "did you mean 'coefficient'"),
        ("", ("[1, 8]", "[1, 32]"), "base.yaml:17", "pass@32 needs"),
        ("train: {promts_per_step: 4}\n", None, "child.yaml:3", "train.promts_per_step: unknown"),
        ("arms: {entreg: {coefficient: -1}}\n", None, "child.yaml:3", "must be >= 0"),
        ("evaluate: {samples: 4}\n", None, "base.yaml:17", "pass@8 needs at least 8 samples"),
        ("seeds: [1, 1]\n", None, "child.yaml:3", "the same seed twice"),
        ("", ("lr: 5e-4", "lr: 5e-4\n  lr: 1e-4"), "base.yaml:8", "train.lr: the same key twice"),
        ("", ("budget: {steps: 3}\n", ""), "child.yaml:1", "budget: is missing"),
    ],
)
def test_a_problem_is_named_where_it_was_written(files, tmp_path, child, base, place, message):
    text = BASE.replace(*base) if base else BASE
    with pytest.raises(MatrixError) as caught:
        files(child="extends: base.yaml\nname: child\n" + child, base=text)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path / place}: ") and message in problem


@pytest.mark.parametrize(
    ("named", "line"),
    [
        ("none.yaml", "extends: no file at "),
        ("[base.yaml]", "extends: must be one path, got ['base.yaml']"),
        ("child.yaml", "extends: a file extends itself: child.yaml -> child.yaml"),
        ("base.yaml", "extends: a file extends itself: child.yaml -> base.yaml -> child.yaml"),
    ],
)
def test_a_file_that_extends_what_it_cannot(files, tmp_path, named, line):
    with pytest.raises(MatrixError) as caught:
        files(child=f"extends: {named}\n", base="extends: child.yaml\n")
    (problem,) = caught.value.problems
    file = "base" if named == "base.yaml" else "child"
    assert problem.startswith(f"{tmp_path / file}.yaml:1: {line}")

"""The benchmarks: read from any source, pinned, gradable, and the same through lm-eval."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import catalogue, prompts
from benchmarks.answers import clean
from benchmarks.grading import Grader
from benchmarks.tasks import _shared
from suite.stats import pass_at_k

SHARED = Path(os.environ.get("SUITE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
HUB = sorted(name for name, b in catalogue.known().items() if not b.embedded)
ALL = sorted(catalogue.known())

needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed"
)
needs_shared = pytest.mark.skipif(
    not (SHARED / "benchmarks").is_dir(), reason="the benchmark files are not beside the project"
)

ROWS = [
    {"id": "a", "problem": "What is {1}+1?", "answer": "2"},
    {"id": "b", "problem": "Half of one?", "answer": "\\frac{1}{2}"},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path):
    """Two problems under the name of every benchmark of the hub."""
    for name in HUB:
        write(tmp_path / f"{name}.jsonl", ROWS)
    return tmp_path


# ---------------------------------------------------------------- the catalogue


def test_the_benchmarks_of_the_papers_and_the_embedded_families_are_known():
    papers = "aime24 aime25 amc23 gsm8k math500 math_hard minerva_math olympiadbench"
    families = "addition chain multiplication fractions"
    embedded = ["arithmetic", *(f"arithmetic_{family}" for family in families.split())]
    assert sorted([*papers.split(), *embedded]) == ALL


@pytest.mark.parametrize("name", ALL)
def test_every_benchmark_is_pinned_and_described(name):
    benchmark = catalogue.known()[name]
    assert re.fullmatch("[0-9a-f]{64}", benchmark.sha256)
    assert benchmark.embedded or re.fullmatch("[0-9a-f]{40}", benchmark.revision)
    assert len(benchmark.about) > 100 or benchmark.embedded
    assert benchmark.licence and benchmark.paper and benchmark.problems > 0
    assert benchmark.prompt in prompts.TEMPLATES


# What the hub's rows look like, and the problem and answer that they hold.
HUB_ROWS = {
    "aime24": ({"id": 60, "problem": "p", "solution": "s", "answer": "070"}, "070"),
    "aime25": ({"id": "0", "problem": "p", "answer": "70"}, "70"),
    "amc23": ({"id": 0, "question": "p", "answer": 27.0, "url": "u"}, "27"),
    "gsm8k": ({"question": "p", "answer": "1,000 + 234 = 1,234\n#### 1,234"}, "1234"),
    "math500": ({"problem": "p", "answer": "p - q", "unique_id": "test/1.json"}, "p - q"),
    "math_hard": (
        {
            "problem": "p",
            "level": "Level 5",
            "solution": "$\\boxed{1}$, so $\\boxed{\\frac{1}{2}}$",
        },
        "\\frac{1}{2}",
    ),
    "minerva_math": ({"question": "p", "answer": "4.5e33"}, "4.5e33"),
    "olympiadbench": ({"id": 1606, "question": "p", "final_answer": ["2", "3"]}, "2,3"),
}


@pytest.mark.parametrize("name", HUB)
def test_the_hub_is_asked_for_the_pinned_revision_and_its_columns_are_read(
    name, monkeypatch, tmp_path
):
    datasets = pytest.importorskip("datasets")
    raw, answer = HUB_ROWS[name]
    asked = []

    def load_dataset(*place, **more):
        asked.append((place, more))
        return [raw]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.delenv("SUITE_DATA", raising=False)
    benchmark = catalogue.known()[name]
    found = catalogue.edition(name)
    assert found.rows == [{"id": f"{name}-1", "problem": "p", "answer": answer}]
    pin = {"revision": benchmark.revision, "split": benchmark.split}
    assert asked == [((benchmark.hub, benchmark.config), pin)]
    assert benchmark.revision in found.origin
    # The same rows in a local file are read the same way.
    assert catalogue.load(name, write(tmp_path / "x.jsonl", [raw]))[0]["answer"] == answer


def test_without_file_and_network_one_line_says_what_was_tried_and_what_to_do(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def load_dataset(*_, **__):
        raise ConnectionError("Couldn't reach the hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.delenv("SUITE_DATA", raising=False)
    with pytest.raises(catalogue.Unreachable) as caught:
        catalogue.load("aime24")
    text = str(caught.value)
    assert "\n" not in text and "Couldn't reach the hub" in text
    for part in ("'aime24'", "HuggingFaceH4/aime_2024@2fe88a2", "data_files", "SUITE_DATA"):
        assert part in text


def test_a_folder_in_the_environment_takes_the_place_of_the_hub(folder, monkeypatch):
    monkeypatch.setenv("SUITE_DATA", str(folder))
    assert catalogue.load("aime24") == ROWS
    other = write(folder / "other.jsonl", ROWS[:1])
    assert catalogue.load("aime24", other) == ROWS[:1]
    with pytest.raises(catalogue.Unreachable, match="no benchmark file at"):
        catalogue.load("aime24", folder / "none.jsonl")


def test_the_digest_sees_content_and_not_typography(folder):
    digest = catalogue.content_digest
    same = [
        {"id": "y", "problem": "half of  $one$", "answer": "$\\frac{1}{2}$"},
        {"id": "x", "problem": "What is {1} + 1 ?", "answer": "02"},
    ]
    assert digest(same) == digest(ROWS)
    assert digest([ROWS[0], ROWS[1] | {"answer": "2"}]) != digest(ROWS)
    warning = catalogue.edition("aime24", folder).warning
    assert "not the edition that was checked" in warning and "2 problems" in warning


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no problems"),
        ([ROWS[0], {"id": "b", "problem": "p"}], "row 2 has no id, problem and answer"),
        ([ROWS[0] | {"problem": " "}], "row 1 .*empty"),
    ],
)
def test_files_that_are_no_benchmark(rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        catalogue.load("aime24", write(tmp_path / "x.jsonl", rows))


def test_the_embedded_families_are_made_without_any_file():
    for name in ALL:
        benchmark = catalogue.known()[name]
        if benchmark.embedded:
            found = catalogue.edition(name)
            assert len(found.rows) == benchmark.problems and found.warning is None
            families = {row["id"].split("-")[0] for row in found.rows}
            assert families == set(benchmark.embedded)


# ---------------------------------------------------------------- the real files


@needs_shared
@pytest.mark.parametrize("name", HUB)
def test_the_files_beside_the_project_are_the_edition_that_is_pinned(name):
    found = catalogue.edition(name, SHARED / "benchmarks")
    assert found.warning is None and len(found.rows) == catalogue.known()[name].problems


@needs_shared
def test_every_gold_of_every_file_earns_its_own_point():
    files = sorted((SHARED / "benchmarks").glob("*.jsonl"))
    assert len(files) == 10
    golds = {json.loads(line)["answer"] for file in files for line in file.open()}
    with Grader(workers=2) as grader:
        verdicts = grader.grade((gold, f"\\boxed{{{gold}}}") for gold in golds)
    assert {verdict.status for verdict in verdicts} == {"correct"}


@pytest.mark.slow
@needs_shared
def test_every_gold_of_the_known_benchmarks_parses():
    """Through math-verify itself: what it cannot parse equals nothing, not even itself."""
    golds = {
        clean(row["answer"]) for name in HUB for row in catalogue.load(name, SHARED / "benchmarks")
    }
    with Grader(workers=2, timeout=20.0) as grader:
        decided = grader._decide_all([(gold, gold) for gold in sorted(golds)])
    assert [gold for (gold, _), status in decided.items() if status != "correct"] == []


# ---------------------------------------------------------------- prompts


def test_templates_put_the_problem_in_unchanged():
    assert prompts.render("none", "a{b}") == prompts.render(None, "a{b}") == "a{b}"
    boxed = prompts.render("boxed", "a{b}\\frac{1}{2}")
    assert boxed.startswith("a{b}\\frac{1}{2}\n") and boxed.rstrip().endswith("within \\boxed{}.")
    assert prompts.render("Q: {}\nA:", "x") == "Q: x\nA:"
    assert prompts.render("qwen-math", "x").count("<|im_start|>") == 3


@pytest.mark.parametrize("name", ["boxd", "no place", "{} {}", "{", "{name}"])
def test_what_is_no_template(name):
    with pytest.raises(ValueError, match="unknown prompt template"):
        prompts.template(name)


# ---------------------------------------------------------------- lm-eval


def test_all_repeats_of_a_problem_are_graded_together():
    doc = {"answer": "\\frac{1}{2}"}
    right, wrong, silent = "\\boxed{0.5}", "\\boxed{3}", "I think 1/2"
    results = _shared.process_results(doc, [[right, wrong, silent, wrong]])
    assert results["mean"] == 0.25 and results["unparsed"] == 0.25 and results["unique"] == 0.75
    # One right of four: a pair misses it with probability (3/4)(2/3) = 1/2.
    assert [results[f"pass@{k}"] for k in (1, 2, 4)] == pytest.approx([0.25, 0.5, 1.0])
    assert "pass@8" not in results
    assert _shared.process_results(doc, [right])["mean"] == 1.0


def test_pass_at_k_is_that_of_the_suite():
    for n, c, k in [(1024, 0, 8), (1024, 1, 512), (32, 31, 2), (64, 7, 64), (8, 8, 1)]:
        assert _shared.pass_at_k(n, c, k) == pytest.approx(pass_at_k([n], [c], k)[0], abs=1e-12)


@pytest.fixture
def manager(folder):
    from lm_eval.tasks import TaskManager

    return TaskManager(
        include_path=str(catalogue.TASKS),
        include_defaults=False,
        metadata={"data_files": str(folder)},
    )


@needs_lm_eval
def test_every_task_loads_in_lm_eval(manager):
    assert sorted(manager.all_subtasks) == [f"suite_{name}" for name in ALL]
    tasks = manager.load(["suite"])["tasks"]
    assert sorted(tasks) == [f"suite_{name}" for name in ALL]
    for name in ALL:
        task, benchmark = tasks[f"suite_{name}"], catalogue.known()[name]
        docs = list(task.test_docs())
        assert len(docs) == (benchmark.problems if benchmark.embedded else 2)
        expected = prompts.render(benchmark.prompt, docs[0]["problem"])
        assert task.doc_to_text(docs[0]) == expected
        sampling = task.config.generation_kwargs
        assert sampling["until"] == [] and sampling["do_sample"] is True
        assert sampling["temperature"] > 0 and "seed" not in sampling
        assert task.config.repeats == (32 if "aime" in name or name == "amc23" else 4)


@needs_lm_eval
def test_no_task_takes_a_name_of_lm_eval():
    root = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks"
    taken = re.compile(r"^\s*(?:- )?(?:task|tag|group): suite", re.MULTILINE)
    assert [p for p in root.rglob("*.yaml") if taken.search(p.read_text(errors="replace"))] == []


@needs_lm_eval
def test_lm_eval_scores_what_it_is_told(manager):
    import lm_eval
    from lm_eval.api.model import LM

    class Scripted(LM):
        """Right once in four on the first problem, never on the second."""

        asked: list = []  # noqa: RUF012

        def generate_until(self, requests, disable_tqdm=False):
            self.asked += [request.args for request in requests]
            answers = iter(["\\boxed{2}", "\\boxed{3}", "2", "\\boxed{4}"])
            return [
                next(answers) if "1}+1" in request.args[0] else "\\boxed{7}" for request in requests
            ]

        def loglikelihood(self, requests):
            raise NotImplementedError

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

    model = Scripted()
    found = lm_eval.simple_evaluate(
        model, tasks=["suite_math500"], task_manager=manager, bootstrap_iters=0
    )
    scores = {key.split(",")[0]: v for key, v in found["results"]["suite_math500"].items()}
    assert [
        scores[key] for key in ("mean", "pass@1", "pass@2", "pass@4", "unparsed", "unique")
    ] == (pytest.approx([0.125, 0.125, 0.25, 0.5, 0.125, 0.625]))
    assert len(model.asked) == 8
    assert model.asked[0][0] == prompts.render("boxed", ROWS[0]["problem"])
    assert model.asked[0][1]["temperature"] == 0.6
    assert [len(s["filtered_resps"][0]) for s in found["samples"]["suite_math500"]] == [4, 4]


@needs_lm_eval
def test_the_plain_command_scores_a_real_model_from_anywhere(tmp_path, arithmetic_model):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SUITE_DATA")}
    model = ["--model", "hf", "--model_args", f"pretrained={arithmetic_model},dtype=float32"]
    tasks = ["--include_path", str(catalogue.TASKS), "--tasks", "suite_arithmetic"]
    more = ["--device", "cpu", "--batch_size", "64", "--limit", "16", "--output_path", "out"]
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "lm_eval", "run", *model, *tasks, *more, "--log_samples"],
        cwd=tmp_path,
        env=environment | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    (written,) = (tmp_path / "out").rglob("results_*.json")
    scores = json.loads(written.read_text())["results"]["suite_arithmetic"]
    assert 0.05 < scores["mean,all"] < 0.9 and scores["unique,all"] > 0.5
    assert scores["mean,all"] == scores["pass@1,all"] < scores["pass@4,all"]
    (samples,) = (tmp_path / "out").rglob("samples_*.jsonl")
    assert all(len(json.loads(line)["filtered_resps"][0]) == 4 for line in samples.open())

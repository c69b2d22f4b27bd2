"""Records of an evaluation: counts, seeds and order, and benchmark files that are not ones."""

import itertools
import json

import pytest

from benchmarks.grading import Grader
from benchmarks.sampling import Sampling, evaluate, hashed_seed, read_benchmark

ROWS = [
    {"id": "a", "problem": "1+1=", "answer": "2", "family": "x"},
    {"id": "b", "problem": "1/2+1/3=", "answer": "\\frac{5}{6}"},
    {"id": "c", "problem": "2+2=", "answer": 4},
]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "b.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


def run(path, **settings):
    """The records, and the requests that were made for them."""
    asked = []
    texts = {
        "1+1=": ["\\boxed{2}", "\\boxed{3}", "so 2", "\\boxed{2}"],
        "1/2+1/3=": ["\\boxed{10/12}", "\\boxed{\\frac{5}{6}}", "\\boxed{1}", "\\boxed{"],
        "2+2=": ["\\boxed{4}"] * 4,
    }

    def generate(problems, params):
        asked.extend(zip(problems, params, strict=True))
        return [[(text, len(text), False) for text in texts[p]] for p in problems]

    sampling = Sampling(samples=4, max_new_tokens=16, **settings)
    with Grader(workers=1) as grader:
        return list(evaluate(generate, grader, path, "b", sampling, seed=7)), asked


def test_verdicts_keep_the_order_of_sampling(path):
    records, _ = run(path)
    assert [(r["problem"], r["verdicts"]) for r in records] == [
        ("a", "cwuc"),
        ("b", "ccwu"),
        ("c", "cccc"),
    ]
    assert (records[0]["correct"], records[0]["wrong"], records[0]["unparsed"]) == (2, 1, 1)
    assert [r["unique"] for r in records] == [3, 4, 1]


def test_chunks_change_nothing_and_problems_limit(path):
    assert run(path, chunk=1)[0] == run(path)[0]
    assert [r["problem"] for r in run(path, problems=2)[0]] == ["a", "b"]


def test_every_problem_has_its_own_seed(path):
    _, asked = run(path)
    assert len({params["seed"] for _, params in asked}) == 3
    assert all(params["n"] == 4 and "top_k" not in params for _, params in asked)
    assert run(path, top_k=5)[1][0][1]["top_k"] == 5


def test_neighbouring_seeds_are_far_apart():
    """vLLM gives sample i of a request seed + i: seeds a few apart would share samples."""
    seeds = sorted(hashed_seed(0, "b", str(i)) for i in range(1000))
    assert min(b - a for a, b in itertools.pairwise(seeds)) > 64
    assert seeds[0] >= 0 and seeds[-1] < 2**31


@pytest.mark.parametrize("line", ["not json", "[1]", '{"id": 1, "problem": "x"}'])
def test_a_bad_line_is_named(tmp_path, line):
    file = tmp_path / "b.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=r"b\.jsonl:2: "):
        read_benchmark(file)

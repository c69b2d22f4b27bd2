"""Records of an evaluation: counts, seeds and order, and benchmark files that are not ones."""

import json

import pytest

from benchmarks import catalogue
from benchmarks.grading import Grader
from benchmarks.sampling import Sampling, batches, evaluate, read_benchmark

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


TEXTS = {
    "1+1=": ["\\boxed{2}", "\\boxed{3}", "so 2", "\\boxed{2}"],
    "1/2+1/3=": ["\\boxed{10/12}", "\\boxed{\\frac{5}{6}}", "\\boxed{1}", "\\boxed{"],
    "2+2=": ["\\boxed{4}"] * 4,
}


BASES = {}  # the seed of a problem's sample 0, which every evaluation here asks for first


def run(path, done=None, **settings):
    """The records, and the requests that were made for them; sample j is a function of its seed."""
    asked = []

    def generate(problems, params):
        asked.extend(zip(problems, params, strict=True))
        groups = []
        for problem, one in zip(problems, params, strict=True):
            base = BASES.setdefault(problem, one["seed"])
            texts = [TEXTS[problem][(one["seed"] - base + i) % 4] for i in range(one["n"])]
            groups.append([(text, len(text), False) for text in texts])
        return groups

    sampling = Sampling(**{"samples": 4, "max_new_tokens": 16} | settings)
    with Grader(workers=1) as grader:
        return list(evaluate(generate, grader, path, "b", sampling, seed=7, done=done)), asked


def test_verdicts_keep_the_order_of_sampling(path):
    records, _ = run(path)
    assert [(r["problem"], r["verdicts"]) for r in records] == [
        ("a", "cwuc"),
        ("b", "ccwu"),
        ("c", "cccc"),
    ]
    assert records[0]["answers"] == ["2", "3", None, "2"]
    assert records[0]["lengths"] == [len(text) for text in TEXTS["1+1="]]
    assert [len(set(r["digests"])) for r in records] == [3, 4, 1]
    assert records[1]["texts"] == TEXTS["1/2+1/3="]


def verdicts(records):
    """Of each problem, its batches in order."""
    problems = dict.fromkeys(r["problem"] for r in records)
    ordered = sorted(records, key=lambda r: r["first"])
    return {p: "".join(r["verdicts"] for r in ordered if r["problem"] == p) for p in problems}


@pytest.mark.parametrize("batch", [1, 3, 4, 64])
@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_how_samples_are_cut_into_requests_changes_nothing(path, batch, chunk):
    whole = run(path, samples=10)
    cut, asked = run(path, samples=10, batch=batch, chunk=chunk)
    assert verdicts(cut) == verdicts(whole[0])
    assert sum(params["n"] for _, params in asked) == 30

    def seeds(requests):
        return sorted((p, one["seed"] + i) for p, one in requests for i in range(one["n"]))

    assert seeds(asked) == seeds(whole[1]) and len(set(seeds(asked))) == 30


@pytest.mark.parametrize("steps", [[4, 10], [3, 10], [1, 2, 10], [10, 6]])
@pytest.mark.parametrize("batch", [3, 4, 64])
def test_an_evaluation_grows_without_drawing_anything_twice(path, steps, batch):
    """Whatever was there, the result is that of drawing all at once."""
    whole = verdicts(run(path, samples=max(steps))[0])
    done, records = {}, []
    for samples in steps:
        fresh, asked = run(path, done, samples=samples, batch=batch)
        records += fresh
        assert sum(params["n"] for _, params in asked) == sum(r["n"] for r in fresh)
        done |= {(r["problem"], r["first"]): r["n"] for r in fresh}
    drawn = sorted((r["problem"], r["first"] + i) for r in records for i in range(r["n"]))
    assert drawn == [(p, i) for p in "abc" for i in range(max(steps))]
    assert verdicts(records) == whole


def test_what_is_drawn_is_told_before_it_is_graded(path):
    """A chunk at once: its records come only when the next one has been drawn."""
    told = []

    def generate(problems, params):
        told.append("asked")
        return [[("\\boxed{2}", 5, False)] * one["n"] for one in params]

    def drawn(samples, tokens):
        told.append((samples, tokens))

    sampling = Sampling(samples=4, max_new_tokens=16, chunk=8)
    with Grader(workers=1) as grader:
        for record in evaluate(generate, grader, path, "b", sampling, seed=7, drawn=drawn):
            told.append(record["problem"])
    assert told == ["asked", (8, 40), "asked", (4, 20), "a", "b", "c"]


def test_a_gap_in_the_middle_is_filled(path):
    done = {("a", 0): 2, ("a", 6): 4}
    wanted = batches(path, Sampling(samples=10, max_new_tokens=1, batch=3, problems=1), done)
    assert [(first, n) for _, first, n in wanted] == [(2, 1), (3, 3)]


def test_problems_limit(path):
    assert [r["problem"] for r in run(path, problems=2)[0]] == ["a", "b"]


def test_every_problem_has_its_own_seeds(path):
    """vLLM gives sample i of a request seed + i: no two problems may share one."""
    _, asked = run(path, samples=1024, batch=64)
    seeds = {params["seed"] + i for _, params in asked for i in range(64)}
    assert len(seeds) == 3 * 1024 and max(seeds) < 2**49
    assert all("top_k" not in params for _, params in asked)
    assert run(path, top_k=5)[1][0][1]["top_k"] == 5


@pytest.mark.parametrize("line", ["not json", "[1]", '{"id": 1, "problem": "x"}'])
def test_a_bad_line_is_named(tmp_path, line):
    file = tmp_path / "b.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=r"b\.jsonl:2: "):
        read_benchmark(file)


def test_a_problem_may_hold_any_character_and_lines_may_be_empty(tmp_path):
    """JSON leaves U+2028 and U+0085 as they are; str.splitlines would cut there."""
    row = {"id": "a", "problem": "one\u2028two\u0085 ∑", "answer": "1"}
    file = tmp_path / "x.jsonl"
    file.write_text("\n" + json.dumps(row, ensure_ascii=False) + "\n\n", encoding="utf-8")
    assert read_benchmark(file) == [row] == catalogue.load("aime24", file)


def test_a_chunk_of_long_responses_is_smaller():
    """What a kill can lose is bounded in tokens: 2,097,152, but a batch at least."""
    assert Sampling(samples=1024, max_new_tokens=40).requests == 64
    assert Sampling(samples=1024, max_new_tokens=4096).requests == 8
    assert Sampling(samples=1024, max_new_tokens=1 << 20).requests == 1
    assert Sampling(samples=4, max_new_tokens=40).requests == 1024

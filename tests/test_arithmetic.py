"""The embedded benchmark: fair splits, right answers, exact text, and a base model with room."""

import hashlib
import json
import random
import re
import subprocess
import sys
from fractions import Fraction

import pytest

from benchmarks.arithmetic import recipe, solutions
from benchmarks.arithmetic.problems import FAMILIES, make, pool, problems, write_jsonl

BOX = re.compile(r"\\boxed\{(.*)\}$")


def every_problem():
    return [
        make(family, operands)
        for family in FAMILIES
        for split in ("train", "test")
        for operands in pool(split, family)
    ]


def value(text: str) -> Fraction:
    r"""Evaluate a prompt such as `5/6+3/4=` or an answer such as `\frac{19}{12}`."""
    text = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text.rstrip("="))
    return eval(re.sub(r"(\d+)", r"Fraction(\1)", text), {"Fraction": Fraction})


# problems


def test_every_answer_is_what_the_prompt_evaluates_to():
    for problem in every_problem():
        assert value(problem.problem) == value(problem.answer), problem


def test_fractions_are_in_lowest_terms():
    for problem in every_problem():
        exact = value(problem.answer)
        shape = f"\\frac{{{exact.numerator}}}{{{exact.denominator}}}"
        assert problem.answer == (str(exact) if exact.denominator == 1 else shape)


def test_ids_and_texts_are_unique():
    everything = every_problem()
    assert len({p.id for p in everything}) == len({p.problem for p in everything})
    assert len({p.id for p in everything}) == len(everything)


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1), (7, 3)])
def test_train_and_test_share_no_problem_whatever_the_seeds(seeds):
    train = {p.problem for p in problems("train", 1500, seed=seeds[0])}
    test = {p.problem for p in problems("test", 600, seed=seeds[1])}
    assert len(train) == 1500 and len(test) == 600 and not train & test


def test_the_split_is_a_hash_of_the_text_alone():
    for problem in problems("test", 300, seed=5):
        assert int(hashlib.sha256(problem.problem.encode()).hexdigest(), 16) % 4 == 0


def test_draws_are_deterministic_balanced_and_grow_by_appending():
    first = problems("test", 200)
    assert first == problems("test", 200)
    assert first[:40] == problems("test", 40)
    assert first != problems("test", 200, seed=1)
    assert {f: sum(p.family == f for p in first) for f in FAMILIES} == dict.fromkeys(FAMILIES, 50)


def test_families_can_be_chosen_and_give_up_their_turns_when_they_run_out():
    assert {p.family for p in problems("train", 9, families=["chain"])} == {"chain"}
    small = len(pool("test", "fractions"))
    drawn = problems("test", 2 * small + 50, families=["fractions", "addition"])
    assert sum(p.family == "addition" for p in drawn) == small + 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tests", "n": 4}, "unknown split 'tests': did you mean 'test'"),
        ({"split": "test", "n": 4, "families": ["adition"]}, "did you mean 'addition'"),
        ({"split": "test", "n": 4, "families": []}, "at least one of addition"),
        ({"split": "test", "n": 10**6}, r"n=1000000 test problems .* exist"),
        ({"split": "test", "n": -1}, "n=-1"),
    ],
)
def test_bad_requests_say_what_would_be_right(arguments, message):
    with pytest.raises(ValueError, match=message):
        problems(**arguments)


def test_jsonl_lines_hold_the_four_fields(tmp_path):
    drawn = problems("test", 12)
    write_jsonl(tmp_path / "test.jsonl", drawn)
    lines = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "id": drawn[0].id,
        "problem": drawn[0].problem,
        "answer": drawn[0].answer,
        "family": drawn[0].family,
    }
    assert [line["id"] for line in lines] == [p.id for p in drawn]


# solutions


@pytest.mark.parametrize("family", FAMILIES)
def test_careful_solutions_are_right_everywhere(family):
    rng = random.Random(0)
    for operands in pool("train", family) + pool("test", family):
        text = solutions.careful(family, operands, rng)
        assert BOX.search(text)[1] == make(family, operands).answer


def test_careful_solutions_read_like_work():
    text = solutions.careful("addition", (47, 38), random.Random(0))
    assert re.fullmatch(r".*15.*8.*\\boxed\{85\}", text)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mixture_is_often_wrong_and_the_more_so_the_harder(family):
    """About careful share + hasty share x 0.6^steps + a tenth of the guesses."""
    rng, right = random.Random(0), 0
    for _ in range(2000):
        operands = rng.choice(pool("train", family))
        boxed = BOX.search(solutions.solution(family, operands, rng))[1]
        right += boxed == make(family, operands).answer
    expected = {"addition": 0.61, "chain": 0.49, "multiplication": 0.38, "fractions": 0.34}
    assert right / 2000 == pytest.approx(expected[family], abs=0.05)


# the recipe


def test_the_recipe_hash_needs_no_torch_and_follows_the_settings():
    code = (
        "import sys; from benchmarks.arithmetic import recipe, problems;"
        "print(recipe.recipe_hash()); assert 'torch' not in sys.modules"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == recipe.recipe_hash()
    assert recipe.recipe_hash(1) != recipe.recipe_hash(0)
    assert recipe.recipe_hash(0, recipe.Recipe(steps=7)) != recipe.recipe_hash(0)


# the tokenizer and the model


@pytest.fixture(scope="module")
def tokenizer():
    pytest.importorskip("torch")
    from benchmarks.arithmetic.model import build_tokenizer

    return build_tokenizer()


@pytest.mark.slow
def test_every_text_survives_the_tokenizer_unchanged(tokenizer):
    rng = random.Random(0)
    everything = every_problem()
    texts = [p.problem for p in everything] + [rf"\boxed{{{p.answer}}}" for p in everything]
    for family in FAMILIES:
        for operands in pool("train", family):
            texts += [solutions.careful(family, operands, rng)]
            texts += [solutions.hasty(family, operands, rng)]
            texts += [solutions.terse(family, operands, rng)]
    ids = tokenizer(texts)["input_ids"]
    assert not any(tokenizer.unk_token_id in row for row in ids)
    assert tokenizer.batch_decode(ids) == texts


def test_commands_and_words_are_single_tokens_and_strangers_are_unknown(tokenizer):
    assert tokenizer.tokenize(r"\boxed{\frac{5}{6}}") == [
        "\\boxed{", "\\frac{", "5", "}{", "6", "}", "}",
    ]  # fmt: skip
    for word in (*solutions.OPENERS, *solutions.SEPARATORS, *solutions.CLOSERS):
        assert tokenizer.tokenize(word) == [word]
    assert tokenizer("1é\n2")["input_ids"][1:3] == [tokenizer.unk_token_id] * 2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_the_cache_is_used(tmp_path):
    pytest.importorskip("torch")
    from benchmarks.arithmetic.model import build, cached

    quiet = {"seed": 3, "steps": 4, "log": lambda text: None}
    first = cached(tmp_path, **quiet)
    second = build(tmp_path / "again", **quiet)
    weights = (first / "model.safetensors").read_bytes()
    assert weights == (second / "model.safetensors").read_bytes()
    built = (first / "model.safetensors").stat().st_mtime_ns
    assert cached(tmp_path, **quiet) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == built
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([first.name, "again"])
    other = build(tmp_path / "other", **(quiet | {"seed": 4}))
    assert weights != (other / "model.safetensors").read_bytes()


def test_the_builder_that_comes_second_keeps_the_first_ones_model(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from benchmarks.arithmetic import model

    def lose_the_race(work, *, seed, steps, log):
        winner = tmp_path / f"{recipe.NAME}-{recipe.recipe_hash(0)}"
        for directory in (winner, work):
            directory.mkdir()
            (directory / "weights").write_text(directory.name)
        return work

    monkeypatch.setattr(model, "build", lose_the_race)
    kept = model.cached(tmp_path, log=lambda text: None)
    assert (kept / "weights").read_text() == kept.name
    assert [p.name for p in tmp_path.iterdir()] == [kept.name]


def test_the_base_model_leaves_room_to_learn(arithmetic_model):
    """The band the recipe was tuned for; `python -m benchmarks.arithmetic.probe` prints it."""
    import torch

    from benchmarks.arithmetic.probe import load, measure

    torch.set_num_threads(1)
    scores = measure(*load(arithmetic_model), problems("test", 120), samples=32)
    assert 0.20 <= scores["pass@1"] <= 0.60
    assert scores["pass@16"] > scores["pass@1"] + 0.2
    assert scores["entropy"] > 0.25
    assert scores["truncated"] < 0.02
    assert scores["tokens"] < 22

"""Contamination: found whatever the typography, and nothing that only resembles it."""

import json
import os
import random
import string
from pathlib import Path

import pytest

from benchmarks.overlap import normalise, overlapping

SHARED = Path(os.environ.get("SUITE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.mark.parametrize(
    "other",
    [
        "Find  $x$ such that\n$x^2 = 4$.",
        "find x such that x^2=4",
        "Find $x$, such that: $x^2=4$!?".replace("!", ""),
        "Find \\$x such that ｘ^2=4",
    ],
)
def test_editions_of_one_problem_are_one(other):
    assert normalise(other) == normalise("Find $x$ such that $x^2=4$.")


@pytest.mark.parametrize(
    ("one", "other"),
    [("1+2=", "1-2="), ("-1", "1"), ("2/3", "23"), ("x_1", "x1"), ("a^2", "a2"), ("3!", "3")],
)
def test_what_changes_the_meaning_is_kept(one, other):
    assert normalise(one) != normalise(other)


def test_overlap_is_exact_and_in_order():
    problems = [
        {"id": "b", "problem": "What is $1+1$?"},
        {"id": "a", "problem": "What is $1+2$?"},
        {"id": "c", "problem": " . "},
    ]
    prompts = ["what is 1 + 1", "What is 1+2? Explain.", "?"]
    assert overlapping(problems, prompts) == ["b"]
    assert overlapping(problems, []) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="the benchmark files are not beside the project")
def test_exactly_the_known_overlap_is_found():
    """A training set of the published overlap's texts, retyped, among a thousand real prompts."""
    known = json.loads((SHARED / "aepo_train_overlap.json").read_text())["ids"]
    rng = random.Random(0)
    rows = {
        name: [json.loads(line) for line in (SHARED / "benchmarks" / f"{name}.jsonl").open()]
        for name in known
    }
    copied = {row["problem"] for name in known for row in rows[name] if row["id"] in known[name]}
    others = (SHARED / "train_prompts" / "dapo_aepo_1000.jsonl").open()
    prompts = [json.loads(line)["problem"] for line in others]
    for text in sorted(copied):  # in one order, whatever the hashes
        at = rng.randrange(len(text))
        prompts.append(f"{text[:at]}\n{rng.choice(string.whitespace)}${text[at:]}.")
    rng.shuffle(prompts)
    assert len(known["math_test_all"]) == 973 and len(known["math_hard"]) == 431
    for name in known:
        assert set(overlapping(rows[name], prompts)) == set(known[name]), name

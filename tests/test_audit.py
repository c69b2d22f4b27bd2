"""The audit of false positives: what it counts, what it leaves out, and the rate on real data."""

import importlib.util
import json
import types
from pathlib import Path

import pytest

from benchmarks.audit import false_positives
from benchmarks.grading import Grader, Verdict

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


class Yes:
    """A grader that holds everything for correct."""

    def grade(self, pairs):
        self.pairs = list(pairs)
        return [Verdict("correct", "") for _ in self.pairs]


def test_pairs_are_golds_of_others_without_coincidences():
    rows = [
        ("a", "5", r"\boxed{8}"),
        ("a", "5", r"\boxed{8}"),
        ("a", "5", "no answer"),
        ("b", "8.0", r"\boxed{\frac12}"),
        ("c", r"\dfrac{1}{2}", r"\boxed{5}"),
        ("d", "5.0", r"\boxed{7}"),
    ]
    audit = false_positives(rows, Yes(), against=9)
    # 8 is b's 8.0 by coincidence, a and d have the same gold, and so has c's 5 with both.
    expected = {(r"\dfrac{1}{2}", "8")}
    expected |= {(gold, r"\frac12") for gold in ("5", r"\dfrac{1}{2}", "5.0")}
    expected |= {("8.0", "5"), ("8.0", "7"), (r"\dfrac{1}{2}", "7")}
    assert set(audit.offenders) == expected and audit.pairs == len(expected) == 7
    assert audit.rate == 1 and audit.high == 1 and 0.5 < audit.low < 0.6


def test_no_pairs_no_rate():
    audit = false_positives([("a", "5", r"\boxed{8}")], Yes())
    assert audit.pairs == 0 and audit.rate != audit.rate and (audit.low, audit.high) == (0, 1)


def test_the_interval_is_clopper_and_pearsons():
    """None of 100: the rule of three's exact form, 1 - 0.025^(1/100) = 0.0362."""
    rows = [(str(number), str(number), rf"\boxed{{{number}}}") for number in range(11)]
    no = types.SimpleNamespace(grade=lambda pairs: [Verdict("wrong", "")] * len(pairs))
    audit = false_positives(rows, no, against=10)
    assert (audit.pairs, audit.rate, audit.low) == (110, 0, 0)
    assert audit.high == pytest.approx(1 - 0.025 ** (1 / 110))


OFFENDERS = {  # (gold, answer) that math-verify takes for equal, lenient on purpose
    ("8", r"$8 \%$"),  # a percentage for its number
    ("1", "$k=1$"),  # an assignment for its value
}


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("math_verify"), reason="no math-verify")
@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("model_outputs/qwen_math_100x8", 0.007),
        ("model_outputs/rlintro_gsm8k_100x2", 0.007),
        ("model_outputs/cs336_grpo_rollouts", 0.02),
        ("benchmarks/math500", 0.004),
        ("benchmarks/olympiadbench", 0.008),
    ],
)
def test_no_false_positives_on_real_answers(name, below):
    """None but OFFENDERS is "correct"; `below` bounds the upper end of the rate's interval."""
    path = DATA / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no data at {path}")
    rows = [json.loads(line) for line in path.read_text().splitlines()][:400]
    if name.startswith("benchmarks"):
        rows = [(row["id"], row["answer"], rf"\boxed{{{row['answer']}}}") for row in rows[:150]]
    else:
        rows = [(row["problem_id"], row["gold"], row["response"]) for row in rows]
    with Grader() as grader:
        audit = false_positives(rows, grader, against=8)
    assert set(audit.offenders) <= OFFENDERS and audit.undecided <= 2
    assert audit.high < below

"""How often the grader takes a wrong answer for right: responses against the golds of others.

One false positive in a thousand makes pass@1024 of a policy that knows nothing 64 %, so this rate
has to be known before a pass@k at large k is believed. Each distinct answer is graded against golds
of other problems of the same benchmark, drawn at random. An answer that is the other gold letter
for letter, or the same plain number, is a coincidence and left out; whatever else is "correct"
counts as a false positive and is listed for a person to read. That errs on the high side:
`\\sqrt{8}` against another problem's `2\\sqrt{2}` is counted too.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.answers import extract, plainly_equal
from benchmarks.grading import Grader


@dataclass(frozen=True)
class Audit:
    """What was graded (distinct pairs of gold and answer) and what should not have been "correct".

    low, high: the 95 % Clopper-Pearson interval of the rate, taking the pairs for independent.
    """

    pairs: int
    undecided: int
    offenders: list[tuple[str, str]]  # gold, answer
    low: float
    high: float

    @property
    def rate(self) -> float:
        """False positives per pair; nan without pairs."""
        return len(self.offenders) / self.pairs if self.pairs else float("nan")


def false_positives(
    rows: Iterable[tuple[str, str, str]], grader: Grader, *, against: int = 16, seed: int = 0
) -> Audit:
    """Grade the answers of (problem, gold, response) rows against golds of other problems.

    against: golds a distinct answer of a problem is graded with, or all where there are fewer.
    """
    golds: dict[str, str] = {}
    answers: dict[tuple[str, str], None] = {}  # a set in order, so that a seed means one audit
    for problem, gold, response in rows:
        golds[problem] = gold
        answer = extract(response)
        if answer is not None:
            answers[problem, answer] = None
    generator = random.Random(seed)
    pairs: dict[tuple[str, str], None] = {}
    for problem, answer in answers:
        others = [
            gold
            for name, gold in golds.items()
            if name != problem
            and not plainly_equal(gold, golds[problem])
            and not plainly_equal(gold, answer)
        ]
        for gold in generator.sample(others, min(against, len(others))):
            pairs[gold, answer] = None
    verdicts = grader.grade([(gold, f"<answer>{answer}</answer>") for gold, answer in pairs])
    statuses = [verdict.status for verdict in verdicts]
    offenders = [pair for pair, status in zip(pairs, statuses, strict=True) if status == "correct"]
    low, high = _clopper_pearson(len(offenders), len(pairs))
    return Audit(len(pairs), statuses.count("timeout"), offenders, low, high)


def _clopper_pearson(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson, 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high

"""The arithmetic problems: four families of graded difficulty, written by rule, split by hash.

The benchmark needs no download and no licence, and has no hidden leakage: which split a problem
belongs to is a hash of its text, so train and test are disjoint for every seed and every size.
Pure Python, so that planning and grading never import torch.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

SPLITS = ("train", "test")
TEST_SHARE = 4  # one problem in four is a test problem


@dataclass(frozen=True)
class Problem:
    """One problem. `problem` is the prompt, given to the model verbatim."""

    id: str
    problem: str
    answer: str
    family: str


@dataclass(frozen=True)
class Family:
    """A kind of problem: its operands, how they are written, and the exact answer."""

    about: str
    operands: Callable[[], Iterator[tuple[int, ...]]]
    prompt: Callable[..., str]
    answer: Callable[..., str]


def latex(value: Fraction) -> str:
    r"""Write a non-negative fraction as `7` or `\frac{5}{6}`, in lowest terms."""
    if value.denominator == 1:
        return str(value.numerator)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _two_digit_pairs() -> Iterator[tuple[int, ...]]:
    yield from itertools.product(range(10, 100), repeat=2)


def _chains() -> Iterator[tuple[int, ...]]:
    """Four signed digits, the first positive, whose running totals stay within 0 and 18."""
    digits = (*range(-9, 0), *range(1, 10))
    for terms in itertools.product(range(1, 10), digits, digits, digits):
        if all(0 <= total <= 18 for total in itertools.accumulate(terms)):
            yield terms


def _products() -> Iterator[tuple[int, ...]]:
    yield from itertools.product(range(11, 100), range(2, 10))


def _fraction_pairs() -> Iterator[tuple[int, ...]]:
    """a/b + c/d with both terms in lowest terms."""
    terms = [(a, b) for a in range(1, 10) for b in range(2, 6) if math.gcd(a, b) == 1]
    yield from (first + second for first, second in itertools.product(terms, repeat=2))


FAMILIES: dict[str, Family] = {
    "addition": Family(
        about="the sum of two two-digit numbers",
        operands=_two_digit_pairs,
        prompt=lambda a, b: f"{a}+{b}=",
        answer=lambda a, b: str(a + b),
    ),
    "chain": Family(
        about="four digits added and subtracted in turn",
        operands=_chains,
        prompt=lambda *terms: "".join(f"{t:+d}" for t in terms)[1:] + "=",
        answer=lambda *terms: str(sum(terms)),
    ),
    "multiplication": Family(
        about="a two-digit number times a digit",
        operands=_products,
        prompt=lambda a, b: f"{a}*{b}=",
        answer=lambda a, b: str(a * b),
    ),
    "fractions": Family(
        about="the sum of two fractions, in lowest terms",
        operands=_fraction_pairs,
        prompt=lambda a, b, c, d: f"{a}/{b}+{c}/{d}=",
        answer=lambda a, b, c, d: latex(Fraction(a, b) + Fraction(c, d)),
    ),
}


def split_of(text: str) -> str:
    """The split a problem text belongs to: a fact of the text alone."""
    return "test" if int(_digest(text), 16) % TEST_SHARE == 0 else "train"


@cache
def pool(split: str, family: str) -> tuple[tuple[int, ...], ...]:
    """The operands of every problem of one family in one split, in a fixed order."""
    kind = FAMILIES[family]
    return tuple(ops for ops in kind.operands() if split_of(kind.prompt(*ops)) == split)


def make(family: str, operands: Sequence[int]) -> Problem:
    """The problem of a family with these operands; its id depends on nothing else."""
    kind = FAMILIES[family]
    text = kind.prompt(*operands)
    return Problem(f"{family}-{_digest(text)[:10]}", text, kind.answer(*operands), family)


def problems(
    split: str, n: int, *, seed: int = 0, families: Iterable[str] | None = None
) -> list[Problem]:
    """Draw `n` distinct problems of a split, families taking turns, the same for the same seed.

    A family that runs out leaves its turns to the others. Raises ValueError for an unknown split
    or family, a negative `n`, and an `n` larger than what exists.
    """
    _known("split", split, SPLITS)
    names = list(dict.fromkeys(FAMILIES if families is None else families))
    if not names:
        raise ValueError("families is empty: name at least one of " + ", ".join(FAMILIES))
    for name in names:
        _known("family", name, FAMILIES)
    available = sum(len(pool(split, name)) for name in names)
    if not 0 <= n <= available:
        raise ValueError(f"n={n} {split} problems of {', '.join(names)}: 0 to {available} exist")
    drawn = [_drawn(split, name, n, seed) for name in names]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*drawn))
    return list(itertools.islice((p for p in turns if p is not None), n))


def write_jsonl(path: str | Path, problems: Iterable[Problem]) -> None:
    """Write one JSON object a line: id, problem, answer, family."""
    lines = [json.dumps(asdict(problem)) + "\n" for problem in problems]
    Path(path).write_text("".join(lines), encoding="utf-8")


def _drawn(split: str, family: str, n: int, seed: int) -> list[Problem]:
    operands = pool(split, family)
    chosen = random.Random(f"{split}/{family}/{seed}").sample(operands, min(n, len(operands)))
    return [make(family, ops) for ops in chosen]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _known(what: str, name: str, valid: Iterable[str]) -> None:
    valid = list(valid)
    if name not in valid:
        close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown {what} {name!r}: did you mean {close!r}? ({', '.join(valid)})")

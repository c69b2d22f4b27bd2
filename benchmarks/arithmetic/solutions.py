r"""What the tiny model imitates before reinforcement learning: solutions of mixed quality.

The base model has to leave room to learn *whatever the length of its training*, so the room is in
the data. Each solution is written in one of three styles, drawn at random:

    careful   every step worked out; always right
    hasty     the same steps, each of which may slip (a wrong digit, a lost carry)
    terse     no steps: the answer's last digits are guessed

and in words drawn at random, each style with its own habits of speech. A model that fits this
mixture perfectly is right as often as the mixture is; what reinforcement learning can find is
which choices (a style, a word, a digit) go with being right. Pure Python.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction

from benchmarks.arithmetic.problems import latex

# Free choices of wording; each string is one token. The careful favour the front of each row,
# the others its end (`_word`), so a word says something about the answer but decides nothing.
OPENERS = ("First ", "Well, ", "OK, ", "Now ", "Let's see: ", "Hmm, ")
SEPARATORS = ("; ", ", ", " then ", " and ", " next ", " . ")
CLOSERS = (" so ", " thus ", " hence ", " giving ", " or ", " maybe ")
TILT = 0.5  # each place back in a row is this much less likely

# Shares of the careful and the hasty style (the rest is terse), graded by difficulty.
SHARES = {
    "addition": (0.45, 0.35),
    "chain": (0.35, 0.45),
    "multiplication": (0.25, 0.45),
    "fractions": (0.15, 0.55),
}
SLIP = 0.4  # chance that one step of a hasty solution goes wrong
SLIPS = (-10, -2, -1, 1, 2, 10)

Step = Callable[[int], int]  # passes a step's result on, or lets it slip


def careful(family: str, operands: Sequence[int], rng: random.Random) -> str:
    """A solution with every step right; only its wording is random."""
    steps, answer = WORK[family](operands, lambda value: value)
    return _worded(steps, answer, rng, care=True)


def hasty(family: str, operands: Sequence[int], rng: random.Random) -> str:
    """A solution whose steps slip at random; the answer follows from the steps as written."""

    def step(value: int) -> int:
        return abs(value + rng.choice(SLIPS)) if rng.random() < SLIP else value

    steps, answer = WORK[family](operands, step)
    return _worded(steps, answer, rng, care=False)


def terse(family: str, operands: Sequence[int], rng: random.Random) -> str:
    """A guess without steps: about the right size, right one time in ten or so."""
    _, value = WORK[family](operands, lambda value: value)
    guess = Fraction(abs(value.numerator + rng.randint(-5, 5)), value.denominator)
    return _worded([], guess, rng, care=False)


def solution(family: str, operands: Sequence[int], rng: random.Random) -> str:
    """A solution in a style drawn with the family's shares."""
    share_careful, share_hasty = SHARES[family]
    draw = rng.random()
    if draw < share_careful:
        return careful(family, operands, rng)
    return (hasty if draw < share_careful + share_hasty else terse)(family, operands, rng)


def _worded(steps: Sequence[str], answer: Fraction, rng: random.Random, *, care: bool) -> str:
    """Put steps and answer into words: opener, steps with separators between them, closer, box."""
    boxed = rf"\boxed{{{latex(answer)}}}"
    opener = _word(OPENERS, rng, care=care)
    if not steps:
        return opener + boxed
    text = opener + steps[0]
    for step in steps[1:]:
        text += _word(SEPARATORS, rng, care=care) + step
    return text + _word(CLOSERS, rng, care=care) + boxed


def _word(row: Sequence[str], rng: random.Random, *, care: bool) -> str:
    weights = [TILT**place for place in range(len(row))]
    return rng.choices(row, weights if care else weights[::-1])[0]


def _addition(operands: Sequence[int], step: Step) -> tuple[list[str], Fraction]:
    """47+38: ones 15, tens 8 (with the carry), 85."""
    a, b = operands
    ones = step(a % 10 + b % 10)
    tens = step(a // 10 + b // 10 + ones // 10)
    return [str(ones), str(tens)], Fraction(10 * tens + ones % 10)


def _chain(operands: Sequence[int], step: Step) -> tuple[list[str], Fraction]:
    """8+7-9+6: the running totals 15, 6, 12."""
    total, steps = operands[0], []
    for term in operands[1:]:
        total = step(abs(total + term))
        steps.append(str(total))
    return steps, Fraction(total)


def _multiplication(operands: Sequence[int], step: Step) -> tuple[list[str], Fraction]:
    """47*6: ones 42, tens 24+4=28 (with the carry), 282."""
    a, b = operands
    ones = step(a % 10 * b)
    product = step(a // 10 * b)
    tens = step(product + ones // 10)
    return [str(ones), f"{product}+{ones // 10}={tens}"], Fraction(10 * tens + ones % 10)


def _fractions(operands: Sequence[int], step: Step) -> tuple[list[str], Fraction]:
    r"""5/6+3/4: 20+18=38/24, both divided by 2, \frac{19}{12}."""
    a, b, c, d = operands
    first, second = step(a * d), step(c * b)
    above, below = step(first + second), b * d
    shared = math.gcd(above, below)
    return [f"{first}+{second}={above}/{below}", str(shared)], Fraction(above, below)


WORK: dict[str, Callable[[Sequence[int], Step], tuple[list[str], Fraction]]] = {
    "addition": _addition,
    "chain": _chain,
    "multiplication": _multiplication,
    "fractions": _fractions,
}

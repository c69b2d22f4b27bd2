r"""What an answer is, and what can be said of it without algebra.

`extract` finds the answer a response commits to. The rest compares texts: one spelling for what
math-verify reads the same, exact values of plain numbers, and which texts nobody should parse.
Pure Python, so that the audit, the catalogue and the grader's parent process load no SymPy.

Left out on purpose: "the last number of the response" (it rewards truncated reasoning), `\boxed 5`
without braces, and multiple choice by letter.
"""

import re
from fractions import Fraction
from typing import Literal, NamedTuple

Status = Literal["correct", "wrong", "unparsed", "timeout"]
Question = tuple[str, str]  # gold, answer

MAX_LENGTH = 300  # characters of an answer; the golds of MATH, AIME, AMC, Olympiad stay under 210
MAX_DEPTH = 10  # open brackets of any kind; the deepest benchmark gold has 3
LONG, DEEP = 150, 5  # beyond these an answer is no ordinary one

_BOX_OR_BRACE = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox)\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL
)
_MATH_DELIMITER = re.compile(r"\\?\$|(?<!\\)\\[()\[\]]")
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2}(?:(?:,|\{,\})[0-9]{3}){1,4}")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,7})?\.[0-9]{1,5}")
_FRACTION = re.compile(
    r"(?P<sign>-?)(?:\\frac\{(?P<up>-?[0-9]{1,9})\}\{(?P<down>[1-9][0-9]{0,8})\}"
    r"|(?P<left>[1-9][0-9]{0,8})/(?P<right>[1-9][0-9]{0,8}))"
)
_SPELLINGS = (
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\(?:left|right)(?=[()\[\]]|\\[{}])"), ""),
    (re.compile(r"(?<=[0-9)}]) (?=[-+=<>])|(?<=[0-9)}] [-+=<>]) (?=[0-9])"), ""),
)
_ENDLESS = re.compile(
    r"(?:\^[-({]*(?:[3-9]|[0-9]{2,})[)}]*){2}\^"  # a tower of four numbers
    r"|\^[-({ ]*[0-9]{7}"
    r"|(?:[0-9]{6}|[0-9]{2}\^[({ ]*(?:[6-9]|[0-9]{2,}))[)} ]*!"
)
_DOUBTFUL = re.compile(
    r"!|\\(?:sum|prod|i*int|oint|lim|[dt]?binom)(?![a-z])"
    r"|\^[^+*/=,]*\^|[)}]\^[-({ ]*[0-9]{2}|\^[-({ ]*[0-9]{4}|[0-9]{40}"
    r"|[;@#?\x00-\x1f\x7f]|:\s|\{\{|&&|%%"  # rather code than mathematics
)
_BARE_POINT = re.compile(r"(?<=[0-9])\.(?=[-+*/^)])")  # "-3./2", a gold of Minerva


def extract(response: str) -> str | None:
    r"""The answer a response commits to, or None.

    The last balanced `\boxed{}` (or `\fbox{}`), else the body of the last `<answer>...</answer>`.
    What follows the last `</think>` is searched first, the whole response only when that holds
    neither. Of nested boxes the innermost counts; an empty answer is none. Linear in the length.
    """
    _, closed, after = response.rpartition("</think>")
    for text in (after, response) if closed else (response,):
        answer = _last_box(text) or _last_tag(text)
        if answer:
            return answer
    return None


def _last_box(text: str) -> str | None:
    """The content of the balanced box that starts last; escaped braces do not count.

    Mostly that is the last one: what stands before it can then be skipped.
    """
    last = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    box = _last_box_from(text, last) if last >= 0 else None
    return _last_box_from(text, 0) if box is None and last > 0 else box


def _last_box_from(text: str, position: int) -> str | None:
    open_braces: list[int | None] = []  # where the content of a box starts, None for a plain brace
    last_start, last_end = -1, -1
    for token in _BOX_OR_BRACE.finditer(text, position):
        if token["box"]:
            open_braces.append(token.end())
        elif token["open"]:
            open_braces.append(None)
        elif token["close"] and open_braces:
            start = open_braces.pop()
            if start is not None and start > last_start:
                last_start, last_end = start, token.start()
    return text[last_start:last_end].strip() if last_start >= 0 else None


def _last_tag(text: str) -> str | None:
    """The body of the last closed `<answer>`."""
    before, closed, _ = text.rpartition("</answer>")
    _, opened, body = before.rpartition("<answer>")
    return body.strip() if closed and opened else None


def clean(text: str) -> str:
    r"""The text without math delimiters (`$`, `\$`, `\(`, `\[`), outer space and a final stop."""
    if len(text) > 4 * MAX_LENGTH:
        return text
    text = _BARE_POINT.sub("", _MATH_DELIMITER.sub("", text)).strip()
    while text.endswith((".", ",", ";")) and not text.endswith(("\\,", "\\;")):
        text = text[:-1].rstrip()
    return text


def spell(text: str) -> str:
    r"""The text in one spelling of what math-verify reads the same: `\dfrac`, `\left(`, `3 + 4`.

    So that each is asked once. Spaces stay where a unit, a set or a number might depend on them.
    """
    if len(text) <= MAX_LENGTH:
        for pattern, replacement in _SPELLINGS:
            text = pattern.sub(replacement, text)
    return text


def _depth(text: str) -> int:
    """How deep brackets of any kind nest."""
    depth = deepest = 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    return deepest


class _Number(NamedTuple):
    """A plain number: its exact value, and whether it is written with a decimal point."""

    value: Fraction
    has_point: bool = False


def _plain_number(text: str) -> _Number | None:
    """The number that a text is when it is a plain one, None for anything else."""
    if _INTEGER.fullmatch(text):
        return _Number(Fraction(int(text)))
    if _THOUSANDS.fullmatch(text):
        return _Number(Fraction(int(re.sub("[{,}]", "", text))))
    if _DECIMAL.fullmatch(text):
        return _Number(Fraction(text), has_point=True)
    match = _FRACTION.fullmatch(text)
    if match is None:
        return None
    up, down = match["up"] or match["left"], match["down"] or match["right"]
    return _Number(Fraction(int(up), int(down)) * (-1 if match["sign"] else 1))


def plainly_equal(answer: str, other: str) -> bool:
    """Whether two answers are the same text in some spelling, or the same plain number."""
    answer, other = spell(clean(answer)), spell(clean(other))
    number, other_number = _plain_number(answer), _plain_number(other)
    return answer == other or bool(number and other_number and number.value == other_number.value)


def plain_status(gold: str, answer: str) -> Status | None:
    """The verdict on spelled texts where none of math-verify is needed, else None.

    Identity is sound whether or not the gold parses: no reading of the same text differs. Two
    plain rationals are compared exactly, as math-verify would: it rounds to six decimals where
    there is a decimal point, so a decimal that is nearly equal is left to it.
    """
    if answer == gold:
        return "correct"
    if any(len(text) > MAX_LENGTH or _depth(text) > MAX_DEPTH for text in (gold, answer)):
        return "wrong"
    gold_number, number = _plain_number(gold), _plain_number(answer)
    if gold_number and number:
        if gold_number.value == number.value:
            return "correct"
        if not (gold_number.has_point or number.has_point):
            return "wrong"
        return "wrong" if abs(gold_number.value - number.value) > Fraction(1, 10**5) else None
    return "timeout" if _ENDLESS.search(answer) else None


def doubtful(question: Question) -> bool:
    """Whether a question may well take long: by its operations, signs, length or brackets.

    Most that match are decided all the same.
    """
    return any(
        len(text) > LONG or _depth(text) > DEEP or _unbalanced(text) or _DOUBTFUL.search(text)
        for text in question
    )


def _unbalanced(text: str) -> bool:
    """Whether there are more brackets of one side; an interval may mix their kinds."""
    opening, closing = (sum(map(text.count, side)) for side in ("{([", "})]"))
    return opening != closing

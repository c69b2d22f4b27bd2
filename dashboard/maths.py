"""A response as Markdown: its maths is rendered, all else is shown as it was written."""

from __future__ import annotations

import re

from dashboard.text import as_written

LONGEST = 2000  # characters of a formula: what is never closed is not looked through to the end
# $5 and $7 is money: in front of the dollar that closes stands no space, behind it no digit.
_MATHS = re.compile(
    rf"\$\$(?P<display>[^$]+)\$\$|\\\[(?P<bracket>.{{1,{LONGEST}}}?)\\\]"
    rf"|(?<!\\)\$(?=\S)(?P<inline>[^$\n]*[^$\s])\$(?!\d)|\\\((?P<round>.{{1,{LONGEST}}}?)\\\)",
    re.DOTALL,
)
_BOXED = re.compile(r"\\boxed\{")


def as_markdown(text: str) -> str:
    """Markdown that shows `text`, with $…$, \\(…\\), $$…$$, \\[…\\] and \\boxed{…} as maths."""
    parts, end = [], 0
    for match in _MATHS.finditer(text):
        parts.append(_plain(text[end : match.start()], inside=end > 0))
        formula = next(group for group in match.groups() if group is not None)
        display = match["display"] or match["bracket"]
        parts.append(f"$${_one_line(formula)}$$" if display else f"${_one_line(formula)}$")
        end = match.end()
    return "".join([*parts, _plain(text[end:], inside=end > 0)])


def _plain(text: str, inside: bool) -> str:
    """Escaped, but for boxes outside of maths, which become maths; inside: as in `as_written`."""
    parts, end = [], 0
    for match in _BOXED.finditer(text):
        if match.start() < end:
            continue
        close = _closing(text, match.end())
        if close:
            parts += [
                as_written(text[end : match.start()], inside or end > 0),
                f"${_one_line(text[match.start() : close])}$",
            ]
            end = close
    return "".join([*parts, as_written(text[end:], inside or end > 0)])


def _closing(text: str, start: int) -> int:
    """Where the brace that was opened before `start` has been closed; 0 where it is not soon."""
    depth = 1
    for place in range(start, min(len(text), start + LONGEST)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    return 0


def _one_line(formula: str) -> str:
    return " ".join(formula.split())

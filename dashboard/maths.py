"""Text as Markdown: the maths of a response is rendered, all else is shown as it was written.

What a policy says is not trusted: nothing in it becomes an image, a link or a heading.
"""

from __future__ import annotations

import re

import pandas as pd
import streamlit as st

from suite.report import Report

LONGEST = 2000  # characters of a formula: what is never closed is not looked through to the end
# $5 and $7 is money: in front of the dollar that closes stands no space, behind it no digit.
_MATHS = re.compile(
    rf"\$\$(?P<display>[^$]+)\$\$|\\\[(?P<bracket>.{{1,{LONGEST}}}?)\\\]"
    rf"|(?<!\\)\$(?=\S)(?P<inline>[^$\n]*[^$\s])\$(?!\d)|\\\((?P<round>.{{1,{LONGEST}}}?)\\\)",
    re.DOTALL,
)
_BOXED = re.compile(r"\\boxed\{")
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@/])")
_STARTS = re.compile(r"^([ \t]*)(=*)", re.MULTILINE)  # of lines
_LINES = re.compile(r"(?<=\n)([ \t]*)(=*)")  # of all but the first


def as_markdown(text: str) -> str:
    """Markdown that shows `text`, with $…$, \\(…\\), $$…$$, \\[…\\] and \\boxed{…} as maths."""
    parts, end = [], 0
    for found in _MATHS.finditer(text):
        parts.append(_plain(text[end : found.start()], inside=end > 0))
        formula = next(group for group in found.groups() if group is not None)
        display = found["display"] or found["bracket"]
        parts.append(f"$${_one_line(formula)}$$" if display else f"${_one_line(formula)}$")
        end = found.end()
    return "".join([*parts, _plain(text[end:], inside=end > 0)])


def _plain(text: str, inside: bool) -> str:
    """Escaped, but for boxes outside of maths, which become maths; inside: as in `as_written`."""
    parts, end = [], 0
    for found in _BOXED.finditer(text):
        if found.start() < end:
            continue
        close = _closing(text, found.end())
        if close:
            parts += [
                as_written(text[end : found.start()], inside or end > 0),
                f"${_one_line(text[found.start() : close])}$",
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


def as_written(text: str, inside: bool = False) -> str:
    """Markdown that shows `text` character by character; inside: something is before it."""
    escaped = _SPECIAL.sub(r"\\\1", text)
    lines = (_LINES if inside else _STARTS).sub(_start_of_line, escaped)
    return lines.replace("\n", "  \n")


def _start_of_line(found: re.Match[str]) -> str:
    """Four spaces would begin a block of code, and === below a line makes it a heading."""
    return "\u00a0" * len(found[1].replace("\t", "    ")) + r"\=" * len(found[2])


def as_code(text: str) -> str:
    """Markdown of a command or a name in a typewriter's face."""
    return f"`{text.replace('`', chr(39))}`"


def show_table(table: Report | pd.DataFrame, index: bool = False) -> None:
    """Every cell and header as it is: "> 5" is no quotation. `index`: show that of a frame too."""
    if isinstance(table, Report):
        table = pd.DataFrame(table.rows, columns=table.columns)
    written = table.astype(str).map(as_written).rename(columns=as_written, index=_written_index)
    st.table(written, hide_index=not index)


def _written_index(name: object) -> object:
    return as_written(name) if isinstance(name, str) else name


def show_notes(notes: list[str]) -> None:
    """A note a line."""
    st.markdown("\n".join(f"- {as_written(note)}" for note in notes))

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


def as_markdown(text: str) -> str:
    """Markdown that shows `text`, with $…$, \\(…\\), $$…$$, \\[…\\] and \\boxed{…} as maths."""
    parts, end = [], 0
    for found in _MATHS.finditer(text):
        parts.append(_plain(text[end : found.start()]))
        formula = next(group for group in found.groups() if group is not None)
        display = found["display"] or found["bracket"]
        parts.append(f"$${_one_line(formula)}$$" if display else f"${_one_line(formula)}$")
        end = found.end()
    return "".join([*parts, _plain(text[end:])])


def _plain(text: str) -> str:
    """Escaped, but for boxes outside of maths, which become maths."""
    parts, end = [], 0
    for found in _BOXED.finditer(text):
        if found.start() < end:
            continue
        close = _closing(text, found.end())
        if close:
            parts += [
                as_written(text[end : found.start()]),
                f"${_one_line(text[found.start() : close])}$",
            ]
            end = close
    return "".join([*parts, as_written(text[end:])])


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


def as_written(text: str) -> str:
    """Markdown that shows `text` character by character."""
    return _SPECIAL.sub(r"\\\1", text).replace("\n", "  \n")


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

"""Text, tables and notes on a page, shown as they were written.

Nothing that a policy or a database says is trusted to be an image, a link or a heading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from suite.report.table import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@/])")
_STARTS = re.compile(r"^([ \t]*)(=*)", re.MULTILINE)  # of lines
_LINES = re.compile(r"(?<=\n)([ \t]*)(=*)")  # of all but the first


def as_written(text: str, inside: bool = False) -> str:
    """Markdown that shows `text` character by character; inside: something is before it."""
    escaped = _SPECIAL.sub(r"\\\1", text)
    lines = (_LINES if inside else _STARTS).sub(_start_of_line, escaped)
    return lines.replace("\n", "  \n")


def _start_of_line(match: re.Match[str]) -> str:
    """Four spaces would begin a block of code, and === below a line makes it a heading."""
    return "\u00a0" * len(match[1].replace("\t", "    ")) + r"\=" * len(match[2])


def as_code(text: str) -> str:
    """Markdown of a command or a name in a typewriter's face."""
    return f"`{text.replace('`', chr(39))}`"


def show_table(table: Report | pd.DataFrame, index: bool = False) -> None:
    """Every cell and header as it is: "> 5" is no quotation. `index`: show that of a frame too."""
    if isinstance(table, Report):
        table = pd.DataFrame(table.texts(), columns=table.titles)
    written = table.astype(str).map(as_written).rename(columns=as_written, index=_written_index)
    st.table(written, hide_index=not index)


def _written_index(name: object) -> object:
    return as_written(name) if isinstance(name, str) else name


def show_notes(notes: Sequence[str]) -> None:
    """A note a line."""
    st.markdown("\n".join(f"- {as_written(note)}" for note in notes))


def refuse_cost(error: ValueError) -> None:
    """Instead of what is drawn over a cost: it was not recorded."""
    st.info(as_written(f"{error}: choose another cost."))

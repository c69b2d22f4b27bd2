"""A table of numbers with what is to be said about them, for terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import StringIO

from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Report:
    """Columns and rows of one matrix, and what is to be said about them."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]

    def table(self) -> Table:
        """For the terminal."""
        notes = escape("\n".join(self.notes))
        table = Table(title=escape(self.title), caption=notes, caption_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(escape(column), justify="left" if number < 2 else "right")
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """A Markdown table with its title and notes."""
        lines = [f"## {self.title}", "", *markdown_table(self.columns, self.rows)]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def csv(self) -> str:
        """The same numbers for other programs."""
        out = StringIO()
        writer = csv.writer(out)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return out.getvalue()


def markdown_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table."""
    lines = ["| " + " | ".join(row) + " |" for row in [columns, *rows]]
    return [lines[0], "|" + "---|" * len(columns), *lines[1:]]

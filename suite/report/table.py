"""A table of numbers with what is to be said about them; formatted only on the way out.

A cell holds a number, a text, nothing, or one of the small records below that belong together: an
estimate with its interval, a difference with its verdict. `texts` is what people see, in the
terminal, in Markdown and on a page; `records` is what programs read, from CSV or JSON: one row for
each value of what columns vary over (k of pass@k), every number in a field of its own.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from rich.markup import escape
from rich.table import Table

from suite.stats import Comparison, Interval
from suite.text import compact

Value = float | int | str | bool | None  # what a field of a record holds
Fields = dict[str, Value]
COMPACT = "compact"  # a form: suite.text.compact
FLAG = "flag"  # a form: the column's name where it is so, and nothing where it is not
NOT_SHOWN = "not shown"
_OF_COMPARISONS = (
    *("p_value", "p_adjusted", "detectable", "probability_of_improvement", "seeds", "family"),
)


@runtime_checkable
class Compound(Protocol):
    """A cell of several fields."""

    def text(self, form: str) -> str:
        """What people see; `form` formats its numbers."""

    def fields(self, name: str) -> Fields:
        """What programs read; `name` is the column's."""


class Worded(NamedTuple):
    """A number that people read in words of its own."""

    value: Value
    words: str

    def text(self, form: str) -> str:
        """The words."""
        return self.words

    def fields(self, name: str) -> Fields:
        """The number."""
        return {name: self.value}


class Seeds(NamedTuple):
    """Whose scores a row has: one seed, "0", or the mean over several, "all 3"."""

    seeds: tuple[int, ...]

    def text(self, form: str) -> str:
        return str(self.seeds[0]) if len(self.seeds) == 1 else f"all {len(self.seeds)}"

    def fields(self, name: str) -> Fields:
        return {name: self.seeds[0] if len(self.seeds) == 1 else None, "seeds": len(self.seeds)}


Entry = Value | Interval | Comparison | Compound


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: the field of its numbers in a file; an interval adds "low" and "high"; "" leaves the
            column to people.
        title: the heading that people read; "" leaves the column to the files.
        form: how numbers are written: as in format(), COMPACT or FLAG.
        at: what the column's numbers are of, beside the row: {"k": 8}. Columns with the same `at`
            share a record of the file.
    """

    name: str
    title: str = ""
    form: str = ""
    at: Mapping[str, Value] = field(default_factory=dict)

    def text(self, cell: Entry) -> str:
        """A cell as people see it."""
        if isinstance(cell, Interval):
            return f"{number(cell.estimate, self.form)} {brackets(cell, self.form)}"
        if isinstance(cell, Comparison):
            return difference_text(cell, f"+{self.form}")
        if self.form == FLAG:
            return self.name if cell else ""
        return cell.text(self.form) if isinstance(cell, Compound) else number(cell, self.form)

    def fields(self, cell: Entry) -> Fields:
        """A cell as programs read it."""
        if isinstance(cell, Interval):
            return {self.name: cell.estimate, **_bounds(self.name, cell)}
        if isinstance(cell, Comparison):
            rest = {name: getattr(cell, name) for name in _OF_COMPARISONS}
            verdict = {"verdict": short_verdict(cell)}
            return {self.name: cell.estimate, **_bounds(self.name, cell), **rest, **verdict}
        return cell.fields(self.name) if isinstance(cell, Compound) else {self.name: cell}


def column(name: str, form: str = "", title: str = "", **at: Value) -> Column:
    """A column that is shown under its own name unless `title` says another."""
    return Column(name, title or name.replace("_", " "), form, at)


@dataclass(frozen=True)
class Report:
    """Columns and rows, and what is to be said about them.

    Attributes:
        name: of the file that a table like this goes to, without its ending.
        title: above the table.
        columns, rows: each row has a cell for each column.
        notes: below the table, one sentence or two each.
        about: fields that all records have: matrix, benchmark, model.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Entry]]
    notes: Sequence[str] = ()
    about: Mapping[str, Value] = field(default_factory=dict)

    @property
    def titles(self) -> list[str]:
        """The headings that people see."""
        return [column.title for column in self.columns if column.title]

    def texts(self) -> list[list[str]]:
        """The rows that people see."""
        return [
            [c.text(cell) for c, cell in zip(self.columns, row, strict=True) if c.title]
            for row in self.rows
        ]

    def records(self) -> list[Fields]:
        """The rows that programs read: see the module docstring."""
        return [record for row in self.rows for record in self._records_of(row)]

    def _records_of(self, row: Sequence[Entry]) -> Iterable[Fields]:
        shared: Fields = dict(self.about)
        varying: dict[tuple[tuple[str, Value], ...], Fields] = {}
        for column, cell in zip(self.columns, row, strict=True):
            if not column.name:
                continue
            if column.at:
                at = tuple(column.at.items())
                _add(varying.setdefault(at, dict(at)), column.fields(cell))
            else:
                _add(shared, column.fields(cell))
        return [shared | fields for fields in varying.values()] or [shared]

    def table(self) -> Table:
        """For the terminal."""
        notes = escape("\n".join(self.notes))
        table = Table(title=escape(self.title), caption=notes, caption_justify="left")
        for number, title in enumerate(self.titles):
            table.add_column(escape(title), justify="left" if number < 2 else "right")
        for row in self.texts():
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """A Markdown table with its title and notes."""
        lines = [f"## {self.title}", "", *markdown_table(self.titles, self.texts())]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def csv(self) -> str:
        """The records as CSV."""
        return _csv(self.records())


def write_csv(reports: Sequence[Report], folder: Path) -> list[Path]:
    """A file for each kind of table, the records of all its tables in it; returns the files."""
    records: dict[str, list[Fields]] = {}
    for report in reports:
        records.setdefault(report.name, []).extend(report.records())
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in records.items():
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text(_csv(rows), encoding="utf-8")
    return paths


def as_json(reports: Sequence[Report]) -> str:
    """All tables as one JSON object; what is not finite is null."""
    tables = [
        {
            "table": report.name,
            "title": report.title,
            "notes": list(report.notes),
            "rows": [{k: _finite(v) for k, v in row.items()} for row in report.records()],
        }
        for report in reports
    ]
    return json.dumps({"tables": tables}, indent=2, allow_nan=False)


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = ["| " + " | ".join(row) + " |" for row in [titles, *rows]]
    return [lines[0], "|" + "---|" * len(titles), *lines[1:]]


def brackets(interval: Interval | Comparison, form: str) -> str:
    """ "[0.794, 0.861]"."""
    return f"[{number(interval.low, form)}, {number(interval.high, form)}]"


def difference_text(comparison: Comparison, form: str = "+.3f", undecided: str = NOT_SHOWN) -> str:
    """ "+0.041 [+0.006, +0.078] above"."""
    words = short_verdict(comparison, undecided)
    return f"{number(comparison.estimate, form)} {brackets(comparison, form)} {words}"


def short_verdict(comparison: Comparison, undecided: str = NOT_SHOWN) -> str:
    """ "above", "below", or that neither is shown."""
    return comparison.verdict.split()[0] if comparison.shown else undecided


def number(cell: Value, form: str) -> str:
    """A cell that is one value, as people see it; texts are left as they are.

    form: as in format(), behind a "±" or not, or COMPACT.
    """
    if cell is None or isinstance(cell, str):
        return cell or ""
    if form == COMPACT:
        return compact(cell)
    return f"±{format(cell, form[1:])}" if form.startswith("±") else format(cell, form)


def _bounds(name: str, interval: Interval | Comparison) -> Fields:
    """A table's score or difference has "low" and "high"; other numbers name theirs."""
    prefix = "" if name in ("score", "difference") else f"{name}_"
    return {f"{prefix}low": interval.low, f"{prefix}high": interval.high}


def _add(record: Fields, fields: Fields) -> None:
    """Raises ValueError where two columns would write into one field of a file."""
    if twice := record.keys() & fields.keys():
        raise ValueError(f"two columns have the field {', '.join(sorted(twice))}")
    record |= fields


def _csv(records: Sequence[Fields]) -> str:
    names = list(dict.fromkeys(name for record in records for name in record))
    out = StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def _finite(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value

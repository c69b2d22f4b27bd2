"""`suite sql`: one query, or a prompt for many; tables on the terminal, JSON, CSV or Parquet.

Every statement goes through suite.store.sandbox. The prompt takes lines until one ends with a
semicolon.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from datetime import date
from datetime import time as clock
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from suite.store import sandbox
from suite.store.sandbox import QueryError, Result

CELL = 200  # characters of a value on the terminal
HELP = r"""A statement ends with a semicolon. \d: the views, \d NAME: columns of one, \q: leave."""
_VIEWS = """SELECT view_name AS view, comment AS "a row is" FROM duckdb_views()
             WHERE NOT internal AND comment IS NOT NULL ORDER BY view_oid"""
_WORDS = """SELECT DISTINCT name FROM (SELECT unnest([view_name, column_name]) AS name
              FROM duckdb_columns() c JOIN duckdb_views() v ON c.table_name = v.view_name
             WHERE NOT v.internal)"""

# Results -------------------------------------------------------------------------------------


def table(result: Result) -> Table:
    """A result drawn: numbers on the right, six digits of them, NULL dim, long texts cut."""
    drawn = Table()
    for field in result.table.schema:
        number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        number |= pa.types.is_decimal(field.type)
        drawn.add_column(_printable(field.name), justify="right" if number else "left")
    for row in result.rows:
        drawn.add_row(*map(_cell, row))
    return drawn


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    if isinstance(value, float):
        return Text(f"{value:.6g}")
    return _printable(value if isinstance(value, str) else str(plain(value)))


def _printable(text: str) -> Text:
    """A model's response may hold what steers a terminal: shown, not obeyed."""
    cut = text if len(text) <= CELL else text[: CELL - 1] + "…"
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in cut))


def as_json(result: Result) -> str:
    """A list of objects, one a line; nan and infinities are null, a second "a" is "a_1"."""
    names = unique(result.columns)
    lines = (
        json.dumps({n: plain(v) for n, v in zip(names, row, strict=True)}) for row in result.rows
    )
    return "[" + ",\n ".join(lines) + "]"


def write_csv(result: Result, path: Path) -> None:
    """With a header; NULL is empty, nested values are JSON."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(result.columns)
        for row in result.rows:
            values = map(plain, row)
            writer.writerow(json.dumps(v) if isinstance(v, list | dict) else v for v in values)


def write_parquet(result: Result, path: Path) -> None:
    """With the types of the query.

    Raises:
        QueryError: Parquet has no such type.
    """
    try:
        pq.write_table(result.table.rename_columns(unique(result.columns)), path)
    except pa.ArrowException as error:
        path.unlink(missing_ok=True)
        raise QueryError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error


def plain(value: Any) -> Any:
    """What JSON can hold of a value."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date | clock):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, pa.MonthDayNano):
        return f"{value.months} months {value.days} days {value.nanoseconds / 1e9:g} s"
    if isinstance(value, list | tuple):  # a map is pairs
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, str | int) else str(value)


def unique(names: list[str]) -> list[str]:
    """The same names, later ones of a kind numbered: a, a_1."""
    numbered: dict[str, None] = {}
    for name in names:
        new, number = name, 0
        while new in numbered:
            number += 1
            new = f"{name}_{number}"
        numbered[new] = None
    return list(numbered)


# The prompt ----------------------------------------------------------------------------------


def prompt(db: Path, console: Console, rows: int, seconds: float) -> None:
    """Statements from the keyboard (or a pipe) until \\q or the end of the input."""
    talks = sys.stdin.isatty()
    if talks:
        console.print(HELP, highlight=False, markup=False)
        _remember(_names(db))
    lines: list[str] = []
    while True:
        try:
            line = input(("suite> " if not lines else "  ...> ") if talks else "")
        except EOFError:
            break
        except KeyboardInterrupt:
            lines = []
            console.print()
            continue
        if not lines and line.strip().startswith("\\"):
            if not _command(line.split(), db, console):
                return
        elif line.strip() or lines:
            lines.append(line)
        if lines and line.rstrip().endswith(";"):
            _answer(db, "\n".join(lines), console, rows, seconds)
            lines = []
    if lines:
        _answer(db, "\n".join(lines), console, rows, seconds)


def _command(words: list[str], db: Path, console: Console) -> bool:
    """Do what a line with a backslash says; whether to go on."""
    if words[0] in ("\\q", "\\quit"):
        return False
    if words[0] == "\\d":
        name = words[1].replace('"', "") if len(words) > 1 else ""
        _answer(db, f'DESCRIBE "{name}"' if name else _VIEWS, console)
    else:
        console.print(HELP, highlight=False, markup=False)
    return True


def _answer(
    db: Path,
    sql: str,
    console: Console,
    rows: int = sandbox.ROWS,
    seconds: float = sandbox.SECONDS,
) -> None:
    begun = time.monotonic()
    try:
        result = sandbox.query(db, sql, rows=rows, seconds=seconds)
    except KeyboardInterrupt:
        console.print("stopped", style="red")
        return
    except (QueryError, OSError) as error:
        console.print(Text(str(error), style="red"))
        return
    console.print(table(result))
    console.print(f"{counted(result)}, {time.monotonic() - begun:.1f} s", style="dim")


def counted(result: Result) -> str:
    """How many rows, and whether there were more."""
    count = result.table.num_rows
    if result.truncated:
        return f"only the first {count} rows are shown"
    return "1 row" if count == 1 else f"{count} rows"


def _names(db: Path) -> list[str]:
    try:
        return sorted(name for (name,) in sandbox.query(db, _WORDS).rows)
    except QueryError:
        return []


def _remember(names: Iterable[str]) -> None:
    """History across sessions, and Tab for the names of views and columns."""
    import atexit
    import readline

    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    history = state / "entropy-suite" / "sql_history"
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        history.touch(mode=0o600)
        readline.read_history_file(history)
        atexit.register(readline.write_history_file, history)
    except OSError:
        pass  # a home that cannot be written to: no history
    readline.set_history_length(1000)
    readline.set_completer(completer(list(names)))
    readline.parse_and_bind("tab: complete")


def completer(names: list[str]) -> Callable[[str, int], str | None]:
    """What readline asks for the n-th name that begins with a text."""

    def complete(text: str, number: int) -> str | None:
        fitting = [name for name in names if name.startswith(text.lower())]
        return fitting[number] if number < len(fitting) else None

    return complete

"""What the commands share: option types, the two consoles, and how bad input becomes one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from suite.matrix.yaml_file import MatrixError

if TYPE_CHECKING:
    from suite.report.table import Report

WIDTH_WHEN_PIPED = 160  # a log or a file has no width of its own

console = Console(width=None if sys.stdout.isatty() else WIDTH_WHEN_PIPED)
errors = Console(stderr=True)

MatrixFile = Annotated[Path, typer.Argument(help="The matrix file, e.g. matrix.yaml.")]
MatrixFiles = Annotated[
    list[Path], typer.Argument(help="The matrix file, e.g. matrix.yaml, or several.")
]
Database = Annotated[
    Path, typer.Option("--db", help="The database; its folder of the same name is beside it.")
]
DEFAULT_DB = Path("runs.db")
Address = Annotated[
    str | None,
    typer.Option(help="A Ray cluster (HOST:PORT, or auto) instead of this machine."),
]
Reuse = Annotated[
    bool | None,
    typer.Option(
        "--reuse/--no-reuse",
        help="Let cells that can share a start of the stack; by default only without --address.",
        show_default=False,
    ),
]

Shrink = Annotated[
    bool,
    typer.Option(
        "--shrink",
        help="The same arms on the embedded model and data: a few small steps, one seed, one "
        "CPU or GPU; the name gets -shrunk.",
    ),
]


def checked(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`make(...)`, its ValueError as one line about bad input."""
    try:
        return make(*args, **kwargs)
    except MatrixError:
        raise  # has lines of its own
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def print_reports(
    reports: list[Report], markdown: Path | None = None, csv: Path | None = None
) -> None:
    if not reports:
        console.print("nothing has been evaluated; `suite status` shows how far it is")
    for one in reports:
        console.print(one.table())
    for path, text in (
        (markdown, "\n".join(one.markdown() for one in reports)),
        (csv, "".join(one.csv() for one in reports)),
    ):
        if path:
            path.write_text(text)
            console.print(f"written: {path}")


def say_error(text: str) -> None:
    errors.print(text, style="red", highlight=False, markup=False, soft_wrap=True)

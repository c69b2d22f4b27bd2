"""What the commands share: option types, the two consoles, and how bad input becomes one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

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
        help="Let runs share a start of the stack where they can; by default unless --address.",
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

Parameters = ParamSpec("Parameters")
Made = TypeVar("Made")


def checked(
    make: Callable[Parameters, Made], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Made:
    """`make(...)`, its ValueError as one line about bad input."""
    try:
        return make(*args, **kwargs)
    except MatrixError:
        raise  # has lines of its own
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def print_reports(
    reports: list[Report],
    markdown: Path | None = None,
    csv: Path | None = None,
    as_json: bool = False,
) -> None:
    """Tables to the terminal, or all as JSON; to a Markdown file and a folder of CSV as well.

    Raises:
        typer.BadParameter: the CSV's folder is a file.
    """
    from suite.report import table

    if csv and csv.exists() and not csv.is_dir():
        raise typer.BadParameter(f"--csv takes a folder, and {csv} is a file")
    if as_json:
        typer.echo(table.as_json(reports))
    elif not reports:
        console.print("nothing has been evaluated; `suite status` shows how far it is")
    for report in () if as_json else reports:
        console.print(report.table())
    if markdown:
        markdown.write_text("\n".join(report.markdown() for report in reports))
        errors.print(f"written: {markdown}", highlight=False)
    if csv:
        for path in table.write_csv(reports, csv):
            errors.print(f"written: {path}", highlight=False)


def exit_on(problems: list[str]) -> None:
    """Say each of them; with any, the command ends here with exit status 1."""
    for problem in problems:
        say_error(problem)
    if problems:
        raise typer.Exit(1)


def say_error(text: str) -> None:
    errors.print(text, style="red", highlight=False, markup=False, soft_wrap=True)

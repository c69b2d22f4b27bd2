"""`suite db`: the commands that look after a database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.cli.terminal import DEFAULT_DB, Database, checked
from suite.workspace import Workspace

app = typer.Typer(
    help="Look after a database: check, compact, export, import.", no_args_is_help=True
)


@app.command()
def check(db: Database = DEFAULT_DB) -> None:
    """Read everything once and say what is doubled, orphaned, beyond its file or in disagreement.

    Exits 1 when there is something.
    """
    from suite.store import history

    findings = history.check(Workspace(db))
    for line in findings:
        typer.echo(line)
    if findings:
        raise typer.Exit(1)
    typer.echo(f"{db} is whole")


@app.command()
def compact(db: Database = DEFAULT_DB) -> None:
    """Write the file anew, traces sorted by metric, run and step: smaller, and faster to query."""
    from suite.store import history

    before, after = history.compact(Workspace(db))
    typer.echo(f"{db}: {_size(before)} before, {_size(after)} now")


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder, for a Parquet file a table.")],
    slim: Annotated[
        bool,
        typer.Option(
            "--slim", help="Counts of each problem instead of samples, and only metrics shown."
        ),
    ] = False,
    db: Database = DEFAULT_DB,
) -> None:
    """Write every table as Parquet, to be read by anything or taken in by `suite db import`.

    With --slim it is small enough to be published: every report and figure of training comes out
    the same, but single samples, their answers and the paths of this machine are not in it.
    """
    from suite.store import history

    rows = checked(history.export, db, folder, slim)
    typer.echo(f"{folder}: {rows} rows")


@app.command("import")
def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Exports, databases of other machines; or logs of other trainers: CSV with a "
            "column `step`, as of TRL and verl, or what verl printed."
        ),
    ],
    name: Annotated[str, typer.Option(help="The matrix that logs become arms of.")] = "external",
    db: Database = DEFAULT_DB,
) -> None:
    """Take in runs of other machines and of other trainers; what is there already stays once.

    Of a run that both have, the history that is further stays. Logs become runs of the algorithm
    "external"; a column `run` makes several of one file.
    """
    from suite.store import history, outside

    workspace = Workspace(db)
    for path in sources:
        if not path.exists():
            raise typer.BadParameter(f"there is no {path}")
    logs = [path for path in sources if path.is_file() and not _is_database(path)]
    for path in sources:
        if path not in logs:
            merged = checked(history.merge, workspace, path)
            typer.echo(
                f"{path}: {merged.added} runs added, {merged.replaced} were further than ours, "
                f"{merged.left_out} left as they are"
            )
    if logs:
        for cell in checked(outside.take_in, workspace, logs, name):
            typer.echo(f"{cell.matrix}, {cell.arm}: {cell.budget['steps']:.0f} steps, {cell.id}")


def _is_database(path: Path) -> bool:
    """DuckDB writes DUCK behind a checksum of eight bytes."""
    with path.open("rb") as file:
        return file.read(12)[8:] == b"DUCK"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"

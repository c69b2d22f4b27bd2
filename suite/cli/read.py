"""`suite report|results|sql|dashboard|lab`: what was measured, for people and programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.cli.terminal import (
    DEFAULT_DB,
    Database,
    checked,
    console,
    errors,
    exit_on,
    print_reports,
)
from suite.workspace import Workspace

FILE_ROWS = 1_000_000  # of `suite sql` to a file


def report(
    matrix: Annotated[
        str,
        typer.Argument(
            help="Name of the matrix, the latest by default; `eval` or the id of an evaluation."
        ),
    ] = "",
    more: Annotated[
        bool,
        typer.Option("--more", help="Other readings too: pass^k, maj@k, benchmarks together."),
    ] = False,
    db: Database = DEFAULT_DB,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown here as well.")] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="A folder: also write a CSV file a table there, numbers as numbers."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with all tables instead.")
    ] = False,
    cost: Annotated[
        bool, typer.Option("--cost", help="Also scores at equal cost, cost to score, phases.")
    ] = False,
    unit: Annotated[
        str, typer.Option(help="Of --cost: gpu_hours, tokens or steps; the budget's by default.")
    ] = "",
    against: Annotated[
        str,
        typer.Option(help="Also beside what the papers report: `published`, or a file like it."),
    ] = "",
) -> None:
    """Print the leaderboard: pass@k with intervals, entropy, length, GPU-hours, overshoot.

    With --more also mean@n, pass^k and maj@k, how likely each arm improves on the baseline, the
    smallest detectable difference, and the interquartile mean over benchmarks.
    """
    from suite.report.choose import tables_of

    spent = unit if cost or unit else None
    tables = checked(tables_of, Workspace(db), matrix, more, spent, against)
    print_reports(tables, markdown, csv, as_json)


def results(
    source: Annotated[Path, typer.Argument(help="A database, or a folder of `suite db export`.")],
    claims: Annotated[
        Path, typer.Option(help="The file of claims and prose, as matrices/claims/miniature.yaml.")
    ],
    out: Annotated[Path, typer.Option(help="The page, in Markdown.")] = Path("RESULTS.md"),
    figure: Annotated[
        Path | None, typer.Option(help="The SVG that it shows; beside the page by default.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 when it is not what data says.")
    ] = False,
) -> None:
    """Write a comparison as one page: leaderboard, differences, entropy, the papers' claims, cost.

    Everything on it comes from SOURCE, so the same source gives the same page anywhere. A claim is
    shown, not shown, or its opposite is shown, over paired seeds.
    """
    from suite.report.page import results as pages
    from suite.report.page.study import study as read_study

    picture = figure or out.with_suffix(".svg")
    study = checked(read_study, source, claims)
    if not check:
        pages.write(study, out, picture)
        console.print(f"written: {out}, {picture}", highlight=False)
        return
    exit_on(pages.check(study, out, picture))
    console.print(f"{out} is what {source} says", highlight=False)


def sql(
    query: Annotated[
        str | None, typer.Argument(help="One statement; without it, a prompt.", show_default=False)
    ] = None,
    db: Database = DEFAULT_DB,
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects instead.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write CSV here instead.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write Parquet here instead.")] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="At most so many; 1000, or a million to a file.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time that it may take.")] = 10.0,
) -> None:
    """Ask the views of a database in SQL: runs, traces, evals, pass_at_k, leaderboard, ...

    It can only read: each statement runs in a process of its own, without access to anything but
    the database, within limits of time and memory. Without a query there is a prompt, with history.
    """
    from suite.cli import sql_prompt as shell
    from suite.store.sandbox import DRAWN, KEPT, ROWS
    from suite.store.sandbox import query as ask

    if query is None:
        if as_json or csv or parquet:
            raise typer.BadParameter("--json, --csv and --parquet go with a query")
        shell.prompt(_existing(db), console, rows or ROWS, seconds)
        return
    saved = as_json or csv or parquet
    size, most = (KEPT, FILE_ROWS) if saved else (DRAWN, ROWS)
    result = checked(ask, db, query, rows=rows or most, seconds=seconds, size=size)
    if as_json:
        typer.echo(shell.as_json(result))
    if csv:
        shell.write_csv(result, csv)
    if parquet:
        checked(shell.write_parquet, result, parquet)
    if not saved:
        console.print(shell.table(result))
    if result.truncated:
        errors.print(shell.counted(result), highlight=False)


def dashboard(
    db: Database = DEFAULT_DB,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8501,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 lets everybody in, see above.")
    ] = "127.0.0.1",
) -> None:
    """Serve the dashboard: what to use and why, live while training runs. It only reads.

    It listens on this machine alone. From elsewhere, forward the port: `ssh -L 8501:localhost:8501
    MACHINE`. To expose it on purpose, `--host 0.0.0.0`: there is no login, so whoever reaches the
    port can read every run and ask any SQL of the database; put a proxy with a password before it.
    """
    import os

    from suite.cli import viewer

    line = checked(viewer.command, db, host, port)
    console.print(f"http://{host}:{port} shows {db}; Ctrl-C ends it", highlight=False)
    os.execv(line[0], line)


def lab(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Experiments by name or YAML file, or `all`; none lists them."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=2, help="Seeds instead of the file's.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the plots; `lab` in the database's folder.")
    ] = None,
    db: Database = DEFAULT_DB,
    markdown: Annotated[Path | None, typer.Option(help="Write the results here as well.")] = None,
) -> None:
    """Test the papers' claims about entropy on tabular policies, with the same algorithms.

    Trains what is not finished yet, says for each expectation whether it was reproduced, and draws
    it as PNG and SVG. A claim that does not reproduce is a finding: the exit status is 0.
    """
    from suite.lab import show

    if names:
        show.run_experiments(console, names, Workspace(db), seeds, out, markdown)
    else:
        show.catalogue(console)


def _existing(db: Path) -> Path:
    """Raises NoDatabase when there is none."""
    from suite.store import NoDatabase

    if not db.exists():
        raise NoDatabase(db)
    return db

"""`suite run|plan|status|stop|logs`: what is to run, and what runs."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from suite.cli.terminal import (
    DEFAULT_DB,
    Address,
    Database,
    MatrixFile,
    MatrixFiles,
    Reuse,
    Shrink,
    checked,
    console,
    errors,
    exit_on,
    print_reports,
    say_error,
)
from suite.matrix.cell import Cell
from suite.matrix.expand import load_cells
from suite.workspace import Workspace

WATCH_SECONDS = 2.0


def run(
    matrix: MatrixFiles,
    db: Database = DEFAULT_DB,
    address: Address = None,
    reuse: Reuse = None,
    shrink: Shrink = False,
) -> None:
    """Train and score every run of a matrix that is not finished yet, then print the comparison.

    Stop it at any point (Ctrl-C, kill -9, power): the same command continues from the last
    checkpoint. After an edit of the matrix only the runs that changed are made anew. What the
    infrastructure breaks (a dead process, a dead node) is tried again by itself. On a cluster, the
    database's folder has to be on storage that all nodes share.

    A run that several matrices share is trained once, and runs that can share a start of the
    stack do. With --shrink, what is meant for large hardware is rehearsed here: arms,
    algorithms, settings and reward modes are the matrix's own, the numbers mean nothing.
    """
    from suite.plan.plan import warnings
    from suite.report.choose import tables_of

    cells = [cell for path in matrix for cell in cells_of(path, shrink)]
    names = list(dict.fromkeys(cell.matrix for cell in cells))
    if len(names) < len(matrix):
        raise typer.BadParameter(f"of the {len(matrix)} matrices, two have the same name")
    for line in warnings(cells):
        say_error(line)
    failures = run_cells(cells, Workspace(db), address, reuse)
    for name in names:
        print_reports(checked(tables_of, Workspace(db), name))
    exit_on(failures)


def plan(
    matrix: MatrixFile,
    db: Database = DEFAULT_DB,
    commands: Annotated[bool, typer.Option(help="Print the command of each run.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Also the wall time side by side on so many GPUs.")
    ] = None,
    shrink: Shrink = False,
) -> None:
    """Show what a matrix would run: runs, cost, memory, where arms differ, and commands.

    The cost is estimated from earlier runs in --db, else from a model whose assumptions are
    printed. Nothing is started and nothing is written.
    """
    import json

    from suite.plan import plan as plans
    from suite.plan.show import show

    workspace = Workspace(db)
    planned = plans.prepare(cells_of(matrix, shrink), workspace)
    if as_json:
        typer.echo(json.dumps(plans.as_json(matrix, planned, workspace, gpus), indent=2))
    else:
        show(console, matrix, planned, workspace, commands, gpus)


def status(
    db: Database = DEFAULT_DB,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
) -> None:
    """Show every run of every matrix: state, progress, cost, time left, alarms; not the lab's."""
    from suite.report.status import status_table

    if not watch:
        console.print(status_table(db))
        return
    from rich.live import Live

    with Live(status_table(db), console=console) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(status_table(db))


def stop(
    db: Database = DEFAULT_DB,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for its end.")] = 120,
) -> None:
    """Stop the `suite run` or `suite eval` that works on a database; nothing is lost."""
    from suite.run import control

    console.print(checked(control.stop, Workspace(db), patience), highlight=False)


def logs(
    run: Annotated[str, typer.Argument(help="A run's id, or its start; see `suite status`.")],
    attempt: Annotated[int | None, typer.Option(help="The last one by default.")] = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, help="How many, from the end.")
    ] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while it runs.")] = False,
    db: Database = DEFAULT_DB,
) -> None:
    """Print the log of an attempt at a run: what OpenRLHF, DeepSpeed, vLLM and Ray said."""
    from suite.run import control

    path = checked(control.log_of, Workspace(db), run, attempt)
    if not path.stat().st_size and not follow:
        errors.print("nothing has been said yet", highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        for text in control.read_log(path, lines, follow, Workspace(db)):
            sys.stdout.write(text)
            sys.stdout.flush()


def run_cells(
    cells: list[Cell], workspace: Workspace, address: str | None = None, reuse: bool | None = None
) -> list[str]:
    """Bring runs to their end with progress on the terminal; returns a line or two a failure.

    Raises:
        typer.Exit: Ctrl-C or SIGTERM; everything that ran is kept.
    """
    from suite.run import conductor
    from suite.run.places import open_place
    from suite.run.progress import display

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: stop and publish
    place = open_place(address, cells)
    try:
        with display(console, list({cell.id: cell for cell in cells}.values())) as shown:
            outcomes = conductor.run(cells, workspace, shown, place, reuse)
    except KeyboardInterrupt:
        say_error("stopped; the same command continues")
        raise typer.Exit(130) from None
    finally:
        place.close()
    lines = []
    for outcome in outcomes:
        if outcome.status == "failed":
            lines.append(f"{outcome.cell.arm} (seed {outcome.cell.seed}): {outcome.error}")
            if outcome.log:
                lines.append(f"  its log: {outcome.log}")
    return lines


def cells_of(matrix: Path, shrink: bool) -> list[Cell]:
    """The runs of a matrix file, as they are or shrunk."""
    from suite.matrix.shrink import shrunk

    cells = load_cells(matrix)
    return shrunk(cells) if shrink else cells

"""The command line. Every verb says what it does with --help and fails in one clear line."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from suite.cli import db, read, run, score
from suite.cli.terminal import console, say_error
from suite.matrix.yaml_file import MatrixError

app = typer.Typer(
    help="Train, score and compare entropy remedies for RLVR at equal measured compute.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def doctor() -> None:
    """Print versions and devices, and what is wrong with this installation."""
    from suite.cli.doctor import examine

    if not examine(console):
        raise typer.Exit(1)


COMMANDS: dict[str, Callable[..., None]] = {  # in the order of --help
    "run": run.run,
    "plan": run.plan,
    "status": run.status,
    "stop": run.stop,
    "logs": run.logs,
    "eval": score.evaluate,
    "regrade": score.regrade,
    "report": read.report,
    "results": read.results,
    "sql": read.sql,
    "dashboard": read.dashboard,
    "lab": read.lab,
    "doctor": doctor,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(db.app, name="db")


def main() -> None:
    """Entry point: expected errors become one line and exit status 2 (bad input) or 1."""
    import duckdb

    from suite.machine import UnknownDevice
    from suite.run.cluster import NoCluster
    from suite.run.places import Infeasible
    from suite.spool.lock import Busy
    from suite.store import NoDatabase
    from suite.store.migrations import Unusable

    try:
        app()
    except MatrixError as error:
        for problem in error.problems:
            say_error(problem)
        sys.exit(2)
    except duckdb.Error as error:
        say_error(f"the database cannot be used: {str(error).splitlines()[0]}")
        sys.exit(2)
    except (NoDatabase, Unusable, Busy, Infeasible, NoCluster, UnknownDevice) as error:
        say_error(str(error))
        sys.exit(2)
    except OSError as error:
        say_error(f"{error.__class__.__name__}: {error}")
        sys.exit(1)

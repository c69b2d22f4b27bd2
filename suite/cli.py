"""The command line. Every verb says what it does with --help and fails in one clear line."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from suite.cell import Cell, Workspace
from suite.db import commands as db_commands
from suite.matrix import load_cells
from suite.matrix_file import MatrixError

if TYPE_CHECKING:
    from suite.report import Report

app = typer.Typer(
    help="Train, score and compare entropy remedies for RLVR at equal measured compute.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(db_commands.app, name="db")
WATCH_SECONDS = 2.0
FILE_ROWS = 1_000_000  # of `suite sql` to a file
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


@app.command()
def run(
    matrix: MatrixFiles,
    db: Database = DEFAULT_DB,
    address: Address = None,
    reuse: Reuse = None,
    shrink: Shrink = False,
) -> None:
    """Train and score every cell of a matrix that is not finished yet, then print the comparison.

    Stop it at any point (Ctrl-C, kill -9, power): the same command continues from the last
    checkpoint. Editing the matrix reruns only the cells that changed. What the infrastructure
    breaks (a dead process, a dead node) is tried again by itself. On a cluster, the database's
    folder has to be on storage that all nodes share.

    Of several matrices, cells that are the same are trained once, and those that can share a start
    of the stack do. With --shrink, what is meant for large hardware is rehearsed here: arms,
    algorithms, settings and reward modes are the matrix's own, the numbers mean nothing.
    """
    from suite.plan import warnings
    from suite.reporting.names import chosen

    cells = [cell for path in matrix for cell in _cells(path, shrink)]
    names = list(dict.fromkeys(cell.matrix for cell in cells))
    if len(names) < len(matrix):
        raise typer.BadParameter(f"of the {len(matrix)} matrices, two have the same name")
    for line in warnings(cells):
        _say_error(line)
    failures = _run_cells(cells, Workspace(db), address, reuse)
    for name in names:
        _print_reports(_checked(chosen, Workspace(db), name))
    for line in failures:
        _say_error(line)
    if failures:
        raise typer.Exit(1)


@app.command()
def plan(
    matrix: MatrixFile,
    db: Database = DEFAULT_DB,
    commands: Annotated[bool, typer.Option(help="Print each cell's OpenRLHF command.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Also the wall time side by side on so many GPUs.")
    ] = None,
    shrink: Shrink = False,
) -> None:
    """Show what a matrix would run: cells, cost, memory, where arms differ, OpenRLHF commands.

    The cost is estimated from earlier runs in --db, else from a model whose assumptions are
    printed. Nothing is started and nothing is written.
    """
    import json

    from suite import plan as plans
    from suite.planning.show import show

    workspace = Workspace(db)
    planned = plans.prepare(_cells(matrix, shrink), workspace)
    if as_json:
        typer.echo(json.dumps(plans.as_json(matrix, planned, workspace, gpus), indent=2))
    else:
        show(console, matrix, planned, workspace, commands, gpus)


@app.command()
def status(
    db: Database = DEFAULT_DB,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
) -> None:
    """Show every cell of every matrix with its state, progress and cost; not the lab's runs."""
    from suite.running.control import status_table

    if not watch:
        console.print(status_table(db))
        return
    from rich.live import Live

    with Live(status_table(db), console=console) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(status_table(db))


@app.command()
def stop(
    db: Database = DEFAULT_DB,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for its end.")] = 120,
) -> None:
    """Stop the `suite run` or `suite eval` that works on a database; nothing is lost."""
    from suite.running import control

    console.print(_checked(control.stop, Workspace(db), patience), highlight=False)


@app.command()
def logs(
    cell: Annotated[str, typer.Argument(help="A cell's id, or its start; see `suite status`.")],
    attempt: Annotated[int | None, typer.Option(help="The last one by default.")] = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, help="How many, from the end.")
    ] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while it runs.")] = False,
    db: Database = DEFAULT_DB,
) -> None:
    """Print the log of an attempt at a cell: what OpenRLHF, DeepSpeed, vLLM and Ray said."""
    from suite.running import control

    path = _checked(control.log_of, Workspace(db), cell, attempt)
    if not path.stat().st_size and not follow:
        errors.print("nothing has been said yet", highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        for text in control.read_log(path, lines, follow, Workspace(db)):
            sys.stdout.write(text)
            sys.stdout.flush()


@app.command("eval")
def evaluate(  # noqa: PLR0913  options of a command line
    model: Annotated[
        str, typer.Argument(help="A path, a Hugging Face id, or a run of --db as ID or ID@STEP.")
    ],
    benchmarks: Annotated[str, typer.Option(help="Names or .jsonl files, commas between.")],
    samples: Annotated[
        int | None, typer.Option(min=1, help="Responses to each problem; 64 by default.")
    ] = None,
    pass_at: Annotated[str, typer.Option(help="Each k of pass@k, commas between.")] = "1,8,64",
    preset: Annotated[
        str, typer.Option(help="Sampling of a paper: aent, aepo-pass1, aepo-passk or clip.")
    ] = "",
    temperature: Annotated[float | None, typer.Option(min=0, help="1 by default.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="1 by default.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="All tokens by default.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="4096 by default, 40 for the embedded model.")
    ] = None,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="1024 by default, 48 for the embedded model.")
    ] = None,
    problems: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    train_data: Annotated[
        str,
        typer.Option(help="What MODEL was trained on, to look for the problems in; a run knows."),
    ] = "",
    prompt_template: Annotated[
        str | None, typer.Option(help="boxed, qwen-math, or a text with {} for the problem.")
    ] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Wrap prompts as the tokenizer's chat.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs, shared by the engines.")] = 1,
    engines: Annotated[
        int,
        typer.Option(min=1, help="Copies of the model, side by side; samples stay the same."),
    ] = 1,
    more: Annotated[
        bool, typer.Option("--more", help="Print pass^k, maj@k and the noise of sampling too.")
    ] = False,
    db: Database = DEFAULT_DB,
    address: Address = None,
) -> None:
    """Score a checkpoint: sample every problem, grade every response, print pass@k.

    Nothing is drawn twice: killed and started again it goes on, finished it prints at once, and
    with more --samples the ones that exist already count (sample j depends on its number alone).
    """
    from suite import evaluation
    from suite.reporting import scorecard

    given = {"samples": samples, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    one = _checked(
        evaluation.from_options,
        model,
        Workspace(db),
        benchmarks=benchmarks.split(","),
        pass_at=pass_at,
        preset=preset,
        sampling={name: value for name, value in given.items() if value is not None}
        | {"max_new_tokens": max_new_tokens, "problems": problems},
        prompting=evaluation.Prompting(prompt_template, chat_template, max_prompt_tokens),
        seed=seed,
        resources={"gpus": gpus, "engines": engines},
    )
    one = _checked(evaluation.trained_on, one, model, train_data, Workspace(db))
    failures = _run_cells([one], Workspace(db), address)
    for line in failures:
        _say_error(line)
    if failures:
        raise typer.Exit(1)
    _print_reports(scorecard.card(db, one, more))


@app.command()
def regrade(
    run: Annotated[str, typer.Argument(help="A run's id, as `suite status` shows it.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Let the new verdicts take the old ones' place.")
    ] = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Only grade its answers against other problems' golds."),
    ] = False,
    db: Database = DEFAULT_DB,
) -> None:
    """Grade a run's stored responses again with the grader of today and show what changed.

    With --audit: how often the grader takes a wrong answer for right. One in a thousand would make
    pass@1024 of a policy that knows nothing 64 %.
    """
    from rich.table import Table

    from suite import regrade as again

    if audit:
        _print_reports([again.audit_report(_checked(again.audit, Workspace(db), run))])
        return
    found = _checked(again.regrade, Workspace(db), run)
    changed = sum(found.changed.values())
    table = Table("problem", "gold", "answer", "was", "is")
    for row in found.examples:
        table.add_row(*(escape(str(value)) for value in row))
    if changed:
        console.print(table)
    for (old, new), count in sorted(found.changed.items()):
        console.print(f"{count} x {old} -> {new}")
    console.print(f"{found.responses} responses graded again, {changed} verdicts differ")
    if apply and changed:
        again.apply(Workspace(db), run, found)
        console.print("the new verdicts and scores are in place")


@app.command()
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
    csv: Annotated[Path | None, typer.Option(help="Write CSV here as well.")] = None,
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
    from suite.reporting.names import chosen

    spent = unit if cost or unit else None
    _print_reports(_checked(chosen, Workspace(db), matrix, more, spent, against), markdown, csv)


@app.command()
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
    from suite.reporting import results as pages

    picture = figure or out.with_suffix(".svg")
    of = _checked(pages.study, source, claims)
    if not check:
        pages.write(of, out, picture)
        console.print(f"written: {out}, {picture}", highlight=False)
        return
    wrong = pages.check(of, out, picture)
    for line in wrong:
        _say_error(line)
    if wrong:
        raise typer.Exit(1)
    console.print(f"{out} is what {source} says", highlight=False)


@app.command()
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
    from suite import sql as shell
    from suite.db.sandbox import DRAWN, KEPT, ROWS
    from suite.db.sandbox import query as ask

    if query is None:
        if as_json or csv or parquet:
            raise typer.BadParameter("--json, --csv and --parquet go with a query")
        shell.prompt(_existing(db), console, rows or ROWS, seconds)
        return
    kept = as_json or csv or parquet
    size, most = (KEPT, FILE_ROWS) if kept else (DRAWN, ROWS)
    result = _checked(ask, db, query, rows=rows or most, seconds=seconds, size=size)
    if as_json:
        typer.echo(shell.as_json(result))
    if csv:
        shell.write_csv(result, csv)
    if parquet:
        _checked(shell.write_parquet, result, parquet)
    if not kept:
        console.print(shell.table(result))
    if result.truncated:
        errors.print(shell.counted(result), highlight=False)


@app.command()
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

    from suite import viewer

    line = _checked(viewer.command, db, host, port)
    console.print(f"http://{host}:{port} shows {db}; Ctrl-C ends it", highlight=False)
    os.execv(line[0], line)


@app.command()
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
        show.run(console, names, Workspace(db), seeds, out, markdown)
    else:
        show.catalogue(console)


@app.command()
def doctor() -> None:
    """Print versions and devices, and what is wrong with this installation."""
    from suite.doctor import examine

    if not examine(console):
        raise typer.Exit(1)


def _cells(matrix: Path, shrink: bool) -> list[Cell]:
    """The cells of a matrix file, as they are or shrunk."""
    from suite.shrink import shrunk

    cells = load_cells(matrix)
    return shrunk(cells) if shrink else cells


def _run_cells(
    cells: list[Cell], workspace: Workspace, address: str | None = None, reuse: bool | None = None
) -> list[str]:
    """Bring cells to their end with progress on the terminal; returns a line or two a failure.

    Raises:
        typer.Exit: Ctrl-C or SIGTERM; everything that ran is kept.
    """
    from suite import conductor
    from suite.running.progress import display
    from suite.scheduler import open_place

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: stop and publish
    place = open_place(address, cells)
    try:
        with display(console, list({cell.id: cell for cell in cells}.values())) as shown:
            outcomes = conductor.run(cells, workspace, shown, place, reuse)
    except KeyboardInterrupt:
        _say_error("stopped; the same command continues")
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


def _existing(db: Path) -> Path:
    """Raises NoDatabase when there is none."""
    from suite.store import NoDatabase

    if not db.exists():
        raise NoDatabase(db)
    return db


def _checked(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`make(...)`, its ValueError as one line about bad input."""
    try:
        return make(*args, **kwargs)
    except MatrixError:
        raise  # has lines of its own
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _print_reports(
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


def _say_error(text: str) -> None:
    errors.print(text, style="red", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Entry point: expected errors become one line and exit status 2 (bad input) or 1."""
    import duckdb

    from suite.db.migrations import Unusable
    from suite.machine import UnknownDevice
    from suite.running.lock import Busy
    from suite.scheduler import Infeasible, NoCluster
    from suite.store import NoDatabase

    try:
        app()
    except MatrixError as error:
        for problem in error.problems:
            _say_error(problem)
        sys.exit(2)
    except duckdb.Error as error:
        _say_error(f"the database cannot be used: {str(error).splitlines()[0]}")
        sys.exit(2)
    except (NoDatabase, Unusable, Busy, Infeasible, NoCluster, UnknownDevice) as error:
        _say_error(str(error))
        sys.exit(2)
    except OSError as error:
        _say_error(f"{error.__class__.__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()

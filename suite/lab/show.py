"""What `suite lab` does: lists the experiments, or runs some and shows what came out."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from suite.lab import experiment, outcome, report
from suite.lab.conduct import conduct
from suite.lab.experiment import Arm, LabExperiment
from suite.workspace import Workspace

ALL = "all"


def catalogue(console: Console) -> None:
    """Every experiment that comes with the suite, with its claim."""
    table = Table("experiment", "claim", "source", "arms", "seeds", title="suite lab NAME")
    for path in experiment.paths():
        loaded = experiment.load(path)
        file = loaded.file
        claim = " ".join(file.claim.split())
        table.add_row(file.name, claim, file.source, str(len(loaded.arms)), str(loaded.seeds))
    console.print(table)


def run_experiments(
    console: Console,
    names: list[str],
    workspace: Workspace,
    seeds: int | None,
    folder: Path | None,
    markdown: Path | None,
) -> None:
    """Run the experiments, print table, verdicts and plots of each, write Markdown if wanted.

    Raises:
        MatrixError: a name or file is wrong; nothing has been started then.
    """
    files = [experiment.find(n) for n in names if n != ALL]
    files += experiment.paths() if ALL in names else []
    experiments = [experiment.load(path, seeds) for path in dict.fromkeys(files)]
    outcomes = []
    for each in experiments:
        _conduct(console, each, workspace)
        measured = outcome.read_outcome(each, workspace.db)
        outcomes.append(measured)
        report.show(console, measured)
        from suite.lab.plots import draw

        for path in draw(measured, folder or workspace.root / "lab"):
            console.print(f"plot: {path}", markup=False, highlight=False, soft_wrap=True)
    if markdown:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(report.page(outcomes))
        console.print(f"written: {markdown}")


def _conduct(console: Console, loaded: LabExperiment, workspace: Workspace) -> None:
    """Train under a progress bar: one for the experiment, naming the arm in training."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[arm]}"),
    )
    done: dict[str, float] = {}
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(loaded.name, total=len(loaded.arms), arm="")

        def report_progress(arm: Arm, share: float) -> None:
            done[arm.name] = share
            progress.update(task, completed=sum(done.values()), arm=arm.name)

        conduct(loaded, workspace, report_progress)

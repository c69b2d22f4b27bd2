"""What `suite run` shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from suite.matrix.cell import Cell

PLAIN_SECONDS = 10.0  # between two plain lines about the same run

_SHOWN = {  # of a step's trace
    "reward": "reward {:.3f}",
    "entropy": "entropy {:.3f}",
    "response_length": "length {:.1f}",
    "gpu_hours": "{:.4f} GPU-h",
}
_PHASES = {
    "preparing": "starting the stack",
    "training": "training",
    "resumed": "resumed from its checkpoint",
    "finished": "saving the policy",
}


def describe(row: dict[str, Any]) -> str:
    """One spool line in a few words; "" for lines that nobody needs to see."""
    if row["kind"] == "trace":
        numbers = [text.format(row[metric]) for metric, text in _SHOWN.items() if metric in row]
        return "  ".join([f"step {row['step']:4d}", *numbers])
    if row["kind"] in ("note", "warning", "progress"):
        return row["text"]
    if row["kind"] == "sampling":
        return f"sampling: {row['wanted']} wanted, {row['existing']} of them exist"
    if row["kind"] == "evaluated" and "seconds" in row:
        return f"sampled and graded in {row['seconds']:.0f} s"
    if row["kind"] == "evaluated":
        return f"evaluated at {row['fraction']:.0%} of the budget"
    if row["kind"] == "failed":
        return row["error"]
    return _PHASES.get(row["kind"], "")


class Plain:
    """Lines for logs and pipes."""

    def __init__(self, console: Console, cells: list[Cell]):
        self._console = console
        self._total = len(cells)
        self._finished: set[str] = set()
        self._last: dict[str, float] = {}

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None: ...

    def cell(self, cell: Cell, status: str) -> None:
        """Say it, with how many runs are finished."""
        if status == "finished":
            self._finished.add(cell.id)
        self._say(cell, f"{status} ({len(self._finished)}/{self._total} runs finished)")

    def line(self, cell: Cell, row: dict[str, Any]) -> None:
        """Say it, traces only now and then."""
        text = describe(row)
        often = row["kind"] in ("trace", "progress")
        last = self._last.get(cell.id, 0.0)
        if not text or (often and time.monotonic() < last + PLAIN_SECONDS):
            return
        self._last[cell.id] = time.monotonic()
        done = f"{min(row.get('budget_fraction', 0.0), 1.0):4.0%}  " if often else ""
        self._say(cell, done + text)

    def _say(self, cell: Cell, text: str) -> None:
        self._console.print(
            f"{time.strftime('%H:%M:%S')}  {cell.arm} (seed {cell.seed})  {text}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


class Bars:
    """A bar for each run and one for the matrix, on a terminal."""

    def __init__(self, console: Console, cells: list[Cell]):
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._live = Live(self._progress, console=console, refresh_per_second=4)
        self._all = self._progress.add_task("all runs", total=len(cells), text="")
        self._tasks = {
            cell.id: self._progress.add_task(
                f"{cell.arm} (seed {cell.seed})", total=1.0, start=False, text="queued"
            )
            for cell in cells
        }
        self._finished: set[str] = set()

    def __enter__(self) -> Bars:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def cell(self, cell: Cell, status: str) -> None:
        """Colour the bar by status."""
        task = self._tasks[cell.id]
        if status == "running":
            self._progress.start_task(task)
        if status == "finished":
            self._finished.add(cell.id)
            self._progress.update(task, completed=1.0)
            self._progress.update(self._all, completed=len(self._finished))
        if status in ("finished", "failed", "interrupted"):
            self._progress.stop_task(task)
        self._progress.update(task, text=status)

    def line(self, cell: Cell, row: dict[str, Any]) -> None:
        """Move the bar and say what the worker last did."""
        text = describe(row)
        if "budget_fraction" in row and row["kind"] in ("trace", "progress"):
            self._progress.update(
                self._tasks[cell.id], completed=min(row["budget_fraction"], 1.0), text=text
            )
        elif text:
            self._progress.update(self._tasks[cell.id], text=text)


def display(console: Console, cells: list[Cell]) -> Plain | Bars:
    """Bars on a terminal, plain lines elsewhere."""
    return (Bars if console.is_terminal else Plain)(console, cells)

"""Runs the cells that are not finished, one after the other.

The conductor never trains: it starts a worker, takes its spool in, publishes, and shows progress.
It can be killed at any point; the same command continues. One conductor works on a database at a
time.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from suite import machine
from suite.cell import Cell, Workspace
from suite.store import Store
from suite.worker import stack_key

POLL_SECONDS = 0.5
PUBLISH_SECONDS = 2.0
PATIENCE_SECONDS = 15.0  # between asking a worker to stop and killing it
MARK = "SUITE_CELL"  # environment variable of every process of a worker: its cells' folders


class Busy(RuntimeError):
    """Another conductor works on this database."""


class Infeasible(RuntimeError):
    """This machine cannot run a cell."""


class Display(Protocol):
    """What watches a run: see suite.progress."""

    def cell(self, cell: Cell, status: str) -> None:
        """A cell's status changed."""

    def line(self, cell: Cell, row: dict[str, Any]) -> None:
        """A cell's worker wrote a line."""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: its status, and the message and log of a failure."""

    cell: Cell
    status: str
    error: str = ""
    log: Path | None = None


@contextmanager
def only_conductor(workspace: Workspace) -> Iterator[None]:
    """Hold the database's lock file.

    Raises:
        Busy: another conductor holds it; its process id is named.
    """
    workspace.root.mkdir(parents=True, exist_ok=True)
    with (workspace.root / "conductor.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise Busy(
                f"process {file.read().strip()} is already running cells of {workspace.db}: "
                "wait for it, or use another --db"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def run(cells: list[Cell], workspace: Workspace, display: Display) -> list[Outcome]:
    """Bring every cell to "finished", or to "failed" with its reason; the rest goes on.

    On KeyboardInterrupt the running worker is stopped, what it wrote is published, and the
    interrupt is raised again.
    """
    check_resources(cells)
    with only_conductor(workspace):
        store = Store(workspace)
        try:
            store.register(cells)
            for cell in cells:
                store.ingest(cell.id)
                if store.status(cell.id) == "running":
                    store.set_status(cell.id, "interrupted")
                display.cell(cell, store.status(cell.id))
            store.publish()
            ended: dict[str, Outcome] = {}
            for group in _groups(cells, workspace):
                ended |= _bring_to_end(group, workspace, store, display)
            return [ended[cell.id] for cell in cells]
        finally:
            store.close()


def check_resources(cells: list[Cell]) -> None:
    """Refuse what would wait for ever: an accelerator or a number of GPUs that is not here.

    Without a GPU, GPUs are logical ones: as many as asked for, on the same cores.
    """
    here = machine.gpus() if machine.device() == "gpu" else None
    for cell in cells:
        wanted, kind = cell.resources["gpus"], cell.resources["accelerator"]
        if kind and not any(kind.lower() in name.lower() for name in here or []):
            raise Infeasible(
                f"arm {cell.arm} wants {wanted} x {kind}, this machine has "
                f"{', '.join(here) if here else 'no GPU'}: `suite plan` works anywhere, "
                "`suite run` needs the hardware"
            )
        if here is not None and wanted > len(here):
            raise Infeasible(f"arm {cell.arm} wants {wanted} GPUs, this machine has {len(here)}")


def _groups(cells: list[Cell], workspace: Workspace) -> list[list[Cell]]:
    """Cells that can share a start of the stack, in order of their first one."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(stack_key(cell, workspace) or cell.id, []).append(cell)
    return list(groups.values())


def _bring_to_end(
    group: list[Cell],
    workspace: Workspace,
    store: Store,
    display: Display,
) -> dict[str, Outcome]:
    """Start workers for the cells of a group until each is finished or has failed."""
    ended = {
        cell.id: Outcome(cell, "finished") for cell in group if store.status(cell.id) == "finished"
    }
    while waiting := [cell for cell in group if cell.id not in ended]:
        for cell in waiting:
            workspace.cell(cell.id).mkdir(parents=True, exist_ok=True)
            cell.save(workspace.cell(cell.id) / "cell.json")
            reap(workspace.cell(cell.id))
        watch = _Watch(waiting, workspace, store, display)
        try:
            watch.to_the_end()
        finally:
            for cell in waiting:
                reap(workspace.cell(cell.id))
        ended |= watch.outcomes
    return ended


class _Watch:
    """One worker from its start to its end: its cells' spools, statuses and outcomes."""

    def __init__(self, cells: list[Cell], workspace: Workspace, store: Store, display: Display):
        self._cells, self._store, self._display = cells, store, display
        self._attempts = {cell.id: store.next_attempt(cell.id) for cell in cells}
        self._log = workspace.cell(cells[0].id) / f"attempt-{self._attempts[cells[0].id]:03d}.log"
        self._running: Cell | None = cells[0]
        self.outcomes: dict[str, Outcome] = {}
        self._set(cells[0], "running")
        self._worker = _start(workspace, self._attempts, self._log)

    def to_the_end(self) -> None:
        """Take the spools in until the worker ends; whose turn it was then has failed.

        Raises:
            KeyboardInterrupt: after the worker was stopped and what it wrote published.
        """
        try:
            self._follow()
        except KeyboardInterrupt:
            _stop(self._worker)
            self._take()
            if self._running:
                self._set(self._running, "interrupted")
            raise
        if self._running:
            self._end(self._running, "failed", self._why())

    def _follow(self) -> None:
        published = time.monotonic()
        while True:
            ended = self._worker.poll() is not None
            rows = self._take()
            if rows and time.monotonic() - published > PUBLISH_SECONDS:
                self._store.publish()
                published = time.monotonic()
            if ended:
                return
            time.sleep(POLL_SECONDS)

    def _take(self) -> int:
        """What the cells' spools have new."""
        taken = 0
        for cell in self._cells:
            if cell.id in self.outcomes:
                continue
            for row in self._store.ingest(cell.id):
                taken += 1
                if row.get("attempt") == self._attempts[cell.id]:
                    self._line(cell, row)
        return taken

    def _line(self, cell: Cell, row: dict[str, Any]) -> None:
        if row["kind"] == "start" and cell is not self._running:
            self._running = cell
            self._set(cell, "running")
        self._display.line(cell, row)
        if row["kind"] == "done":
            self._end(cell, "finished")
        elif row["kind"] == "failed":
            self._end(cell, "failed", row["error"])

    def _end(self, cell: Cell, status: str, error: str = "") -> None:
        self.outcomes[cell.id] = Outcome(cell, status, error, self._log if error else None)
        if cell is self._running:
            self._running = None
        self._set(cell, status)

    def _why(self) -> str:
        """Of a worker that ended without saying so."""
        code = self._worker.returncode
        if code < 0:
            name = signal.Signals(-code).name
            return f"the worker was killed ({name}; out of memory?); the same command continues"
        return f"the worker ended with exit status {code} and no message"

    def _set(self, cell: Cell, status: str) -> None:
        self._store.set_status(cell.id, status)
        self._store.publish()
        self._display.cell(cell, status)


def _start(workspace: Workspace, attempts: dict[str, int], log: Path) -> subprocess.Popen:
    """A worker in its own session (Ctrl-C reaches the conductor only), output to `log`."""
    folders = [str(workspace.cell(cell)) for cell in attempts]
    with log.open("ab") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "suite.worker", str(workspace.db), str(os.getpid())),
                *(f"{cell}:{attempt}" for cell, attempt in attempts.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {MARK: os.pathsep.join(folders)},
        )


def _stop(worker: subprocess.Popen) -> None:
    """Ask the worker to end as Ctrl-C would; `reap` takes care of what does not."""
    worker.send_signal(signal.SIGINT)
    try:
        worker.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()


def reap(folder: Path) -> None:
    """Kill every process that still carries this cell's mark: no two attempts ever overlap."""
    left = []
    for process in psutil.process_iter():
        try:
            marks = process.environ().get(MARK, "").split(os.pathsep)
            if str(folder) in marks and process.pid != os.getpid():
                process.kill()
                left.append(process)
        except (psutil.Error, OSError):
            continue
    psutil.wait_procs(left, timeout=PATIENCE_SECONDS)

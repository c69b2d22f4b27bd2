"""Runs the cells that are not finished, one after the other, each in a process of its own.

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

POLL_SECONDS = 0.5
PUBLISH_SECONDS = 2.0
PATIENCE_SECONDS = 15.0  # between asking a worker to stop and killing it
MARK = "SUITE_CELL"  # environment variable that every process of a cell inherits


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
            return [_bring_to_end(cell, workspace, store, display) for cell in cells]
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


def _bring_to_end(cell: Cell, workspace: Workspace, store: Store, display: Display) -> Outcome:
    if store.status(cell.id) == "finished":
        return Outcome(cell, "finished")
    folder = workspace.cell(cell.id)
    folder.mkdir(parents=True, exist_ok=True)
    cell.save(folder / "cell.json")
    reap(folder)
    attempt = store.next_attempt(cell.id)
    log = folder / f"attempt-{attempt:03d}.log"
    _set(store, display, cell, "running")
    worker = _start(workspace, cell, attempt, log)
    try:
        error = _watch(worker, cell, store, display)
    except KeyboardInterrupt:
        _stop(worker)
        store.ingest(cell.id)
        _set(store, display, cell, "interrupted")
        raise
    finally:
        reap(folder)
    status = "failed" if error else "finished"
    _set(store, display, cell, status)
    return Outcome(cell, status, error, log if error else None)


def _set(store: Store, display: Display, cell: Cell, status: str) -> None:
    store.set_status(cell.id, status)
    store.publish()
    display.cell(cell, status)


def _start(workspace: Workspace, cell: Cell, attempt: int, log: Path) -> subprocess.Popen:
    """A worker in its own session (Ctrl-C reaches the conductor only), output to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "suite.worker"),
                *(str(workspace.db), cell.id, str(attempt), str(os.getpid())),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {MARK: str(workspace.cell(cell.id))},
        )


def _watch(worker: subprocess.Popen, cell: Cell, store: Store, display: Display) -> str:
    """Take the spool in until the worker ends; returns the reason of a failure, or ""."""
    published = time.monotonic()
    done, error = False, ""
    while True:
        ended = worker.poll() is not None
        rows = store.ingest(cell.id)
        for row in rows:
            display.line(cell, row)
            done |= row["kind"] == "done"
            error = row["error"] if row["kind"] == "failed" else error
        if rows and time.monotonic() - published > PUBLISH_SECONDS:
            store.publish()
            published = time.monotonic()
        if ended:
            break
        time.sleep(POLL_SECONDS)
    if done:
        return ""
    if error:
        return error
    if worker.returncode < 0:
        name = signal.Signals(-worker.returncode).name
        return f"the worker was killed ({name}; out of memory?); the same command continues"
    return f"the worker ended with exit status {worker.returncode} and no message"


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
            if process.environ().get(MARK) == str(folder) and process.pid != os.getpid():
                process.kill()
                left.append(process)
        except (psutil.Error, OSError):
            continue
    psutil.wait_procs(left, timeout=PATIENCE_SECONDS)

"""Looking after a run from another terminal: its state, its logs, and stopping it."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from suite.spool.lock import conductor_of
from suite.store import connect
from suite.workspace import Workspace

FOLLOW_SECONDS = 0.5


def status_table(db: Path) -> Table:
    """Every cell of every matrix with its state, progress and cost; not the lab's own runs.

    A cell that was running when its conductor was killed is "interrupted", whatever the database
    still says.
    """
    with connect(db) as connection:
        rows = connection.execute(
            """SELECT matrix, arm, seed, status, coalesce(steps, 0), coalesce(gpu_hours, 0),
                      budget_unit, budget, attempts, run
                 FROM runs WHERE model NOT IN ('tabular', 'theory') ORDER BY matrix, position"""
        ).fetchall()
    table = Table(
        *("matrix", "arm", "seed", "status", "steps", "GPU-hours", "budget", "attempts", "cell"),
        title=str(db),
    )
    working = conductor_of(Workspace(db))
    for matrix, arm, seed, state, steps, hours, unit, budget, attempts, cell in rows:
        shown = "interrupted" if state == "running" and not working else state
        limit = f"{budget:g} {unit}"
        numbers = [str(steps), f"{hours:.4f}", limit, str(attempts)]
        table.add_row(matrix or "-", arm or "-", str(seed), shown, *numbers, cell)
    who = "process {1} on {0} works on it".format(*working) if working else "nothing runs"
    table.caption = f"{who}; {sum(row[3] == 'finished' for row in rows)} of {len(rows)} finished"
    return table


def stop(workspace: Workspace, patience: float) -> str:
    """Ask the conductor of a database to stop as Ctrl-C would, and wait; what happened, in words.

    Raises:
        ValueError: it runs on another machine, or does not end.
    """
    working = conductor_of(workspace)
    if not working:
        return f"nothing runs cells of {workspace.db}"
    host, pid = working
    if host != socket.gethostname():
        raise ValueError(f"the conductor is process {pid} on {host}: run `suite stop` there")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while conductor_of(workspace) == working:
        if time.monotonic() > deadline:
            raise ValueError(f"process {pid} has not ended within {patience:.0f} s")
        time.sleep(FOLLOW_SECONDS)
    return f"process {pid} has stopped; `suite run` continues"


def log_of(workspace: Workspace, cell: str, attempt: int | None) -> Path:
    """The log of an attempt at a cell, the last one by default; the start of an id is enough.

    Raises:
        ValueError: no such cell, or several; no such attempt.
    """
    folders = workspace.root / "cells"
    found = sorted(path for path in folders.glob(f"{cell}*")) if re.fullmatch(r"\w+", cell) else []
    if len(found) != 1:
        there = "several cells begin with" if found else "no cell begins with"
        raise ValueError(f"{there} {cell!r}: `suite status` shows the ids")
    logs = {
        int(match.group(1)): path
        for path in found[0].iterdir()
        if (match := re.fullmatch(r"attempt-(\d+)\.log", path.name))
    }
    if not logs:
        raise ValueError(f"cell {found[0].name} has not been started yet")
    chosen = max(logs) if attempt is None else attempt
    if chosen not in logs:
        raise ValueError(f"cell {found[0].name} has no attempt {chosen}; there are: {sorted(logs)}")
    return logs[chosen]


def read_log(path: Path, lines: int, follow: bool, workspace: Workspace) -> Iterator[str]:
    """The last `lines` lines of a log; with `follow` also what is added while a conductor works."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from file.read().splitlines(keepends=True)[-lines:]
        while follow:
            text = file.read()
            if text:
                yield text
            elif conductor_of(workspace) is None:
                return
            else:
                time.sleep(FOLLOW_SECONDS)

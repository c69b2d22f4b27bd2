"""Looking after runs from another terminal: their logs, and stopping what works on them."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from suite.spool.lock import conductor_of
from suite.workspace import Workspace

FOLLOW_SECONDS = 0.5


def stop(workspace: Workspace, patience: float) -> str:
    """Ask the conductor of a database to stop as Ctrl-C would, and wait; what happened, in words.

    Raises:
        ValueError: it runs on another machine, or does not end.
    """
    working = conductor_of(workspace)
    if not working:
        return f"nothing works on {workspace.db}"
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


def log_of(workspace: Workspace, run: str, attempt: int | None) -> Path:
    """The log of an attempt at a run, the last one by default; the start of an id is enough.

    Raises:
        ValueError: no such run, or several; no such attempt.
    """
    folders = workspace.root / "cells"
    matching = sorted(folders.glob(f"{run}*")) if re.fullmatch(r"\w+", run) else []
    if len(matching) != 1:
        problem = "several runs begin with" if matching else "no run begins with"
        raise ValueError(f"{problem} {run!r}: `suite status` shows the ids")
    folder = matching[0]
    logs = {
        int(match.group(1)): path
        for path in folder.iterdir()
        if (match := re.fullmatch(r"attempt-(\d+)\.log", path.name))
    }
    if not logs:
        raise ValueError(f"run {folder.name} has not been started yet")
    number = max(logs) if attempt is None else attempt
    if number not in logs:
        raise ValueError(f"run {folder.name} has no attempt {number}; there are: {sorted(logs)}")
    return logs[number]


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

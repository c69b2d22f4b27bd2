"""One conductor at a time works on a database; who it is can be asked from outside."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from suite.workspace import Workspace

LOOK_SECONDS = 0.01


class Busy(RuntimeError):
    """Another conductor works on this database."""


def lock_file(workspace: Workspace) -> Path:
    """Holds host and process id of the conductor of a database, locked while it works."""
    return workspace.root / "conductor.lock"


def conductor_of(workspace: Workspace) -> tuple[str, int] | None:
    """(host, process id) of the conductor at work on a database; None when there is none."""
    path = lock_file(workspace)
    if not path.exists():
        return None
    with path.open() as file:
        while not _locked(file, fcntl.LOCK_SH):
            file.seek(0)
            host, _, pid = file.read().partition(" ")
            if pid:
                return host, int(pid)
            time.sleep(LOOK_SECONDS)  # it has just begun and has not said yet who it is
    return None


def _locked(file: IO[str], kind: int) -> bool:
    """Whether the lock could be had; it goes with the file."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def only_conductor(workspace: Workspace) -> Iterator[None]:
    """Hold the database's lock file.

    Raises:
        Busy: another conductor holds it; its host and process id are named.
    """
    workspace.root.mkdir(parents=True, exist_ok=True)
    with lock_file(workspace).open("a+") as file:
        while not _locked(file, fcntl.LOCK_EX):
            if working := conductor_of(workspace):
                host, pid = working
                on_host = "" if host == socket.gethostname() else f" on {host}"
                raise Busy(
                    f"process {pid}{on_host} is already at work on {workspace.db}: "
                    "wait for it, `suite stop` it, or use another --db"
                )
            time.sleep(LOOK_SECONDS)  # somebody was only asking who works
        file.truncate(0)
        file.write(f"{socket.gethostname()} {os.getpid()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)

"""One conductor at a time works on a database; who it is can be asked from outside."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suite.cell import Workspace


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
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            host, pid = file.read().split()
            return host, int(pid)
    return None


@contextmanager
def only_conductor(workspace: Workspace) -> Iterator[None]:
    """Hold the database's lock file.

    Raises:
        Busy: another conductor holds it; its host and process id are named.
    """
    workspace.root.mkdir(parents=True, exist_ok=True)
    with lock_file(workspace).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            host, _, pid = file.read().partition(" ")
            where = "" if host == socket.gethostname() else f" on {host}"
            raise Busy(
                f"process {pid.strip()}{where} is already running cells of {workspace.db}: "
                "wait for it, `suite stop` it, or use another --db"
            ) from error
        file.truncate(0)
        file.write(f"{socket.gethostname()} {os.getpid()}")
        file.flush()
        yield

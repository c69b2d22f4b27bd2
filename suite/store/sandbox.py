"""SQL from a stranger: one statement on runs.db that can read it and do nothing else.

A read-only connection alone is not enough: it can write other files, read the machine's, attach the
database again for writing, take all memory, and ignore a time limit. So each statement runs in a
process of its own, which `sandbox_child` confines and this side kills. It costs 0.2 to 0.3 s.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from suite.store import sandbox_child
from suite.store.sandbox_child import ExitStatus
from suite.store.store import NoDatabase

ROWS, SECONDS, MEMORY = 1000, 10.0, 1 << 30  # bounds when a caller names none; bytes
DRAWN, KEPT = 16 << 20, MEMORY // 4  # bytes of a result that is looked at, that goes to a file
LENGTH = 100_000  # characters of a statement
PATIENCE_SECONDS = 15.0  # for the child's start and its own limits, before it is killed
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TZ")  # of the environment


class QueryError(ValueError):
    """The statement was refused, failed, or went over a limit; one line says which."""


@dataclass(frozen=True)
class Result:
    """What a statement gave: the first rows, and whether there were more."""

    table: pa.Table
    truncated: bool

    @property
    def columns(self) -> list[str]:
        """Names in order; one can occur twice."""
        return self.table.column_names

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """As Python values: None for NULL, datetime, Decimal, lists and dicts for nested ones."""
        if not self.table.num_columns:
            return []
        return list(zip(*(c.to_pylist() for c in self.table.columns), strict=True))


def query(
    db: str | Path,
    sql: str,
    *,
    rows: int = ROWS,
    seconds: float = SECONDS,
    memory: int = MEMORY,
    size: int = DRAWN,
) -> Result:
    """The first `rows` rows of one statement, which may take `seconds` and `memory` bytes.

    size: bytes of the result at most.

    Raises:
        NoDatabase: there is none at `db`.
        QueryError: the statement is wrong, wants more than to read, or needs more than it may have.
    """
    if not Path(db).exists():
        raise NoDatabase(db)
    if len(sql) > LENGTH:
        raise QueryError(f"the statement has {len(sql):,} characters; {LENGTH:,} are allowed")
    try:
        text = sql.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"the statement is no text: {error}") from error
    limits = [str(rows), str(seconds), str(memory), str(size)]
    code, output, message = _run_child(
        [str(Path(db).resolve()), *limits], text, seconds + PATIENCE_SECONDS
    )
    if code in (ExitStatus.COMPLETE, ExitStatus.TRUNCATED):
        return Result(pa.ipc.open_stream(output).read_all(), code == ExitStatus.TRUNCATED)
    if code == ExitStatus.REFUSED:
        raise QueryError(message)
    if code in (ExitStatus.TOO_LONG, -signal.SIGALRM, -signal.SIGKILL):
        raise QueryError(f"stopped after {seconds:g} s: it takes too long")
    raise QueryError(
        f"stopped: it needed more than {memory >> 20} MiB of memory, or broke its process ({code})"
    )


def _run_child(arguments: list[str], text: bytes, seconds: float) -> tuple[int, bytes, str]:
    """Exit status, stdout and the last line of stderr of the child; killed after `seconds`."""
    with subprocess.Popen(
        [sys.executable, "-I", "-B", sandbox_child.__file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        start_new_session=True,  # Ctrl-C is for this side, which then kills it
    ) as child:
        try:
            output, errors = child.communicate(text, timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            output, errors = child.communicate()
        except BaseException:
            child.kill()
            raise
    lines = errors.decode(errors="replace").strip().splitlines()
    return child.returncode, output, lines[-1] if lines else ""

"""The spool: append-only JSON lines that a worker writes and the conductor takes in.

One file per attempt at a cell. A line is written whole with one system call, so after a kill at any
point every line but perhaps the last is complete; readers stop at the last newline.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any

from suite.workspace import whole_file

_NAME = re.compile(r"attempt-(\d+)\.jsonl$")
_LEASE = "lease"


class Fenced(RuntimeError):
    """A later attempt at the cell has begun: this one must not write any more."""


def write_lease(cell_folder: Path, attempt: int) -> None:
    """From now on only this attempt at the cell may write."""
    with whole_file(cell_folder / _LEASE) as lease:
        lease.write_text(str(attempt))


def check_lease(cell_folder: Path, attempt: int) -> None:
    """Raises Fenced when the lease of the cell names another attempt; none is as good as ours."""
    try:
        holder = (cell_folder / _LEASE).read_text()
    except FileNotFoundError:
        return
    if holder != str(attempt):
        raise Fenced(f"attempt {holder} has taken the place of attempt {attempt}")


class Spool:
    """Appends lines to one attempt's file."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one line {"kind": kind, "time": unix seconds, ...}.

        Numbers that JSON cannot hold (nan, inf) become null.

        Raises:
            OSError: the disk is full or the file is gone; nothing partial is left behind it.
        """
        row = {"kind": kind, "time": time.time(), **fields}
        line = (json.dumps(_finite(row), separators=(",", ":")) + "\n").encode()
        written = os.write(self._descriptor, line)
        if written != len(line):
            raise OSError(f"disk full: only {written} of {len(line)} bytes of a trace line fit")

    def close(self) -> None:
        os.close(self._descriptor)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def attempts(cell_folder: Path) -> list[tuple[int, Path]]:
    """(attempt number, file) of each attempt at a cell, in order; none before the first."""
    if not cell_folder.is_dir():
        return []
    return sorted(
        (int(match.group(1)), path)
        for path in cell_folder.iterdir()
        if (match := _NAME.search(path.name))
    )


def next_attempt(cell_folder: Path) -> int:
    """The number after those of the files that are there."""
    return max((number for number, _ in attempts(cell_folder)), default=0) + 1


def path_of(cell_folder: Path, attempt: int) -> Path:
    """The file of one attempt."""
    return cell_folder / f"attempt-{attempt:03d}.jsonl"


def largest(path: Path, name: str) -> float:
    """The largest number of that name on any complete line; 0 if none has one."""
    highest, offset, end = 0.0, 0, -1
    while offset != end:
        end = offset
        rows, offset = read_from(path, end)
        highest = max([highest, *(row[name] for row in rows if name in row)])
    return highest


def read_from(path: Path, offset: int, limit: int = 8 << 20) -> tuple[list[dict[str, Any]], int]:
    """Complete lines after byte `offset` (at most about `limit` bytes) and the offset behind them.

    A partial last line stays for the next call; a line that is not JSON (torn by a full disk and
    then appended to) is skipped.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(limit)
    end = data.rfind(b"\n") + 1
    rows = []
    for line in data[:end].splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows, offset + end

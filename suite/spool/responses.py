"""What the policy said, word for word: compressed lines beside the database, for reading again.

Scores and verdicts are in runs.db; the texts, which are a hundred times larger, lie in the cell's
folder, `responses-NNN.jsonl.gz` for attempt NNN. Every record is a gzip member of its own, written
with one system call: after a kill all but perhaps the last can be read.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEY = ("step", "fraction", "benchmark", "problem", "first")


class Responses:
    """Appends the texts of evaluation records to an attempt's file."""

    def __init__(self, folder: Path, attempt: int):
        self._path = folder / f"responses-{attempt:03d}.jsonl.gz"

    def write(self, record: dict[str, Any], texts: list[str]) -> None:
        """Append the texts of one batch under the record's key.

        Raises:
            OSError: the disk is full.
        """
        line = json.dumps([*(record[name] for name in KEY), texts]) + "\n"
        data = gzip.compress(line.encode("utf-8", "surrogatepass"), compresslevel=4)
        with self._path.open("ab", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError(f"disk full: {self._path} has only a part of a record")


def read_responses(folder: Path) -> Iterator[dict[str, Any]]:
    """Every batch of a cell once, as the last attempt wrote it: its key and "texts".

    A torn end of a file is left out.
    """
    latest: dict[tuple[Any, ...], tuple[Path, int]] = {}
    for path in sorted(folder.glob("responses-*.jsonl.gz")):
        for offset, row in _members(path):
            latest[tuple(row[:-1])] = (path, offset)
    for path in sorted({path for path, _ in latest.values()}):
        for offset, row in _members(path):
            if latest[tuple(row[:-1])] == (path, offset):
                yield dict(zip(KEY, row[:-1], strict=True)) | {"texts": row[-1]}


def _members(path: Path) -> Iterator[tuple[int, list[Any]]]:
    """(offset, line) of each complete member of the file."""
    data, offset = path.read_bytes(), 0
    while offset < len(data):
        inflate = zlib.decompressobj(wbits=31)  # a gzip member
        try:
            text = inflate.decompress(data[offset:])
        except zlib.error:
            return
        if not inflate.eof:
            return
        yield offset, json.loads(text.decode("utf-8", "surrogatepass"))
        offset = len(data) - len(inflate.unused_data)

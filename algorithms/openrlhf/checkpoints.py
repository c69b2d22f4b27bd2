"""Checkpoints on disk: a folder a step, which is there as a whole or not at all.

A checkpoint is written under another name, flushed to the disk and renamed; what it replaces is
removed only then. A kill at any point leaves the one before it. The list of its files and their
sizes, which is written last, tells a folder that was torn all the same: by a full disk, a copy that
broke off, a removal that was interrupted. No torn checkpoint is ever resumed from.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

LIST = "files.json"


def name_of(step: int) -> str:
    """Of the folder of a step's checkpoint."""
    return f"step_{step:06d}"


def step_of(folder: Path) -> int:
    """The step of a checkpoint that is not unfinished."""
    return int(folder.name.removeprefix("step_"))


def unfinished_name(step: int) -> str:
    """Of the folder that it is written in, one that no other process writes in."""
    return f"{name_of(step)}.{os.urandom(4).hex()}.partial"


def flush(folder: Path) -> None:
    """Wait until every file in `folder` is on the disk."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def commit(unfinished: Path, step: int, *, keep: bool) -> Path:
    """Turn a folder whose files are all on the disk into the checkpoint of `step`.

    With `keep`, later checkpoints do not take its place.
    """
    sizes = {path.name: path.stat().st_size for path in unfinished.iterdir()}
    listed = unfinished / LIST
    listed.write_text(json.dumps({"keep": keep, "bytes": sizes}))
    flush(unfinished)
    finished = unfinished.with_name(name_of(step))
    if finished.exists():  # torn, or left by another attempt
        shutil.rmtree(finished)
    unfinished.rename(finished)
    descriptor = os.open(finished.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return finished


def kept(folder: Path) -> bool | None:
    """Whether a checkpoint is to be kept beside later ones; None: it is torn or unfinished."""
    try:
        listed = json.loads((folder / LIST).read_text())
        whole = all((folder / n).stat().st_size == size for n, size in listed["bytes"].items())
    except (OSError, ValueError):
        return None
    return listed["keep"] if whole and not folder.suffix else None


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` that is whole; None: there is none."""
    return max(filter(_whole, folder.glob("step_*")), key=step_of, default=None)


def torn(folder: Path) -> list[Path]:
    """Checkpoints that were finished and are not whole any more."""
    return [path for path in folder.glob("step_*") if not path.suffix and not _whole(path)]


def _whole(path: Path) -> bool:
    return kept(path) is not None


def prune(folder: Path) -> None:
    """Remove what is neither the newest checkpoint nor to be kept, and all that is not whole."""
    last = latest(folder)
    for path in folder.glob("step_*"):
        if path != last and not kept(path):
            shutil.rmtree(path, ignore_errors=True)

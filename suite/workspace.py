"""Where files lie: everything of a database that is too big for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Of the code: suite/, algorithms/, benchmarks/, matrices/.
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Workspace:
    """Where a database keeps what is too big for it: `runs.db` has the folder `runs/` beside it."""

    db: Path

    @property
    def root(self) -> Path:
        """`runs/` for `runs.db`; `runs-files/` for a database called `runs`."""
        db = self.db.resolve()
        return db.with_suffix("") if db.suffix else db.with_name(f"{db.name}-files")

    def cell(self, cell_id: str) -> Path:
        """The folder of one cell: spool, logs, checkpoints, policies."""
        return self.root / "cells" / cell_id

    def by_hand(self, cell_id: str) -> Path:
        """The folder in which the printed command of a cell trains it, apart from `suite run`."""
        return self.root / "by-hand" / cell_id

    @property
    def models(self) -> Path:
        """The embedded models; SUITE_CACHE names a folder that several databases share."""
        return Path(os.environ.get("SUITE_CACHE") or self.root / "models").resolve()

    @property
    def data(self) -> Path:
        """The data sets that were made or downloaded, as JSON lines."""
        return self.root / "data"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file or a folder to, renamed to `path` at the end.

    So a reader finds what was there before or all of the new, never a part. The name holds the
    process id: processes that write the same file at once do not meet, and the last one counts. An
    error leaves `path` as it was and nothing beside it; a kill leaves `*.partial`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)

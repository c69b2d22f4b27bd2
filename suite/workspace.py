"""Where files lie: everything of a database that is too big for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = (
    Path(__file__).resolve().parent.parent
)  # of the code: suite/, algorithms/, benchmarks/, matrices/


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
        return self.root / "data"

"""What papers report, as data: `matrices/published.yaml`, or another file of that form.

The numbers are theirs, in tables with a row an arm; suite/report/papers/against.py lays ours beside
them. Left out: what a paper shows only as a curve.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, FiniteFloat, ValidationError

from algorithms import nearest
from benchmarks.catalogue import known
from suite.matrix.expand import MatrixReader, explain, placed_at, yaml_location
from suite.matrix.schema import Positive, Section
from suite.matrix.shrink import SUFFIX
from suite.matrix.yaml_file import MatrixError
from suite.workspace import ROOT

PUBLISHED = ROOT / "matrices" / "published.yaml"
BASE = "base"  # the row of the untrained model
AVERAGE = "average"  # over the benchmarks of `average_of`
COSTS = {
    "update_gpu_hours_per_step": "GPU-hours to update, a step",
    "gpu_hours_to_grpos_best": "GPU-hours to grpo's best",
    "gpu_hours_to_own_best": "GPU-hours to own best",
}
_SCORE = re.compile(r"(\w+) pass@([1-9]\d*)")


class PublishedColumn(NamedTuple):
    """pass@k on a benchmark (or AVERAGE), or a cost, one of COSTS, with benchmark "" and k 0."""

    benchmark: str
    k: int
    cost: str = ""


class PublishedSampling(Section):
    """How a paper samples for its scores, as far as it says so."""

    tries: Positive | dict[str, Positive] | None = None  # for all benchmarks, or for each
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Positive | None = None


class PublishedTable(Section):
    """One table of a paper that one of our matrices repeats; the file's head explains the keys."""

    paper: Annotated[str, Field(pattern=r"^\d{4}\.\d{5}$")]  # arXiv
    matrix: str
    file: str
    model: str
    sampling: PublishedSampling = PublishedSampling()
    differs: tuple[str, ...] = ()
    average_of: tuple[str, ...] = ()
    columns: Annotated[list[str], Field(min_length=1)]
    arms: Annotated[dict[str, list[FiniteFloat]], Field(min_length=1)]

    def read(self) -> list[PublishedColumn]:
        """The columns, taken apart."""
        return [_column(text) for text in self.columns]


def load(path: Path = PUBLISHED) -> dict[str, PublishedTable]:
    """The tables of a file by name; `file` of each is the absolute path of its matrix.

    Raises:
        MatrixError: whatever is wrong with the file, with its lines.
    """
    return _PublishedReader(path).tables()


def of(matrix: str, tables: dict[str, PublishedTable]) -> dict[str, PublishedTable]:
    """Those that a matrix repeats, or that it rehearses (`--shrink`)."""
    return {name: t for name, t in tables.items() if t.matrix == matrix.removesuffix(SUFFIX)}


def find(name: str) -> Path:
    """The file that `--against NAME` means: "published" is ours, anything else a path.

    Raises:
        MatrixError: there is no such file.
    """
    path = PUBLISHED if name == "published" else Path(name)
    if not path.is_file():
        raise MatrixError([f"--against {name}: neither `published` nor a file"])
    return path


def _column(text: str) -> PublishedColumn:
    """Raises ValueError for a text that is no column."""
    if text in COSTS:
        return PublishedColumn("", 0, text)
    match = _SCORE.fullmatch(text)
    if not match:
        raise ValueError("neither BENCHMARK pass@K nor one of " + ", ".join(COSTS))
    return PublishedColumn(match[1], int(match[2]))


class _PublishedReader(MatrixReader):
    """One pass over one file."""

    def tables(self) -> dict[str, PublishedTable]:
        content = self.read()
        bodies = content.get("tables")
        tables: dict[str, PublishedTable] = {}
        if set(content) != {"tables"} or not isinstance(bodies, dict) or not bodies:
            self.problem((), "must be a mapping `tables` from names to tables, and nothing else")
            self.stop_on_problems()
            return tables
        for name, body in bodies.items():
            table = self._section(PublishedTable, body, placed_at("tables", name))
            if table is not None:
                self._check_table(table, ("tables", name))
                file = self.path.parent / table.file
                tables[str(name)] = table.model_copy(update={"file": str(file.absolute())})
        self.stop_on_problems()
        return tables

    def _section(self, schema: type[Section], content: Any, place: Any) -> Any:
        """As for a matrix; an unknown key of `sampling` is explained by that section's keys."""
        try:
            return schema.model_validate(content)
        except ValidationError as error:
            for item in error.errors():
                section = PublishedSampling if "sampling" in item["loc"][:-1] else schema
                self.problem(place(*yaml_location(item["loc"])), explain(item, section))
            return None

    def _check_table(self, table: PublishedTable, at: tuple[Any, ...]) -> None:
        if not (self.path.parent / table.file).is_file():
            self.problem((*at, "file"), f"no file at {self.path.parent / table.file}")
        columns = self._columns(table, (*at, "columns"))
        tried = table.sampling.tries if isinstance(table.sampling.tries, dict) else {}
        for name, where in (
            *((name, ("average_of",)) for name in table.average_of),
            *((name, ("sampling", "tries", name)) for name in tried),
        ):
            self._check_benchmark(name, (*at, *where))
        for arm, values in table.arms.items():
            if len(columns) == len(table.columns):
                self._check_row(arm, values, columns, (*at, "arms", arm))

    def _columns(self, table: PublishedTable, at: tuple[Any, ...]) -> list[PublishedColumn]:
        """Those that can be read."""
        columns = []
        for position, text in enumerate(table.columns):
            try:
                column = _column(text)
            except ValueError as error:
                self.problem((*at, position), f"{error}, got {text!r}")
                continue
            if column in columns:
                self.problem((*at, position), "the same column twice")
            if column.benchmark == AVERAGE and not table.average_of:
                self.problem((*at, position), "of which benchmarks? Give average_of")
            if column.benchmark not in ("", AVERAGE):
                self._check_benchmark(column.benchmark, (*at, position))
            columns.append(column)
        return columns

    def _check_benchmark(self, name: str, at: tuple[Any, ...]) -> None:
        if name not in known():
            self.problem(at, f"unknown benchmark {name!r}: {nearest(name, list(known()))}")

    def _check_row(
        self, arm: str, values: list[float], columns: list[PublishedColumn], at: tuple[Any, ...]
    ) -> None:
        if len(values) != len(columns):
            self.problem(at, f"{len(values)} numbers for {len(columns)} columns")
            return
        for position, (value, column) in enumerate(zip(values, columns, strict=True)):
            if column.cost and (value <= 0 or arm == BASE):
                self.problem((*at, position), f"the cost of a trained arm is above 0, got {value}")
            if not column.cost and not 0 <= value <= 1:
                self.problem((*at, position), f"a score is a share of 1, got {value}")

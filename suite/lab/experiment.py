"""An experiment of the lab: a YAML file with a paper's claim, arms, seeds and what is expected.

Read as a matrix is (suite/matrix/expand.py): all problems of a file are reported together, each in
one line with the file, the YAML line and the nearest valid key. Needs neither torch nor matplotlib.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

import algorithms
from algorithms.lab import checks
from algorithms.lab.settings import Environment, Training
from suite.lab.schema import Expect, ExperimentFile, Measure, Plot
from suite.matrix.cell import TABULAR, THEORY, Cell
from suite.matrix.expand import MatrixReader, explain, placed_at, yaml_location
from suite.matrix.schema import Section
from suite.matrix.yaml_file import Location, MatrixError
from suite.workspace import ROOT

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")  # a class of settings

FOLDER = ROOT / "matrices" / "lab"
FORMAT = "1"  # raised when a change to the lab makes its finished runs incomparable

_LISTS: dict[Any, type[Section]] = {"measure": Measure, "expect": Expect, "plots": Plot}


@dataclass(frozen=True)
class LabTables:
    """What an algorithm is trained on in the lab, and how."""

    environment: Environment
    training: Training


@dataclass(frozen=True)
class Arm:
    """One arm: an algorithm on a kind of table, or a check (then without tables)."""

    name: str
    algorithm: str
    settings: dict[str, Any]
    tables: LabTables | None


@dataclass(frozen=True)
class LabExperiment:
    """A checked file; its cells are what runs.db knows."""

    file: ExperimentFile
    arms: list[Arm]
    seeds: int

    @property
    def name(self) -> str:
        """The name of its rows in runs.db and of its pictures."""
        return self.file.name

    def cells(self, arm: Arm) -> list[Cell]:
        """One cell a seed."""
        model, train, steps = THEORY, {}, 1
        if arm.tables:
            model, steps = TABULAR, arm.tables.training.iterations
            environment = asdict(arm.tables.environment)
            train = asdict(arm.tables.training) | {"environment": environment}
        return [
            Cell(
                matrix=self.name,
                arm=arm.name,
                algorithm=arm.algorithm,
                settings=arm.settings,
                model=model,
                seed=seed,
                train=train,
                evaluate={},
                budget={"steps": steps},
                resources={"gpus": 1, "accelerator": None},
                identity={"lab": FORMAT},
            )
            for seed in range(self.seeds)
        ]


def paths() -> list[Path]:
    """The experiments that come with the suite."""
    return sorted(FOLDER.glob("*.yaml"))


def find(name: str) -> Path:
    """The file of an experiment given by name, or by path.

    Raises:
        MatrixError: neither; the nearest name is given.
    """
    files = {path.stem: path for path in paths()}
    if name in files:
        return files[name]
    if name.endswith((".yaml", ".yml")) or Path(name).exists():
        return Path(name)
    raise MatrixError([f"no experiment {name!r}: {algorithms.nearest(name, list(files))}"])


def load(path: Path, seeds: int | None = None) -> LabExperiment:
    """The experiment at `path`, with another number of seeds if given.

    Raises:
        MatrixError: anything about the file that would stop or spoil it.
    """
    return _ExperimentReader(path).experiment(seeds)


class _ExperimentReader(MatrixReader):
    """One pass over one file."""

    def experiment(self, seeds: int | None) -> LabExperiment:
        file = self._section(ExperimentFile, self.read(), placed_at())
        self.stop_on_problems()
        arms = [arm for name, body in file.arms.items() for arm in self._lab_arms(file, name, body)]
        self.stop_on_problems()
        self._check_names(file, [arm.name for arm in arms])
        self.stop_on_problems()
        return LabExperiment(file, arms, seeds or file.seeds)

    def _section_at(self, keys: Location, schema: type[Section]) -> type[Section]:
        """An unknown key inside a list is explained by the keys of what is listed."""
        return _LISTS.get(keys[0], schema) if len(keys) > 1 else schema

    def _lab_arms(self, file: ExperimentFile, name: str, body: dict[str, Any] | None) -> list[Arm]:
        """One arm, or one for each combination of its sweeps."""
        body, location = dict(body or {}), ("arms", name)
        check = body.pop("check", None)
        overrides = {key: body.pop(key, None) or {} for key in ("environment", "train")}
        for key, content in overrides.items():
            if not isinstance(content, dict):
                self.problem((*location, key), f"must be a mapping, got {content!r}")
                return []
        if check is not None:
            return [
                Arm(name + label, str(check), settings, None)
                for label, swept, _ in self._sweeps(body, {}, location)
                if (settings := self._check_settings(str(check), swept, location)) is not None
            ]
        algorithm = str(body.pop("algorithm", name))
        try:
            algorithms.algorithm_class(algorithm)
        except ValueError as error:
            self.problem((*location, "algorithm"), str(error))
            return []
        tables = self._tables(file, overrides, location)
        arms = []
        for label, swept, _ in self._sweeps(body, {}, location):
            settings = self._settings(algorithm, swept, location)
            if settings is not None and tables is not None:
                arms.append(Arm(name + label, algorithm, settings, tables))
                self._refuse_replacing(algorithm, settings, location)
        return arms

    def _check_settings(
        self, check: str, settings: dict[str, Any], location: Location
    ) -> dict[str, Any] | None:
        """The settings of a check with its defaults, or None after noting a problem."""
        try:
            cls = checks.check_class(check)
        except ValueError as error:
            self.problem((*location, "check"), str(error))
            return None
        checked = self._dataclass(cls, settings, placed_at(*location), location)
        return None if checked is None else asdict(checked)

    def _tables(
        self, file: ExperimentFile, overrides: dict[str, dict[str, Any]], location: Location
    ) -> LabTables | None:
        """The file's tables with what an arm sets itself, or None after noting a problem."""

        def section(cls: type[S], name: str, shared: dict[str, Any]) -> S | None:
            whole = (*location, name)
            place = placed_at(name, overrides=overrides[name], in_arm=whole)
            return self._dataclass(cls, shared | overrides[name], place, whole)

        environment = section(Environment, "environment", file.environment)
        training = section(Training, "train", file.train)
        return LabTables(environment, training) if environment and training else None

    def _dataclass(
        self, cls: type[S], content: dict[str, Any], place: Any, whole: Location
    ) -> S | None:
        """`content` as the settings dataclass `cls`, or None after noting what is wrong with it."""
        valid = [field.name for field in fields(cls)]
        unknown = [key for key in content if key not in valid]
        for key in unknown:
            self.problem(place(key), f"unknown key: {algorithms.nearest(str(key), valid)}")
        if unknown:
            return None
        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            for item in error.errors():
                named = item["msg"].removeprefix("Value error, ").split(" ", 1)[0]
                location = yaml_location(item["loc"]) or ((named,) if named in content else ())
                self.problem(place(*location) if location else whole, explain(item, None))
            return None

    def _refuse_replacing(
        self, algorithm: str, settings: dict[str, Any], location: Location
    ) -> None:
        loaded = algorithms.load(algorithm, **settings)
        asked = loaded.extra_rollouts(loaded.initial_state())
        if asked and asked["inject"] != "append":
            self.problem(
                (*location, "inject"), "the lab appends extra samples, it does not replace"
            )

    def _check_names(self, file: ExperimentFile, arms: list[str]) -> None:
        """Arms that expectations and plots name must exist."""
        for position, expect in enumerate(file.expect):
            for key in ("arm", "against"):
                name = getattr(expect, key)
                if name is not None and name not in arms:
                    hint = algorithms.nearest(name, arms)
                    self.problem(("expect", position, key), f"no arm {name!r}: {hint}")
        for position, plot in enumerate(file.plots):
            for name in plot.arms or []:
                if name not in arms:
                    hint = algorithms.nearest(name, arms)
                    self.problem(("plots", position, "arms"), f"no arm {name!r}: {hint}")

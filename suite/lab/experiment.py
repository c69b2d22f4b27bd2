"""An experiment of the lab: a YAML file with a paper's claim, arms, seeds and what is expected.

Read as a matrix is (suite/matrix/expand.py): all problems of a file are reported together, each in
one line with the file, the YAML line and the nearest valid key. Needs neither torch nor matplotlib.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

import algorithms
from algorithms.lab import checks
from algorithms.lab.settings import Environment, Training
from suite.lab.schema import Expect, File, Measure, Plot
from suite.matrix.cell import TABULAR, THEORY, Cell
from suite.matrix.expand import _at, _explain, _location, _Reader
from suite.matrix.schema import Section
from suite.matrix.yaml_file import MatrixError
from suite.workspace import ROOT

FOLDER = ROOT / "matrices" / "lab"
FORMAT = "1"  # raised when a change to the lab makes its finished runs incomparable

_LISTS: dict[Any, type[Section]] = {"measure": Measure, "expect": Expect, "plots": Plot}


@dataclass(frozen=True)
class Arm:
    """One arm: an algorithm on a kind of table, or a check (then without environment)."""

    name: str
    algorithm: str
    settings: dict[str, Any]
    environment: Environment | None
    training: Training | None


@dataclass(frozen=True)
class Experiment:
    """A checked file; its cells are what runs.db knows."""

    file: File
    arms: list[Arm]
    seeds: int

    @property
    def name(self) -> str:
        """The name of its rows in runs.db and of its pictures."""
        return self.file.name

    def cells(self, arm: Arm) -> list[Cell]:
        """One cell a seed."""
        trained = arm.training is not None
        train = {**asdict(arm.training), "environment": asdict(arm.environment)} if trained else {}
        return [
            Cell(
                matrix=self.name,
                arm=arm.name,
                algorithm=arm.algorithm,
                settings=arm.settings,
                model=TABULAR if trained else THEORY,
                seed=seed,
                train=train,
                evaluate={},
                budget={"steps": arm.training.iterations if trained else 1},
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
    known = {path.stem: path for path in paths()}
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")) or Path(name).exists():
        return Path(name)
    raise MatrixError([f"no experiment {name!r}: {algorithms.nearest(name, list(known))}"])


def load(path: Path, seeds: int | None = None) -> Experiment:
    """The experiment at `path`, with another number of seeds if given.

    Raises:
        MatrixError: anything about the file that would stop or spoil it.
    """
    return _ExperimentReader(path).experiment(seeds)


class _ExperimentReader(_Reader):
    """One pass over one file."""

    def experiment(self, seeds: int | None) -> Experiment:
        file = self._section(File, self.read(), _at())
        self.stop_on_problems()
        arms = [arm for name, body in file.arms.items() for arm in self._lab_arms(file, name, body)]
        self.stop_on_problems()
        self._check_names(file, [arm.name for arm in arms])
        self.stop_on_problems()
        return Experiment(file, arms, seeds or file.seeds)

    def _section(self, schema: type[Section], content: Any, place: Any) -> Any:
        """As for a matrix; an unknown key inside a list is explained by that list's own keys."""
        try:
            return schema.model_validate(content)
        except ValidationError as error:
            for item in error.errors():
                inner = _LISTS.get(item["loc"][0], schema) if len(item["loc"]) > 1 else schema
                self.problem(place(*_location(item["loc"])), _explain(item, inner))
            return None

    def _lab_arms(self, file: File, name: str, body: dict[str, Any] | None) -> list[Arm]:
        """One arm, or one for each combination of its sweeps."""
        body, where = dict(body or {}), ("arms", name)
        check = body.pop("check", None)
        own = {key: body.pop(key, None) or {} for key in ("environment", "train")}
        for key, content in own.items():
            if not isinstance(content, dict):
                self.problem((*where, key), f"must be a mapping, got {content!r}")
                return []
        if check is not None:
            return [
                Arm(name + label, str(check), settings, None, None)
                for label, swept, _ in self._sweeps(body, {}, where)
                if (settings := self._check_settings(str(check), swept, where)) is not None
            ]
        algorithm = str(body.pop("algorithm", name))
        try:
            algorithms.algorithm_class(algorithm)
        except ValueError as error:
            self.problem((*where, "algorithm"), str(error))
            return []
        environment = self._fields(Environment, file.environment, own["environment"], where)
        training = self._fields(Training, file.train, own["train"], where)
        found = []
        for label, swept, _ in self._sweeps(body, {}, where):
            settings = self._settings(algorithm, swept, where)
            if None not in (settings, environment, training):
                found.append(Arm(name + label, algorithm, settings, environment, training))
                self._refuse_replacing(algorithm, settings, where)
        return found

    def _check_settings(self, check: str, settings: dict[str, Any], where: tuple) -> Any:
        """The settings of a check with its defaults, or None after noting a problem."""
        try:
            cls = checks.check_class(check)
        except ValueError as error:
            self.problem((*where, "check"), str(error))
            return None
        checked = self._dataclass(cls, settings, _at(*where), where)
        return None if checked is None else asdict(checked)

    def _fields(self, cls: type, shared: dict, own: dict, where: tuple) -> Any:
        section = "environment" if cls is Environment else "train"
        place = _at(section, own=own, override=(*where, section))
        return self._dataclass(cls, shared | own, place, (*where, section))

    def _dataclass(self, cls: type, content: dict[str, Any], place: Any, whole: tuple) -> Any:
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
                location = _location(item["loc"]) or ((named,) if named in content else ())
                self.problem(place(*location) if location else whole, _explain(item, None))
            return None

    def _refuse_replacing(self, algorithm: str, settings: dict[str, Any], where: tuple) -> None:
        loaded = algorithms.load(algorithm, **settings)
        asked = loaded.extra_rollouts(loaded.initial_state())
        if asked and asked["inject"] != "append":
            self.problem((*where, "inject"), "the lab appends extra samples, it does not replace")

    def _check_names(self, file: File, arms: list[str]) -> None:
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

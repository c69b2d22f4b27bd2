"""The matrix file: what to compare, checked whole before anything starts.

Every problem is reported in one line with the file, the YAML line and what to write instead; all
problems of a file are reported together. Nothing heavy is imported: a matrix can be checked and
planned without torch, Ray or vLLM.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

import algorithms
from suite.matrix import sources
from suite.matrix.cell import Cell
from suite.matrix.schema import Budget, Evaluate, Matrix, Resources, Section, Train, spelled_out
from suite.matrix.yaml_file import Location, MatrixFile

_Place = Callable[..., Location]  # a key of a section -> where it was written

_OVERRIDABLE: dict[str, type[Section]] = {
    "train": Train,
    "evaluate": Evaluate,
    "resources": Resources,
}


def load_cells(path: Path) -> list[Cell]:
    """The cells of the matrix file at `path`: seeds outermost, so arms interleave.

    Raises:
        MatrixError: anything about the file that would stop or spoil a run.
    """
    return MatrixReader(path).cells()


class MatrixReader(MatrixFile):
    """The cells of one file, or everything that is wrong with it."""

    def cells(self) -> list[Cell]:
        matrix = self._section(Matrix, self.read(), placed_at())
        self.stop_on_problems()
        budget = self._budget(matrix)
        models = [matrix.model] if isinstance(matrix.model, str) else matrix.model
        variants = [
            variant for arm, body in matrix.arms.items() for variant in self._arm(matrix, arm, body)
        ]
        for position, model in enumerate(models):
            location = ("model",) if isinstance(matrix.model, str) else ("model", position)
            self.check(sources.model_problem(model, self.path.parent), location)
        if len(set(matrix.seeds)) != len(matrix.seeds):
            self.problem(("seeds",), "the same seed twice")
        self.stop_on_problems()
        cells = [
            self._cell(matrix, variant, model, seed, budget)
            for seed in matrix.seeds
            for model in models
            for variant in variants
        ]
        for cell in cells:
            self._check_context(cell)
        self._refuse_twins(cells)
        self.stop_on_problems()
        return cells

    # Sections ----------------------------------------------------------------------------

    def _section(self, schema: type[Section], content: Any, place: _Place) -> Any:
        """`content` as `schema`, or None after noting what is wrong with it."""
        try:
            return schema.model_validate(content)
        except ValidationError as error:
            for item in error.errors():
                section = self._section_at(item["loc"], schema)
                self.problem(place(*yaml_location(item["loc"])), explain(item, section))
            return None

    def _section_at(self, keys: Location, schema: type[Section]) -> type[Section]:
        """The section whose keys are valid at `keys` of `schema`: for files with sections in it."""
        return schema

    # Arms --------------------------------------------------------------------------------

    def _budget(self, matrix: Matrix) -> dict[str, float]:
        budget = self._section(Budget, matrix.budget, placed_at("budget"))
        given = budget.model_dump(exclude_none=True) if budget else {}
        if budget and len(given) != 1:
            self.problem(("budget",), "give exactly one of gpu_hours, tokens, steps")
        return given

    def _arm(self, matrix: Matrix, arm: str, body: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The variants of one arm: one, or one for each combination of its sweeps."""
        body, location = dict(body or {}), ("arms", arm)
        algorithm = str(body.pop("algorithm", arm))
        contents, places = {}, {}
        for name in _OVERRIDABLE:
            overrides = body.pop(name, None) or {}
            if not isinstance(overrides, dict):
                self.problem((*location, name), f"must be a mapping, got {overrides!r}")
                return []
            written = spelled_out(getattr(matrix, name)) | spelled_out(overrides)
            contents[name] = _defaults(name, matrix, body) | written
            places[name] = placed_at(name, overrides=overrides, in_arm=(*location, name))
        model = body.pop("model", None)
        if model is not None:
            self.check(sources.model_problem(str(model), self.path.parent), (*location, "model"))
        try:
            algorithms.algorithm_class(algorithm)
        except ValueError as error:
            self.problem((*location, "algorithm"), str(error))
            return []
        variants = []
        for label, swept, train in self._sweeps(body, contents["train"], location):
            sections = self._sections(contents | {"train": train}, places)
            settings = self._settings(algorithm, swept, location)
            if sections is not None and settings is not None:
                group = sections["train"]["samples_per_prompt"]
                self.check(algorithms.load(algorithm, **settings).group_problem(group), location)
                variants.append(
                    {
                        "arm": arm + label,
                        "algorithm": algorithm,
                        "settings": settings,
                        "model": model,
                        **sections,
                    }
                )
        return variants

    def _sweeps(
        self, settings: dict[str, Any], train: dict[str, Any], location: Location
    ) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
        """(label, settings, train) for every combination of the settings that are lists."""
        for key in [k for k, v in {**train, **settings}.items() if v == []]:
            self.problem((*location, key), "an empty list sweeps nothing")
        axes = [("", k, v) for k, v in settings.items() if isinstance(v, list)]
        axes += [("train.", k, v) for k, v in train.items() if isinstance(v, list)]
        result = []
        for values in itertools.product(*(axis[2] for axis in axes)):
            swept = list(zip(axes, values, strict=True))
            label = "".join(f" {key}={value}" for (_, key, _), value in swept)
            of_settings = {key: value for (kind, key, _), value in swept if not kind}
            of_train = {key: value for (kind, key, _), value in swept if kind}
            result.append((label, settings | of_settings, train | of_train))
        return result

    def _sections(
        self, contents: dict[str, dict[str, Any]], places: dict[str, _Place]
    ) -> dict[str, Any] | None:
        """The checked sections of one variant as plain data, or None after noting problems."""
        sections = {
            name: self._section(schema, contents[name], places[name])
            for name, schema in _OVERRIDABLE.items()
        }
        if any(section is None for section in sections.values()):
            return None
        self._check_evaluate(sections["evaluate"], places["evaluate"])
        self._check_train(sections["train"], sections["resources"].gpus, places["train"])
        return {name: section.model_dump() for name, section in sections.items()}

    def _check_evaluate(self, evaluate: Evaluate, place: _Place) -> None:
        for k in evaluate.pass_at:
            if k > evaluate.samples:
                self.problem(
                    place("pass_at"),
                    f"pass@{k} needs at least {k} samples, there are {evaluate.samples}: "
                    "raise evaluate.samples or drop this k",
                )
        for position, name in enumerate(evaluate.benchmarks):
            problem = sources.benchmark_problem(name, self.path.parent)
            self.check(problem, place("benchmarks", position))
        for name, path in evaluate.data_files.items():
            problem = sources.data_file_problem(name, evaluate.benchmarks, path, self.path.parent)
            self.check(problem, place("data_files", name))
        stems = [Path(name).stem for name in evaluate.benchmarks]
        for position, stem in enumerate(stems):
            if stem in stems[:position]:
                problem = f"{stem!r} twice: scores are kept by that name, rename one of the files"
                self.problem(place("benchmarks", position), problem)

    def _check_train(self, train: Train, gpus: int, place: _Place) -> None:
        """Batches that do not divide are refused here; OpenRLHF would drop the remainder."""
        self.check(sources.dataset_problem(train.dataset, self.path.parent), place("dataset"))
        steps, rollouts = train.optimizer_steps_per_rollout, train.rollouts
        batch, share = rollouts // steps, rollouts // steps // gpus or 1
        divisions = [
            (
                "optimizer_steps_per_rollout",
                rollouts,
                steps,
                f"prompts_per_step * samples_per_prompt = {rollouts} responses are cut into "
                f"{steps} optimizer batches",
            ),
            (
                "optimizer_steps_per_rollout",
                batch,
                gpus,
                f"an optimizer batch of {batch} responses is spread over {gpus} GPUs",
            ),
            (
                "micro_batch_size",
                share,
                train.micro_batch_size or 1,
                f"each GPU's {share} responses are cut into micro-batches",
            ),
            (
                "rollout_micro_batch_size",
                rollouts // gpus,
                train.rollout_micro_batch_size or 1,
                f"each GPU's {rollouts // gpus} rollouts are cut into micro-batches",
            ),
            (
                "tensor_parallel_size",
                gpus,
                train.tensor_parallel_size,
                f"{gpus} GPUs are shared by engines of {train.tensor_parallel_size}",
            ),
        ]
        for key, whole, part, text in divisions:
            if whole % part:
                self.problem(place(key), f"{text}, and {whole} / {part} is not whole")
                return

    def _settings(
        self, algorithm: str, settings: dict[str, Any], location: Location
    ) -> dict[str, Any] | None:
        """Every setting of the algorithm, defaults filled in; None after noting a problem."""
        try:
            algorithms.load(algorithm)
            unknown = [key for key in settings if not _accepts(algorithm, key)]
            for key in unknown:
                try:
                    algorithms.load(algorithm, **{key: None})
                except ValueError as error:
                    self.problem((*location, key), str(error))
            if unknown:
                return None
            cls = algorithms.algorithm_class(algorithm)
            adapter = TypeAdapter(cls)
            complete = adapter.dump_python(adapter.validate_python(settings))
            return {key: value for key, value in complete.items() if key not in cls.unused}
        except ValidationError as error:
            for item in error.errors():
                place = (*location, *yaml_location(item["loc"]))
                if not item["loc"]:  # a value refused by the algorithm itself names its setting
                    named = item["msg"].removeprefix("Value error, ").split(" ", 1)[0]
                    place = (*location, named) if named in settings else location
                self.problem(place, explain(item, None))
            return None

    # Cells -------------------------------------------------------------------------------

    def _cell(
        self,
        matrix: Matrix,
        variant: dict[str, Any],
        model: str,
        seed: int,
        budget: dict[str, float],
    ) -> Cell:
        model = sources.absolute(variant["model"] or model, self.path.parent)
        train = dict(variant["train"])
        train["dataset"] = sources.absolute(train["dataset"], self.path.parent)
        evaluate = dict(variant["evaluate"])
        evaluate["benchmarks"] = [
            sources.absolute(name, self.path.parent) for name in evaluate["benchmarks"]
        ]
        files = sources.data_files(evaluate["benchmarks"], evaluate["data_files"], self.path.parent)
        evaluate["data_files"] = files
        return Cell(
            matrix=matrix.name,
            arm=variant["arm"],
            algorithm=variant["algorithm"],
            settings=variant["settings"],
            model=model,
            seed=seed,
            train=train,
            evaluate=evaluate,
            budget=budget,
            resources=variant["resources"],
            identity=sources.identity([model, train["dataset"], *evaluate["benchmarks"]], files),
        )

    def _check_context(self, cell: Cell) -> None:
        longest = max(cell.train["max_new_tokens"], cell.evaluate["max_new_tokens"] or 0)
        needed = cell.train["max_prompt_tokens"] + longest
        have = sources.context_length(cell.model)
        if have is not None and needed > have:
            self.problem(
                ("train", "max_new_tokens"),
                f"a prompt of {cell.train['max_prompt_tokens']} and a response of {longest} tokens "
                f"exceed the context of {Path(cell.model).name}, {have} tokens",
            )

    def _refuse_twins(self, cells: list[Cell]) -> None:
        by_id: dict[str, Cell] = {}
        for cell in cells:
            twin = by_id.setdefault(cell.id, cell)
            if twin is not cell:
                self.problem(
                    ("arms", cell.arm.split(" ")[0]),
                    f"the same experiment as arm {twin.arm!r}: drop one",
                )


def placed_at(
    *prefix: Any, overrides: dict[str, Any] | None = None, in_arm: Location = ()
) -> _Place:
    """Keys below `prefix`, or below `in_arm` for those that an arm sets itself (`overrides`)."""

    def place(*keys: Any) -> Location:
        in_override = keys and overrides and keys[0] in overrides
        return (*in_arm, *keys) if in_override else (*prefix, *keys)

    return place


def _defaults(section: str, matrix: Matrix, body: dict[str, Any]) -> dict[str, Any]:
    """The embedded model's context is short: its lengths have defaults of their own."""
    models = body.get("model") or matrix.model
    embedded = models in (sources.EMBEDDED_MODEL, [sources.EMBEDDED_MODEL])
    return dict(sources.EMBEDDED_LENGTHS) if section == "train" and embedded else {}


def _accepts(algorithm: str, key: str) -> bool:
    cls = algorithms.algorithm_class(algorithm)
    return key in cls.__dataclass_fields__ and key not in cls.unused


def yaml_location(loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """pydantic's path without the names of union members and validators that it adds."""
    return tuple(
        p for p in loc if not (isinstance(p, str) and (p[:1].islower() is False or "[" in p))
    )


def explain(item: ErrorDetails, schema: type[Section] | None) -> str:
    """A pydantic error in one line that says what to write."""
    if item["type"] == "extra_forbidden":
        valid = list(schema.model_fields) if schema else []
        return f"unknown key: {algorithms.nearest(str(item['loc'][-1]), valid)}"
    if item["type"] == "missing":
        return "is missing"
    message = item["msg"].removeprefix("Value error, ")
    given = item.get("input")
    return f"{message}, got {given!r}" if "got" not in message else message

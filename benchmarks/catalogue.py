"""The benchmarks the suite knows by name, and how their problems are read.

`tasks/NAME.yaml` is the one description of a benchmark: where it lies on the Hugging Face hub and
at which revision, how its columns are read, and a paragraph about it. lm-eval reads the same file,
and loads through `edition` here, so a score by `lm_eval` and one by the suite are on the same
problems. A local JSON-lines file, or a folder of them named by SUITE_DATA, takes the hub's place.

Nothing heavy is imported before the hub is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.answers import extract
from benchmarks.overlap import normalise

TASKS = Path(__file__).parent / "tasks"

Row = dict[str, str]  # id, problem, answer


class Unreachable(FileNotFoundError):
    """A benchmark can be read neither from a file nor from the hub; one line says what to do."""


@dataclass(frozen=True)
class Benchmark:
    """One file of `tasks/`, as far as the suite needs it.

    `problems` and `sha256` are those of the edition whose golds were checked; `floor` is what
    guessing scores, None where there is nothing to guess among.
    """

    name: str
    about: str
    problems: int
    licence: str
    paper: str
    floor: float | None
    sha256: str | None
    prompt: str
    embedded: tuple[str, ...] = ()  # families of the embedded arithmetic
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    split: str = "test"
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> str:
        """Where the problems come from without a local file, exactly."""
        if self.embedded:
            return f"embedded: {', '.join(self.embedded)}"
        name = f"{self.hub}/{self.config}" if self.config else self.hub
        return f"{name}@{self.revision} ({self.split})"


@dataclass(frozen=True)
class Edition:
    """The problems of a benchmark as they were found, and where."""

    benchmark: str
    rows: list[Row]
    origin: str
    sha256: str
    warning: str | None = None


class _Loader(yaml.SafeLoader):
    """Task files without lm-eval: a `!function` stays the text it is."""


_Loader.add_constructor("!function", lambda _, node: node.value)


@cache
def known() -> dict[str, Benchmark]:
    """Every benchmark by name."""
    benchmarks = (_read_task(path) for path in sorted(TASKS.glob("[!_]*.yaml")))
    return {benchmark.name: benchmark for benchmark in benchmarks}


def _read_task(path: Path) -> Benchmark:
    # The base class is the safe loader: no tag of it constructs anything but plain data.
    task = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    meta, options = task["metadata"], task.get("dataset_kwargs", {})
    return Benchmark(
        name=meta["benchmark"],
        about=meta["about"].strip(),
        problems=meta["problems"],
        licence=meta["licence"],
        paper=meta["paper"],
        floor=meta["floor"],
        sha256=meta.get("sha256"),
        prompt=meta["prompt"],
        embedded=tuple(meta.get("embedded", ())),
        hub=task.get("dataset_path"),
        config=task.get("dataset_name"),
        revision=options.get("revision"),
        split=options.get("split", "test"),
        columns=meta.get("columns", {}),
    )


def load(name: str, data_file: str | Path | None = None) -> list[Row]:
    """The problems of a known benchmark, each with id, problem and answer as strings."""
    return edition(name, data_file).rows


def edition(name: str, data_file: str | Path | None = None) -> Edition:
    """The problems of a known benchmark and where they were found.

    From `data_file` when given, else from SUITE_DATA/NAME.jsonl when that exists, else from the
    hub (or made here, for the embedded families).

    Raises:
        KeyError: no such benchmark.
        Unreachable: the file is missing, or there is no file and the hub cannot be reached.
        ValueError: a row that cannot be read, named by its number.
    """
    benchmark = known()[name]
    path = local_file(name, data_file)
    if path is not None:
        origin, raw = str(path), _read_lines(path)
    elif benchmark.embedded:
        origin, raw = benchmark.pinned, _embedded(benchmark)
    else:
        origin, raw = benchmark.pinned, _download(benchmark)
    return as_edition(name, normalised(raw, benchmark, origin), origin)


def as_edition(name: str, rows: list[Row], origin: str) -> Edition:
    """Rows with their digest, and a warning where they are not what was checked under `name`."""
    sha256, benchmark = content_digest(rows), known().get(name)
    warning = _difference(benchmark, rows, origin, sha256) if benchmark else None
    return Edition(name, rows, origin, sha256, warning)


def local_file(name: str, data_file: str | Path | None = None) -> Path | None:
    """The file that stands in for the hub, or None. A folder means NAME.jsonl in it."""
    if data_file:
        path = Path(data_file).expanduser()
        if not path.is_dir():
            return path
        path = path / f"{name}.jsonl"
        return path if path.is_file() or not known()[name].embedded else None
    folder = os.environ.get("SUITE_DATA")
    if not folder:
        return None
    path = Path(folder).expanduser() / f"{name}.jsonl"
    return path if path.is_file() else None


def content_digest(rows: Iterable[Row]) -> str:
    """sha256 over the problems and answers, whatever their order, ids and typography."""
    lines = sorted(json.dumps([normalise(row["problem"]), _plain(row["answer"])]) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plain(answer: str) -> str:
    """An answer as the digest sees it: 025 and 25 are one, as they are to the grader."""
    text = answer.strip().strip("$")
    return str(int(text)) if text.isascii() and text.isdigit() else text


def _difference(benchmark: Benchmark, rows: list[Row], origin: str, sha256: str) -> str | None:
    if benchmark.sha256 in (None, sha256):
        return None
    count = "" if len(rows) == benchmark.problems else f", {len(rows)} problems"
    return (
        f"{benchmark.name} from {origin} is not the edition that was checked "
        f"({benchmark.problems} problems, sha256 {benchmark.sha256[:12]}): it has "
        f"sha256 {sha256[:12]}{count}; compare its scores only with scores on the same edition"
    )


# ---------------------------------------------------------------- reading


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise Unreachable(f"no benchmark file at {path}")
    try:
        with path.open(encoding="utf-8") as lines:  # splitlines would cut at U+2028 in a problem
            return [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise ValueError(f"{path}: not JSON lines: {error}") from error


def _embedded(benchmark: Benchmark) -> list[dict[str, Any]]:
    from benchmarks.arithmetic.problems import problems

    made = problems("test", benchmark.problems, families=benchmark.embedded)
    return [{"id": p.id, "problem": p.problem, "answer": p.answer} for p in made]


def _download(benchmark: Benchmark) -> list[dict[str, Any]]:
    try:
        from datasets import load_dataset

        rows = load_dataset(
            benchmark.hub, benchmark.config, revision=benchmark.revision, split=benchmark.split
        )
        # Their ids are numbers, paths or missing: ours are NAME-1, NAME-2, ...
        return [{key: value for key, value in row.items() if key != "id"} for row in rows]
    except Exception as error:  # the hub's client fails in a dozen ways; all mean "not reachable"
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Unreachable(
            f"benchmark {benchmark.name!r}: no local file, and {benchmark.pinned} cannot be "
            f"downloaded ({why[:200]}); check the network, or give data_files: "
            f"{{{benchmark.name}: FILE.jsonl}}, or set SUITE_DATA to a folder with "
            f"{benchmark.name}.jsonl"
        ) from error


def normalised(rows: Iterable[Mapping[str, Any]], benchmark: Benchmark, origin: str) -> list[Row]:
    """Rows as id, problem and answer, all strings, whatever the source calls and wraps them.

    Rows that already have the three are taken as they are; the others are read by `columns` of
    the task file, and numbered. Answers stay text: 070 stays 070.
    """
    result = []
    for number, row in enumerate(rows, start=1):
        try:
            result.append(_normalised(row, number, benchmark))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{origin}: row {number} has no id, problem and answer, nor the columns of "
                f"{benchmark.name} ({error})"
            ) from error
    if not result:
        raise ValueError(f"{origin}: no problems")
    return result


def _normalised(row: Mapping[str, Any], number: int, benchmark: Benchmark) -> Row:
    columns = benchmark.columns
    if isinstance(row.get("id"), str) and {"problem", "answer"} <= row.keys():
        values = (row["id"], row["problem"], str(row["answer"]))
    else:
        read = _ANSWERS[columns.get("read", "text")]
        answer = read(row[columns.get("answer", "answer")])
        values = (f"{benchmark.name}-{number}", row[columns.get("problem", "problem")], answer)
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError("one of them is empty or not text")
    return dict(zip(("id", "problem", "answer"), values, strict=True))


def _integer(value: float | str) -> str:
    """AMC's answers are floats on the hub, all whole."""
    if float(value) != int(float(value)):
        raise ValueError(f"answer {value!r} is not whole")
    return str(int(float(value)))


def _after_hashes(solution: str) -> str:
    """GSM8K: what follows the last ####, without thousands separators."""
    _, hashes, answer = solution.rpartition("####")
    if not hashes:
        raise ValueError("no #### before the answer")
    return answer.strip().replace(",", "")


def _boxed(solution: str) -> str:
    """MATH: the last box of the solution."""
    answer = extract(solution)
    if answer is None:
        raise ValueError("no box in the solution")
    return answer


_ANSWERS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "integer": _integer,
    "hashes": _after_hashes,
    "boxed": _boxed,
    "list": lambda answers: ",".join(answers),
}

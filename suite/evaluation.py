"""`suite eval`: a checkpoint sampled once on each benchmark, every verdict kept, resumable.

An evaluation is a cell like any other: its content is its id, a worker runs it, its spool and its
texts lie in its folder. What distinguishes it is that nothing is trained; `algorithm` is "eval".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from algorithms import nearest
from benchmarks import prompts
from benchmarks.grading import Grader
from benchmarks.sampling import PRESETS, Sampling, batches, evaluate
from suite import catalog, editions, machine, stats
from suite.cell import EVALUATION, Cell, Workspace
from suite.spool import attempts, read_from
from suite.store import connect

FRACTION = 1.0  # of a budget that an evaluation has not: its place in the views
_RUN = re.compile(r"([0-9a-f]{12})(?:@(\d+))?")


@dataclass(frozen=True)
class Prompting:
    """How a problem becomes a prompt, and how long it may be (None: by the model)."""

    template: str | None = None
    chat: bool = False
    max_prompt_tokens: int | None = None


DEFAULTS = {"samples": 64, "max_new_tokens": 4096}
MAX_PROMPT_TOKENS = 1024


def from_options(
    name: str,
    workspace: Workspace,
    *,
    benchmarks: list[str],
    pass_at: str,
    preset: str,
    sampling: dict[str, Any],
    prompting: Prompting,
    seed: int,
    resources: dict[str, int],
) -> Cell:
    """The cell that `suite eval` was asked for on the command line.

    Raises:
        ValueError: anything that cannot be run, in one line.
    """
    if preset and preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: {nearest(preset, list(PRESETS))}")
    model, label = resolve(name, workspace)
    context = catalog.context_length(catalog.model_path(model, workspace.models))
    embedded = catalog.context_length(catalog.EMBEDDED_MODEL)
    lengths = dict(DEFAULTS), MAX_PROMPT_TOKENS
    if context == embedded:
        own = catalog.EMBEDDED_LENGTHS
        lengths = DEFAULTS | {"max_new_tokens": own["max_new_tokens"]}, own["max_prompt_tokens"]
    given = {key: value for key, value in sampling.items() if value is not None}
    settings = Sampling(**{**lengths[0], **PRESETS.get(preset, {}), **given})
    if settings.temperature == 0 and settings.samples > 1:
        raise ValueError("temperature 0 always gives the same answer: ask for --samples 1")
    ks, beyond = _numbers(pass_at, settings.samples)
    _check(benchmarks, settings)
    if resources["gpus"] % resources["engines"] and machine.device() == "gpu":
        raise ValueError(f"{resources['gpus']} GPUs cannot be shared by --engines evenly")
    template = prompts.template(prompting.template)
    if template and prompting.chat:
        raise ValueError("--prompt-template is not used with --chat-template: drop one of them")
    longest = prompting.max_prompt_tokens or lengths[1]
    if context and longest + settings.max_new_tokens > context:
        raise ValueError(
            f"a prompt of {longest} and a response of {settings.max_new_tokens} tokens exceed the "
            f"context of {label}, {context} tokens"
        )
    return cell(
        model,
        label,
        [catalog.absolute(benchmark, Path()) for benchmark in benchmarks],
        settings,
        ks,
        beyond,
        replace(prompting, template=template, max_prompt_tokens=longest),
        seed=seed,
        resources=resources,
    )


def _check(benchmarks: list[str], settings: Sampling) -> None:
    """ValueError for benchmarks or sampling that cannot be."""
    if len(set(benchmarks)) != len(benchmarks):
        raise ValueError("--benchmarks names one of them twice")
    if not 0 < settings.top_p <= 1:
        raise ValueError(f"--top-p is above 0 and at most 1, got {settings.top_p}")
    for benchmark in benchmarks:
        problem = catalog.benchmark_problem(benchmark, Path())
        if problem:
            raise ValueError(problem)


def _numbers(pass_at: str, samples: int) -> tuple[list[int], list[int]]:
    """The ks of "1,8,1024": those that `samples` can measure, and those left to a prediction."""
    try:
        ks = sorted({int(k) for k in pass_at.split(",")})
    except ValueError as error:
        raise ValueError(f"--pass-at is whole numbers with commas, got {pass_at!r}") from error
    if ks[0] < 1:
        raise ValueError(f"--pass-at: k is at least 1, got {ks[0]}")
    measured = [k for k in ks if k <= samples]
    if not measured:
        raise ValueError(f"pass@{ks[0]} needs at least {ks[0]} samples, there are {samples}")
    return measured, [k for k in ks if k > samples]


def resolve(name: str, workspace: Workspace) -> tuple[str, str]:
    """(path or id of the model, label) of what `suite eval` was given.

    A cell of runs.db is named by its id, a step of it by ID@STEP.

    Raises:
        ValueError: no such run or step (those that exist are named), or no such model.
    """
    match = _RUN.fullmatch(name)
    if not match:
        problem = catalog.model_problem(name, Path())
        if problem:
            raise ValueError(problem)
        model = catalog.absolute(name, Path())
        return model, Path(model).name
    run, step = match.groups()
    folder = workspace.cell(run) / "policies"
    kept = sorted(int(path.name.removeprefix("step_")) for path in folder.glob("step_*[0-9]"))
    if not kept:
        raise ValueError(f"run {run} of {workspace.db} has kept no policy")
    chosen = kept[-1] if step is None else int(step)
    if chosen not in kept:
        raise ValueError(f"run {run} kept no policy of step {chosen}; there are: {kept}")
    return str(folder / f"step_{chosen:06d}"), f"{run}@{chosen}"


def cell(
    model: str,
    label: str,
    benchmarks: list[str],
    sampling: Sampling,
    pass_at: list[int],
    predict_at: list[int],
    prompting: Prompting,
    *,
    seed: int,
    resources: dict[str, int],
) -> Cell:
    """The evaluation as a cell, named by its content."""
    files = catalog.data_files(benchmarks, {}, Path())
    return Cell(
        matrix="eval",
        arm=label,
        algorithm=EVALUATION,
        settings={},
        model=model,
        seed=seed,
        train={
            "dataset": "",
            "prompt_template": prompting.template,
            "chat_template": prompting.chat,
            "max_prompt_tokens": prompting.max_prompt_tokens,
        },
        evaluate={
            "benchmarks": benchmarks,
            "at": [FRACTION],
            "samples": sampling.samples,
            "pass_at": pass_at,
            "predict_at": predict_at,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "max_new_tokens": sampling.max_new_tokens,
            "problems": sampling.problems,
            "data_files": files,
        },
        budget={"samples": float(sampling.samples)},
        resources={"accelerator": None, **resources},
        identity=catalog.identity([model, *benchmarks], files),
    )


# In the worker ------------------------------------------------------------------------------


def run(cell: Cell, workspace: Workspace, write: Callable[..., None]) -> None:
    """Sample and grade what earlier attempts have not, telling `write` of each batch."""
    from algorithms.openrlhf import cpu

    cpu.prepare_process()
    from benchmarks.engine import Engine, Replicas

    settings, prompting = cell.evaluate, cell.train
    sampling = sampling_of(settings)
    paths = editions.benchmark_paths(cell, workspace)
    files = {name: Path(path) for name, path in paths.items()}
    done = drawn(workspace.cell(cell.id))
    mine = {
        name: {(problem, first): n for (of, problem, first), n in done.items() if of == name}
        for name in files
    }
    total = sum(n for path in files.values() for *_, n in batches(path, sampling))
    missing = sum(
        n for name, path in files.items() for *_, n in batches(path, sampling, mine[name])
    )
    model = catalog.model_path(cell.model, workspace.models)
    on_cpu = machine.device() == "cpu"
    given = {
        "context": prompting["max_prompt_tokens"] + sampling.max_new_tokens,
        "cpu": on_cpu,
        "template": prompting["prompt_template"],
        "chat": prompting["chat_template"],
    }
    gpus, count = cell.resources["gpus"], cell.resources["engines"]
    if count > 1:
        share = 0 if on_cpu else gpus // count
        engines = Replicas(count, share, cpu.prepare_process, model, **given)
    else:
        engines = nullcontext(Engine(model, gpus=gpus, **given))
    meter = _Meter(total, total - missing)
    write("sampling", wanted=total, existing=total - missing)
    point = {"step": 0, "fraction": FRACTION}
    with engines as engine, Grader() as grader:
        grader.start()
        for name, path in files.items():
            records = evaluate(
                engine.generate, grader, path, name, sampling, seed=cell.seed, done=mine[name]
            )
            for record in records:
                write("eval", **point, **record)
                if meter.add(record["n"], sum(record["lengths"])):
                    write("progress", budget_fraction=meter.fraction, text=meter.text)
    write("evaluated", **point, samples=total, seconds=meter.seconds, tokens=meter.tokens)


def sampling_of(settings: dict[str, Any]) -> Sampling:
    """The `evaluate` section of a cell as sampling settings."""
    names = ("samples", "max_new_tokens", "temperature", "top_p", "top_k", "problems")
    return Sampling(**{name: settings[name] for name in names})


def drawn(folder: Path) -> dict[tuple[str, str, int], int]:
    """(benchmark, problem, first) -> samples, of the batches in a cell's spools."""
    return {
        (row["benchmark"], row["problem"], row["first"]): row["n"]
        for _, path in attempts(folder)
        for row in read_from(path, 0)[0]
        if row["kind"] == "eval"
    }


class _Meter:
    """Progress, throughput and time left, said at most every two seconds."""

    def __init__(self, total: int, done: int):
        self._total, self._done, self._before = total, done, done
        self._start = self._said = time.monotonic()
        self.tokens = 0

    def add(self, samples: int, tokens: int) -> bool:
        """Count a batch; whether it is time to say so."""
        self._done += samples
        self.tokens += tokens
        now = time.monotonic()
        due = now - self._said > 2 or self._done == self._total
        if due:
            self._said = now
        return due

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def fraction(self) -> float:
        return self._done / self._total

    @property
    def text(self) -> str:
        """ "5120/30720 samples, 480/s, 6,100 tokens/s, 53 s left"."""
        rate = (self._done - self._before) / max(self.seconds, 1e-9)
        left = (self._total - self._done) / rate
        return (
            f"{self._done}/{self._total} samples, {rate:.0f}/s, "
            f"{self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s, {left:.0f} s left"
        )


# On the terminal ----------------------------------------------------------------------------


def table(db: Path, cell: Cell) -> Table:
    """The scores of a finished evaluation, with what has to be known to read them."""
    shown = Table(title=f"{cell.arm}, seed {cell.seed}", caption_justify="left")
    with connect(db) as connection:
        scores = connection.execute(
            "SELECT benchmark, k, score, low, high FROM data.scores WHERE run = ?", [cell.id]
        ).fetchall()
        quality = connection.execute(
            """SELECT benchmark, count(*), sum(n), sum(tokens) / sum(n), sum(truncated) / sum(n),
                      sum(unparsed) / sum(n), sum(timeout) / sum(n), avg(unique_responses / n)
                 FROM evals WHERE run = ? AND n >= ? GROUP BY benchmark ORDER BY benchmark""",
            [cell.id, cell.evaluate["samples"]],
        ).fetchall()
        majorities = _majorities(connection, cell.id)
        predicted = _predictions(connection, cell)
    ks = sorted({k for _, k, *_ in scores})
    for column in ("benchmark", "problems", "samples", *(f"pass@{k}" for k in ks), "maj@n"):
        shown.add_column(column, justify="left" if column == "benchmark" else "right")
    for column in ("tokens", "truncated", "no answer", "undecided", "different"):
        shown.add_column(column, justify="right")
    for benchmark, problems, samples, tokens, *shares in quality:
        mine = {k: rest for name, k, *rest in scores if name == benchmark}
        shown.add_row(
            benchmark,
            str(problems),
            str(samples),
            *("{:.3f} [{:.3f}, {:.3f}]".format(*mine[k]) if k in mine else "" for k in ks),
            f"{majorities[benchmark]:.3f}",
            f"{tokens:.1f}",
            *(f"{share:.1%}" for share in shares),
        )
    notes = [
        "Brackets: 95 % interval over problems. Truncated, unanswered and undecided responses "
        "count as wrong. maj@n: the most frequent answer is right."
    ]
    if cell.evaluate["samples"] in ks:
        k = cell.evaluate["samples"]
        notes.append(f"pass@{k} is k = n: a coin flip per problem at the margin.")
    shown.caption = "\n".join(notes + predicted)
    return shown


def _majorities(connection: Any, run: str) -> dict[str, float]:
    """maj@n of each benchmark: the mean over problems, all of a problem's samples voting."""
    rows = connection.execute(
        """WITH votes AS (
               SELECT benchmark, problem, unnest(answers) AS answer,
                      unnest(string_split(verdicts, '')) AS verdict
                 FROM data.batches WHERE run = ?)
           SELECT benchmark, problem, answer, count(*), bool_or(verdict = 'c')
             FROM votes GROUP BY ALL ORDER BY ALL""",
        [run],
    ).fetchall()
    problems: dict[tuple[str, str], list[tuple[str | None, int, bool]]] = {}
    for benchmark, problem, *vote in rows:
        problems.setdefault((benchmark, problem), []).append(tuple(vote))
    found: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)  # k = n is exact and draws nothing
    for (benchmark, _), votes in problems.items():
        silent = sum(count for answer, count, _ in votes if answer is None)
        counts = [count for answer, count, _ in votes if answer is not None]
        right = [correct for answer, _, correct in votes if answer is not None]
        n = silent + sum(counts)
        share = stats.majority_at_k(counts, right, n, rng=rng, silent=silent)
        found.setdefault(benchmark, []).append(share)
    return {benchmark: float(np.mean(shares)) for benchmark, shares in found.items()}


def _predictions(connection: Any, cell: Cell) -> list[str]:
    """A line for each k beyond the samples: an estimate, and labelled as one."""
    counts = connection.execute(
        """SELECT benchmark, list(n ORDER BY problem), list(correct ORDER BY problem)
             FROM evals WHERE run = ? AND n >= ? GROUP BY benchmark ORDER BY benchmark""",
        [cell.id, cell.evaluate["samples"]],
    ).fetchall()
    rng = np.random.default_rng(0)
    return [
        f"{benchmark}: {stats.predict_pass_at_k(n, correct, k, rng=rng)}."
        for benchmark, n, correct in counts
        for k in cell.evaluate["predict_at"]
        if k > min(n)
    ]

"""`suite eval`: a checkpoint sampled once on each benchmark, every verdict kept, resumable.

An evaluation is a cell like any other: its content is its id, a worker runs it, its spool and its
texts lie in its folder. What distinguishes it is that nothing is trained; `algorithm` is "eval".
Here it is put together from the command line; `suite.worker.evaluate` draws and grades in the
worker, `suite.report.scorecard` says what came out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from algorithms import nearest
from benchmarks import prompts
from benchmarks.sampling import PRESETS, Sampling
from suite import machine
from suite.matrix import sources
from suite.matrix.cell import EVALUATION, Cell
from suite.spool.spool import attempts, read_from
from suite.workspace import Workspace

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
    context = sources.context_length(model)
    defaults, longest_prompt = DEFAULTS, MAX_PROMPT_TOKENS
    if context == sources.context_length(sources.EMBEDDED_MODEL):
        lengths = sources.EMBEDDED_LENGTHS
        defaults = DEFAULTS | {"max_new_tokens": lengths["max_new_tokens"]}
        longest_prompt = lengths["max_prompt_tokens"]
    given = {key: value for key, value in sampling.items() if value is not None}
    settings = Sampling(**{**defaults, **PRESETS.get(preset, {}), **given})
    if settings.temperature == 0 and settings.samples > 1:
        raise ValueError("temperature 0 always gives the same answer: ask for --samples 1")
    ks, beyond = _numbers(pass_at, settings.samples)
    _check(benchmarks, settings)
    if resources["gpus"] % resources["engines"] and machine.device() == "gpu":
        raise ValueError(f"{resources['gpus']} GPUs cannot be shared by --engines evenly")
    prompting = _as_trained(prompting, _run_of(name, workspace))
    template = prompts.template(prompting.template)
    if template and prompting.chat:
        raise ValueError("--prompt-template is not used with --chat-template: drop one of them")
    longest = prompting.max_prompt_tokens or longest_prompt
    if context and longest + settings.max_new_tokens > context:
        raise ValueError(
            f"a prompt of {longest} and a response of {settings.max_new_tokens} tokens exceed the "
            f"context of {label}, {context} tokens"
        )
    return cell(
        model,
        label,
        [sources.absolute(benchmark, Path()) for benchmark in benchmarks],
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
        problem = sources.benchmark_problem(benchmark, Path())
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
        problem = sources.model_problem(name, Path())
        if problem:
            raise ValueError(problem)
        model = sources.absolute(name, Path())
        return model, Path(model).name
    run, step = match.groups()
    folder = workspace.cell(run) / "policies"
    steps = sorted(int(path.name.removeprefix("step_")) for path in folder.glob("step_*[0-9]"))
    if not steps:
        raise ValueError(f"run {run} of {workspace.db} has kept no policy")
    number = steps[-1] if step is None else int(step)
    if number not in steps:
        raise ValueError(f"run {run} kept no policy of step {number}; there are: {steps}")
    return str(folder / f"step_{number:06d}"), f"{run}@{number}"


def trained_on(asked: Cell, name: str, given: str, workspace: Workspace) -> Cell:
    """The evaluation of `name` with the training set that its problems are looked for in.

    That is what was given, else what the run that `name` stands for was trained on, else what was
    given for this evaluation before; none where nobody knows, or where a run's data is gone or has
    changed since. It is no part of the evaluation's id: nothing is drawn again.

    Raises:
        ValueError: what was given cannot be a training set.
    """
    problem = sources.dataset_problem(given, Path()) if given else None
    if problem:
        raise ValueError(f"--train-data: {problem}")
    if given:
        data = sources.absolute(given, Path())
    else:
        data = _data_of_run(_run_of(name, workspace)) or _data_before(workspace.cell(asked.id))
    training_set = {"dataset": data, "dataset_identity": _identity(data)} if data else {}
    return replace(asked, train=asked.train | training_set)


def _run_of(name: str, workspace: Workspace) -> Cell | None:
    """The run that `name` stands for."""
    match = _RUN.fullmatch(name)
    described = workspace.cell(match[1]) / "cell.json" if match else None
    return Cell.load(described) if described and described.is_file() else None


def _as_trained(prompting: Prompting, run: Cell | None) -> Prompting:
    """A run's policy is asked as it was in training, unless something else was asked for."""
    if run is None or prompting.template or prompting.chat:
        return prompting
    template, chat = run.train.get("prompt_template"), run.train.get("chat_template", False)
    return replace(prompting, template=template, chat=chat)


def _data_of_run(run: Cell | None) -> str:
    """What a run was trained on, while that is what it was; or ""."""
    if run is None:
        return ""
    data = run.train["dataset"]
    return data if data and _identity(data) == run.identity.get(data) else ""


def _data_before(folder: Path) -> str:
    """What the last attempt at this evaluation looked for its problems in, if it could; or ""."""
    spools = (read_from(path, 0)[0] for _, path in reversed(attempts(folder)))
    last = next((rows for rows in spools if not any(r["kind"] == "regraded" for r in rows)), [])
    if not any(row["kind"] == "benchmark" and row["overlapping"] is not None for row in last):
        return ""
    data = Cell.load(folder / "cell.json").train["dataset"]
    return "" if sources.dataset_problem(data, Path()) else data


def _identity(data: str) -> str | None:
    """The content hash of a training set; None of a hub id, which stands for itself."""
    return sources.identity([data]).get(data)


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
    files = sources.data_files(benchmarks, {}, Path())
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
        identity=sources.identity([model, *benchmarks], files),
    )

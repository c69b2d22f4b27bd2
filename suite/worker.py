"""One process, an attempt at one cell or at several that share a stack: each leaves a spool.

    python -m suite.worker PARENT DB CELL:ATTEMPT [CELL:ATTEMPT ...]

CELL's folder below DB's holds cell.json; PARENT is the process id of who started this. Start-up is
most of a small cell, so cells whose OpenRLHF flags agree (`stack_key`) go through one start.

The conductor has it started and reads what it writes; nothing else passes between them. It dies
with its parent (PR_SET_PDEATHSIG); an attempt has a spool of its own, and writes nothing any more
once the cell's lease names a later one.
"""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import algorithms
from algorithms.openrlhf.flags import command_line
from benchmarks.grading import Grader
from benchmarks.sampling import Sampling, evaluate
from suite import catalog, machine
from suite.cell import TABULAR, Cell, Workspace
from suite.ledger import Budget, Ledger
from suite.running import editions, evaluator
from suite.running.faults import names
from suite.running.responses import Responses
from suite.running.spool import Spool, attempts, check_lease, largest, path_of, read_from

EMBEDDED_TRAIN_PROBLEMS = 4096
EMBEDDED_TEST_PROBLEMS = 300
EXAMPLES, EXAMPLE_CHARACTERS = 2, 4000  # of each batch, kept in the database


class Recorder:
    """What the controller records with: the ledger, and lines of this attempt's spool."""

    def __init__(
        self,
        spool: Path,
        attempt: int,
        budget: Budget,
        gpus: int,
        cell: Cell | None = None,
        workspace: Workspace | None = None,
        began: float | None = None,
        **start: Any,
    ):
        """`start` are the fields of the line that says that the turn of `cell` has come.

        `began` is the time (unix seconds) from which the attempt held its GPUs, if not from now:
        another process than this one may have begun it.
        """
        self._cell, self._workspace = cell, workspace
        self._folder, self._spool = spool.parent, Spool(spool)
        self._responses = Responses(spool.parent, attempt)
        self._attempt = attempt
        self._start = start
        already = max(time.time() - began, 0.0) if began else 0.0
        self.ledger = Ledger(budget, gpus, already=already)

    def starting(self) -> None:
        """The cell's turn has come: how it is run, on what, by which versions."""
        self.write(
            "start",
            **self._start,
            versions=machine.versions(),
            hardware=machine.hardware(),
            git_commit=machine.git_commit(),
        )
        if self._cell and self._workspace and self._cell.evaluate:
            record_benchmarks(self._cell, self._workspace, self.write)

    def fail(self, error: BaseException) -> None:
        """The cell has ended by an error."""
        trace = "".join(traceback.format_exception(error))
        self.write("failed", error=reason(error), types=names(error), trace=trace)

    def begin(self, *, from_step: int, ledger: dict[str, Any] | None) -> None:
        """The first line after start-up: rows of earlier attempts after `from_step` are void."""
        lost = self.ledger.restore(ledger, self._held_before())
        kind = "resumed" if from_step else "training"
        self.write(kind, from_step=from_step, lost_gpu_hours=lost)

    def _held_before(self) -> float:
        """Seconds that earlier attempts held their GPUs, each to its last line."""
        earlier = [path for n, path in attempts(self._folder) if n < self._attempt]
        return sum(largest(path, "attempt_seconds") for path in earlier)

    def check_lease(self) -> None:
        """Raises suite.running.spool.Fenced when a later attempt at the cell has begun."""
        check_lease(self._folder, self._attempt)

    def write(self, kind: str, **fields: Any) -> None:
        """Append a line to the spool; the texts of evaluations go to a file of their own."""
        self.check_lease()
        if kind == "eval":
            texts = fields.pop("texts")
            self._responses.write(fields, texts)
            fields["examples"] = [text[:EXAMPLE_CHARACTERS] for text in texts[:EXAMPLES]]
        held = self.ledger.attempt_seconds()
        self._spool.write(kind, attempt=self._attempt, attempt_seconds=held, **fields)


@dataclass
class Evaluation:
    """Scores a step; the base model's score (step 0) is drawn once and shared between cells.

    The base samples depend on the model, the benchmark, the sampling and the seed alone, which are
    the name of the file in `shared` that keeps them.
    """

    sampling: Sampling
    seed: int
    shared: Path
    base: str = field(default="")

    def __call__(
        self, generate: Any, grader: Any, name: str, path: str, step: int
    ) -> Iterator[dict[str, Any]]:
        records = partial(
            evaluate, generate, grader, Path(path), name, self.sampling, seed=self.seed
        )
        if step:
            yield from records()
            return
        kept = self.shared / f"{self.base}-{Path(path).stem}.jsonl.gz"
        if not kept.exists():
            lines = [json.dumps(record) + "\n" for record in records()]
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial_file = kept.with_suffix(f".{os.getpid()}")
            partial_file.write_bytes(gzip.compress("".join(lines).encode()))
            partial_file.rename(kept)
        yield from map(json.loads, gzip.decompress(kept.read_bytes()).splitlines())


def openrlhf_flags(cell: Cell, workspace: Workspace, folder: Path | None = None) -> list[str]:
    """The exact OpenRLHF command line of a cell in a workspace; imports nothing heavy.

    `folder` is where checkpoints go when it is not the cell's own.
    """
    device = "gpu" if cell.resources["accelerator"] else machine.device()
    gpus = cell.resources["gpus"]
    train = dict(cell.train)
    rollouts = train["prompts_per_step"] * train["samples_per_prompt"]
    share = rollouts // train["optimizer_steps_per_rollout"] // gpus
    largest = 64 if device == "cpu" else 4
    train["micro_batch_size"] = train["micro_batch_size"] or _divisor(share, largest)
    train["rollout_micro_batch_size"] = train["rollout_micro_batch_size"] or _divisor(
        rollouts // gpus, 2 * largest
    )
    return command_line(
        train,
        gpus=gpus,
        device=device,
        seed=cell.seed,
        model=catalog.model_path(cell.model, workspace.models),
        dataset=catalog.data_path(train["dataset"], workspace.data, "train"),
        workspace=folder or workspace.cell(cell.id),
        reward=str(Path(__file__).parent.parent / "benchmarks" / "grading.py"),
        longest_response=max(train["max_new_tokens"], cell.evaluate["max_new_tokens"] or 0),
    )


def _divisor(number: int, largest: int) -> int:
    return next(d for d in range(min(number, largest), 0, -1) if number % d == 0)


def materialise(cell: Cell, workspace: Workspace, log: Callable[[str], None]) -> None:
    """Make the embedded model and write the data sets that the cell names, unless they exist."""
    if cell.model == catalog.EMBEDDED_MODEL:
        if not Path(catalog.model_path(cell.model, workspace.models)).is_dir():
            from benchmarks.arithmetic.model import cached

            cached(workspace.models, log=log)
    else:
        _check_model(cell.model)
    if catalog.EMBEDDED_DATASET in (cell.train["dataset"], *cell.evaluate["benchmarks"]):
        from benchmarks.arithmetic.problems import problems, write_jsonl

        sizes = {"train": EMBEDDED_TRAIN_PROBLEMS, "test": EMBEDDED_TEST_PROBLEMS}
        for split, size in sizes.items():
            path = Path(catalog.data_path(catalog.EMBEDDED_DATASET, workspace.data, split))
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                partial_file = path.with_suffix(f".{os.getpid()}")
                write_jsonl(partial_file, problems(split, size))
                partial_file.rename(path)
    editions.materialise(cell, workspace)


def record_benchmarks(cell: Cell, workspace: Workspace, write: Callable[..., None]) -> None:
    """What the cell is measured on, and a warning where that is not what its name promises."""
    for record in editions.describe(cell, workspace):
        warning, found = record.pop("warning"), len(record["overlapping"] or ())
        write("benchmark", **record)
        if warning:
            write("warning", text=warning)
        if found:
            text = f"{found} of {record['problems']} problems of {record['benchmark']}"
            write("warning", text=f"{text} occur in the training prompts")


def _check_model(model: str) -> None:
    """Fail now and clearly rather than inside a Ray actor: is this a model that can be reached?"""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"model {model!r} cannot be loaded: {why} (check the name, the network, HF_TOKEN)"
        ) from error


def reason(error: BaseException) -> str:
    """The last line that says something: what a person needs of a nested remote traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else "no message"
    name = type(error).__name__
    return text if isinstance(error, FileNotFoundError) or len(lines) > 1 else f"{name}: {text}"


def stack_key(cell: Cell, workspace: Workspace) -> str | None:
    """Cells of one key can go through one start of the stack; None: a cell has it to itself.

    It is what OpenRLHF is told but for the cell's own folder and seed.
    """
    if cell.in_one_process:
        return None
    cell = replace(cell, seed=0)
    flags = openrlhf_flags(cell, workspace)
    own = str(workspace.cell(cell.id))
    shared = [cell.train["reward"], cell.evaluate["benchmarks"]]
    return json.dumps([[flag.replace(own, "") for flag in flags], shared])


def run(workspace: Workspace, wanted: list[tuple[str, int]]) -> None:
    """An attempt at each (cell, attempt), from its last checkpoint when there is one.

    An error in one of them ends all: its reason is in the spool of the cell whose turn it was.
    """
    cells = [Cell.load(workspace.cell(cell_id) / "cell.json") for cell_id, _ in wanted]
    began = time.time()  # what comes before the first cell's turn is its start-up
    make = [
        partial(
            Recorder,
            path_of(workspace.cell(cell.id), attempt),
            attempt,
            Budget(*next(iter(cell.budget.items()))),
            cell.resources["gpus"],
            cell,
            workspace,
            None if position else began,
            run=cell.id,
            command=_command(cell, workspace),
        )
        for position, (cell, (_, attempt)) in enumerate(zip(cells, wanted, strict=True))
    ]
    first = make[0]()
    try:
        first.write("preparing")
        if cells[0].in_one_process:
            _alone(cells[0], workspace, first)
        else:
            for cell in cells:
                materialise(cell, workspace, lambda text: first.write("note", text=text))
            _train(cells, workspace, make)
    except BaseException as error:
        turn = _turn(workspace, wanted)
        if turn is not None:
            make[turn]().fail(error)
        raise


def _alone(cell: Cell, workspace: Workspace, recorder: Recorder) -> None:
    """A cell that needs no trainer: an evaluation, or a tabular policy of the lab."""
    if cell.model == TABULAR:
        from suite.lab import tabular

        recorder.starting()
        tabular.run(cell, workspace.cell(cell.id), recorder)
    else:
        materialise(cell, workspace, lambda text: recorder.write("note", text=text))
        recorder.starting()
        evaluator.run(cell, workspace, recorder.write)
    recorder.write("done")


def _command(cell: Cell, workspace: Workspace) -> list[str]:
    if cell.in_one_process:
        return []
    return ["python", "-m", "openrlhf.cli.train_ppo_ray", *openrlhf_flags(cell, workspace)]


def _turn(workspace: Workspace, wanted: list[tuple[str, int]]) -> int | None:
    """Which cell an error ends: the one that has started and not ended, or the first to start.

    None: one of them has said itself that it failed.
    """
    kinds = [
        {row["kind"] for row in read_from(path_of(workspace.cell(cell_id), attempt), 0)[0]}
        if path_of(workspace.cell(cell_id), attempt).exists()
        else set()
        for cell_id, attempt in wanted
    ]
    if any("failed" in said for said in kinds):
        return None
    open_ones = [i for i, said in enumerate(kinds) if "done" not in said]
    return next((i for i in open_ones if "start" in kinds[i]), open_ones[0] if open_ones else None)


def _train(cells: list[Cell], workspace: Workspace, make: list[Callable[[], Recorder]]) -> None:
    from algorithms.openrlhf.driver import train

    session = workspace.root / "sessions" / str(os.getpid())
    shutil.rmtree(session, ignore_errors=True)
    experiments = [
        _experiment(cell, workspace, recorder) for cell, recorder in zip(cells, make, strict=True)
    ]
    flags = openrlhf_flags(cells[0], workspace, session)
    try:
        train(flags, experiments, gpus=cells[0].resources["gpus"])
    finally:
        shutil.rmtree(session, ignore_errors=True)


def _experiment(cell: Cell, workspace: Workspace, make_recorder: Callable[[], Recorder]) -> Any:
    from algorithms.openrlhf.driver import Experiment

    settings = cell.evaluate
    longest = settings["max_new_tokens"] or cell.train["max_new_tokens"]
    sampling = evaluator.sampling_of(settings | {"max_new_tokens": longest})
    return Experiment(
        algorithm=algorithms.load(cell.algorithm, **cell.settings),
        folder=workspace.cell(cell.id),
        make_recorder=make_recorder,
        make_grader=Grader,
        evaluate=Evaluation(
            sampling, cell.seed, workspace.root / "base", _base_key(cell, sampling)
        ),
        benchmarks=editions.benchmark_paths(cell, workspace),
        seed=cell.seed,
        checkpoint_every=cell.train["checkpoint_every"],
        keep_checkpoints=cell.train["keep_checkpoints"] == "evaluated",
        evaluate_at=tuple(settings["at"]),
        reward=cell.train["reward"],
        diagnosed_states=cell.train["clip_diagnostics"],
        probe_prompts=settings["probe_prompts"] if settings["at"] else 0,
        probe=workspace.root / "base" / f"probe-{_probe_key(cell)}.jsonl",
    )


def _base_key(cell: Cell, sampling: Sampling) -> str:
    """A hash of everything that the base model's samples depend on."""
    return _key(cell, sampling)


def _probe_key(cell: Cell) -> str:
    """A hash of everything that the entropy probe's responses depend on."""
    names = ("dataset", "prompts_per_step", "max_new_tokens")
    return _key(cell, [cell.train[n] for n in names], cell.evaluate["probe_prompts"])


def _key(cell: Cell, *more: object) -> str:
    prompts = [cell.train[name] for name in ("prompt_template", "chat_template")]
    parts = [cell.model, cell.identity, cell.seed, *more, prompts, machine.versions()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies, and check that it has not yet."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that started this is gone")


def main() -> None:
    """Command line of the worker; a failure is already in the spool when this exits."""
    parent, db, *wanted = sys.argv[1:]
    die_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
    os.environ.setdefault("OMP_NUM_THREADS", "1" if machine.device() == "cpu" else "4")
    pairs = [one.split(":") for one in wanted]
    run(Workspace(Path(db)), [(cell, int(attempt)) for cell, attempt in pairs])


if __name__ == "__main__":
    main()

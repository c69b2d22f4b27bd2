"""One process, an attempt at one run or at several that share a stack: each leaves a spool.

    python -m suite.worker PARENT DB RUN:ATTEMPT [RUN:ATTEMPT ...]

RUN's folder below DB's holds cell.json; PARENT is the process id of who started this. Start-up is
most of a small run, so runs whose OpenRLHF flags agree (`stack_key`) go through one start.

The conductor has it started and reads what it writes; nothing else passes between them. It dies
with its parent (PR_SET_PDEATHSIG); an attempt has a spool of its own, and writes nothing any more
once the run's lease names a later one.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import algorithms
from benchmarks.grading import Grader
from benchmarks.sampling import Generate, Sampling, evaluate
from suite import machine
from suite.matrix.cell import TABULAR, Cell
from suite.matrix.command import by_hand, openrlhf_flags
from suite.spool.spool import path_of, read_from
from suite.worker.benchmarks import benchmark_paths
from suite.worker.evaluate import evaluate_checkpoint, sampling_of
from suite.worker.ledger import Budget
from suite.worker.materials import materialise
from suite.worker.recorder import Recorder
from suite.workspace import Workspace, whole_file

if TYPE_CHECKING:
    from algorithms.openrlhf.experiment import Experiment


@dataclass
class StepScorer:
    """Scores a step; the base model's score (step 0) is drawn once and shared between runs.

    The base samples depend on the model, the benchmark, the sampling and the seed alone, which are
    the name of the file in `shared` that keeps them.
    """

    sampling: Sampling
    seed: int
    shared: Path
    base: str = field(default="")

    def __call__(
        self, generate: Generate, grader: Grader, name: str, path: str, step: int
    ) -> Iterator[dict[str, Any]]:
        records = partial(
            evaluate, generate, grader, Path(path), name, self.sampling, seed=self.seed
        )
        if step:
            yield from records()
            return
        scored = self.shared / f"{self.base}-{Path(path).stem}.jsonl.gz"
        if not scored.exists():
            lines = [json.dumps(record) + "\n" for record in records()]
            with whole_file(scored) as file:
                file.write_bytes(gzip.compress("".join(lines).encode()))
        yield from map(json.loads, gzip.decompress(scored.read_bytes()).splitlines())


def run(workspace: Workspace, attempts: list[tuple[str, int]]) -> None:
    """Each of the attempts (run id, number), from the run's last checkpoint when there is one.

    An error in one of them ends all: its reason is in the spool of the run whose turn it was.
    """
    cells = [Cell.load(workspace.cell(cell_id) / "cell.json") for cell_id, _ in attempts]
    began = time.time()  # what comes before the first run's turn is its start-up
    make: list[Callable[[], Recorder]] = [
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
            command=[] if cell.in_one_process else by_hand(cell, workspace),
        )
        for position, (cell, (_, attempt)) in enumerate(zip(cells, attempts, strict=True))
    ]
    recorder = make[0]()
    try:
        recorder.write("preparing")
        if cells[0].in_one_process:
            _alone(cells[0], workspace, recorder)
        else:
            for cell in cells:
                materialise(cell, workspace, lambda text: recorder.write("note", text=text))
            _train(cells, workspace, make)
    except BaseException as error:
        turn = _turn(workspace, attempts)
        if turn is not None:
            make[turn]().fail(error)
        raise


def _alone(cell: Cell, workspace: Workspace, recorder: Recorder) -> None:
    """A run that needs no trainer: an evaluation, or a tabular policy of the lab."""
    if cell.model == TABULAR:
        from suite.lab import tabular

        recorder.starting()
        tabular.run_table(cell, workspace.cell(cell.id), recorder)
    else:
        materialise(cell, workspace, lambda text: recorder.write("note", text=text))
        recorder.starting()
        evaluate_checkpoint(cell, workspace, recorder.write)
    recorder.write("done")


def _turn(workspace: Workspace, attempts: list[tuple[str, int]]) -> int | None:
    """Which run an error ends: the one that has started and not ended, or the first to start.

    None: one of them has said itself that it failed.
    """
    kinds = [
        {row["kind"] for row in read_from(path_of(workspace.cell(cell_id), attempt), 0)[0]}
        if path_of(workspace.cell(cell_id), attempt).exists()
        else set()
        for cell_id, attempt in attempts
    ]
    if any("failed" in lines for lines in kinds):
        return None
    unfinished = [i for i, lines in enumerate(kinds) if "done" not in lines]
    return next(
        (i for i in unfinished if "start" in kinds[i]), unfinished[0] if unfinished else None
    )


def _train(cells: list[Cell], workspace: Workspace, make: Sequence[Callable[[], Recorder]]) -> None:
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


def _experiment(
    cell: Cell, workspace: Workspace, make_recorder: Callable[[], Recorder]
) -> Experiment:
    from algorithms.openrlhf.experiment import Experiment

    settings = cell.evaluate
    longest = settings["max_new_tokens"] or cell.train["max_new_tokens"]
    sampling = sampling_of(settings | {"max_new_tokens": longest})
    return Experiment(
        algorithm=algorithms.load(cell.algorithm, **cell.settings),
        folder=workspace.cell(cell.id),
        make_recorder=make_recorder,
        make_grader=Grader,
        evaluate=StepScorer(
            sampling, cell.seed, workspace.root / "base", _base_key(cell, sampling)
        ),
        benchmarks=benchmark_paths(cell, workspace),
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


def prepare_process() -> None:
    """Before torch is imported: how many threads it may have, and Ctrl-C as an exception."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
    os.environ.setdefault("OMP_NUM_THREADS", "1" if machine.device() == "cpu" else "4")


def main() -> None:
    """Command line of the worker; a failure is already in the spool when this exits."""
    parent, db, *words = sys.argv[1:]
    die_with_parent(int(parent))
    prepare_process()
    pairs = [word.split(":") for word in words]
    run(Workspace(Path(db)), [(cell, int(attempt)) for cell, attempt in pairs])


if __name__ == "__main__":
    main()

"""The command that `suite plan` prints: it trains one arm without a matrix or a database.

    python -m suite.worker.by_hand --suite.algorithm NAME --suite.budget UNIT=NUMBER ... FLAGS

FLAGS are OpenRLHF's own; what they cannot carry is in `--suite.*`. What starts here is an attempt
like a worker's: a spool, checkpoints, a policy, all in the folder that the flags name, and a second
start goes on from the last checkpoint. Left out is what `suite run` adds: evaluation, the entropy
probe, the database, trying again.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from benchmarks.grading import Grader
from suite import machine, text
from suite.spool.spool import attempts, next_attempt, path_of, read_from, write_lease
from suite.worker.materials import make_dataset, make_model
from suite.worker.recorder import Recorder, reason
from suite.worker.suite_flags import CHECKPOINTS, POLICY, ByHand, parse
from suite.worker.worker import prepare_process

FOLLOW_SECONDS = 0.3  # between two looks at what was recorded


def train(training: ByHand) -> None:
    """An attempt at it, from its last checkpoint when there is one; a line on stdout for each step.

    Raises:
        FileNotFoundError: model or training set are not there.
    """
    folder, attempt = training.folder, next_attempt(training.folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_lease(folder, attempt)
    spool = path_of(folder, attempt)
    make_recorder = partial(
        Recorder,
        spool,
        attempt,
        training.budget,
        training.gpus,
        began=time.time(),
        run=folder.name,
        command=training.command,
    )
    recorder = make_recorder()
    with _output_in(spool.with_suffix(".log")) as screen, _followed(spool, screen):
        try:
            recorder.write("preparing")
            make_model(training.model, lambda words: recorder.write("note", text=words))
            make_dataset(training.dataset)
            _train(training, make_recorder)
        except BaseException as error:
            traceback.print_exc()
            if all(row["kind"] != "failed" for row in _rows(spool)):
                recorder.fail(error)
            raise


def _train(training: ByHand, make_recorder: Any) -> None:
    from algorithms.openrlhf.driver import train as run_openrlhf
    from algorithms.openrlhf.experiment import Experiment

    experiment = Experiment(
        algorithm=training.algorithm,
        folder=training.folder,
        make_recorder=make_recorder,
        make_grader=Grader,
        evaluate=_nothing,
        seed=training.seed,
        checkpoint_every=training.checkpoint_every,
        evaluate_at=(),
        reward=training.reward,
        diagnosed_states=training.diagnosed_states,
    )
    # OpenRLHF saves the policy once more when all is done: not over the one that is whole.
    session = training.folder / "session"
    aside = [f"--ckpt.path={session / CHECKPOINTS}", f"--ckpt.output_dir={session / POLICY}"]
    try:
        run_openrlhf([*training.flags, *aside], [experiment], gpus=training.gpus)
    finally:
        shutil.rmtree(session, ignore_errors=True)


def _nothing(*_: Any) -> Iterator[dict[str, Any]]:
    """In place of an evaluation."""
    return iter(())


def _rows(spool: Path) -> Iterator[dict[str, Any]]:
    offset, end = 0, -1
    while offset != end:
        end = offset
        rows, offset = read_from(spool, end)
        yield from rows


@contextmanager
def _output_in(log: Path) -> Iterator[IO[str]]:
    """What this process and those below it print goes to `log`; yields where it went before."""
    sys.stdout.flush()
    terminal = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    try:
        with os.fdopen(os.dup(terminal[0]), "w") as screen:
            yield screen
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for before, descriptor in zip(terminal, (1, 2), strict=True):
            os.dup2(before, descriptor)
            os.close(before)


@contextmanager
def _followed(spool: Path, screen: IO[str]) -> Iterator[None]:
    """Say on `screen` what is recorded in the meantime, by whichever process."""
    ended = threading.Event()

    def follow() -> None:
        offset, last = 0, False
        while True:
            rows, offset = read_from(spool, offset)
            for line in filter(None, map(_line, rows)):
                print(line, file=screen, flush=True)
            if last and not rows:
                return
            last = ended.wait(FOLLOW_SECONDS)

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


def _line(row: dict[str, Any]) -> str:
    """A row of the spool as the terminal shows it; "" for those that nobody needs to see."""
    if row["kind"] == "trace":
        return (
            f"step {row['step']:4d}  reward {row['reward']:.3f}  entropy {row['entropy']:.3f}  "
            f"length {row['response_length']:.1f}  {row['gpu_hours']:.4f} GPU-h  "
            f"({row['budget_fraction']:.0%} of the budget)"
        )
    if row["kind"] in ("note", "warning"):
        return row["text"]
    if row["kind"] == "resumed":
        return f"resumed from the checkpoint of step {row['from_step']}"
    return {
        "preparing": "preparing model, data and the training stack",
        "training": "training",
        "finished": "saving the policy",
    }.get(row["kind"], "")


# Command line ------------------------------------------------------------------------------------


def problem(training: ByHand) -> str | None:
    """Why this cannot be trained here, in its folder and on this machine, or None."""
    folder = training.folder
    elsewhere = "give --ckpt.path and --ckpt.output_dir another folder"
    if (folder / "cell.json").exists():
        return f"{folder} is where `suite run` trains: {elsewhere}"
    starts = [row for row in _earlier(training) if row["kind"] == "start"]
    if any(row["command"] != training.command for row in starts):
        return f"{folder} holds what another command trained: {elsewhere}, or remove it"
    if "nccl" in training.flags and machine.device() == "cpu" and not os.environ.get("RAY_ADDRESS"):
        return "these flags are for GPUs, and this machine has none: see `suite plan --shrink`"
    return None


def _earlier(training: ByHand) -> Iterator[dict[str, Any]]:
    """What earlier attempts have recorded."""
    for _, spool in attempts(training.folder):
        yield from _rows(spool)


def main() -> None:
    """Exit status 0: trained to the end; 1: an error; 2: not a command; 130: stopped."""
    training = parse(sys.argv[1:])
    if why := problem(training):
        sys.exit(why)
    folder = training.folder
    if any(row["kind"] == "done" for row in _earlier(training)):
        print(f"trained to the end already: {folder / POLICY}; to train again, remove {folder}")
        return
    prepare_process()
    began = time.monotonic()
    try:
        train(training)
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        sys.exit(130)
    except (Exception, SystemExit) as error:
        log = attempts(folder)[-1][1].with_suffix(".log")
        print(f"{_why(error, log)}\n(what the stack printed: {log})", file=sys.stderr)
        sys.exit(1)
    print(f"trained in {text.duration(time.monotonic() - began)}: {folder / POLICY}")


def _why(error: BaseException, log: Path) -> str:
    """An error in one line; of flags that OpenRLHF refuses, what its own parser says."""
    if isinstance(error, SystemExit):
        printed = log.read_text(errors="replace").splitlines()
        refusals = [line for line in printed if line.startswith("train_ppo_ray.py: error: ")]
        return refusals[-1] if refusals else reason(error)
    return reason(error)


if __name__ == "__main__":
    # Under the name by which other processes find what they are sent from here.
    from suite.worker.by_hand import main as by_hand

    by_hand()

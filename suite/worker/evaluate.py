"""An evaluation in its worker: what is missing is sampled and graded, batch by batch.

What earlier attempts drew is in the run's spools and is not drawn again; when nothing is missing
(only other ks were asked for, say) no engine is started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.grading import Grader
from benchmarks.sampling import Generate, Sampling, batches, evaluate
from suite import machine
from suite.matrix import sources
from suite.matrix.cell import Cell
from suite.matrix.checkpoint import FRACTION
from suite.spool.spool import attempts, read_from
from suite.worker.benchmarks import benchmark_paths
from suite.workspace import Workspace


def evaluate_checkpoint(cell: Cell, workspace: Workspace, write: Callable[..., None]) -> None:
    """Sample and grade what earlier attempts have not, telling `write` of each batch."""
    sampling = sampling_of(cell.evaluate)
    paths = benchmark_paths(cell, workspace)
    files = {name: Path(path) for name, path in paths.items()}
    done: dict[str, dict[tuple[str, int], int]] = {name: {} for name in files}
    for (name, problem, start), n in drawn(workspace.cell(cell.id)).items():
        done.get(name, {})[problem, start] = n
    total = sum(n for path in files.values() for *_, n in batches(path, sampling))
    missing = sum(
        n for name, path in files.items() for *_, n in batches(path, sampling, done[name])
    )
    write("sampling", wanted=total, existing=total - missing)
    meter = _Meter(total, total - missing)
    point = {"step": 0, "fraction": FRACTION}

    def drawn_now(samples: int, tokens: int) -> None:
        if meter.add(samples, tokens):
            write("progress", budget_fraction=meter.fraction, text=meter.text)

    if missing:
        with _engine(cell, workspace, sampling) as generate, Grader() as grader:
            grader.start()
            meter.begin()
            for name, path in files.items():
                for record in evaluate(
                    generate,
                    grader,
                    path,
                    name,
                    sampling,
                    seed=cell.seed,
                    done=done[name],
                    drawn=drawn_now,
                ):
                    write("eval", **point, **record)
    write("evaluated", **point, samples=total, seconds=meter.seconds, tokens=meter.tokens)


@contextmanager
def _engine(cell: Cell, workspace: Workspace, sampling: Sampling) -> Iterator[Generate]:
    """The model behind one engine, or behind as many as were asked for."""
    from algorithms.openrlhf import cpu

    cpu.prepare_process()
    from benchmarks.engine import Engine, Replicas

    prompting, on_cpu = cell.train, machine.device() == "cpu"
    model = sources.model_path(cell.model, workspace.models)
    given = {
        "context": prompting["max_prompt_tokens"] + sampling.max_new_tokens,
        "cpu": on_cpu,
        "template": prompting["prompt_template"],
        "chat": prompting["chat_template"],
    }
    gpus, count = cell.resources["gpus"], cell.resources["engines"]
    if count == 1:
        yield Engine(model, gpus=gpus, **given).generate
        return
    share = 0 if on_cpu else gpus // count
    with Replicas(count, share, cpu.prepare_process, model, **given) as engines:
        yield engines.generate


def sampling_of(settings: dict[str, Any]) -> Sampling:
    """The `evaluate` section of a run as sampling settings."""
    names = ("samples", "max_new_tokens", "temperature", "top_p", "top_k", "problems")
    return Sampling(**{name: settings[name] for name in names})


def drawn(folder: Path) -> dict[tuple[str, str, int], int]:
    """(benchmark, problem, first) -> samples, of the batches in a run's spools."""
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
        self._start = self._begun = self._said = time.monotonic()
        self.tokens = 0

    def begin(self) -> None:
        """The engine is there: throughput counts from now."""
        self._begun = time.monotonic()

    def add(self, samples: int, tokens: int) -> bool:
        """Count a chunk; whether it is time to say so."""
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
        sampling = max(time.monotonic() - self._begun, 1e-9)
        rate = (self._done - self._before) / sampling
        remaining = (self._total - self._done) / rate
        return (
            f"{self._done}/{self._total} samples, {rate:.0f}/s, "
            f"{self.tokens / sampling:,.0f} tokens/s, {remaining:.0f} s left"
        )

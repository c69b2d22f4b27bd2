"""Samples a policy on a benchmark and grades what it says, in batches that can be resumed.

The engine is passed in as `generate`, so the same code scores the policy inside a training run and
a checkpoint on its own. Sample j of a problem is drawn with the seed base + j, the base hashed from
(seed, benchmark, problem): vLLM gives child i of a request the request's seed + i, so how samples
are cut into batches changes nothing, the first 256 of 1024 are the 256, and no two problems share
random numbers. A batch is one request, one record, and what a resumed evaluation does not redo.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.grading import Grader

Response = tuple[str, int, bool]  # text, tokens, truncated
Generate = Callable[[list[str], list[dict[str, Any]]], list[list[Response]]]

LETTERS = {"correct": "c", "wrong": "w", "unparsed": "u", "timeout": "t"}

PRESETS: dict[str, dict[str, Any]] = {  # how the papers sample for scores
    "aent": {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "samples": 4},  # 2509.03493
    "aepo-pass1": {"temperature": 0.1, "top_p": 0.95},  # 2510.08141, pass@1
    "aepo-passk": {"temperature": 1.0, "top_p": 0.95},  # 2510.08141, pass@k
    "clip": {"temperature": 0.6},  # 2509.26114
}


CHUNK_TOKENS = 1 << 21  # minutes of a large model on one GPU


class SampleBatch(NamedTuple):
    """Samples of one problem that are one request: `n` of them, beginning with number `start`."""

    problem: dict[str, str]
    start: int
    n: int


@dataclass(frozen=True)
class Sampling:
    """How often and how each problem is sampled.

    `problems` limits a benchmark to its first so many; `top_k` None considers every token.
    """

    samples: int
    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    problems: int | None = None
    batch: int = 64  # samples of one problem that are one request and one record
    chunk: int = 4096  # samples asked of the engine at a time, at most

    @property
    def requests(self) -> int:
        """Batches asked of the engine at a time: what a kill can lose, and how often there is news.

        Long responses make it fewer, so that a chunk stays below CHUNK_TOKENS.
        """
        samples = min(self.chunk, CHUNK_TOKENS // self.max_new_tokens)
        return max(1, samples // min(self.samples, self.batch))


def evaluate(
    generate: Generate,
    grader: Grader,
    path: Path,
    name: str,
    sampling: Sampling,
    *,
    seed: int,
    done: Mapping[tuple[str, int], int] | None = None,
    drawn: Callable[[int, int], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield one record for each batch of samples of the problems in the JSON-lines file at `path`.

    A record has: benchmark, problem (its id), first (number of its first sample), n, seed, and of
    its samples in order: verdicts (a letter each: c w u t), stops ("s" or, cut by the limit, "l"),
    lengths (tokens), digests (64-bit hashes of the texts), answers (extracted, or None), texts.
    While the engine samples the next chunk, the last one is graded.

    Args:
        done: (problem, first) -> n of the batches that exist already; what they cover is left out.
        drawn: told the samples and tokens of each chunk when the engine has drawn it.

    Raises:
        ValueError: a line without id, problem and answer, named by its number.
    """
    missing = batches(path, sampling, done)
    each = sampling.requests
    with ThreadPoolExecutor(1) as grading:
        pending = None
        for position in range(0, len(missing), each):
            part = missing[position : position + each]
            seeds = [_seed(seed, name, batch.problem["id"]) + batch.start for batch in part]
            params = [_params(sampling, b.n, s) for b, s in zip(part, seeds, strict=True)]
            groups = generate([batch.problem["problem"] for batch in part], params)
            if drawn is not None:
                lengths = [tokens for group in groups for _, tokens, _ in group]
                drawn(len(lengths), sum(lengths))
            if pending is not None:
                yield from pending.result()
            pending = grading.submit(_records, grader, name, part, seeds, groups)
        if pending is not None:
            yield from pending.result()


def batches(
    path: Path, sampling: Sampling, done: Mapping[tuple[str, int], int] | None = None
) -> list[SampleBatch]:
    """The batches that an evaluation still has to draw, every problem's first one first."""
    covered: dict[str, list[tuple[int, int]]] = {}
    for (problem, start), n in (done or {}).items():
        covered.setdefault(problem, []).append((start, start + n))
    missing = [
        SampleBatch(row, start, n)
        for row in read_benchmark(path)[: sampling.problems]
        for start, n in _gaps(sorted(covered.get(row["id"], [])), sampling)
    ]
    return sorted(missing, key=lambda batch: batch.start)


def _gaps(covered: list[tuple[int, int]], sampling: Sampling) -> Iterator[tuple[int, int]]:
    """(start, n) of the batches that fill the gaps between covered ranges [from, to)."""
    position = 0
    for start, end in [*covered, (sampling.samples, sampling.samples)]:
        while position < min(start, sampling.samples):
            room = sampling.batch - position % sampling.batch
            n = min(room, min(start, sampling.samples) - position)
            yield position, n
            position += n
        position = max(position, end)


def read_benchmark(path: Path) -> list[dict[str, str]]:
    """The problems of a JSON-lines file, each with id, problem and answer as strings."""
    rows = []
    with Path(path).open(encoding="utf-8") as lines:  # splitlines would cut at U+2028 in a problem
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                rows.append({key: str(row[key]) for key in ("id", "problem", "answer")})
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}:{number}: a benchmark line is a JSON object with id, problem, answer"
                ) from error
    return rows


def response_digest(text: str) -> int:
    """A signed 64-bit hash of a response, to count different ones."""
    raw = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(raw, "big", signed=True)


def _seed(*parts: object) -> int:
    """48 bits of a hash of `parts`: ranges of samples of different problems do not overlap."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


def _params(sampling: Sampling, n: int, seed: int) -> dict[str, Any]:
    params: dict[str, Any] = {
        "n": n,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "seed": seed,
    }
    return params if sampling.top_k is None else params | {"top_k": sampling.top_k}


def _records(
    grader: Grader,
    name: str,
    part: list[SampleBatch],
    seeds: list[int],
    groups: list[list[Response]],
) -> list[dict[str, Any]]:
    pairs = [
        (batch.problem["answer"], text)
        for batch, group in zip(part, groups, strict=True)
        for text, _, _ in group
    ]
    verdicts = iter(grader.grade(pairs))
    records = []
    for batch, seed, group in zip(part, seeds, groups, strict=True):
        mine = [next(verdicts) for _ in group]
        records.append(
            {
                "benchmark": name,
                "problem": batch.problem["id"],
                "first": batch.start,
                "n": len(group),
                "seed": seed,
                "verdicts": "".join(LETTERS[verdict.status] for verdict in mine),
                "stops": "".join("l" if truncated else "s" for _, _, truncated in group),
                "lengths": [tokens for _, tokens, _ in group],
                "digests": [response_digest(text) for text, _, _ in group],
                "answers": [verdict.answer for verdict in mine],
                "texts": [text for text, _, _ in group],
            }
        )
    return records

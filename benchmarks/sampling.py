"""Samples a policy on a benchmark and grades what it says: one record a problem.

The engine is passed in as `generate`, so the same code scores the policy inside a training run and
a checkpoint on its own. Seeds are hashed from (seed, benchmark, problem): one seed shared by
problems would draw the same random numbers for each of them, and vLLM gives child i of a request
seed + i.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Response = tuple[str, int, bool]  # text, tokens, truncated
Generate = Callable[[list[str], list[dict[str, Any]]], list[list[Response]]]

_LETTERS = {"correct": "c", "wrong": "w", "unparsed": "u", "timeout": "t"}


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
    chunk: int = 64  # problems sampled before they are graded
    examples: int = 2  # responses kept with each record


def evaluate(
    generate: Generate, grader: Any, path: Path, name: str, sampling: Sampling, *, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield one record for each problem of the JSON-lines file at `path`.

    A record has: benchmark, problem (its id), n, correct, wrong, unparsed, timeout, truncated and
    unique (counts), tokens (sum), verdicts (one letter a sample, in sampling order: c w u t) and
    examples (texts).

    Raises:
        ValueError: a line without id, problem and answer, named by its number.
    """
    rows = read_benchmark(path)[: sampling.problems]
    for start in range(0, len(rows), sampling.chunk):
        part = rows[start : start + sampling.chunk]
        params = [_params(sampling, hashed_seed(seed, name, row["id"])) for row in part]
        groups = generate([row["problem"] for row in part], params)
        pairs = [
            (row["answer"], text)
            for row, group in zip(part, groups, strict=True)
            for text, _, _ in group
        ]
        verdicts = iter(grader.grade(pairs))
        for row, group in zip(part, groups, strict=True):
            yield _record(name, row["id"], group, [next(verdicts).status for _ in group], sampling)


def read_benchmark(path: Path) -> list[dict[str, str]]:
    """The problems of a JSON-lines file, each with id, problem and answer as strings."""
    rows = []
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append({key: str(row[key]) for key in ("id", "problem", "answer")})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}:{number}: a benchmark line is a JSON object with id, problem, answer"
            ) from error
    return rows


def hashed_seed(*parts: object) -> int:
    """31 bits of a hash of `parts`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


def _params(sampling: Sampling, seed: int) -> dict[str, Any]:
    params: dict[str, Any] = {
        "n": sampling.samples,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "seed": seed,
    }
    return params if sampling.top_k is None else params | {"top_k": sampling.top_k}


def _record(
    name: str, problem: str, group: list[Response], statuses: list[str], sampling: Sampling
) -> dict[str, Any]:
    return {
        "benchmark": name,
        "problem": problem,
        "n": len(group),
        **{status: statuses.count(status) for status in _LETTERS},
        "truncated": sum(truncated for _, _, truncated in group),
        "unique": len({text for text, _, _ in group}),
        "tokens": sum(tokens for _, tokens, _ in group),
        "verdicts": "".join(_LETTERS[status] for status in statuses),
        "examples": [text for text, _, _ in group[: sampling.examples]],
    }

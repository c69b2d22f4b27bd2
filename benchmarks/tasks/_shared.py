"""What the tasks of this folder share: loading, the prompt, and grading all repeats of a problem.

lm-eval loads this file by its path, so the project's root is put on the path when it is not
installed. Choices at run time, all of them optional:

    --metadata '{"prompt": "none"}'              another template of benchmarks/prompts.py
    --metadata '{"data_files": "FOLDER"}'        FOLDER/NAME.jsonl instead of the hub; in Python a
                                                 file as well, or a mapping from names to files
    SUITE_DATA=FOLDER                            the same for the files that exist there
    --gen_kwargs temperature=1.0,max_gen_toks=…  other sampling

`repeats` samples of a problem reach `process_results` together. lm-eval sends each as a request of
its own, so do not give a seed: it would make all of them equal. `unique` shows whether it did.
"""

import logging
import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from benchmarks import catalogue, prompts  # noqa: E402 - the root must be on the path first
from benchmarks.grading import Grader  # noqa: E402

PASS_AT = tuple(2**i for i in range(11))


def dataset(
    benchmark: str, data_files: Any = None, prompt: str | None = None, **_: Any
) -> dict[str, Any]:
    """The split that lm-eval evaluates: id, problem, answer and the rendered prompt of each.

    Called with the task's metadata. Raises what `catalogue.edition` raises, and ValueError for an
    unknown prompt template.
    """
    from datasets import Dataset

    if isinstance(data_files, dict):
        data_files = data_files.get(benchmark)
    edition = catalogue.edition(benchmark, data_files)
    log = logging.getLogger("lm-eval")
    log.info("%s: %s, sha256 %s", benchmark, edition.origin, edition.sha256)
    if edition.warning:
        log.warning(edition.warning)
    docs = [row | {"prompt": prompts.render(prompt, row["problem"])} for row in edition.rows]
    return {"test": Dataset.from_list(docs)}


def doc_to_text(doc: dict[str, str]) -> str:
    """The rendered prompt, verbatim."""
    return doc["prompt"]


def doc_to_target(doc: dict[str, str]) -> str:
    """The gold as a response would give it."""
    return f"\\boxed{{{doc['answer']}}}"


def keep_all(responses: list[list[str]], docs: Any) -> list[list[str]]:
    """The filter that drops none of a problem's repeats."""
    return responses


def process_results(doc: dict[str, str], results: list[Any]) -> dict[str, float]:
    """Metrics of one problem from all its responses; lm-eval averages them over problems.

    mean: the share of right ones (mean@n). pass@k: the unbiased estimate at every power of two up
    to n (2107.03374, eq. 1). unparsed, timeout: shares that count as wrong. unique: the share of
    different texts.
    """
    texts = [text for result in results for text in _flat(result)]
    statuses = [v.status for v in _grader().grade((doc["answer"], text) for text in texts)]
    n, correct = len(texts), statuses.count("correct")
    return {
        "mean": correct / n,
        "unparsed": statuses.count("unparsed") / n,
        "timeout": statuses.count("timeout") / n,
        "unique": len(set(texts)) / n,
        **{f"pass@{k}": pass_at_k(n, correct, k) for k in PASS_AT if k <= n},
    }


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that one of k samples is right, when `correct` of n drawn ones were."""
    if n - correct < k:
        return 1.0
    return -math.expm1(sum(math.log1p(-k / i) for i in range(n - correct + 1, n + 1)))


def _flat(result: Any) -> list[str]:
    return [result] if isinstance(result, str) else list(result)


@cache
def _grader() -> Grader:
    """This process's grader; its children end with the process."""
    return Grader()

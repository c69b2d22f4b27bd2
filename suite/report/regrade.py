"""`suite regrade`: the stored responses of a run judged again by the grader as it is now.

A better grader must not need new samples. Every response is extracted and graded anew; what changed
is shown, and with `--apply` the new verdicts and scores take the old ones' place, as another
attempt in the spool, with the versions of the grader that gave them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.audit import Audit, false_positives
from benchmarks.grading import Grader, extract
from benchmarks.sampling import LETTERS, read_benchmark, response_digest
from suite import machine
from suite.matrix.cell import Cell
from suite.report.table import Entry, Report, Worded, column
from suite.spool import responses, spool
from suite.spool.lock import only_conductor
from suite.stats import Interval
from suite.store import Store, connect
from suite.worker.benchmarks import benchmark_paths
from suite.workspace import Workspace

EXAMPLES = 20  # changed verdicts, or false positives of a benchmark, shown
ALONE_AT = (1, 64, 1024)  # each k for which an audit says what false positives alone would score
_BATCH = 2048  # responses graded at a time


@dataclass
class Regraded:
    """What a second look regraded."""

    responses: int = 0
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)  # (old, new) verdict
    examples: list[tuple[str, str, str | None, str, str]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)  # eval lines with the new verdicts


def regrade(workspace: Workspace, run: str) -> Regraded:
    """Grade every stored response of a run again; nothing is written.

    Raises:
        ValueError: there is no such run here, or it has kept no responses.
    """
    folder = workspace.cell(run)
    golds = _golds(run, workspace)
    with connect(workspace.db) as connection:
        stored = {
            tuple(row[:5]): dict(zip(_STORED, row[5:], strict=True))
            for row in connection.execute(
                f"""SELECT {", ".join(responses.KEY + _STORED)}
                      FROM batches WHERE run = ?""",
                [run],
            ).fetchall()
        }
    regraded = Regraded()
    with Grader() as grader:
        for part in _parts(responses.read_responses(folder)):
            pairs = [(golds[r["benchmark"], r["problem"]], t) for r in part for t in r["texts"]]
            verdicts = iter(grader.grade(pairs))
            for row in part:
                mine = [next(verdicts) for _ in row["texts"]]
                _compare(regraded, row, stored, mine, golds[row["benchmark"], row["problem"]])
    if not regraded.responses:
        raise ValueError(f"run {run} has kept no responses")
    return regraded


def audit(workspace: Workspace, run: str) -> dict[str, Audit]:
    """How often the grader takes the run's own answers for the golds of other problems.

    benchmark -> audit; nothing is written. Raises ValueError as `regrade` does.
    """
    golds = _golds(run, workspace)
    answered: dict[str, dict[tuple[str, str], None]] = {}  # (problem, answer), each once, in order
    for batch in responses.read_responses(workspace.cell(run)):
        mine = answered.setdefault(batch["benchmark"], {})
        answers = filter(None, map(extract, batch["texts"]))
        mine |= {(batch["problem"], f"<answer>{answer}</answer>"): None for answer in answers}
    if not answered:
        raise ValueError(f"run {run} has kept no responses")
    audits = {}
    with Grader() as grader:
        for benchmark, distinct in sorted(answered.items()):
            all_golds = [(p, gold, "") for (name, p), gold in golds.items() if name == benchmark]
            rows = [(p, golds[benchmark, p], text) for p, text in distinct]
            audits[benchmark] = false_positives(all_golds + rows, grader)
    return audits


def audit_report(audits: dict[str, Audit]) -> Report:
    """Rates with their intervals, what they would make of pass@k, and what was taken for right."""
    columns = [
        *(column("benchmark"), column("pairs"), column("taken_for_right")),
        *(column("rate", ".3%"), column("undecided")),
        *(column("alone", ".3f", f"alone pass@{k}", k=k) for k in ALONE_AT),
    ]
    rows: list[list[Entry]] = []
    notes = []
    for name, audit in audits.items():
        alone = [1 - (1 - audit.high) ** k if audit.pairs else None for k in ALONE_AT]
        rate: Entry = Worded(None, "nothing to ask")
        if audit.pairs:
            rate = Interval(audit.rate, audit.low, audit.high)
        rows.append([name, audit.pairs, len(audit.offenders), rate, audit.undecided, *alone])
        notes += [f"{name}: {answer} for {gold}" for gold, answer in audit.offenders[:EXAMPLES]]
    intro = (
        "Each distinct answer held against golds of other problems; brackets: 95 % interval. "
        "alone: what wrong answers alone would score at the interval's upper end."
    )
    return Report("audit", "false positives of the grader", columns, rows, [intro, *notes])


_STORED = ("n", "seed", "verdicts", "stops", "lengths", "examples")


def apply(workspace: Workspace, run: str, regraded: Regraded) -> None:
    """Put the new verdicts and scores in the place of the old ones, through the spool."""
    with only_conductor(workspace):
        store = Store(workspace)
        try:
            attempt = store.next_attempt(run)
            writer = spool.Spool(spool.path_of(workspace.cell(run), attempt))
            writer.write("regraded", attempt=attempt, versions=machine.versions())
            for row in regraded.rows:
                writer.write("eval", attempt=attempt, **row)
            for point in store.points(run):
                writer.write("evaluated", attempt=attempt, **point)
            writer.close()
            store.ingest(run)
        finally:
            store.close()


def _compare(
    regraded: Regraded, row: dict[str, Any], stored: dict[Any, Any], mine: list[Any], gold: str
) -> None:
    key = tuple(row[name] for name in responses.KEY)
    if key not in stored:  # of a step that was trained again after a kill
        return
    before = stored[key]
    verdicts = "".join(LETTERS[verdict.status] for verdict in mine)
    regraded.responses += len(mine)
    for old, new, verdict in zip(before["verdicts"], verdicts, mine, strict=True):
        if old != new:
            regraded.changed[old, new] += 1
            if len(regraded.examples) < EXAMPLES:
                regraded.examples.append((row["problem"], gold, verdict.answer, old, new))
    texts = row["texts"]
    regraded.rows.append(
        dict(zip(responses.KEY, key, strict=True))
        | before
        | {
            "verdicts": verdicts,
            "answers": [verdict.answer for verdict in mine],
            "digests": [response_digest(text) for text in texts],
        }
    )


def _golds(run: str, workspace: Workspace) -> dict[tuple[str, str], str]:
    """(benchmark, problem) -> gold, of what a run was scored on."""
    described = workspace.cell(run) / "cell.json"
    if not described.is_file():
        raise ValueError(f"no run {run} in {workspace.root / 'cells'}")
    return {
        (name, row["id"]): row["answer"]
        for name, path in benchmark_paths(Cell.load(described), workspace).items()
        for row in read_benchmark(Path(path))
    }


def _parts(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    for row in rows:
        part.append(row)
        if sum(len(r["texts"]) for r in part) >= _BATCH:
            yield part
            part = []
    if part:
        yield part

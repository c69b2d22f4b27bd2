"""`suite report NAME`: which tables a name stands for."""

from __future__ import annotations

from suite.lab.outcome import experiment_names
from suite.matrix.cell import EVALUATION, Cell
from suite.report import equal_cost, scorecard
from suite.report.details import details
from suite.report.leaderboard import leaderboard
from suite.report.papers import against, published
from suite.report.scores import matrices
from suite.report.table import Report
from suite.workspace import Workspace


def tables_of(
    workspace: Workspace,
    name: str = "",
    more: bool = False,
    cost: str | None = None,
    papers: str = "",
) -> list[Report]:
    """The tables of a matrix, of all evaluations (`eval`), or of the evaluation with that id.

    Without a name: the latest matrix, or the evaluations where there is none; logs of other
    trainers only where there is nothing else. A matrix of which nothing has been evaluated yet has
    no tables. `cost` adds those at equal cost, in that unit ("": the
    budget's). `papers` adds the numbers of that file ("published": ours) beside ours.

    Raises:
        ValueError: nothing goes by that name, or is published for it; what there is is named.
        MatrixError: something is wrong with the file of published numbers.
    """
    db = workspace.db
    in_lab = experiment_names(db)
    if name in in_lab:
        raise ValueError(f"{name!r} is an experiment of the lab: `suite lab {name}`")
    trained, outside = matrices(db)
    known = [matrix for matrix in (*trained, *outside) if matrix not in in_lab]
    evaluated = scorecard.finished(db)
    latest = [matrix for matrix in known if matrix in trained or not evaluated]
    wanted = name or [*latest, EVALUATION][0]
    if wanted in known:
        beside = against.reports(db, wanted, published.find(papers)) if papers else []
        tables = leaderboard(db, wanted) + (details(db, wanted) if more else [])
        tables += [] if cost is None else equal_cost.reports(db, wanted, cost or None)
        return tables + beside
    if papers and wanted in (EVALUATION, *evaluated):
        raise ValueError(f"--against compares a matrix, and {wanted!r} is none")
    if wanted in evaluated:
        return scorecard.card(db, Cell.load(workspace.cell(wanted) / "cell.json"), more)
    if wanted == EVALUATION and evaluated:
        return scorecard.evaluations(db)
    there = ", ".join([*known, *([EVALUATION] if evaluated else []), *evaluated]) or "none"
    missing = f"matrix or evaluation {name!r}" if name else "matrix and no evaluation"
    raise ValueError(f"no {missing} in {db}; there are: {there}")

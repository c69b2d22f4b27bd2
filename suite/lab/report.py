"""The lab's tables: what was claimed, what was measured, what came out; terminal and Markdown."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from suite.lab.experiment import Arm, LabExperiment
from suite.lab.outcome import ExpectationVerdict, LabOutcome, mean_and_error
from suite.lab.schema import Measure

REPRODUCED, NOT_REPRODUCED, NOT_MEASURED = "reproduced", "not reproduced", "not measured"
_AT = {"last": "at the end", "first": "at the start", "change": "change", "last-quarter": "late"}


def measure_text(measure: Measure) -> str:
    """ "entropy, late": the late mean is over the last quarter of the rows."""
    return f"{measure.metric}, {_AT[measure.at]}"


def number(value: float) -> str:
    """Three decimals, or three digits where that says nothing."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3f}" if value == 0 or 1e-2 <= abs(value) < 1e4 else f"{value:.2e}"


def with_error(mean: float, error: float) -> str:
    """The mean and its standard error."""
    return "" if math.isnan(mean) else f"{number(mean)} ± {number(error)}"


def expectation_text(verdict: ExpectationVerdict) -> str:
    """The expectation in a few words."""
    expect = verdict.expect
    if expect.sign:
        return f"{'> 0' if expect.sign == '+' else '< 0'}, |t| ≥ {expect.t:g}"
    each = ", every seed" if expect.each else ""
    if expect.value is not None:
        return f"{expect.value:g} ± {expect.tolerance:g}{each}"
    limit = f"≤ {expect.at_most:g}" if expect.at_most is not None else f"≥ {expect.at_least:g}"
    return limit + each


def measured(verdict: ExpectationVerdict) -> str:
    """The mean with its standard error, and t or the worst seed."""
    if verdict.seeds == 0:
        return ""
    text = with_error(verdict.mean, verdict.error)
    if verdict.expect.sign:
        return f"{text}, t = {verdict.t:+.1f}"
    return f"{text}, worst {number(verdict.worst)}" if verdict.expect.each else text


def subject(verdict: ExpectationVerdict) -> str:
    """Which measure of which arms."""
    expect = verdict.expect
    arms = f"{expect.arm} - {expect.against}" if expect.against else expect.arm
    return f"{arms}: {measure_text(expect)}"


def mapping_text(content: dict[str, Any]) -> str:
    """ "states 16, actions 20": what a file sets."""
    return ", ".join(f"{key} {value}" for key, value in content.items())


def arm_tables(outcome: LabOutcome) -> list[list[list[str]]]:
    """Tables of arms, the header first: arms that have the same measures share a table."""
    tables: dict[tuple[int, ...], list[list[str]]] = {}
    measures = outcome.experiment.file.measure
    for arm in outcome.experiment.arms:
        by_measure = {
            i: values
            for i, measure in enumerate(measures)
            if (values := outcome.values(arm.name, measure)) is not None
        }
        header = ["arm", "setting", *(measure_text(measures[i]) for i in by_measure)]
        cells = [with_error(*mean_and_error(values)) for values in by_measure.values()]
        table = tables.setdefault(tuple(by_measure), [header])
        table.append([arm.name, _own_settings(outcome.experiment, arm), *cells])
    return list(tables.values())


def _own_settings(experiment: LabExperiment, arm: Arm) -> str:
    """What the file says about this arm: the algorithm and where its table or training differs."""
    name = next(n for n in sorted(experiment.file.arms, key=len)[::-1] if arm.name.startswith(n))
    body = dict(experiment.file.arms[name] or {})
    parts = [arm.algorithm]
    for key, value in body.items():
        if key in ("environment", "train"):
            parts.append(f"{key}: {mapping_text(value)}")
        elif key not in ("algorithm", "check"):
            parts.append(f"{key} {arm.settings.get(key, value)}")
    return "; ".join(parts)


def verdict_text(verdict: ExpectationVerdict) -> str:
    """The last column."""
    if verdict.seeds == 0:
        return NOT_MEASURED
    return REPRODUCED if verdict.reproduced else NOT_REPRODUCED


def verdict_rows(outcome: LabOutcome) -> list[list[str]]:
    """A row an expectation."""
    return [
        [
            verdict.expect.claim,
            subject(verdict),
            expectation_text(verdict),
            measured(verdict),
            verdict_text(verdict),
        ]
        for verdict in outcome.verdicts()
    ]


VERDICT_COLUMNS = ["expectation", "measure", "wanted", "measured ± s.e.", "verdict"]


def show(console: Console, outcome: LabOutcome) -> None:
    """Everything about one experiment on the terminal."""
    file = outcome.experiment.file
    console.rule(file.name)
    console.print(f"Claim: {file.claim.strip()}", markup=False, highlight=False)
    console.print(_setting_line(outcome.experiment), markup=False, highlight=False)
    for header, *rows in arm_tables(outcome):
        arms = Table(*header)
        for row in rows:
            arms.add_row(*map(escape, row))
        console.print(arms)
    verdicts = Table(*VERDICT_COLUMNS)
    for row in verdict_rows(outcome):
        verdicts.add_row(*map(escape, row), style=None if row[-1] == REPRODUCED else "yellow")
    console.print(verdicts)
    for title, lines in (("Notes", file.notes), ("Tried", file.tried)):
        for line in lines:
            console.print(f"{title}: {line}", markup=False, highlight=False)


def _setting_line(experiment: LabExperiment) -> str:
    parts = [f"Source: {experiment.file.source}.", f"Seeds: {experiment.seeds}."]
    for title, content in (
        ("Table", experiment.file.environment),
        ("Training", experiment.file.train),
    ):
        if content:
            parts.append(f"{title}: {mapping_text(content)}.")
    return " ".join(parts)


def markdown(outcome: LabOutcome) -> str:
    """One experiment as a section."""
    file = outcome.experiment.file
    lines = [f"## {file.name}", "", f"**Claim.** {' '.join(file.claim.split())}", ""]
    lines += [_setting_line(outcome.experiment), ""]
    for table in [*arm_tables(outcome), [VERDICT_COLUMNS, *verdict_rows(outcome)]]:
        lines += _markdown_table(table)
    for title, items in (("Notes", file.notes), ("What was tried", file.tried)):
        if items:
            lines += [f"**{title}.**", "", *(f"- {' '.join(item.split())}" for item in items), ""]
    return "\n".join(lines)


def _markdown_table(table: list[list[str]]) -> list[str]:
    """The lines of a table whose first row is the header."""
    header, *rows = ([cell.replace("|", "\\|") for cell in line] for line in table)
    lines = [header, ["---"] * len(header), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def page(outcomes: list[LabOutcome]) -> str:
    """The results of several experiments as one document."""
    verdicts = [v for outcome in outcomes for v in outcome.verdicts()]
    came_out = sum(v.reproduced for v in verdicts)
    head = f"""# The lab: what reproduces in a table of softmaxes

Written by `suite lab all --markdown docs/lab.md`; the tables hold measured numbers only, each
a mean over seeds ± its standard error; arms are compared seed by seed (a seed is a table and its
random numbers), t is the mean difference in standard errors. "late" is the mean over the last
quarter of the traced iterations. Of {len(verdicts)} expectations, {came_out} came out. An
expectation that did not is a finding, not a failure; what was tried is said below its table.
"""
    return "\n".join([head, *(markdown(outcome) for outcome in outcomes)])

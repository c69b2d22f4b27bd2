"""The sections of RESULTS.md: a study as Markdown, no number of it written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from suite import stats
from suite.report.differences import BASE, baseline, differences
from suite.report.headline import headline
from suite.report.page import claims
from suite.report.page.claims import OPPOSITE, SHOWN, ClaimVerdict
from suite.report.scores import Scores
from suite.report.table import Report, markdown_table
from suite.stats.association import FEWEST, spearman_interval
from suite.text import duration

if TYPE_CHECKING:
    from suite.report.page.study import Study

LATE_ENTROPY, ENTROPY_CHANGE = claims.ENTROPIES
Lines = list[str]


def page(study: Study, figure: str) -> str:
    """The page as Markdown; `figure` is the link to its picture."""
    parts = [
        [f"# {study.file.title}", "", *_paragraphs(study.file.about)],
        _facts(study),
        ["## In short", "", *_in_short(study)],
        ["## Leaderboard", "", *_leaderboard(study)],
        ["## Against GRPO", "", *_differences(study)],
        ["## Against the base model", "", *_against_base(study)],
        ["## Entropy and pass@k", "", *_entropy(study, figure)],
        ["## What the papers claim", "", *_claims(study)],
        ["## Where the GPU-hours went", "", *_report(study.phases)],
        ["## Settings", "", *_settings(study)],
        ["## What these numbers cannot say", "", *_limits(study)],
    ]
    return "\n".join(line for part in parts for line in [*part, ""]).rstrip() + "\n"


def _paragraphs(texts: list[str]) -> Lines:
    return [line for text in texts for line in (" ".join(text.split()), "")][:-1]


def _bullets(texts: Sequence[str]) -> Lines:
    return [f"- {' '.join(text.split())}" for text in texts]


def _report(report: Report) -> Lines:
    return [*markdown_table(report.titles, report.texts()), "", *_bullets(report.notes)]


def _facts(study: Study) -> Lines:
    """Date, commit, hardware, versions, command, budget, spent."""
    unit, budget = study.runs[0]["budget_unit"], study.runs[0]["budget"]
    seeds = sorted({str(run["seed"]) for run in study.runs})
    finished = sum(run["status"] == "finished" for run in study.runs)
    charged = sum(run["gpu_hours"] or 0.0 for run in study.runs)
    took = duration((study.ended - study.began).total_seconds())
    rows = [
        ["run", f"{study.began:%Y-%m-%d %H:%M} to {study.ended:%Y-%m-%d %H:%M} UTC ({took})"],
        ["commit", _each(run["git_commit"] or "not a git checkout" for run in study.runs)],
        ["regenerate", f"`{study.file.command}`"],
        ["hardware", _each(_hardware(run["hardware"]) for run in study.runs)],
        ["versions", _each(_versions(run["versions"]) for run in study.runs)],
        ["runs", f"{len(study.runs)}: {len(study.scores.names())} arms, seeds {', '.join(seeds)}"],
        ["finished", f"{finished} of {len(study.runs)}"],
        ["budget", f"{budget:g} {unit.replace('_', '-').replace('gpu', 'GPU')} a run"],
        ["spent", f"{charged:.3f} GPU-hours charged, {study.held:.3f} held in all"],
    ]
    return markdown_table(["", ""], rows)


def _each(texts: Any) -> str:
    """What the runs agree on, or all that there is, by how many."""
    of_runs = list(texts)
    kinds = list(dict.fromkeys(of_runs))
    if len(kinds) == 1:
        return kinds[0]
    return "; ".join(f"{kind} ({of_runs.count(kind)} runs)" for kind in kinds)


def _hardware(text: str | None) -> str:
    if not text:
        return "unknown"
    hardware = json.loads(text)
    gpus = ", ".join(hardware["gpus"]) or "no GPU (a GPU-hour is an hour of this machine)"
    return f"{hardware['cores']} cores, {hardware['memory_gib']} GiB, {gpus}"


def _versions(text: str | None) -> str:
    return ", ".join(f"{name} {v}" for name, v in json.loads(text or "{}").items()) or "unknown"


def _in_short(study: Study) -> Lines:
    """The advice of the paired comparison, how the claims came out, what did not finish."""
    sentences = headline(study.scores, study.against)
    by = {text: [v for v in study.verdicts if v.text == text] for text in (SHOWN, OPPOSITE)}
    counts = f"{len(by[SHOWN])} of {len(study.verdicts)} claims are shown at this scale"
    sentences.append(f"{counts}, the opposite of {len(by[OPPOSITE])} is.")
    sentences += [f"The opposite is shown of: {v.claim.claim}" for v in by[OPPOSITE]]
    unfinished = [run for run in study.runs if run["status"] != "finished"]
    sentences += [
        f"{run['arm']} (seed {run['seed']}) is {run['status']} after {run['steps'] or 0} steps: "
        "it is missing here, or what is shown of it is not its last."
        for run in unfinished
    ]
    return _bullets(sentences)


def _leaderboard(study: Study) -> Lines:
    notes = [
        f"{study.scores.title}. Arms by pass@{study.scores.ks[0]}, means over seeds. Length: "
        "tokens.",
        *study.leaderboard.notes,
        "Inert: no token's weight in the policy gradient ever differed from that of GRPO with the "
        "arm's own choice of `std`.",
    ]
    table = markdown_table(study.leaderboard.titles, study.leaderboard.texts())
    return [*table, "", *_bullets(notes)]


def _differences(study: Study) -> Lines:
    """The simultaneous intervals, why they are so wide, and what each would show by itself."""
    if not study.against:
        return ["Nothing to compare."]
    (table,) = differences(study.scores, study.against)
    first = study.against[study.scores.ks[0]]
    family, seeds = first[0].family, first[0].seeds
    alone = {
        k: [_alone(study.scores, comparison, k) for comparison in of_k]
        for k, of_k in study.against.items()
        if family > 1
    }
    lines = _report(table)
    if seeds > 1 and alone:
        wide, plain = (special.stdtrit(seeds - 1, 1 - 0.025 / n) for n in (family, 1))
        lines.append(
            f"- Where seeds differ, {seeds} seeds and {family} comparisons make these intervals "
            f"±{wide:.1f} standard errors wide; one comparison alone would have ±{plain:.1f}. Each "
            f"by itself, of which about {0.05 * family:.1f} in a row would name a difference where "
            "there is none:"
        )
        return [*lines, "", *_sides(alone)]
    return lines


def _alone(scores: Scores, comparison: stats.Comparison, k: int) -> stats.Comparison:
    """A comparison at 95 % for itself."""
    _, shared = baseline(scores)
    pair = {arm: scores.values(arm, k, shared) for arm in (comparison.arm, comparison.reference)}
    rng = scores.rng(k, comparison.arm, "alone")
    return stats.compare_arms(pair, comparison.reference, rng=rng)[0]


def _sides(compared: dict[int, list[stats.Comparison]]) -> Lines:
    """For each k the arms that are shown above and below, with their differences."""
    rows = []
    for k, of_k in compared.items():
        above, below = (
            [
                f"{comparison.arm} ({comparison.estimate:+.3f})"
                for comparison in of_k
                if comparison.shown and comparison.estimate * sign > 0
            ]
            for sign in (1, -1)
        )
        rows.append([f"pass@{k}", *(", ".join(side) or "none" for side in (above, below))])
    return markdown_table(["", "above", "below"], rows)


def _against_base(study: Study) -> Lines:
    """All arms against the base model on the seeds that all have, together."""
    scores = study.scores
    shared = sorted(set(scores.base).intersection(*(scores.seeds(a) for a in scores.names())))
    if not shared:
        return ["The base model was not scored with the seeds of the arms."]
    compared = {}
    for k in scores.ks:
        tables = {arm: scores.values(arm, k, shared) for arm in scores.names()}
        tables[BASE] = scores.values(None, k, shared)
        compared[k] = stats.compare_arms(tables, BASE, rng=scores.rng(k, "all against base"))
    note = (
        f"Arms whose difference from the base model is shown, paired on the same problems and "
        f"{len(shared)} seed{'' if len(shared) == 1 else 's'}; at 95 % for the "
        f"{len(scores.names())} arms of a row together (Bonferroni, and Holm's test agrees). "
        "Of arms that are not named nothing is shown."
    )
    return [*_sides(compared), "", *_bullets([note])]


def _entropy(study: Study, figure: str) -> Lines:
    """A row an arm, the correlations over arms, and the picture."""
    scores = study.scores
    arms = sorted(scores.names(), key=lambda arm: -np.mean(study.entropy(arm)))
    means = {k: [float(scores.values(arm, k).mean()) for arm in arms] for k in scores.ks}
    late = [float(np.mean(study.entropy(arm))) for arm in arms]
    columns = ["arm", "entropy, late", "lowest and highest seed", "change"]
    columns += [f"after {study.fewest} steps", "probe"]
    columns += [f"pass@{k}" for k in scores.ks]
    rows = []
    for place, arm in enumerate(arms):
        of_seeds = study.entropy(arm)
        change = float(np.mean(study.entropy(arm, ENTROPY_CHANGE)))
        probe = f"{study.probes[arm]:.3f}" if arm in study.probes else ""
        texts = [f"{late[place]:.3f}", f"{min(of_seeds):.3f} {max(of_seeds):.3f}", f"{change:+.3f}"]
        texts += [f"{np.mean(study.entropy(arm, claims.AT_EQUAL_STEPS)):.3f}", probe]
        rows.append([arm, *texts, *(f"{means[k][place]:.3f}" for k in scores.ks)])
    notes = [
        "Change: late entropy less that of the first step. "
        f"After {study.fewest} steps: late entropy if all had ended with the run of fewest steps; "
        "an equal budget buys cheap arms more steps, in which entropy goes on falling. Probe: "
        "entropy at the end on fixed responses of the base model, which all arms share. Means over "
        "seeds."
    ]
    lines = [f"![Entropy against pass@k, a point an arm; dotted: the base model]({figure})", ""]
    lines += [*markdown_table(columns, rows), "", *_bullets(notes), ""]
    return [*lines, *_correlations(scores, late, means)]


def _correlations(scores: Scores, late: list[float], means: dict[int, list[float]]) -> Lines:
    if len(late) < FEWEST:
        return [f"{len(late)} arms are too few to correlate entropy with scores."]
    first, rows = scores.ks[0], []
    for k in scores.ks:
        given = None if k == first else means[first]
        plain = spearman_interval(late, means[k], rng=scores.rng(k, "rank"))
        row = [f"pass@{k}", _interval(plain), ""]
        if given is not None:
            rng = scores.rng(k, "partial rank")
            row[2] = _interval(spearman_interval(late, means[k], given, rng=rng))
        rows.append(row)
    note = (
        f"Spearman's rank correlation over {len(late)} arms of late entropy with the score, means "
        f"over seeds; at equal pass@{first}: the partial one. Brackets: 95 % of a bootstrap over "
        "arms, narrow, since arms that differ in one setting are alike. Entropy was not set by "
        "lot: a correlation is not an effect."
    )
    columns = ["score", "with entropy", f"with entropy, at equal pass@{first}"]
    return [*markdown_table(columns, rows), "", *_bullets([note])]


def _interval(interval: Any) -> str:
    return f"{interval.estimate:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def _claims(study: Study) -> Lines:
    """The table, and in words what is not shown."""
    columns = ["claim", "source", "measured", "expected", "difference", "verdict"]
    firm = claims.together(study.verdicts)
    rows = []
    for verdict in study.verdicts:
        judgement = f"**{verdict.text}**{' *' if verdict in firm else ''}"
        cells = [verdict.claim.claim, verdict.claim.source, _subject(verdict), _expected(verdict)]
        rows.append([*cells, _difference(verdict), judgement])
    tested = len([verdict for verdict in study.verdicts if verdict.seeds])
    notes = [
        "Paired by seed (scores: by problem too), 95 % intervals, each claim by itself; of "
        f"{tested} claims without any truth in them about {tested * 0.05:.1f} would come out as "
        "shown or opposite shown. *: also when all of them are corrected for together (Holm).",
        "Not shown is not refuted: the interval allows both. Near: shown when the whole interval "
        "is within the tolerance.",
        *(
            f"{verdict.claim.claim} {verdict.claim.note}"
            for verdict in study.verdicts
            if verdict.claim.note
        ),
    ]
    return [*markdown_table(columns, rows), "", *_bullets(notes), "", *_in_words(study)]


def _in_words(study: Study) -> Lines:
    groups = (
        ("Shown at this scale:", SHOWN),
        ("Not shown at this scale, neither it nor its opposite:", claims.NOT_SHOWN),
        ("Opposite shown, the claim does not hold here:", OPPOSITE),
        ("Not measured:", claims.NOT_MEASURED),
    )
    lines: Lines = []
    for heading, text in groups:
        verdicts = [verdict for verdict in study.verdicts if verdict.text == text]
        if verdicts:
            sentences = [f"{verdict.claim.claim} ({_difference(verdict)})" for verdict in verdicts]
            lines += [heading, "", *_bullets(sentences), ""]
    return lines[:-1]


def _subject(verdict: ClaimVerdict) -> str:
    claim = verdict.claim
    against = f" - {claim.against}" if claim.against else ""
    if claim.value:
        against = f" - {claim.value:g}"
    return f"{claim.arm}{against}: {claim.measure}"


def _expected(verdict: ClaimVerdict) -> str:
    claim = verdict.claim
    if claim.expect == "near":
        return f"within ±{claim.within:g}"
    return "> 0" if claim.expect == "above" else "< 0"


def _difference(verdict: ClaimVerdict) -> str:
    if not verdict.seeds:
        return "no number"
    return f"{verdict.estimate:+.3f} [{verdict.low:+.3f}, {verdict.high:+.3f}]"


def _settings(study: Study) -> Lines:
    """What each arm was given, and what the file says about it."""
    rows = {}
    for run in study.runs:
        settings = json.loads(run["settings"])
        text = ", ".join(f"{name} {value}" for name, value in settings.items())
        rows[run["arm"]] = [run["arm"], run["algorithm"], text]
    table = markdown_table(["arm", "algorithm", "settings"], list(rows.values()))
    return [*table, "", *_bullets(study.file.settings)]


def _limits(study: Study) -> Lines:
    problems = len(next(iter(study.scores.arms.values())))
    scale = (
        f"One model ({Path(study.scores.model).name}), one benchmark ({study.scores.benchmark}, "
        f"{problems} problems), {study.seeds} seed{'' if study.seeds == 1 else 's'} an arm."
    )
    return _bullets([scale, *study.file.limits])

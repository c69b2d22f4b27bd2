"""The sections of RESULTS.md: a study as Markdown, no number of it written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from suite import stats
from suite.report.differences import BASE, baseline, differences
from suite.report.headline import headline
from suite.report.page import claims
from suite.report.page.claims import OPPOSITE, SHOWN, Verdict
from suite.report.scores import Scores
from suite.report.table import Report, markdown_table
from suite.stats.association import FEWEST, spearman_interval
from suite.text import duration

if TYPE_CHECKING:
    from suite.report.page.study import Study

LATE, CHANGE = claims.ENTROPIES
Lines = list[str]


def page(of: Study, figure: str) -> str:
    """The page as Markdown; `figure` is the link to its picture."""
    parts = [
        [f"# {of.file.title}", "", *_paragraphs(of.file.about)],
        _facts(of),
        ["## In short", "", *_in_short(of)],
        ["## Leaderboard", "", *_leaderboard(of)],
        ["## Against GRPO", "", *_differences(of)],
        ["## Against the base model", "", *_against_base(of)],
        ["## Entropy and pass@k", "", *_entropy(of, figure)],
        ["## What the papers claim", "", *_claims(of)],
        ["## Where the GPU-hours went", "", *_report(of.phases)],
        ["## Settings", "", *_settings(of)],
        ["## What these numbers cannot say", "", *_limits(of)],
    ]
    return "\n".join(line for part in parts for line in [*part, ""]).rstrip() + "\n"


def _paragraphs(texts: list[str]) -> Lines:
    return [line for text in texts for line in (" ".join(text.split()), "")][:-1]


def _bullets(texts: list[str]) -> Lines:
    return [f"- {' '.join(text.split())}" for text in texts]


def _report(one: Report) -> Lines:
    return [*markdown_table(one.columns, one.rows), "", *_bullets(one.notes)]


def _facts(of: Study) -> Lines:
    """Date, commit, hardware, versions, command, budget, spent."""
    unit, budget = of.runs[0]["budget_unit"], of.runs[0]["budget"]
    seeds = sorted({str(run["seed"]) for run in of.runs})
    finished = sum(run["status"] == "finished" for run in of.runs)
    charged = sum(run["gpu_hours"] or 0.0 for run in of.runs)
    took = duration((of.ended - of.began).total_seconds())
    rows = [
        ["run", f"{of.began:%Y-%m-%d %H:%M} to {of.ended:%Y-%m-%d %H:%M} UTC ({took})"],
        ["commit", _each(run["git_commit"] or "not a git checkout" for run in of.runs)],
        ["regenerate", f"`{of.file.command}`"],
        ["hardware", _each(_hardware(run["hardware"]) for run in of.runs)],
        ["versions", _each(_versions(run["versions"]) for run in of.runs)],
        ["runs", f"{len(of.runs)}: {len(of.scores.names())} arms, seeds {', '.join(seeds)}"],
        ["finished", f"{finished} of {len(of.runs)}"],
        ["budget", f"{budget:g} {unit.replace('_', '-').replace('gpu', 'GPU')} a run"],
        ["spent", f"{charged:.3f} GPU-hours charged, {of.held:.3f} held in all"],
    ]
    return markdown_table(["", ""], rows)


def _each(texts: Any) -> str:
    """What the runs agree on, or all that there is, by how many."""
    found = list(texts)
    kinds = list(dict.fromkeys(found))
    if len(kinds) == 1:
        return kinds[0]
    return "; ".join(f"{kind} ({found.count(kind)} runs)" for kind in kinds)


def _hardware(text: str | None) -> str:
    if not text:
        return "unknown"
    of = json.loads(text)
    gpus = ", ".join(of["gpus"]) or "no GPU (a GPU-hour is an hour of this machine)"
    return f"{of['cores']} cores, {of['memory_gib']} GiB, {gpus}"


def _versions(text: str | None) -> str:
    return ", ".join(f"{name} {v}" for name, v in json.loads(text or "{}").items()) or "unknown"


def _in_short(of: Study) -> Lines:
    """The advice of the paired comparison, how the claims came out, what did not finish."""
    said = headline(of.scores, of.against)
    by = {text: [v for v in of.verdicts if v.text == text] for text in (SHOWN, OPPOSITE)}
    counts = f"{len(by[SHOWN])} of {len(of.verdicts)} claims are shown at this scale"
    said.append(f"{counts}, the opposite of {len(by[OPPOSITE])} is.")
    said += [f"The opposite is shown of: {v.claim.claim}" for v in by[OPPOSITE]]
    unfinished = [run for run in of.runs if run["status"] != "finished"]
    said += [
        f"{run['arm']} (seed {run['seed']}) is {run['status']} after {run['steps'] or 0} steps: "
        "it is missing here, or what is shown of it is not its last."
        for run in unfinished
    ]
    return _bullets(said)


def _leaderboard(of: Study) -> Lines:
    scores = of.scores
    columns = ["arm", *(f"pass@{k}" for k in scores.ks), f"pass@{scores.ks[0]} of each seed"]
    columns += ["entropy, late", "length", "steps", "GPU-hours", "overshoot", "inert"]
    rows = []
    if scores.base:
        cells = [scores.cell(None, k) for k in scores.ks]
        first = [n["first"] for n in of.numbers.values() if n["first"][0] is not None]
        entropy, length = np.mean(first, axis=0) if first else (np.nan, np.nan)
        texts = [f"{entropy:.3f}", f"{length:.1f}"]
        rows.append([BASE, *cells, _seeds(scores, None), *texts, *[""] * 4])
    inert = {run["arm"] for run in of.runs if run["inert"]}
    for arm in scores.names():
        last = [of.numbers[arm, seed]["last"] for seed in scores.seeds(arm)]
        _, length, hours, over, steps = np.array(last, dtype=float).mean(axis=0)
        cells = [scores.cell(arm, k) for k in scores.ks]
        texts = [f"{np.mean(of.entropy(arm)):.3f}", f"{length:.1f}", f"{steps:.1f}"]
        texts += [f"{hours:.4f}", f"{over:+.1%}", "inert" if arm in inert else ""]
        rows.append([arm, *cells, _seeds(scores, arm), *texts])
    problems = len(next(iter(scores.arms.values())))
    samples = max(n for one in scores.arms.values() for n, _ in one.values())
    notes = [
        f"{scores.title}. Arms by pass@{scores.ks[0]}, means over seeds. Brackets: 95 % interval "
        f"over problems and seeds; {problems} problems, {samples} samples each.",
        f"Entropy: nats a token at T = 1 on the rollouts, mean over the last {claims.LATE:.0%} of "
        "the steps (of the base model: at the first step). Length: tokens, last step.",
        "Inert: no token's weight in the policy gradient ever differed from that of GRPO with the "
        "arm's own choice of `std`.",
    ]
    if samples in scores.ks:
        notes.append(f"pass@{samples} is k = n: a coin flip per problem at the margin.")
    return [*markdown_table(columns, rows), "", *_bullets(notes)]


def _seeds(scores: Scores, arm: str | None) -> str:
    return " ".join(f"{value:.3f}" for value in scores.of(arm, scores.ks[0]).mean(axis=1))


def _differences(of: Study) -> Lines:
    """The simultaneous intervals, why they are so wide, and what each would show by itself."""
    if not of.against:
        return ["Nothing to compare."]
    (table,) = differences(of.scores, of.against)
    first = of.against[of.scores.ks[0]]
    family, seeds = first[0].family, first[0].seeds
    alone = {
        k: [_alone(of.scores, one, k) for one in of_k]
        for k, of_k in of.against.items()
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


def _alone(scores: Scores, found: stats.Comparison, k: int) -> stats.Comparison:
    """A comparison at 95 % for itself."""
    _, shared = baseline(scores)
    pair = {arm: scores.of(arm, k, shared) for arm in (found.arm, found.reference)}
    rng = scores.rng(k, found.arm, "alone")
    return stats.compare_arms(pair, found.reference, rng=rng)[0]


def _sides(found: dict[int, list[stats.Comparison]]) -> Lines:
    """For each k the arms that are shown above and below, with their differences."""
    rows = []
    for k, of_k in found.items():
        above, below = (
            [
                f"{one.arm} ({one.estimate:+.3f})"
                for one in of_k
                if one.shown and one.estimate * sign > 0
            ]
            for sign in (1, -1)
        )
        rows.append([f"pass@{k}", *(", ".join(side) or "none" for side in (above, below))])
    return markdown_table(["", "above", "below"], rows)


def _against_base(of: Study) -> Lines:
    """All arms against the base model on the seeds that all have, together."""
    scores = of.scores
    shared = sorted(set(scores.base).intersection(*(scores.seeds(a) for a in scores.names())))
    if not shared:
        return ["The base model was not scored with the seeds of the arms."]
    found = {}
    for k in scores.ks:
        tables = {arm: scores.of(arm, k, shared) for arm in scores.names()}
        tables[BASE] = scores.of(None, k, shared)
        found[k] = stats.compare_arms(tables, BASE, rng=scores.rng(k, "all against base"))
    note = (
        f"Arms whose difference from the base model is shown, paired on the same problems and "
        f"{len(shared)} seed{'' if len(shared) == 1 else 's'}; at 95 % for the "
        f"{len(scores.names())} arms of a row together (Bonferroni, and Holm's test agrees). "
        "Of arms that are not named nothing is shown."
    )
    return [*_sides(found), "", *_bullets([note])]


def _entropy(of: Study, figure: str) -> Lines:
    """A row an arm, the correlations over arms, and the picture."""
    scores = of.scores
    arms = sorted(scores.names(), key=lambda arm: -np.mean(of.entropy(arm)))
    means = {k: [float(scores.of(arm, k).mean()) for arm in arms] for k in scores.ks}
    late = [float(np.mean(of.entropy(arm))) for arm in arms]
    columns = ["arm", "entropy, late", "lowest and highest seed", "change"]
    columns += [f"after {of.fewest} steps", "probe"]
    columns += [f"pass@{k}" for k in scores.ks]
    rows = []
    for place, arm in enumerate(arms):
        own = of.entropy(arm)
        change = float(np.mean(of.entropy(arm, CHANGE)))
        probe = f"{of.probes[arm]:.3f}" if arm in of.probes else ""
        texts = [f"{late[place]:.3f}", f"{min(own):.3f} {max(own):.3f}", f"{change:+.3f}"]
        texts += [f"{np.mean(of.entropy(arm, claims.AT_EQUAL_STEPS)):.3f}", probe]
        rows.append([arm, *texts, *(f"{means[k][place]:.3f}" for k in scores.ks)])
    notes = [
        "Change: late entropy less that of the first step. "
        f"After {of.fewest} steps: late entropy if all had ended with the run of fewest steps; "
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


def _interval(found: Any) -> str:
    return f"{found.estimate:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _claims(of: Study) -> Lines:
    """The table, and in words what is not shown."""
    columns = ["claim", "source", "measured", "expected", "difference", "verdict"]
    firm = claims.together(of.verdicts)
    rows = []
    for one in of.verdicts:
        verdict = f"**{one.text}**{' *' if one in firm else ''}"
        cells = [one.claim.claim, one.claim.source, _subject(one), _expected(one)]
        rows.append([*cells, _difference(one), verdict])
    tested = len([one for one in of.verdicts if one.seeds])
    notes = [
        "Paired by seed (scores: by problem too), 95 % intervals, each claim by itself; of "
        f"{tested} claims without any truth in them about {tested * 0.05:.1f} would come out as "
        "shown or opposite shown. *: also when all of them are corrected for together (Holm).",
        "Not shown is not refuted: the interval allows both. Near: shown when the whole interval "
        "is within the tolerance.",
        *(f"{one.claim.claim} {one.claim.note}" for one in of.verdicts if one.claim.note),
    ]
    return [*markdown_table(columns, rows), "", *_bullets(notes), "", *_in_words(of)]


def _in_words(of: Study) -> Lines:
    groups = (
        ("Shown at this scale:", SHOWN),
        ("Not shown at this scale, neither it nor its opposite:", claims.NOT_SHOWN),
        ("Opposite shown, the claim does not hold here:", OPPOSITE),
        ("Not measured:", claims.NOT_MEASURED),
    )
    lines: Lines = []
    for heading, text in groups:
        found = [one for one in of.verdicts if one.text == text]
        if found:
            said = [f"{one.claim.claim} ({_difference(one)})" for one in found]
            lines += [heading, "", *_bullets(said), ""]
    return lines[:-1]


def _subject(found: Verdict) -> str:
    claim = found.claim
    against = f" - {claim.against}" if claim.against else ""
    if claim.value:
        against = f" - {claim.value:g}"
    return f"{claim.arm}{against}: {claim.measure}"


def _expected(found: Verdict) -> str:
    claim = found.claim
    if claim.expect == "near":
        return f"within ±{claim.within:g}"
    return "> 0" if claim.expect == "above" else "< 0"


def _difference(found: Verdict) -> str:
    if not found.seeds:
        return "no number"
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _settings(of: Study) -> Lines:
    """What each arm was given, and what the file says about it."""
    rows = {}
    for run in of.runs:
        settings = json.loads(run["settings"])
        text = ", ".join(f"{name} {value}" for name, value in settings.items())
        rows[run["arm"]] = [run["arm"], run["algorithm"], text]
    table = markdown_table(["arm", "algorithm", "settings"], list(rows.values()))
    return [*table, "", *_bullets(of.file.settings)]


def _limits(of: Study) -> Lines:
    problems = len(next(iter(of.scores.arms.values())))
    scale = (
        f"One model ({Path(of.scores.model).name}), one benchmark ({of.scores.benchmark}, "
        f"{problems} problems), {of.seeds} seed{'' if of.seeds == 1 else 's'} an arm."
    )
    return _bullets([scale, *of.file.limits])

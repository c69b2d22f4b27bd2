"""Every number that a run traces: its name, unit and title, who draws it, and what is kept of it.

A trainer writes a metric under its name into the spool; the store keeps it under that name, and
reports, pages and `suite db export --slim` look here for what it is. A family stands for names with
one prefix: `state/` for the numbers of an algorithm's controller, `seconds/` for a step's phases.
Logs of other trainers may bring metrics that are not here: they stay under their own names.
"""

from __future__ import annotations

from typing import NamedTuple

SECONDS_PER_HOUR = 3600.0
LATE = 0.25  # of the steps, from the end: "late" numbers are means over them

# Who draws a metric.
PROGRESS, REPORT, ENTROPY_VIEW, COST_VIEW, STATUS = (
    "progress",
    "report",
    "entropy",
    "cost",
    "status",
)


class Metric(NamedTuple):
    """A traced number.

    unit: "" for shares and pure numbers; drawn_by: which reports and views show it;
    slim: whether a slim export keeps it, as it does with everything that is drawn.
    """

    title: str
    unit: str = ""
    drawn_by: tuple[str, ...] = ()

    @property
    def slim(self) -> bool:
        return bool(self.drawn_by)

    @property
    def heading(self) -> str:
        """ "entropy, nats a token"."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


METRICS: dict[str, Metric] = {
    "entropy": Metric("entropy", "nats a token", (PROGRESS, REPORT, ENTROPY_VIEW)),
    "entropy_sampled": Metric("entropy, by sampled tokens", "nats a token"),
    "response_length": Metric("response length", "tokens", (PROGRESS, REPORT, ENTROPY_VIEW)),
    "reward": Metric("reward", "", (PROGRESS, ENTROPY_VIEW)),
    "accuracy": Metric("accuracy on training prompts", "share", (ENTROPY_VIEW,)),
    "truncated": Metric("truncated", "share", (REPORT, ENTROPY_VIEW)),
    "clip_low": Metric("clipped below", "share", (ENTROPY_VIEW,)),
    "clip_high": Metric("clipped above", "share", (ENTROPY_VIEW,)),
    "groups_without_signal": Metric("groups without signal", "share", (ENTROPY_VIEW,)),
    "differs_from_grpo": Metric("gradient is not GRPO's", "share of tokens", (REPORT,)),
    "bonus_statistic": Metric("what the bonus rewards", "nats a token"),
    "kl_old": Metric("log-ratio to the rollout policy", "nats a token"),
    "policy_loss": Metric("policy loss"),
    "gradient_norm": Metric("gradient norm"),
    "learning_rate": Metric("learning rate"),
    "epoch": Metric("epoch"),
    "gpu_hours": Metric("charged", "GPU-hours", (PROGRESS, REPORT, COST_VIEW, STATUS)),
    "held_gpu_hours": Metric("held", "GPU-hours"),
    "lost_gpu_hours": Metric("lost", "GPU-hours"),
    "budget_fraction": Metric("spent of the budget", "share", (REPORT, STATUS)),
    "tokens": Metric("tokens generated", "tokens", (REPORT, COST_VIEW)),
    "samples": Metric("responses generated"),
    "optimizer_steps": Metric("optimizer steps"),
    "time": Metric("time of the step", "unix seconds", (STATUS,)),
    "attempt_seconds": Metric("since the attempt began", "seconds", (STATUS,)),
}
FAMILIES: dict[str, Metric] = {
    "state/": Metric("controller", "", (ENTROPY_VIEW,)),
    "seconds/": Metric("phase", "seconds", (REPORT, COST_VIEW)),
    "extra/": Metric("second rollout", "", (ENTROPY_VIEW,)),
    "clip/": Metric("clip diagnostics", "nats a token"),
    "sync/": Metric("engine against trainer", "nats a token", (ENTROPY_VIEW,)),
}
SECONDS = "seconds/"


def metric(name: str) -> Metric | None:
    """What is traced under a name; of a family, with the rest of the name in the title."""
    if name in METRICS:
        return METRICS[name]
    for prefix, family in FAMILIES.items():
        if name.startswith(prefix):
            return family._replace(title=f"{family.title}: {name.removeprefix(prefix)}")
    return None


def heading(name: str) -> str:
    """The heading of a metric's chart; its name where it is another trainer's."""
    known = metric(name)
    return known.heading if known else name


def drawn_by(who: str, names: list[str]) -> list[str]:
    """Those of the names that `who` draws, in the order of this file, families last."""
    single = [name for name, metric in METRICS.items() if who in metric.drawn_by and name in names]
    prefixes = tuple(prefix for prefix, family in FAMILIES.items() if who in family.drawn_by)
    return single + [name for name in names if prefixes and name.startswith(prefixes)]


def in_sql(column: str = "metric") -> str:
    """The condition of a slim export: that a column names a metric that something draws."""
    names = ", ".join(repr(name) for name, metric in METRICS.items() if metric.slim)
    families = [prefix for prefix, family in FAMILIES.items() if family.slim]
    return " OR ".join([f"{column} IN ({names})", *(f"{column} LIKE '{p}%'" for p in families)])

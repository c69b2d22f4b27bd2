"""One loop that trains tables of softmaxes with any algorithm, through the hooks of its base class.

    rollouts -> advantages -> credit, marks -> observe -> extra_rollouts
             -> objective + bonus, a few full-batch steps -> next_state

as in the OpenRLHF trainer. The runs of an arm (its seeds) are trained side by side; what an
algorithm computes over a batch (credit, marks, the controller) it computes for each run alone.

Two things differ from the LLM. Extra rollouts are G more samples in *every* state at the
algorithm's temperature, so its quota ("positives", "prompts") has nothing to end and is ignored;
their objective is the mean over all samples drawn times the coefficient, as "append" defines it,
and "replace" is refused. An iteration visits every state, so it counts as an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from algorithms.base import Algorithm, Batch, Tokens
from algorithms.diagnostics import clip_diagnostics
from algorithms.entropy import token_entropy
from algorithms.lab import table
from algorithms.lab.settings import Environment, Training

Row = dict[str, Any]  # "step", and for each metric a list with the value of each run


@dataclass
class Samples:
    """G sampled actions of every state and run, and what is trained on; all [R, S, G].

    Attributes:
        actions: indices of the table.
        old_log_probs: of the policy that an iteration begins with, at temperature 1.
        advantages: the algorithm's.
        marks: the algorithm's, if it has any.
    """

    actions: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    marks: Tensor | None = None


def train(
    algorithm: Algorithm, environment: Environment, training: Training, seeds: list[int]
) -> Iterator[Row]:
    """Train one run a seed; yields a row before the first step, then every `trace_every` of them.

    Metrics: "entropy" (mean over states, nats), "reward" (exact, under the policy), "correct"
    (probability of a correct action), and after the first step "clip_low", "clip_high" (share of
    samples, mean since the last row), "coefficient", "temperature", "bonus_statistic" where the
    algorithm has them, and the terms of algorithms.diagnostics where a clip range is given.

    Raises:
        ValueError: the algorithm wants its extra samples to replace others.
    """
    lab = Lab(algorithm, environment, training, seeds)
    yield {"step": 0, **lab.measure()}
    yield from lab.train()


class Lab:
    """The tables in training and everything that belongs to them.

    It can be pickled between two rows of `train` and goes on as if nothing had happened.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        environment: Environment,
        training: Training,
        seeds: list[int],
    ):
        self.algorithm, self.training, self.seeds = algorithm, training, seeds
        tables = table.make_tables(environment, seeds)
        self.rewards_RSV = tables.rewards_RSV
        self.logits_RSV = tables.logits_RSV.requires_grad_()
        self.old_logits_RSV = tables.logits_RSV.detach().clone()
        kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.SGD
        self.optimizer = kind([self.logits_RSV], lr=training.lr, maximize=True, fused=True)
        shape = (environment.states, training.samples)
        self.rollouts = table.Stream(seeds, table.ROLLOUTS, shape)
        self.extra_rollouts = table.Stream(seeds, table.EXTRA, shape)
        self.rewarder = table.Rewarder(environment, seeds, shape)
        self.states = [algorithm.initial_state() for _ in seeds]
        self.tempered = [False] * len(seeds)
        self.sums: dict[str, Tensor] = {}  # of a metric since the last row, with its count
        self.counts: dict[str, int] = {}
        self.credits = _overrides(algorithm, "credit", "shape", "marks")
        self.controls = _overrides(algorithm, "observe", "next_state")
        self.done = 0  # iterations

    def train(self) -> Iterator[Row]:
        """The rows that are still to come."""
        training = self.training
        while self.done < training.iterations:
            self.done += 1
            self.iterate(self.done)
            if self.done % training.trace_every == 0 or self.done == training.iterations:
                yield {"step": self.done, **self.measure()}

    # One iteration ---------------------------------------------------------------------------

    def iterate(self, iteration: int) -> None:
        """Rollouts, credit, controller, update."""
        sampling = torch.log_softmax(self.logits_RSV, -1)  # of the first optimizer step, too
        with torch.no_grad():
            self.old_logits_RSV.copy_(self.logits_RSV)
            log_pi = sampling.detach()
            actions = table.sample(log_pi.exp(), self.rollouts.next())
            rewards = self.rewarder(self.rewards_RSV, actions)
            samples = _samples(log_pi, actions, rewards, self.algorithm.advantages)
            measured = self._measured(log_pi, samples, rewards, iteration)
            self.states = [
                self.algorithm.observe(state, numbers)
                for state, numbers in zip(self.states, measured, strict=True)
            ]
            self._credit(log_pi, samples, rewards, iteration)
            extra = self._extra(log_pi)
        statistic = self._update(sampling, samples, extra)
        for run, numbers in enumerate(measured):
            if statistic is not None:
                numbers["bonus_statistic"] = float(statistic[run])
            self.states[run] = self.algorithm.next_state(self.states[run], numbers)

    def _measured(
        self, log_pi: Tensor, samples: Samples, rewards: Tensor, iteration: int
    ) -> list[dict[str, float]]:
        """What the controller of each run may look at; nothing when there is none."""
        if not self.controls:
            return [{} for _ in self.seeds]
        entropy_R = token_entropy(log_pi).mean(-1).tolist()
        sampled_R = (-samples.old_log_probs.flatten(1).mean(-1)).tolist()
        reward_R = rewards.flatten(1).mean(-1).tolist()
        return [
            {"entropy": e, "entropy_sampled": s, "reward": r, "epoch": iteration}
            for e, s, r in zip(entropy_R, sampled_R, reward_R, strict=True)
        ]

    def _credit(self, log_pi: Tensor, samples: Samples, rewards: Tensor, iteration: int) -> None:
        """`credit` and `marks` of each run over its own batch of N = S G samples."""
        if not self.credits:
            return
        entropy = token_entropy(log_pi).unsqueeze(-1).expand_as(rewards)
        tempered = {
            t: torch.log_softmax(log_pi / t, -1).gather(-1, samples.actions)
            for t in self.algorithm.temperatures
        }
        credited, marked = [], []
        for run, seed in enumerate(self.seeds):
            tokens = Tokens(
                advantages=samples.advantages[run].flatten(),
                entropy=entropy[run].flatten(),
                log_probs=samples.old_log_probs[run].flatten(),
                rewards=rewards[run].flatten(),
                tempered={t: values[run].flatten() for t, values in tempered.items()},
                seed=seed * 1_000_003 + iteration,
            )
            credited.append(self.algorithm.credit(tokens, self.states[run]))
            if (marks := self.algorithm.marks(tokens)) is not None:
                marked.append(marks)
        samples.advantages = torch.stack(credited).reshape(rewards.shape)
        if marked:
            samples.marks = torch.stack(marked).reshape(rewards.shape)

    def _extra(self, log_pi: Tensor) -> tuple[Samples, Tensor] | None:
        """G more samples in every state at the temperature that each run asks for, or None.

        With them the weight of their objective in each run, [R].
        """
        asked = [self.algorithm.extra_rollouts(state) for state in self.states]
        if not any(asked):
            return None
        if any(extra and extra.inject != "append" for extra in asked):
            raise ValueError("the lab draws extra samples with inject: append only")
        temperature_R = torch.tensor([extra.temperature if extra else 1.0 for extra in asked])
        hot = torch.softmax(log_pi / temperature_R[:, None, None], -1)
        actions = table.sample(hot, self.extra_rollouts.next())
        rewards = self.rewarder(self.rewards_RSV, actions, table.EXTRA_REWARDS)
        samples = _samples(log_pi, actions, rewards, self.algorithm.extra_advantages)
        weight_R = torch.tensor([extra.coefficient if extra else 0.0 for extra in asked])
        self._add("temperature", temperature_R)
        return samples, weight_R

    # The update ------------------------------------------------------------------------------

    def _update(
        self, sampling: Tensor, samples: Samples, extra: tuple[Samples, Tensor] | None
    ) -> Tensor | None:
        """The optimizer steps of one iteration; the mean bonus statistic [R] that they saw.

        `sampling` is log pi before them, [R, S, V], with the graph that the first one needs.
        """
        lambda_R = torch.tensor([self.algorithm.bonus_coefficient(s) for s in self.states])
        statistics = []
        for step in range(self.training.optimizer_steps):
            log_pi = torch.log_softmax(self.logits_RSV, -1) if step else sampling
            objective_R = self._objective(log_pi, samples, traced=True)
            if extra is not None:
                drawn, weight_R = extra
                objective_R = objective_R + weight_R * self._objective(log_pi, drawn)
            if self.algorithm.has_bonus:
                with torch.set_grad_enabled(bool(lambda_R.any())):
                    values_RS = self.algorithm.bonus_statistic(self.logits_RSV)
                objective_R = objective_R + lambda_R * values_RS.sum(-1)
                statistics.append(values_RS.detach().mean(-1))
            self.optimizer.zero_grad()
            objective_R.sum().backward()
            self.optimizer.step()
        if not statistics:
            return None
        self._add("coefficient", lambda_R)
        self._add("bonus_statistic", torch.stack(statistics).mean(0))
        return torch.stack(statistics).mean(0)

    def _objective(self, log_pi: Tensor, samples: Samples, *, traced: bool = False) -> Tensor:
        """[R]: the sum over states of the mean over a state's samples.

        Where it is `traced`, what the clip silences is counted.
        """
        shape = samples.actions.shape
        log_probs_BT = log_pi.gather(-1, samples.actions).reshape(-1, 1)  # responses of one token
        batch = Batch(
            old_log_probs=samples.old_log_probs.reshape(-1, 1),
            advantages=samples.advantages.reshape(-1, 1),
            marks=None if samples.marks is None else samples.marks.reshape(-1, 1),
        )
        values = self.algorithm.objective(log_probs_BT, batch)
        if traced:
            events = self.algorithm.clipped(log_probs_BT.detach(), batch)
            for name, silenced in events.items():
                self._add(name, silenced.reshape(shape).float().flatten(1).mean(-1))
        return values.reshape(shape).mean(-1).sum(-1)

    # Traces ----------------------------------------------------------------------------------

    def _add(self, metric: str, values_R: Tensor) -> None:
        self.sums[metric] = self.sums.get(metric, 0.0) + values_R
        self.counts[metric] = self.counts.get(metric, 0) + 1

    @torch.no_grad()
    def measure(self) -> dict[str, list[float]]:
        """Each metric of each run, exact where it can be; the sums start anew."""
        pi = torch.softmax(self.logits_RSV, -1)
        means = {
            "entropy": token_entropy(self.logits_RSV).mean(-1),
            "reward": (pi * self.rewards_RSV).sum(-1).mean(-1),
            "correct": (pi * (self.rewards_RSV == 1.0)).sum(-1).mean(-1),
        }
        means |= {metric: total / self.counts[metric] for metric, total in self.sums.items()}
        if self.training.clip_range and self.sums:
            means |= self._diagnostics()
        self.sums, self.counts = {}, {}
        return {metric: values_R.tolist() for metric, values_R in means.items()}

    def _diagnostics(self) -> dict[str, Tensor]:
        """The terms of CLIP's theorems between the last update's policy and the one it sampled."""
        runs, states = self.logits_RSV.shape[:2]
        logits, old = (x.flatten(0, 1) for x in (self.logits_RSV, self.old_logits_RSV))
        clip_range = self.training.clip_range
        terms = clip_diagnostics(logits, old, clip_range, clip_range)
        terms.pop("entropy")
        return {name: value.reshape(runs, states).nanmean(-1) for name, value in terms.items()}


def _samples(
    log_pi_RSV: Tensor,
    actions_RSG: Tensor,
    rewards_RSG: Tensor,
    rule: Callable[[Tensor], Tensor],
) -> Samples:
    """Samples with the log-probs of the policy at temperature 1 and advantages by `rule`."""
    groups_PG = rewards_RSG.flatten(0, 1)
    return Samples(
        actions=actions_RSG,
        old_log_probs=log_pi_RSV.gather(-1, actions_RSG),
        advantages=rule(groups_PG).reshape(rewards_RSG.shape),
    )


def _overrides(algorithm: Algorithm, *methods: str) -> bool:
    """Whether the algorithm changes one of these methods of the base class."""
    return any(getattr(type(algorithm), m) is not getattr(Algorithm, m) for m in methods)

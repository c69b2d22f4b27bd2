"""Rollouts as data: what is sampled, what is measured of it, and the batches made of that.

Nothing here talks to an engine or a worker; the controller does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One response: its token ids (end-of-sequence included) and whether the limit cut it.

    Attributes:
        log_probs: of its tokens by the engine, at temperature 1, where they were asked for.
    """

    token_ids: list[int]
    truncated: bool
    log_probs: list[float] | None = None


@dataclass(frozen=True)
class Rollout:
    """One sampled response with its prompt and, once graded, its verdict and its reward."""

    prompt: str
    answer: str
    prompt_ids: list[int]
    sample: Sample
    text: str
    correct: bool = False
    reward: float = 0.0


@dataclass
class Row:
    """A rollout with a number for each of its T response tokens in every tensor.

    Attributes:
        log_probs: log pi_old at temperature 1.
        entropy: H_t of pi_old, nats.
        tempered: log pi_old^T for each temperature that the algorithm asked for.
        advantages: the algorithm's; empty, as the next two, until credit is given.
        reference: plain GRPO's, for the inert-arm detector.
        marks: the algorithm's, or zeros.
    """

    rollout: Rollout
    log_probs: Tensor
    entropy: Tensor
    tempered: dict[float, Tensor] = field(default_factory=dict)
    advantages: Tensor = field(default_factory=lambda: torch.empty(0))
    reference: Tensor = field(default_factory=lambda: torch.empty(0))
    marks: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class Extra:
    """Samples of a second rollout to be appended: `coefficient` times the mean of their objective.

    `batch` holds those that have an advantage; the mean is over all `samples` drawn, or over their
    `tokens` where the objective is a mean over tokens.
    """

    batch: Experience
    samples: int
    tokens: int
    coefficient: float


# Sampling ----------------------------------------------------------------------------------


def hashed_seed(*parts: object) -> int:
    """A 31-bit seed from a hash: neighbouring steps and prompts share no random numbers.

    vLLM gives child i of a request with n samples the seed + i, so plain counters would overlap.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def prompt_indices(seed: int, step: int, count: int, size: int) -> list[int]:
    """Which prompts step `step` (from 1) uses: a fresh permutation of the data set each epoch.

    A function of its arguments alone, the same for every arm: arms see the same prompts.
    """
    start = (step - 1) * count
    indices = []
    for position in range(start, start + count):
        epoch, offset = divmod(position, size)
        indices.append(int(_permutation(seed, epoch, size)[offset]))
    return indices


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(hashed_seed(seed, "prompts", epoch))
    return torch.randperm(size, generator=generator)


# Rewards -----------------------------------------------------------------------------------


def rewarded(
    rollouts: list[Rollout], correct: list[bool], kind: str | Mapping[str, float], seed: int
) -> list[Rollout]:
    """The rollouts with verdicts and rewards.

    Args:
        rollouts, correct: in one order.
        kind: "verified": R = 1 for a correct answer and 0 for anything else; {"bernoulli": p} or
            {"gaussian": sigma}: random, independent of the response (CLIP 2509.26114's control).
        seed: of random rewards.

    Raises:
        ValueError: another rule.
    """
    rewards = [float(c) for c in correct]
    if isinstance(kind, str):
        if kind != "verified":
            raise ValueError(f"unknown rule of rewards {kind!r}; valid: verified, or a law")
    else:
        ((law, parameter),) = kind.items()
        generator = torch.Generator().manual_seed(seed)
        if law == "bernoulli":
            drawn = torch.rand(len(rollouts), generator=generator) < parameter
        else:
            drawn = parameter * torch.randn(len(rollouts), generator=generator)
        rewards = drawn.float().tolist()
    return [
        replace(r, correct=c, reward=reward)
        for r, c, reward in zip(rollouts, correct, rewards, strict=True)
    ]


def statistics(rollouts: list[Rollout], group_size: int) -> dict[str, float]:
    """What to trace of a step's rollouts."""
    rewards_PG = torch.tensor([r.reward for r in rollouts]).view(-1, group_size)
    equal_P = (rewards_PG == rewards_PG[:, :1]).all(-1)
    count = len(rollouts)
    return {
        "reward": float(rewards_PG.mean()),
        "accuracy": sum(r.correct for r in rollouts) / count,
        "groups_without_signal": float(equal_P.float().mean()),
        "response_length": sum(len(r.sample.token_ids) for r in rollouts) / count,
        "truncated": sum(r.sample.truncated for r in rollouts) / count,
    }


def positives(rollouts: list[Rollout]) -> int:
    """How many have a reward above 1/2."""
    return sum(rollout.reward > 0.5 for rollout in rollouts)


def first_positives(rollouts: list[Rollout], quota: int) -> int:
    """How many of the rollouts it takes, in order, to have `quota` positives among them."""
    counted = 0
    for taken, rollout in enumerate(rollouts, start=1):
        counted += rollout.reward > 0.5
        if counted == quota:
            return taken
    return len(rollouts)


# Batches -----------------------------------------------------------------------------------


def policy_entropy(rows: list[Row]) -> dict[str, float]:
    """The entropy of pi_old in nats: mean over responses of the mean over their tokens.

    "entropy" is exact, H_t on the states that pi_old visited (CLIP eq. 4); "entropy_sampled" is
    the estimate -log pi(a_t) on the same states.
    """
    filled = [row for row in rows if len(row.entropy)]
    count = max(len(filled), 1)
    return {
        "entropy": sum(float(row.entropy.mean()) for row in filled) / count,
        "entropy_sampled": sum(-float(row.log_probs.mean()) for row in filled) / count,
    }


def to_experience(rollouts: list[Rollout], pad_token_id: int) -> Experience:
    """A right-padded batch. Masks [B, S - 1] mark response tokens shifted by one."""
    full = [r.prompt_ids + r.sample.token_ids for r in rollouts]
    length = max(len(row) for row in full)
    places_S = torch.arange(length)
    inside_BS = places_S < torch.tensor([[len(row)] for row in full])
    prompt_BS = places_S < torch.tensor([[len(r.prompt_ids)] for r in rollouts])
    return Experience(
        sequences=torch.tensor([row + [pad_token_id] * (length - len(row)) for row in full]),
        attention_mask=inside_BS.long(),
        action_mask=(inside_BS & ~prompt_BS)[:, 1:].long(),
        rewards=torch.tensor([r.reward for r in rollouts]),
        response_length=torch.tensor([len(r.sample.token_ids) for r in rollouts]),
        truncated=torch.tensor([r.sample.truncated for r in rollouts]),
        total_length=torch.tensor([len(row) for row in full]),
        prompts=[r.prompt for r in rollouts],
        labels=[r.answer for r in rollouts],
    )


def measured_rows(
    rollouts: list[Rollout],
    batch: Experience,
    log_probs_BT: Tensor,
    entropy_BT: Tensor,
    tempered: Mapping[float, Tensor],
) -> list[Row]:
    """The rollouts of a batch with what a policy worker measured of each response's tokens."""
    lengths = batch.action_mask.sum(-1).tolist()

    def of_each(values_BT: Tensor) -> tuple[Tensor, ...]:
        return values_BT[batch.action_mask.bool()].split(lengths)

    at = {t: of_each(values_BT) for t, values_BT in tempered.items()}
    measured = zip(rollouts, of_each(log_probs_BT), of_each(entropy_BT), strict=True)
    return [
        Row(rollout, log_probs, entropy, {t: values[i] for t, values in at.items()})
        for i, (rollout, log_probs, entropy) in enumerate(measured)
    ]


def training_batch(rows: list[Row], pad_token_id: int) -> Experience:
    """The rows as a batch of OpenRLHF's.

    Its fields for a critic, which there is none of, carry what else the objective needs: `returns`
    the reference advantages and `values` the marks.
    """
    batch = to_experience([row.rollout for row in rows], pad_token_id)
    mask_BT = batch.action_mask.bool()
    for name, column in (
        ("action_log_probs", "log_probs"),
        ("advantages", "advantages"),
        ("returns", "reference"),
        ("values", "marks"),
    ):
        flat_N = torch.cat([getattr(row, column) for row in rows])
        setattr(batch, name, torch.zeros(mask_BT.shape).masked_scatter(mask_BT, flat_N))
    return batch


def state_numbers(state: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an algorithm's state under their trace names."""
    return {f"state/{k}": float(v) for k, v in state.items() if isinstance(v, int | float)}

"""Rollouts as data: prompt order, rewards, quotas, batches."""

import contextlib
import math
import types

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("openrlhf")

from algorithms import load  # noqa: E402
from algorithms.base import ExtraRollouts  # noqa: E402
from algorithms.openrlhf.rollouts import (  # noqa: E402
    Rollout,
    Row,
    Sample,
    first_positives,
    hashed_seed,
    measured_rows,
    policy_entropy,
    positives,
    prompt_indices,
    rewarded,
    statistics,
    to_experience,
    training_batch,
)
from algorithms.openrlhf.second_rollout import SecondRollout  # noqa: E402


def rollout(tokens=(5, 6), reward=0.0, prompt=(1, 2, 3)):
    return Rollout("p", "a", list(prompt), Sample(list(tokens), False), "t", reward > 0.5, reward)


def test_every_prompt_is_seen_once_an_epoch_in_a_new_order():
    steps = [prompt_indices(0, step, 5, 10) for step in (1, 2, 3, 4)]
    first, second = steps[0] + steps[1], steps[2] + steps[3]
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert prompt_indices(0, 3, 5, 10) == steps[2]
    assert prompt_indices(1, 1, 5, 10) != steps[0]


def test_hashed_seeds_fit_vllm_and_differ():
    seeds = {hashed_seed(0, "rollout", step, p) for step in range(20) for p in range(20)}
    assert len(seeds) == 400 and all(0 <= seed < 2**31 for seed in seeds)


def test_verified_rewards_are_the_verdicts():
    made = rewarded([rollout(), rollout()], [True, False], "verified", 0)
    assert [(r.correct, r.reward) for r in made] == [(True, 1.0), (False, 0.0)]


@pytest.mark.parametrize(
    ("kind", "mean", "deviation"),
    [
        ({"bernoulli": 0.5}, 0.5, 0.5),
        ({"bernoulli": 0.3}, 0.3, math.sqrt(0.21)),
        ({"gaussian": 1.0}, 0.0, 1.0),
    ],
)
def test_random_rewards_do_not_look_at_the_response(kind, mean, deviation):
    many = [rollout()] * 20_000
    made = rewarded(many, [True] * 20_000, kind, seed=1)
    values = torch.tensor([r.reward for r in made])
    assert float(values.mean()) == pytest.approx(mean, abs=5 * deviation / math.sqrt(20_000))
    assert float(values.std()) == pytest.approx(deviation, rel=0.03)
    assert all(r.correct for r in made)
    assert made == rewarded(many, [True] * 20_000, kind, seed=1)
    assert made != rewarded(many, [True] * 20_000, kind, seed=2)


def test_statistics_by_hand():
    rollouts = [
        rollout((1,), 1.0),
        rollout((1, 2, 3), 0.0),
        rollout(reward=1.0),
        rollout(reward=1.0),
    ]
    found = statistics(rollouts, 2)
    assert found == {
        "reward": 0.75,
        "accuracy": 0.75,
        "groups_without_signal": 0.5,
        "response_length": 2.0,
        "truncated": 0.0,
    }


def test_a_quota_is_counted_in_order():
    rollouts = [rollout(reward=r) for r in (0.0, 1.0, 0.0, 1.0, 1.0)]
    assert first_positives(rollouts, 2) == 4
    assert first_positives(rollouts, 9) == 5


def test_entropy_is_a_mean_of_means_over_responses_that_have_tokens():
    rows = [
        Row(rollout((5, 6)), torch.tensor([-1.0, -3.0]), torch.tensor([1.0, 2.0])),
        Row(rollout((5,)), torch.tensor([-4.0]), torch.tensor([0.5])),
        Row(rollout(()), torch.tensor([]), torch.tensor([])),
    ]
    assert policy_entropy(rows) == {"entropy": 1.0, "entropy_sampled": 3.0}


def test_a_training_batch_puts_numbers_under_the_tokens_they_belong_to():
    """Column t of the mask is token t + 1: after a prompt of 3 the response starts at column 2."""
    rows = [
        Row(rollout((5, 6)), torch.tensor([-1.0, -3.0]), torch.zeros(2)),
        Row(rollout((7,), prompt=(1,)), torch.tensor([-4.0]), torch.zeros(1)),
    ]
    for row in rows:
        row.advantages = row.log_probs * 10
        row.reference, row.marks = row.log_probs * 100, torch.ones_like(row.log_probs)
    batch = training_batch(rows, pad_token_id=0)
    assert batch.sequences.tolist() == [[1, 2, 3, 5, 6], [1, 7, 0, 0, 0]]
    assert batch.action_mask.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0]]
    assert batch.action_log_probs.tolist() == [[0, 0, -1, -3], [-4, 0, 0, 0]]
    assert batch.advantages.tolist() == [[0, 0, -10, -30], [-40, 0, 0, 0]]
    assert batch.returns.tolist() == [[0, 0, -100, -300], [-400, 0, 0, 0]]
    assert batch.values.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0]]


class Engines:
    """A sampler of 512 prompts a step, 8 responses each, that succeed at a fixed rate."""

    prompts_per_step, group_size = 512, 8

    def __init__(self, rate, rewards=(0.0, 1.0)):
        self.rate, self.rewards = rate, rewards
        self.rounds = []

    def groups(self, step, purpose, positions, temperature):
        self.rounds.append(len(positions))
        return [rollout()] * (8 * len(positions))

    def reward(self, rollouts, purpose, step):
        wins = round(self.rate * len(rollouts))
        losses = len(rollouts) - wins
        return [rollout(reward=self.rewards[1])] * wins + [rollout(reward=self.rewards[0])] * losses


def drawn_from(engines, asked, rollouts):
    """What a second rollout draws from these engines after `rollouts`."""
    ledger = types.SimpleNamespace(phase=lambda name: contextlib.nullcontext())
    recorder = types.SimpleNamespace(ledger=ledger)
    second = SecondRollout(load("aepo"), recorder, engines, None, engines.reward)
    return second.until_quota(1, asked, rollouts)


@pytest.mark.parametrize(
    ("hot", "rewards", "rounds"),
    [
        (0.5, (0.0, 1.0), [15]),  # as the step's own: 60 positives are 15 prompts of 8
        (0.25, (0.0, 1.0), [15, 15]),  # half as successful: the rest at the rate seen
        (0.5, (-2.0, 2.0), [15]),  # the mean reward is 0, the share of successes is not
    ],
)
def test_only_as_many_prompts_are_drawn_as_the_quota_needs(hot, rewards, rounds):
    own = [rollout(reward=rewards[i % 2]) for i in range(512)]
    engines = Engines(hot, rewards)
    drawn = drawn_from(engines, ExtraRollouts(temperature=1.2, positives=60), own)
    assert engines.rounds == rounds and positives(drawn) >= 60


def test_without_success_the_cap_ends_the_drawing():
    engines = Engines(0.0)
    asked = ExtraRollouts(temperature=1.2, positives=60, prompts=0.25)
    assert len(drawn_from(engines, asked, [rollout()] * 4096)) == 8 * 128
    assert engines.rounds == [128]


def test_a_batch_is_padded_on_the_right_and_marks_the_responses():
    """Masks are shifted by one: column t speaks of token t + 1."""
    batch = to_experience([rollout((5, 6)), rollout((7, 8, 9), prompt=(1,)), rollout(())], 0)
    assert batch.sequences.tolist() == [[1, 2, 3, 5, 6], [1, 7, 8, 9, 0], [1, 2, 3, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert batch.action_mask.tolist() == [[0, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]]


def test_each_row_gets_what_was_measured_of_its_own_tokens():
    parts = [rollout((5, 6)), rollout((7, 8, 9), prompt=(1,)), rollout(())]
    numbers = torch.arange(12.0).view(3, 4)
    rows = measured_rows(parts, to_experience(parts, 0), numbers, -numbers, {0.5: 2 * numbers})
    assert [row.log_probs.tolist() for row in rows] == [[2, 3], [4, 5, 6], []]
    assert [row.entropy.tolist() for row in rows] == [[-2, -3], [-4, -5, -6], []]
    assert [row.tempered[0.5].tolist() for row in rows] == [[4, 6], [8, 10, 12], []]
    assert [row.rollout for row in rows] == parts

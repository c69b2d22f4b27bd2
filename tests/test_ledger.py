"""The ledger: what is charged, when the budget is spent, and that a restart forgets nothing."""

import pytest

from suite.worker.ledger import Budget, Ledger


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def spend(ledger, clock, seconds, phase="update", how="phase"):
    with getattr(ledger, how)(phase):
        clock.now += seconds


def test_cost_is_seconds_times_gpus(clock):
    ledger = Ledger(Budget("gpu_hours", 1.0), gpus=4, clock=clock)
    spend(ledger, clock, 450, "generation")
    spend(ledger, clock, 450, "update")
    assert ledger.charged == {"generation": 450, "update": 450}
    assert ledger.gpu_hours() == 1.0
    assert ledger.exhausted() and ledger.fraction() == 1.0


def test_what_stands_aside_is_recorded_and_not_charged(clock):
    ledger = Ledger(Budget("gpu_hours", 1.0), gpus=1, clock=clock)
    spend(ledger, clock, 7200, "evaluation", how="aside")
    assert ledger.gpu_hours() == 0 and ledger.seconds()["evaluation"] == 7200


def test_every_second_is_in_one_account(clock):
    """Start-up ends with the first charged phase; a block inside another is taken out of it."""
    ledger = Ledger(Budget("gpu_hours", 1.0), gpus=2, clock=clock, already=30)
    clock.now += 10
    spend(ledger, clock, 5, "evaluation", how="aside")
    clock.now += 1
    spend(ledger, clock, 100, "generation")
    clock.now += 7
    with ledger.aside("evaluation"):
        clock.now += 20
        spend(ledger, clock, 3, "checkpoint", how="aside")
        clock.now += 20
    clock.now += 2
    seconds = ledger.seconds()
    assert seconds == {
        "generation": 100,
        "start_up": 30 + 10 + 1,
        "evaluation": 5 + 20 + 20,
        "checkpoint": 3,
        "idle": 7 + 2,
        "lost": 0,
    }
    assert sum(seconds.values()) == ledger.attempt_seconds() == 198
    assert ledger.totals()["held_gpu_hours"] == 198 * 2 / 3600


def test_a_phase_that_fails_is_charged_too(clock):
    ledger = Ledger(Budget("gpu_hours", 1.0), gpus=1, clock=clock)
    with pytest.raises(RuntimeError), ledger.phase("update"):
        clock.now += 36
        raise RuntimeError
    assert ledger.gpu_hours() == pytest.approx(0.01)


@pytest.mark.parametrize(("unit", "limit"), [("steps", 2), ("tokens", 500)])
def test_budgets_in_other_units(clock, unit, limit):
    ledger = Ledger(Budget(unit, limit), gpus=1, clock=clock)
    ledger.count(steps=1, tokens=300)
    assert not ledger.exhausted()
    ledger.count(steps=1, tokens=300)
    assert ledger.exhausted()
    assert ledger.fraction() == {"steps": 1.0, "tokens": 1.2}[unit]


def test_a_restored_ledger_goes_on_where_the_checkpoint_was(clock):
    first = Ledger(Budget("gpu_hours", 1.0), gpus=2, clock=clock)
    spend(first, clock, 900)
    first.count(steps=3, tokens=30)
    saved = first.state()
    spend(first, clock, 500)  # lost with the process
    second = Ledger(Budget("gpu_hours", 1.0), gpus=2, clock=clock)
    clock.now += 60
    assert second.restore(saved, held=first.attempt_seconds() - 60) == 500 * 2 / 3600
    spend(second, clock, 900)
    second.count(steps=1, tokens=10)
    assert second.gpu_hours() == 1.0, "what was lost is no part of the policy's cost"
    assert second.totals()["tokens"] == 40
    assert second.seconds() == {"update": 1800, "start_up": 60, "idle": 0, "lost": 500}
    assert saved["charged"] == {"update": 900}, "the saved state is a copy"


def test_what_is_lost_adds_up_over_attempts_and_is_counted_once(clock):
    """An attempt without a checkpoint, one with, one that dies before it resumes, a last one."""

    def attempt():
        return Ledger(Budget("gpu_hours", 1.0), gpus=1, clock=clock)

    first = attempt()
    spend(first, clock, 40)
    held = first.attempt_seconds()
    second = attempt()
    assert second.restore(None, held) == pytest.approx(40 / 3600)
    spend(second, clock, 100)
    saved = second.state()
    spend(second, clock, 9)
    held += second.attempt_seconds()
    third = attempt()
    clock.now += 5
    held += third.attempt_seconds()
    last = attempt()
    assert last.restore(saved, held) == pytest.approx((9 + 5) / 3600)
    clock.now += 1
    assert last.seconds() == {"update": 100, "start_up": 1, "idle": 0, "lost": 40 + 9 + 5}
    assert last.totals()["held_gpu_hours"] == pytest.approx((held + 1) / 3600)

"""The ledger: what is charged, when the budget is spent, and that a restart forgets nothing."""

import pytest

from suite.ledger import Budget, Ledger


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
    clock.now += 3600  # idle
    assert ledger.gpu_hours() == 0 and ledger.uncharged == {"evaluation": 7200}


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
    second.restore(saved)
    spend(second, clock, 900)
    second.count(steps=1, tokens=10)
    assert second.gpu_hours() == 1.0
    assert second.totals()["tokens"] == 40
    assert saved["charged"] == {"update": 900}, "the saved state is a copy"

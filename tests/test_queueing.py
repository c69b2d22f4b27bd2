"""Which cells go next, with a fake place in front of the queue: whole schedules in milliseconds."""

import random
from dataclasses import replace

import pytest

from suite.matrix.cell import Cell
from suite.run.queue import BACKOFF_SECONDS, LOSSES, PASSES, Queue

CELL = Cell("m", "a", "grpo", {}, "tabular", 0, {}, {}, {"steps": 1}, {"gpus": 1}, {})


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Nodes:
    """What a cluster of whole nodes does with gangs that must lie within one."""

    def __init__(self, *sizes):
        self.sizes, self.free = sizes, list(sizes)

    def fits(self, cell):
        return any(free >= cell.resources["gpus"] for free in self.free)

    def slots(self, cell):
        return sum(size // cell.resources["gpus"] for size in self.sizes)

    def hold(self, cell):
        gpus = cell.resources["gpus"]
        node = next(i for i, free in enumerate(self.free) if free >= gpus)
        self.free[node] -= gpus
        return node

    def give_back(self, node, cell):
        self.free[node] += cell.resources["gpus"]


def cells(*gpus, arms="abc"):
    """As a matrix has them: seeds outermost."""
    return [
        replace(
            CELL,
            arm=arms[i % len(arms)],
            seed=i // len(arms),
            resources={"gpus": g},
            budget={"steps": i + 1},
        )
        for i, g in enumerate(gpus)
    ]


def test_seeds_are_outermost_so_half_a_matrix_compares_all_arms():
    queue = Queue(cells(1, 1, 1, 1, 1, 1))
    taken = [queue.take(lambda _: True)[0] for _ in range(3)]
    assert [cell.arm for cell in taken] == ["a", "b", "c"]


def test_cells_that_can_share_a_start_are_dealt_out_over_the_places():
    queue = Queue(cells(*[1] * 7), share=lambda _: "same")
    first = queue.take(lambda _: True, lambda _: 2)
    second = queue.take(lambda _: True, lambda _: 2)
    assert [c.budget["steps"] for c in first] == [1, 3, 5, 7]
    assert [c.budget["steps"] for c in second] == [2, 6]
    assert len(queue) == 1


def test_with_one_place_they_all_share_one_start_and_without_a_key_none():
    assert len(Queue(cells(1, 1, 1), share=lambda _: "same").take(lambda _: True)) == 3
    assert len(Queue(cells(1, 1, 1)).take(lambda _: True)) == 1


def test_a_large_cell_is_passed_a_few_times_and_then_waited_for():
    queue = Queue(cells(24, *[1] * 20))
    small = [queue.take(lambda cell: cell.resources["gpus"] == 1) for _ in range(PASSES + 3)]
    assert [len(taken) for taken in small] == [1] * PASSES + [0] * 3
    assert queue.take(lambda _: True)[0].resources["gpus"] == 24


def test_asking_again_while_nothing_is_free_passes_nobody():
    queue = Queue(cells(24, 1))
    for _ in range(10 * PASSES):
        assert queue.take(lambda _: False) == []
    assert queue.take(lambda cell: cell.resources["gpus"] == 1)


def test_a_lost_cell_waits_longer_each_time_and_is_given_up():
    clock = Clock()
    queue = Queue(cells(1, 1), clock=clock)
    waits = []
    for _ in range(LOSSES):
        (cell,) = queue.take(lambda cell: cell.arm == "a")
        waits.append(queue.lost(cell, progressed=False))
        assert not queue.take(lambda cell: cell.arm == "a"), "not before its time"
        clock.now += 1000
    assert waits == [*BACKOFF_SECONDS, None]
    assert len(queue) == 1


def test_progress_starts_the_count_anew():
    clock = Clock()
    queue = Queue(cells(1), clock=clock)
    for _ in range(5 * LOSSES):
        (cell,) = queue.take(lambda _: True)
        assert queue.lost(cell, progressed=True) == BACKOFF_SECONDS[0]
        clock.now += 1000


def test_a_cell_comes_back_to_its_place():
    queue = Queue(cells(1, 1, 1))
    (first,) = queue.take(lambda _: True)
    queue.again(first)
    assert queue.take(lambda _: True) == [first]


def test_what_can_never_run_is_taken_out_with_the_reason():
    queue = Queue(cells(1, 99, 1))
    gone = queue.drop(lambda cell: "too big" if cell.resources["gpus"] == 99 else None)
    assert [(cell.resources["gpus"], why) for cell, why in gone] == [(99, "too big")]
    assert len(queue) == 2


@pytest.mark.parametrize("seed", range(60))
def test_any_schedule_ends_and_never_holds_more_than_there_is(seed):
    """Random sizes, sessions, losses and crashes on three nodes of eight."""
    rng = random.Random(seed)
    wanted = cells(*(rng.choice((1, 2, 4, 4, 8)) for _ in range(rng.randint(12, 40))))
    clock, nodes = Clock(), Nodes(8, 8, 8)
    shared = rng.random() < 0.5
    queue = Queue(wanted, (lambda cell: str(cell.resources)) if shared else lambda _: None, clock)
    ended, running = [], []
    for _ in range(10_000):
        while session := queue.take(nodes.fits, nodes.slots):
            running.append((session, nodes.hold(session[0])))
            assert min(nodes.free) >= 0
        if not running and not queue:
            break
        clock.now += rng.random()
        if running and rng.random() < 0.7:
            session, node = running.pop(rng.randrange(len(running)))
            nodes.give_back(node, session[0])
            done = rng.randint(0, len(session))
            ended += session[:done]
            if done < len(session):
                if queue.lost(session[done], progressed=rng.random() < 0.5) is None:
                    ended.append(session[done])
                for cell in session[done + 1 :]:
                    queue.again(cell)
    assert sorted(c.budget["steps"] for c in ended) == list(range(1, len(wanted) + 1))
    assert nodes.free == [8, 8, 8]

"""The benches of the store in small: a killed writer beside readers, figures that add up."""

import importlib.util

import pytest


def bench(repo, name):
    spec = importlib.util.spec_from_file_location(name, repo / f"tests/bench/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.alone
def test_readers_never_fail_and_a_killed_conductor_loses_nothing(repo, capsys):
    """15 s with three readers and a loop of `suite sql`, then six kills; the bench takes 5 min
    and 50. The age of what is seen has twice the bench's bound: tests share their machine."""
    module = bench(repo, "readers_bench")
    module.STALE *= 2
    status = module.main(["--seconds", "15", "--kills", "6"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    told = dict(line.rsplit(maxsplit=1) for line in printed.splitlines() if line)
    assert int(told["looks"]) > 50 and int(told["looks through suite sql"]) > 2
    assert int(told["rows spooled"]) > 40 * 20 * 2


def test_the_status_of_the_readers_bench_tells(repo, capsys, monkeypatch):
    module = bench(repo, "readers_bench")
    good = {"errors": 0, "age p95": 1.0}
    killed = {"could not be opened": 0, "lost": 0, "doubled": 0, "not whole": []}
    for watched, after, status in (
        (good, killed, 0),
        (good | {"errors": 1}, killed, 1),
        (good | {"age p95": 3.1}, killed, 1),
        (good, killed | {"lost": 1}, 1),
        (good, killed | {"not whole": ["x"]}, 1),
    ):
        monkeypatch.setattr(module, "watch", lambda *_, watched=watched: dict(watched))
        monkeypatch.setattr(module, "kill_often", lambda *_, after=after: dict(after))
        assert module.main([]) == status


@pytest.mark.slow
def test_the_scale_bench_adds_up(repo, tmp_path):
    """20 runs of 100 steps: every row counted, every question answered, sizes plausible."""
    module = bench(repo, "store_bench")
    module.REPEATS = 1
    found = module.measure(tmp_path, runs=20, steps=100, evaluations=3)
    assert found["trace rows"] == 20 * 100 * 40
    assert found["samples"] == 20 * 3 * 32 * 64
    assert found["before"].keys() == found["after"].keys()
    assert 8 <= found["bytes per trace row"] < 40

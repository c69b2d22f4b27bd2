"""The grader is many times faster than the plain loop, with its verdicts: the bench in small."""

import importlib.util

import pytest

pytest.importorskip("math_verify")


@pytest.fixture(scope="module")
def bench(repo):
    spec = importlib.util.spec_from_file_location("b", repo / "tests/bench/grading_bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_mix_is_what_it_says(bench):
    rows = bench.mix(bench.RESPONSES)
    assert len(bench.KINDS) == 31 and len(rows) == 30 * 1024
    distinct = {(kind, response.rpartition("boxed{")[2]) for kind, _, response in rows}
    assert 8 < len(rows) / len(distinct) < 12
    assert all(response.endswith("}$.") for _, _, response in rows)


def test_faster_with_the_same_verdicts(bench, capsys, monkeypatch):
    """1,240 responses, at least twice as fast: here answers hardly repeat, and two fresh workers
    learn the grammar. The whole bench asks for 25 times."""
    monkeypatch.setattr(bench, "FASTER", 2.0)
    status = bench.main(["--rows", "1240"])
    printed = capsys.readouterr().out
    assert status == 0 and "0 unexplained differences" in printed, printed


def test_the_status_tells(bench, capsys, monkeypatch):
    small = ["--rows", "20", "--problems", "2"]
    monkeypatch.setattr(bench, "FASTER", 1e9)
    assert bench.main(small) == 1
    monkeypatch.setattr(bench, "FASTER", 0.0)
    assert bench.main(small) == 0
    monkeypatch.setattr(bench, "plain_loop", lambda rows: [False] * len(rows))
    monkeypatch.setattr(bench, "EXPLAINED", {})
    assert bench.main(small) == 1
    assert "NOT EXPLAINED" in capsys.readouterr().out

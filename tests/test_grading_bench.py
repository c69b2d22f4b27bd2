"""The grader is many times faster than the plain loop, with its verdicts: the bench in small."""

import importlib.util

import pytest

pytest.importorskip("math_verify")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench(repo):
    return load(repo / "tests/bench/grading_bench.py")


@pytest.fixture(scope="module")
def hostile_bench(repo):
    return load(repo / "tests/bench/hostile_bench.py")


def test_the_mix_is_what_it_says(bench):
    rows = bench.mix(bench.RESPONSES)
    assert len(bench.KINDS) == 31 and len(rows) == 30 * 1024
    distinct = {(kind, response.rpartition("boxed{")[2]) for kind, _, response in rows}
    assert 8 < len(rows) / len(distinct) < 12
    assert all(response.endswith("}$.") for _, _, response in rows)


@pytest.mark.alone
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


@pytest.mark.alone
def test_hostile_answers_slow_the_ordinary_ones_little(hostile_bench, capsys, monkeypatch):
    """A fifth of the bench's answers among as many hostile ones, in processor time;
    the whole bench asks for less than a tenth."""
    assert len(hostile_bench.ENDLESS + hostile_bench.HANGS + hostile_bench.HOSTILE) >= 40
    monkeypatch.setattr(hostile_bench, "FALL", 0.3)
    status = hostile_bench.main(["--rows", "6200", "--pairs", "3"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert printed.count("among hostile answers") == 3 and "; 0 ordinary answers" in printed


def test_the_status_of_the_hostile_bench_tells(hostile_bench, monkeypatch):
    falls = [(0.5, 0.05), (0.5, 0.04), (0.0, 0.5)]
    for table, differing, expected in ((falls, 0, 0), (falls, 1, 1), (falls[2:], 0, 1)):
        monkeypatch.setattr(hostile_bench, "compare", lambda *_, r=(table, differing): r)
        assert hostile_bench.main([]) == expected

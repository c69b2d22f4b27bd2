"""Responses on disk: every batch once, torn ends left out."""

import pytest

from suite.spool.responses import Responses, read_responses


def record(problem, first=0, step=1):
    return {"step": step, "fraction": 0.5, "benchmark": "b", "problem": problem, "first": first}


def texts(folder):
    return {(row["problem"], row["first"]): row["texts"] for row in read_responses(folder)}


def test_what_was_written_is_read(tmp_path):
    writer = Responses(tmp_path, 1)
    writer.write(record("p"), ["one", "zwei ü \x00 \ud800"])
    writer.write(record("p", 2), ["three"])
    assert texts(tmp_path) == {("p", 0): ["one", "zwei ü \x00 \ud800"], ("p", 2): ["three"]}


def test_a_later_attempt_replaces_a_batch(tmp_path):
    Responses(tmp_path, 1).write(record("p"), ["old"])
    Responses(tmp_path, 2).write(record("p"), ["new"])
    Responses(tmp_path, 2).write(record("q"), ["q"])
    assert texts(tmp_path) == {("p", 0): ["new"], ("q", 0): ["q"]}


@pytest.mark.parametrize("lost", [1, 10, 30])
def test_a_torn_end_loses_the_last_batch_only(tmp_path, lost):
    writer = Responses(tmp_path, 1)
    for name in "pq":
        writer.write(record(name), [name * 50])
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-lost])
    assert texts(tmp_path) == {("p", 0): ["p" * 50]}

"""The spool: whole lines, torn lines, and a reader that never reads one twice."""

import errno
import json
import os

import pytest

from suite.spool import spool
from suite.worker.ledger import Budget
from suite.worker.recorder import Recorder


def test_lines_come_back_once_and_in_order(tmp_path):
    path = tmp_path / "attempt-001.jsonl"
    writer = spool.Spool(path)
    writer.write("trace", step=1, reward=0.5)
    rows, offset = spool.read_from(path, 0)
    assert [(r["kind"], r["step"], r["reward"]) for r in rows] == [("trace", 1, 0.5)]
    writer.write("trace", step=2, reward=float("nan"))
    rows, offset = spool.read_from(path, offset)
    assert [(r["step"], r["reward"]) for r in rows] == [(2, None)]
    assert spool.read_from(path, offset) == ([], offset)


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path):
    path = tmp_path / "attempt-001.jsonl"
    path.write_text('{"kind":"a"}\n{"kind":"b"')
    rows, offset = spool.read_from(path, 0)
    assert [r["kind"] for r in rows] == ["a"]
    with path.open("a") as file:
        file.write("}\n")
    assert [r["kind"] for r in spool.read_from(path, offset)[0]] == ["b"]


def test_a_line_torn_for_good_is_skipped(tmp_path):
    path = tmp_path / "attempt-001.jsonl"
    path.write_bytes(b'{"kind":"a"}\n{"kin\xff\n{"kind":"c"}\n')
    assert [r["kind"] for r in spool.read_from(path, 0)[0]] == ["a", "c"]


def test_long_files_are_read_in_parts(tmp_path):
    path = tmp_path / "attempt-001.jsonl"
    path.write_text("".join(json.dumps({"kind": "t", "i": i}) + "\n" for i in range(500)))
    seen, offset = [], 0
    while True:
        rows, after = spool.read_from(path, offset, limit=1000)
        if after == offset:
            break
        seen, offset = seen + [r["i"] for r in rows], after
    assert seen == list(range(500))


def test_attempts_are_numbered(tmp_path):
    assert spool.attempts(tmp_path / "absent") == []
    assert spool.next_attempt(tmp_path) == 1
    spool.path_of(tmp_path, 1).touch()
    (tmp_path / "attempt-001.log").touch()
    assert spool.next_attempt(tmp_path) == 2
    assert spool.path_of(tmp_path, 12).name == "attempt-012.jsonl"


def test_a_full_disk_is_an_error_and_not_a_silent_half_line(tmp_path):
    """/dev/full answers every write as a full disk does."""
    writer = spool.Spool(tmp_path / "attempt-001.jsonl")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._descriptor)
    with pytest.raises(OSError) as caught:
        writer.write("trace", step=1)
    assert caught.value.errno == errno.ENOSPC


def test_the_largest_number_of_a_name(tmp_path):
    """Whatever wrote last: a later process of the same attempt may count from its own beginning."""
    path = tmp_path / "attempt-001.jsonl"
    writer = spool.Spool(path)
    assert spool.largest(path, "attempt_seconds") == 0
    for seconds in (1.5, 40.0, 0.1):
        writer.write("note", attempt_seconds=seconds)
    writer.write("note", text="without")
    assert spool.largest(path, "attempt_seconds") == 40.0


def test_an_attempt_whose_lease_is_gone_writes_nothing_any_more(tmp_path):
    """A worker that is believed dead and is not, once the next attempt has begun."""
    folder = tmp_path / "cell"
    recorder = Recorder(spool.path_of(folder, 1), 1, Budget("steps", 4), gpus=1)
    recorder.write("trace", step=1)
    spool.write_lease(folder, 1)
    recorder.write("trace", step=2)
    spool.write_lease(folder, 2)
    with pytest.raises(spool.Fenced, match="attempt 2 has taken the place of attempt 1"):
        recorder.write("trace", step=3)
    with pytest.raises(spool.Fenced):
        recorder.check_lease()
    rows, _ = spool.read_from(spool.path_of(folder, 1), 0)
    assert [row["step"] for row in rows] == [1, 2]

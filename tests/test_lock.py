"""Who asks for the conductor of a database is in nobody's way, and always gets an answer."""

import os
import socket
import threading

import pytest

from suite.spool.lock import Busy, conductor_of, lock_file, only_conductor
from suite.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs.db")


def test_asking_neither_keeps_a_conductor_out_nor_fails(workspace):
    """As `suite status --watch` and the dashboard ask, at any moment of conductors' lives."""
    me = (socket.gethostname(), os.getpid())
    answers, over = set(), threading.Event()

    def ask():
        while not over.is_set():
            try:
                answers.add(conductor_of(workspace))
            except ValueError as error:
                answers.add(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(300):
            with only_conductor(workspace):
                continue
    finally:
        over.set()
        asking.join()
    assert answers <= {None, me}


def test_a_second_conductor_is_told_of_the_first(workspace):
    with (
        only_conductor(workspace),
        pytest.raises(Busy, match=f"process {os.getpid()} is already at work on"),
        only_conductor(workspace),
    ):
        pass
    assert conductor_of(workspace) is None and lock_file(workspace).read_text() == ""

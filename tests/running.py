"""A running `suite`, watched and killed from outside; for the tests that do so."""

import os
import signal
import subprocess
import sys
import time

import psutil

from suite.run.processes import MARK
from suite.spool.spool import attempts, read_from


def suite(arguments, folder, env):
    """The command line in a process that Ctrl-C reaches, even below a shell's `&` or nohup."""
    return subprocess.Popen(
        [sys.executable, "-m", "suite.cli", *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def marked(folder):
    """Processes that belong to the cell in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            marks = process.environ().get(MARK, "").split(os.pathsep)
            if str(folder) in marks and process.status() != "zombie":
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def traced_steps(folder):
    return [
        row["step"]
        for _, path in attempts(folder)
        for row in read_from(path, 0)[0]
        if row["kind"] == "trace"
    ]


def wait_for(condition, conductor, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert conductor.poll() is None, conductor.stdout.read()
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)

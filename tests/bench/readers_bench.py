"""One conductor, many readers: errors, how old what they see is, and what SIGKILL costs.

    python tests/bench/readers_bench.py [--seconds N] [--kills N] [--browser]

A worker spools BATCHES trace lines a second (suite.spool.spool). A conductor takes them in and
publishes as `suite run` does (Store.ingest, Store.publish_when_due, every POLL_SECONDS). Three
readers open runs.db several times a second and ask for the last line's time, or with --browser,
three servers of the dashboard are looked at in Chromium: the age is then that of the step on the
page. A fourth reader asks through `suite sql` over and over. Then the conductor is killed with
SIGKILL at random moments while the worker goes on, and runs.db is opened after each.

Exit status 1 when a reader or the conductor had an error, when the age of what was seen is over
STALE seconds at the 95th percentile, or when a spooled line is missing or there twice at the end.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from suite.matrix.cell import Cell
from suite.run.conductor import POLL_SECONDS
from suite.spool import spool
from suite.store import Store, connect, history, sandbox
from suite.workspace import Workspace
from tests.browsing import Visitor, chromium, dashboard

REPO = Path(__file__).resolve().parents[2]
BATCHES, METRICS, READERS = 20, 40, 3
STALE = 3.0
PAUSE = 0.2  # seconds between two looks of a reader
CELL = Cell("m", "grpo", "grpo", {}, "a-model", 0, {}, {}, {"steps": 1.0}, {"gpus": 1}, {})
LAST = "SELECT max(value) FROM traces WHERE metric = 'time'"


def work(workspace: Workspace) -> None:
    """Spool BATCHES lines a second until killed."""
    writer = spool.Spool(spool.path_of(workspace.cell(CELL.id), 1))
    begun, step = time.monotonic(), 0
    while True:
        step += 1
        values = {f"metric/{number}": random.random() for number in range(METRICS - 1)}
        writer.write("trace", attempt=1, step=step, **values)
        time.sleep(max(0.0, begun + step / BATCHES - time.monotonic()))


def conduct(workspace: Workspace) -> None:
    """What the conductor does with the spool of a cell, until killed."""
    store = Store(workspace)
    print("ready", flush=True)
    while True:
        if not store.ingest(CELL.id):
            time.sleep(POLL_SECONDS)
        store.publish_when_due()


def read(workspace: Workspace, seconds: float, through_sql: bool) -> None:
    """Ages of what is seen, and errors, as JSON on stdout."""
    ages, failures = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if through_sql:
                ((last,),) = sandbox.query(workspace.db, LAST).rows
            else:
                with connect(workspace.db) as db:
                    (last,) = db.execute(LAST).fetchone()
            ages.append(time.time() - last)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")
        time.sleep(PAUSE)
    print(json.dumps({"ages": ages, "failures": failures}))


def look(workspace: Workspace, seconds: float) -> None:
    """READERS servers of the dashboard, a page of a browser on each: (time, step shown), as JSON.

    What a page complains of is an error; so is one that shows no step.
    """
    seen, failures = [], []
    with contextlib.ExitStack() as stack:
        browser = stack.enter_context(chromium())
        pages = []
        for number in range(READERS):
            log = workspace.root / f"dashboard-{number}.log"
            address = stack.enter_context(dashboard(workspace.db, log))
            pages.append(Visitor(browser, address).open())
        print("ready", flush=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for visitor in pages:
                shown = re.search(r"step (\d+)", visitor.text())
                if shown:
                    seen.append((time.time(), int(shown[1])))
                else:
                    failures.append(f"no step in {visitor.text()[:200]!r}")
            time.sleep(PAUSE)
        for visitor in pages:
            failures += visitor.complaints + visitor.exceptions()
    print(json.dumps({"seen": seen, "failures": failures}))


def start(role: str, db: Path, *more: object) -> subprocess.Popen:
    """This file in another process."""
    return subprocess.Popen(
        [sys.executable, __file__, "--role", role, "--db", str(db), *map(str, more)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPO)},
    )


def prepare(folder: Path) -> Workspace:
    workspace = Workspace(folder / "runs.db")
    store = Store(workspace)
    store.register([CELL])
    spool.Spool(spool.path_of(workspace.cell(CELL.id), 1)).write("trace", attempt=1, step=0, x=1)
    store.ingest(CELL.id)
    store.close()
    return workspace


def watch(workspace: Workspace, seconds: float, browser: bool) -> dict[str, object]:
    """Worker, conductor and readers side by side for a while."""
    worker, conductor = start("worker", workspace.db), start("conductor", workspace.db)
    conductor.stdout.readline()
    time.sleep(2 * POLL_SECONDS + 1)  # the first line of the worker is in
    roles = ["dashboards"] if browser else ["reader"] * READERS
    readers = [start(role, workspace.db, "--seconds", seconds) for role in roles]
    if browser:
        readers[0].stdout.readline()
    readers.append(start("sql", workspace.db, "--seconds", seconds))
    told = [json.loads(reader.communicate()[0]) for reader in readers]
    died = conductor.poll()
    for process in (worker, conductor):
        process.kill()
        process.wait()
    if browser:
        written = {row["step"]: row["time"] for row in spooled(workspace)}
        ages = [when - written[step] for when, step in told[0]["seen"]]
    else:
        ages = [age for one in told[:-1] for age in one["ages"]]
    failures = [text for one in told for text in one["failures"]]
    return {
        "looks": len(ages),
        "looks through suite sql": len(told[-1]["ages"]),
        "errors": len(failures) + (died is not None),
        "first errors": failures[:3],
        "age p50": statistics.median(ages),
        "age p95": statistics.quantiles(ages, n=20)[-1],
        "age p95 through suite sql": statistics.quantiles(told[-1]["ages"], n=20)[-1],
    }


def spooled(workspace: Workspace) -> list[dict[str, Any]]:
    """Every line that the worker wrote."""
    path = spool.path_of(workspace.cell(CELL.id), 1)
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def kill_often(workspace: Workspace, kills: int, rng: random.Random) -> dict[str, object]:
    """SIGKILL for the conductor at random moments; what the database then holds of the spool."""
    worker = start("worker", workspace.db)
    unreadable = 0
    for _ in range(kills):
        conductor = start("conductor", workspace.db)
        conductor.stdout.readline()
        time.sleep(rng.uniform(0.0, 1.5))
        os.kill(conductor.pid, signal.SIGKILL)
        conductor.wait()
        try:
            with connect(workspace.db) as db:
                db.execute("SELECT count(*), sum(value) FROM traces").fetchone()
        except Exception:
            unreadable += 1
    worker.kill()
    worker.wait()
    store = Store(workspace)
    store.ingest(CELL.id)
    store.close()
    wanted = [
        (row["step"], metric, float(value))
        for row in spooled(workspace)
        for metric, value in row.items()
        if metric not in ("kind", "step", "attempt")
    ]
    with connect(workspace.db) as db:
        stored = db.execute("SELECT step, metric, value FROM data.traces").fetchall()
    return {
        "kills": kills,
        "could not be opened": unreadable,
        "rows spooled": len(wanted),
        "lost": len(set(wanted) - set(stored)),
        "doubled": len(stored) - len(set(stored)),
        "not whole": history.check(workspace),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--role", choices=("worker", "conductor", "reader", "dashboards", "sql"))
    parser.add_argument("--browser", action="store_true", help="readers are dashboards in Chromium")
    parser.add_argument("--db", type=Path)
    options = parser.parse_args(arguments)
    if options.role == "worker":
        work(Workspace(options.db))
    elif options.role == "conductor":
        conduct(Workspace(options.db))
    elif options.role == "dashboards":
        look(Workspace(options.db), options.seconds)
    elif options.role:
        read(Workspace(options.db), options.seconds, options.role == "sql")
    else:
        with tempfile.TemporaryDirectory() as folder:
            workspace = prepare(Path(folder))
            found = watch(workspace, options.seconds, options.browser)
        with tempfile.TemporaryDirectory() as folder:
            found |= kill_often(prepare(Path(folder)), options.kills, random.Random(0))
        for name, value in found.items():
            print(f"{name:28} {value:.2f}" if isinstance(value, float) else f"{name:28} {value}")
        wrong = ("errors", "could not be opened", "lost", "doubled", "not whole")
        return int(found["age p95"] > STALE or any(found[name] for name in wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main())

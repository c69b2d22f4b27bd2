r"""runs.db at scale: how fast spools go in, how fast questions are answered, what a row costs.

    python tests/bench/store_bench.py [--runs N] [--steps N] [--evaluations N] [--json FILE]
                                      [--keep FOLDER] [--browser]

Spool files are written as workers write them (suite.spool.spool), taken in as the conductor takes
them in (Store.ingest, file after file), published, mixed as if all runs had trained side by side,
asked, compacted and asked again. By default 100 runs in 10 matrices, 2,500 steps of 40 metrics
each: 10 million trace rows; 10 evaluations of 32 problems, 64 samples each: 2 million samples, of
which every verdict, length, digest and answer is kept.

Each question is a function of the dashboard, called as its views call it but without its cache,
over the connection that they share, on all cores; times are medians of REPEATS. Exit status 1 when
a target is missed: INGEST rows a second, MEDIAN milliseconds for every question, mixed and
compacted, and with --browser PAINT seconds until a view of the dashboard has its heading. With
--keep FOLDER the database stays there.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("STREAMLIT_LOGGER_LEVEL", "error")  # it misses its server

from dashboard import queries, records, scores
from suite.matrix.cell import Cell
from suite.metrics import ENTROPY_VIEW, drawn_by
from suite.report import spending
from suite.report.scores import Scores, base_numbers, run_numbers
from suite.spool import spool
from suite.store import Store, connect, history
from suite.workspace import Workspace
from tests.browsing import VIEWS, Visitor, chromium, dashboard

INGEST, MEDIAN, PAINT = 200_000, 200.0, 3.0  # trace rows a second; milliseconds; seconds
REPEATS = 9
ARMS = ("grpo", "clip-higher", "entreg", "aent", "aepo")
SEEDS = 2
PROBLEMS, SAMPLES = 32, 64
PHASES = ("generation", "reward", "experience", "update", "sync")
METRICS = (
    *("entropy", "reward", "accuracy", "response_length", "truncated", "clip_low", "clip_high"),
    *("gpu_hours", "budget_fraction", "tokens", "samples", "kl", "grad_norm", "loss", "lr"),
    *("groups_without_signal", "differs_from_grpo", "coefficient", "bonus"),
    *(f"seconds/{phase}" for phase in PHASES),
    *(f"diagnostic/{number}" for number in range(15)),
)  # and "time": 40 in all

ASKED = {  # of the views, by whom has a question of his own
    "leaderboard of everything": "SELECT * FROM leaderboard",
    "cost to score": "SELECT * FROM gpu_hours_to_score WHERE matrix = $matrix",
    "counts of all evaluations": """
        SELECT arm, seed, step, problem, n, correct FROM evals WHERE matrix = $matrix""",
    "one run, all metrics": """
        SELECT metric, step, value FROM traces
         WHERE run = $run AND step % ceil($steps / 500) = 0""",
}


def matrices_of(runs: int) -> list[list[Cell]]:
    """Matrices of ARMS x SEEDS cells, `runs` in all."""
    made = []
    for number in range(runs):
        matrix, place = divmod(number, len(ARMS) * SEEDS)
        made.append(
            Cell(
                matrix=f"matrix-{matrix}",
                arm=ARMS[place % len(ARMS)],
                algorithm=ARMS[place % len(ARMS)],
                settings={"eps_low": 0.2, "eps_high": 0.28},
                model="a-model",
                seed=place // len(ARMS),
                train={"number": number},
                evaluate={"benchmarks": ["b"], "samples": SAMPLES, "pass_at": [1, 8, SAMPLES]},
                budget={"gpu_hours": 1.0},
                resources={"gpus": 1},
                identity={},
            )
        )
    names = dict.fromkeys(cell.matrix for cell in made)
    return [[cell for cell in made if cell.matrix == name] for name in names]


def write_traces(path: Path, steps: int, rng: random.Random) -> int:
    """What one worker writes while it trains; how many trace rows that is."""
    writer = spool.Spool(path)
    made = {"versions": {}, "hardware": {"device": "cpu"}, "git_commit": ""}
    writer.write("start", attempt=1, command=["train"], **made)
    for step in range(1, steps + 1):
        values = {metric: rng.random() for metric in METRICS}
        values |= {"gpu_hours": step / steps, "budget_fraction": step / steps}
        writer.write("trace", attempt=1, step=step, **values)
    writer.close()
    return steps * (len(METRICS) + 1)


def write_evaluations(path: Path, steps: int, evaluations: int, rng: random.Random) -> None:
    """What it writes when it is evaluated, here in a file of its own."""
    writer = spool.Spool(path)
    for number in range(evaluations):
        _write_evaluation(writer, rng, round(steps * number / (evaluations - 1)), steps)
    writer.close()


def _write_evaluation(writer: spool.Spool, rng: random.Random, step: int, steps: int) -> None:
    where = {"attempt": 1, "step": step, "fraction": step / steps}
    for problem in range(PROBLEMS):
        correct = rng.randint(0, SAMPLES)
        writer.write(
            "eval",
            **where,
            benchmark="b",
            problem=f"p{problem:02d}",
            first=0,
            n=SAMPLES,
            seed=rng.getrandbits(60),
            verdicts="c" * correct + "w" * (SAMPLES - correct),
            stops="s" * SAMPLES,
            lengths=[rng.randint(50, 4000) for _ in range(SAMPLES)],
            digests=[rng.getrandbits(62) for _ in range(SAMPLES)],
            answers=[str(rng.randint(0, 99)) for _ in range(SAMPLES)],
            examples=["a response of some length " * 8] * 2,
        )
    writer.write("evaluated", **where, gpu_hours=step / steps, tokens=step, samples=step)


def take_in(workspace: Workspace, cells: list[Cell]) -> tuple[float, float]:
    """Seconds that the conductor's side needs for what lies in the spools: wall, processor."""
    store = Store(workspace)
    begun = time.perf_counter(), time.process_time()
    for cell in cells:
        store.ingest(cell.id)
    seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    store.close()
    return seconds


def mix(workspace: Workspace) -> None:
    """Put the traces into the order of runs that all trained at once: step by step."""
    store = Store(workspace)
    store._db.execute("CREATE TABLE data.mixed AS FROM data.traces ORDER BY step, run")
    store._db.execute("DROP TABLE data.traces")
    store._db.execute("ALTER TABLE data.mixed RENAME TO traces")
    store.close()


def publishing(workspace: Workspace) -> tuple[float, float]:
    """Seconds of a publish after a small change, and of the copy alone."""
    store = Store(workspace)
    times = []
    for number in range(3):
        store.event("none", 1, "bench", number=number)
        begun = time.perf_counter()
        store.publish()
        times.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    store.publish()
    copy = time.perf_counter() - begun
    store._db.execute("DELETE FROM data.events WHERE run = 'none'")
    store.close()
    return statistics.median(times), copy


def questions(workspace: Workspace, cell: Cell, steps: int) -> dict[str, Callable[[], object]]:
    """What the dashboard asks: its own functions without their cache, and ASKED.

    Of what resamples scores (cached by what has been evaluated) the part that reads.
    """
    seen, matrix, run = queries.snapshot(workspace.db), cell.matrix, cell.id
    scored = (matrix, "b", cell.model)
    subject = scores.Subject(seen.path, *scored, "")
    traced = tuple(drawn_by(ENTROPY_VIEW, list(METRICS)))
    with connect(workspace.db) as db:
        counts = Scores.read(db, *scored)
    known = {"matrix": matrix, "run": run, "steps": steps}

    def asked(function: Callable[..., object], *values: object) -> tuple[str, Callable]:
        of = function.__module__.removeprefix("dashboard.")
        more = [value for value in values[2:] if isinstance(value, str)]
        name = ", ".join([f"{of}.{function.__name__}", *more])
        return name, partial(function.__wrapped__, *values)

    def read(function: Callable[..., object], *values: object) -> Callable[[], object]:
        def with_connection() -> object:
            with connect(workspace.db) as db:
                return function(db, *values)

        return with_connection

    def fetch(db: Any, sql: str) -> list[tuple]:
        values = {name: value for name, value in known.items() if f"${name}" in sql}
        return db.execute(sql, values).fetchall()

    return dict(
        [
            asked(queries.matrices, seen),
            asked(queries.arms, seen),
            asked(queries.subjects, seen, matrix),
            asked(queries.recorded, seen, matrix),
            asked(queries.metrics, seen, matrix),
            asked(queries.alarms, seen, matrix),
            asked(queries.phases, seen, matrix),
            *(asked(queries.traces, seen, matrix, traced, axis) for axis in queries.AXES),
            asked(scores.evaluated, seen, matrix),
            asked(scores.scored_arms, subject),
            asked(scores.ks, subject),
            asked(scores.entropy_and_score, subject, seen, 8, "rollouts"),
            asked(records.configuration, seen, run),
            asked(records.command, seen, run),
            asked(records.events, seen, run),
            asked(records.points, seen, run),
            asked(records.samples, seen, run, "b", 1.0, "", 40),
            ("counts of the last evaluation", read(Scores.read, *scored)),
            ("numbers of the leaderboard", read(run_numbers, counts)),
            ("numbers of the base model", read(base_numbers, counts)),
            ("counts over the cost", read(spending.read, *scored, "gpu_hours")),
            *((f"SQL: {name}", read(fetch, sql)) for name, sql in ASKED.items()),
        ]
    )


def ask(workspace: Workspace, cell: Cell, steps: int) -> dict[str, tuple[float, float, float]]:
    """Milliseconds of each question: the median, the best, and the median of processor time."""
    found = {}
    for name, question in questions(workspace, cell, steps).items():
        times, processor = [], []
        for _ in range(REPEATS + 1):
            begun = time.perf_counter(), time.process_time()
            answer = question()
            times.append(1000 * (time.perf_counter() - begun[0]))
            processor.append(1000 * (time.process_time() - begun[1]))
        assert answer is not None and (not hasattr(answer, "__len__") or len(answer)), name
        median = statistics.median
        found[name] = median(times[1:]), min(times[1:]), median(processor[1:])
    return found


def paint(db: Path) -> dict[str, tuple[float, float]]:
    """Seconds until each view of the dashboard has its heading, and until it is drawn; a new
    visitor each, the server started. Whatever a page complains of raises AssertionError."""
    found = {}
    with dashboard(db, db.parent / "dashboard.log") as address, chromium() as browser:
        for view in VIEWS:
            visitor = Visitor(browser, address)
            begun = time.perf_counter()
            visitor.page.goto(f"{address}/{view}")
            visitor.page.wait_for_selector("h1", timeout=60_000)
            first = time.perf_counter() - begun
            visitor.settle()
            found[view or "overview"] = first, time.perf_counter() - begun
            assert not (visitor.complaints or visitor.exceptions()), view
            visitor.close()
    return found


def measure(folder: Path, runs: int, steps: int, evaluations: int) -> dict[str, object]:
    """Everything, as plain numbers."""
    workspace, matrices = Workspace(folder / "runs.db"), matrices_of(runs)
    everyone, rng = [cell for one in matrices for cell in one], random.Random(0)
    store = Store(workspace)
    for one in matrices:
        store.register(one)
    store.close()
    traces = sum(
        write_traces(spool.path_of(workspace.cell(cell.id), 1), steps, rng) for cell in everyone
    )
    spooled = sum(path.stat().st_size for path in workspace.root.rglob("*.jsonl"))
    seconds, processor = take_in(workspace, everyone)
    for cell in everyone:
        path = spool.path_of(workspace.cell(cell.id), 2)
        write_evaluations(path, steps, evaluations, rng)
    scoring, _ = take_in(workspace, everyone)
    size = workspace.db.stat().st_size
    publish, copy = publishing(workspace)
    mix(workspace)
    someone = matrices[-1][0]
    before = ask(workspace, someone, steps)
    begun = time.perf_counter()
    history.compact(workspace)
    compacting = time.perf_counter() - begun
    after = ask(workspace, someone, steps)
    with connect(workspace.db) as db:
        counted, samples = db.execute(
            "SELECT (SELECT count(*) FROM data.traces), (SELECT sum(n) FROM data.batches)"
        ).fetchone()
    assert counted == traces, (counted, traces)
    assert not (found := history.check(workspace)), found
    return {
        "trace rows": traces,
        "samples": samples,
        "spool MiB": spooled / 2**20,
        "trace rows/s taken in": traces / seconds,
        "the same, a processor second": traces / processor,
        "samples/s taken in and scored": samples / scoring,
        "runs.db MiB": size / 2**20,
        "compacted MiB": workspace.db.stat().st_size / 2**20,
        "bytes per trace row": _trace_bytes(workspace) / traces,
        "publish s": publish,
        "publish unchanged s": copy,
        "compact s": compacting,
        "before": before,
        "after": after,
    }


def _trace_bytes(workspace: Workspace) -> int:
    """Of the blocks that hold traces in the compacted file."""
    with connect(workspace.db) as db:
        (blocks,), (size,) = (
            db.execute(sql).fetchone()
            for sql in (
                """SELECT count(DISTINCT block_id) FROM pragma_storage_info('data.traces')
                    WHERE persistent""",
                """SELECT block_size FROM pragma_database_size()
                    WHERE database_name = current_database()""",
            )
        )
    return blocks * size


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder for it")
    parser.add_argument("--browser", action="store_true", help="open the dashboard on it as well")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        found = measure(folder, options.runs, options.steps, options.evaluations)
        painted = paint((options.keep or Path(temporary)) / "runs.db") if options.browser else {}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    before, after = found.pop("before"), found.pop("after")
    for name, value in found.items():
        print(f"{name:32} {value:14,.1f}")
    print(f"\n{'ms: median, best, processor':32} {'mixed':>26} {'compacted':>27}")
    for name in after:
        numbers = "".join(f"{value:9.1f}" for value in (*before[name], *after[name]))
        print(f"{name:32}{numbers}")
    for view, (first, whole) in painted.items():
        print(f"{view:32} first paint {first:4.1f} s, drawn {whole:5.1f} s")
    slow = [view for view, (first, _) in painted.items() if first > PAINT] + [
        name for name in after if max(before[name][0], after[name][0]) > MEDIAN
    ]
    print(f"\nslower than {MEDIAN:.0f} ms or {PAINT:.0f} s: {', '.join(slow) or 'none'}")
    return int(bool(slow) or found["trace rows/s taken in"] < INGEST)


if __name__ == "__main__":
    sys.exit(main())

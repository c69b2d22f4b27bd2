"""The quickstart's arms through `suite run` against a shell loop of plain OpenRLHF launches.

    python tests/bench/stack_bench.py [--steps 50] [--cache FOLDER]

Same flags, same data, same number of rollout steps, no evaluation on either side, one after the
other in this one run: half of the plain launches, `suite run` on all arms, the other half. A plain
launch is OpenRLHF's own trainer, engine and policy (tests/bench/plain_openrlhf.py); arms differ by
OpenRLHF's own flags for clip and entropy bonus. The embedded model is made before the clock starts.

Printed are wall times, what a step takes by phase on both sides, and the harness's own time: what
lies between two of our steps outside their phases, traces and ledger included. Exits 1 when `suite
run` is less than three times as fast, or when that time exceeds two per cent of a plain step.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

from suite.matrix.command import openrlhf_flags
from suite.matrix.expand import load_cells
from suite.spool.spool import attempts, read_from
from suite.worker.materials import materialise
from suite.workspace import Workspace

REPO = Path(__file__).resolve().parent.parent.parent
TARGET, MOST_OVERHEAD = 3.0, 0.02
WARM_UP = 3  # steps that are left out of the medians
PHASES = {  # ours -> OpenRLHF's timings; it rewards while it generates
    "generation, reward": (("generation", "reward"), ("generation",)),
    "experience": (("experience",), ("make_experience",)),
    "update": (("update",), ("ppo_train",)),
    "sync": (("sync",), ("broadcast",)),
}


def write_matrix(path, steps):
    """The quickstart with a budget of steps and nothing to score."""
    matrix = yaml.safe_load((REPO / "matrix.yaml").read_text())
    matrix |= {"budget": {"steps": steps}, "evaluate": {"at": []}}
    path.write_text(yaml.safe_dump(matrix, sort_keys=False))


def plain_flags(cell, workspace, folder, steps):
    """The cell's OpenRLHF flags, with those that stand for its algorithm and its budget."""
    flags = openrlhf_flags(cell, workspace, folder)
    flags += ["--data.max_samples", str(steps * cell.train["prompts_per_step"])]
    low, high = cell.settings.get("eps_low", 0.2), cell.settings.get("eps_high", 0.2)
    flags += ["--actor.eps_clip_low_high", str(low), str(high)]
    if "coefficient" in cell.settings:
        flags += ["--actor.entropy_coef", str(cell.settings["coefficient"])]
    return flags


def timed(command, log, env):
    """Unix time of its start, and seconds to its end; its output is in `log`."""
    start = time.time()
    with log.open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=output, env=env, cwd=REPO).returncode
    if code:
        sys.exit(f"{' '.join(command[:3])} failed:\n" + log.read_text()[-4000:])
    return start, time.time() - start


def plain(cell, workspace, folder, steps, env):
    """One launch: seconds in all, seconds to the first step, and its steps."""
    folder.mkdir()
    script = Path(__file__).with_name("plain_openrlhf.py")
    lines = folder / "steps.jsonl"
    command = [sys.executable, str(script), str(lines)]
    command += plain_flags(cell, workspace, folder, steps)
    start, seconds = timed(command, folder / "log", env)
    rows, _ = read_from(lines, 0)
    if len(rows) != steps + 1:
        sys.exit(f"OpenRLHF made {len(rows) - 1} steps instead of {steps}")
    found = []
    for before, row in itertools.pairwise(rows):
        step = {"number": row["step"], "step": row["time"] - before["time"]}
        step["length"] = row["rollout/response_length_mean"]
        for phase, (_, theirs) in PHASES.items():
            step[phase] = sum(row[f"timing/{name}"] for name in theirs)
        found.append(step)
    return {"seconds": seconds, "start_up": rows[0]["time"] - start, "steps": found}


def ours(matrix, db, cells, env):
    """The whole matrix: seconds in all, seconds to the first arm's first step, and all steps."""
    command = [sys.executable, "-m", "suite.cli", "run", str(matrix), "--db", str(db)]
    start, seconds = timed(command, db.with_name("suite.log"), env)
    found, begins = [], []
    for cell in cells:
        ((_, path),) = attempts(Workspace(db).cell(cell.id))
        rows, _ = read_from(path, 0)
        (began,) = [row["time"] for row in rows if row["kind"] == "training"]
        begins.append(began)
        last = began
        for row in (row for row in rows if row["kind"] == "trace"):
            step = {"number": row["step"], "step": row["time"] - last}
            step["length"] = row["response_length"]
            for phase, (mine, _) in PHASES.items():
                step[phase] = sum(row[f"seconds/{name}"] for name in mine)
            step["outside"] = step["step"] - sum(step[phase] for phase in PHASES)
            step["after_checkpoint"] = row["step"] % cell.train["checkpoint_every"] == 1
            found.append(step)
            last = row["time"]
    return {"seconds": seconds, "start_up": min(begins) - start, "steps": found}


def steady(steps, name):
    """The median of a number over the steps after the first ones."""
    return median(
        s[name] for s in steps if s["number"] > WARM_UP and not s.get("after_checkpoint", False)
    )


def report(mine, launches, steps):
    """Print it all; the exit status."""
    theirs = [step for launch in launches for step in launch["steps"]]
    loop = sum(launch["seconds"] for launch in launches)
    ratio = loop / mine["seconds"]
    print(f"{len(launches)} arms of {steps} steps, seconds:")
    starts = [launch["start_up"] for launch in launches]
    mine_steps, their_steps = (sum(s["step"] for s in x) for x in (mine["steps"], theirs))
    for name, all_, start, in_steps in (
        ("plain OpenRLHF", loop, sum(starts), their_steps),
        ("suite run", mine["seconds"], mine["start_up"], mine_steps),
    ):
        rest = all_ - start - in_steps
        print(f"  {name:15} {all_:7.1f} = start-up {start:.1f} + steps {in_steps:.1f} + {rest:.1f}")
    print(f"  suite run is {ratio:.2f} times as fast; the target is {TARGET:g}")
    print("a steady step, milliseconds (median), plain / ours:")
    for phase in (*PHASES, "step"):
        one, other = steady(theirs, phase), steady(mine["steps"], phase)
        print(f"  {phase:20} {1000 * one:7.0f} {1000 * other:7.0f}   {one / other:5.2f}")
    lengths = steady(theirs, "length"), steady(mine["steps"], "length")
    print(f"  tokens a response    {lengths[0]:7.1f} {lengths[1]:7.1f}")
    outside, step = steady(mine["steps"], "outside"), steady(theirs, "step")
    print(
        f"the harness's own time: {1000 * outside:.1f} ms a step, {outside / step:.2%} of a plain "
        f"step, {outside / steady(mine['steps'], 'step'):.2%} of ours; at most {MOST_OVERHEAD:.0%}"
    )
    return int(ratio < TARGET or outside > MOST_OVERHEAD * step)


def main():
    """Both sides, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--cache", type=Path, help="folder with the embedded model, made if absent")
    parser.add_argument("--out", type=Path, help="keep everything here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.out or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["SUITE_CACHE"] = str((given.cache or folder / "models").resolve())
        env = os.environ | {"PYTHONPATH": str(REPO)}
        write_matrix(folder / "matrix.yaml", given.steps)
        cells = load_cells(folder / "matrix.yaml")
        before = Workspace(folder / "plain.db")
        for cell in cells:
            materialise(cell, before, print)
        launches = []

        def launch(some):
            for cell in some:
                where = folder / f"plain-{cell.arm}"
                launches.append(plain(cell, before, where, given.steps, env))
                print(f"plain {cell.arm}: {launches[-1]['seconds']:.1f} s", flush=True)

        half = len(cells) // 2
        launch(cells[:half])
        mine = ours(folder / "matrix.yaml", folder / "runs.db", cells, env)
        print(f"suite run: {mine['seconds']:.1f} s", flush=True)
        launch(cells[half:])
        found = json.dumps({"plain": launches, "ours": mine})
        (folder / "measured.json").write_text(found)
        sys.exit(report(mine, launches, given.steps))


if __name__ == "__main__":
    main()

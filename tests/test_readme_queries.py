"""The example queries of the pages print what the pages show, on a small fixed history.

After a change that is meant: `python tests/test_readme_queries.py` writes what is printed now into
the README and docs/history-and-sql.md.
"""

import io
import re
import sys
import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from suite.cli import sql_prompt as sql
from suite.matrix.cell import Cell
from suite.spool import spool
from suite.store import Store
from suite.store.sandbox import query
from suite.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
README, HISTORY = ROOT / "README.md", ROOT / "docs" / "history-and-sql.md"
EXAMPLE = re.compile(r"```sql\n(.*?)```\n```\n(.*?)```\n", re.DOTALL)
ARMS = {"grpo": {}, "entreg": {"coefficient": 0.002}, "clip-higher": {"eps_high": 0.28}}
STEPS, PROBLEMS, SAMPLES = 4, 6, 8


def cell(arm, seed):
    return Cell(
        matrix="example",
        arm=arm,
        algorithm=arm,
        settings={"eps_low": 0.2, "eps_high": 0.2} | ARMS[arm],
        model="arithmetic-tiny",
        seed=seed,
        train={"lr": 0.0005},
        evaluate={"benchmarks": ["arithmetic"], "samples": SAMPLES, "pass_at": [1, 8]},
        budget={"gpu_hours": 0.02},
        resources={"gpus": 1},
        identity={},
    )


def history(db):
    """Three arms, two seeds, four steps, evaluated before, in the middle and at the end."""
    store = Store(Workspace(db))
    cells = [cell(arm, seed) for seed in (0, 1) for arm in ARMS]
    store.register(cells)
    for number, one in enumerate(cells):
        write = spool.Spool(spool.path_of(store.workspace.cell(one.id), 1)).write
        place, seed = list(ARMS).index(one.arm), one.seed
        evaluate(write, 0, 0.0, [0, 1, 2, 4, 6, 8])
        for step in range(1, STEPS + 1):
            seconds = {"seconds/generation": 9.0 + place, "seconds/update": 9.0 - place}
            write(
                "trace",
                attempt=1,
                step=step,
                entropy=round(0.6 * (0.7 + 0.1 * place) ** step + 0.01 * seed, 4),
                reward=round(0.4 + 0.1 * step - 0.02 * number, 4),
                response_length=12.0 + step,
                clip_low=0.02 + 0.001 * step,
                clip_high=0.0 if one.arm == "entreg" else 0.03 - 0.01 * place,
                gpu_hours=0.005 * step,
                budget_fraction=step / STEPS,
                differs_from_grpo=0.0 if one.arm == "grpo" else 0.1,
                **seconds,
            )
            if step == 2:
                evaluate(write, 2, 0.5, [0, 2 + seed, 4 + 2 * place, 6, 7, 8])
        evaluate(write, STEPS, 1.0, [place, 3 + seed, 5 + place, 7 - place, 8, 8])
        store.ingest(one.id)
        store.set_status(one.id, "finished")
    store.close()


def evaluate(write, step, fraction, correct):
    for number, right in enumerate(correct):
        write(
            "eval",
            attempt=1,
            step=step,
            fraction=fraction,
            benchmark="arithmetic",
            problem=f"{12 + number}+{30 * number}",
            first=0,
            n=SAMPLES,
            seed=number,
            verdicts="c" * right + "w" * (SAMPLES - right),
            stops="s" * SAMPLES,
            lengths=[10 + number] * SAMPLES,
            digests=list(range(SAMPLES)),
            answers=["1"] * SAMPLES,
            examples=[],
        )
    where = {"attempt": 1, "step": step, "fraction": fraction}
    write("evaluated", **where, gpu_hours=0.005 * step, tokens=1000 * step, samples=256 * step)


def printed(db, text):
    """What `suite sql` prints of a query, as wide as it needs."""
    out = io.StringIO()
    Console(file=out, width=120).print(sql.table(query(db, text)))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    path = tmp_path_factory.mktemp("example") / "runs.db"
    history(path)
    return path


EXAMPLES = EXAMPLE.findall(HISTORY.read_text())
SHOWN_FIRST = EXAMPLE.findall(README.read_text())


def test_there_are_ten_and_three_of_them_in_the_readme():
    assert len(EXAMPLES) >= 10 and len(SHOWN_FIRST) == 3
    assert set(SHOWN_FIRST) <= set(EXAMPLES)
    for page, examples in ((HISTORY, EXAMPLES), (README, SHOWN_FIRST)):
        assert page.read_text().count("```sql") == len(examples), (
            "each query is shown with its answer"
        )


@pytest.mark.parametrize(("text", "shown"), EXAMPLES, ids=[e[0].splitlines()[0] for e in EXAMPLES])
def test_the_page_shows_what_is_printed(db, text, shown):
    assert printed(db, text) == shown


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        history(path)
        for page in (README, HISTORY):
            page.write_text(
                EXAMPLE.sub(
                    lambda m: f"```sql\n{m[1]}```\n```\n{printed(path, m[1])}```\n",
                    page.read_text(),
                )
            )
    sys.exit()

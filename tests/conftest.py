"""Shared by all tests: the embedded model, a browser; what each test needs, and beside which."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: two spinning pools on two cores crawl

REPO = Path(__file__).resolve().parent.parent
SMALL = """\
name: m
model: arithmetic-tiny
train: {prompts_per_step: 8, samples_per_prompt: 4}
budget: {steps: 10}
arms: {grpo: {}, clip: {eps_high: .inf}}
evaluate: {samples: 4, pass_at: [1], at: [0, 1.0], problems: 5}
"""
# What a test asks for tells what it needs: no mark of these can be forgotten.
NEEDS = {
    "arithmetic_model": "model",
    "browser": "browser",
    "cluster": "stack",
    "parsed": "slow",  # by OpenRLHF, which takes long to import
}
# About how long files take by themselves, in seconds; any other is taken for QUICK.
SECONDS = {
    **{"test_chaos": 308, "test_tutorial": 171, "test_by_hand": 130, "test_dashboard": 125},
    **{"test_stack": 109, "test_cluster": 103, "test_end_to_end": 101, "test_resume": 97},
    **{"test_matrices": 90, "test_arms": 75, "test_evaluation": 60, "test_pictures": 40},
    **{"test_results": 60, "test_lab": 60, "test_table": 50, "test_grading": 45, "test_cli": 45},
    **{"test_against": 40, "test_equal_cost": 35, "test_dashboard_parts": 35, "test_history": 25},
    **{"test_audit": 25, "test_lab_command": 20, "test_plan": 20, "test_entropy": 20},
}
QUICK = 4


@pytest.hookimpl(tryfirst=True)  # before tests are picked by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with what its fixtures need, and put the files in a good order.

    Where two files run side by side, only one of them is to start the stack as long as there are
    others: two starts at once gain nothing, for each wants both cores.
    """
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        for fixture in NEEDS.keys() & set(item.fixturenames):
            item.add_marker(NEEDS[fixture])
        files.setdefault(item.path.stem, []).append(item)
    longest = sorted(files, key=lambda name: -SECONDS.get(name, QUICK))
    heavy = [n for n in longest if any(item.get_closest_marker("stack") for item in files[n])]
    light = [n for n in longest if n not in heavy]
    items[:] = [item for name in _side_by_side(heavy, light) for item in files[name]]


def _side_by_side(heavy: list[str], light: list[str]) -> list[str]:
    """The order in which two workers that take the next file keep one of each kind running."""
    order, busy = [], {"heavy": 0, "light": 0}
    waiting = {"heavy": heavy[:], "light": light[:]}
    while waiting["heavy"] or waiting["light"]:
        kind = "heavy" if busy["heavy"] <= busy["light"] else "light"
        kind = kind if waiting[kind] else "light" if kind == "heavy" else "heavy"
        order.append(waiting[kind].pop(0))
        busy[kind] += SECONDS.get(order[-1], QUICK)
    return order


@pytest.fixture(scope="session", autouse=True)
def no_database_stays_open():
    """The dashboard's functions keep their connections, and DuckDB complains of it at the end."""
    yield
    if "streamlit" in sys.modules:
        sys.modules["streamlit"].cache_resource.clear()


@pytest.fixture(scope="session")
def repo() -> Path:
    return REPO


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Where trained models are kept between test runs; the quickstart uses the same one."""
    return Path(os.environ.get("SUITE_CACHE", REPO / "runs" / "models"))


@pytest.fixture(scope="session")
def arithmetic_model(model_cache: Path) -> Path:
    """The embedded model's folder: about a minute of training the first time, by one process."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.arithmetic.model import cached;"
        "print(cached(Path(sys.argv[1]), log=lambda text: None))"
    )
    model_cache.mkdir(parents=True, exist_ok=True)
    with (model_cache / ".building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others wait for the model instead of building it too
        built = subprocess.run(
            [sys.executable, "-c", code, str(model_cache)],
            cwd=REPO,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return Path(built.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def browser():
    """A real Chromium."""
    from tests.browsing import chromium

    with chromium() as started:
        yield started


@pytest.fixture
def cells(tmp_path: Path):
    """Loads the cells of a small matrix, or of the text given."""
    from suite.matrix.expand import load_cells

    def load(text=SMALL):
        (tmp_path / "m.yaml").write_text(text)
        return load_cells(tmp_path / "m.yaml")

    return load

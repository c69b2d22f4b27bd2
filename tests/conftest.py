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
# Files of which tests start the stack, the longest first. Two starts at once gain nothing, each
# wants both cores, and Ray gives up on a node that takes too long: so these run one after the
# other, beside the rest.
STACK = (
    *("test_chaos", "test_tutorial", "test_by_hand", "test_dashboard", "test_stack"),
    *("test_cluster", "test_end_to_end", "test_resume", "test_matrices", "test_arms"),
    *("test_evaluation", "test_sync"),
)
# Of the rest, those that take longest.
LONGEST = ("test_results", "test_lab", "test_table", "test_grading", "test_cli", "test_pictures")


@pytest.hookimpl(tryfirst=True)  # before tests are picked by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with what its fixtures need; files that take long come first."""
    for item in items:
        for fixture in NEEDS.keys() & set(item.fixturenames):
            item.add_marker(NEEDS[fixture])
        if item.get_closest_marker("stack") and item.path.stem not in STACK:
            raise pytest.UsageError(f"{item.path} starts the stack: name it in conftest's STACK")
    place = {name: number for number, name in enumerate((*STACK, *LONGEST))}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Where tests run side by side: a file's stay together, and those of STACK's files too."""
    from xdist.scheduler import LoadFileScheduling

    class OneStack(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "stack" if Path(file).stem in STACK else file

    return OneStack(config, log)


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

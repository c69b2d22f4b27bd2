"""Shared by all tests: paths, the embedded model (built once), and one real run of the suite."""

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
    """The embedded model's folder: about a minute of training the first time."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.arithmetic.model import cached;"
        "print(cached(Path(sys.argv[1]), log=lambda text: None))"
    )
    built = subprocess.run(
        [sys.executable, "-c", code, str(model_cache)],
        cwd=REPO,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Path(built.stdout.strip().splitlines()[-1])


@pytest.fixture
def cells(tmp_path: Path):
    """Loads the cells of a small matrix, or of the text given."""
    from suite.matrix.expand import load_cells

    def load(text=SMALL):
        (tmp_path / "m.yaml").write_text(text)
        return load_cells(tmp_path / "m.yaml")

    return load

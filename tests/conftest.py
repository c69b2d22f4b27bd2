"""Shared by all tests: paths, the embedded model (built once), and one real run of the suite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: two spinning pools on two cores crawl

REPO = Path(__file__).resolve().parent.parent


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

"""The command line stays light and imports flow one way."""

import ast
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "ray",
    "vllm",
    "deepspeed",
    "transformers",
    "openrlhf",
    "streamlit",
    "math_verify",
    "datasets",
    "lm_eval",
    "matplotlib",
    "numba",
)


def loaded_after(code, repo):
    """Which heavy packages a fresh interpreter has loaded after running `code`."""
    script = f"import sys\n{code}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=repo, capture_output=True, text=True, check=True
    )
    return ran.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plan", "matrix.yaml"], ["plan", "--help"], ["lab"]]
)
def test_help_and_plan_load_nothing_heavy(arguments, repo):
    code = (
        f"sys.argv = ['suite', *{arguments!r}]\n"
        "from suite.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code"
    )
    assert loaded_after(code, repo) == []


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import algorithms; algorithms.load('entreg')", []),
        ("import algorithms.objective, algorithms.entropy", ["torch"]),
        ("import suite.stats, suite.store, suite.report", []),
        ("import benchmarks.grading, benchmarks.sampling, benchmarks.arithmetic.problems", []),
        ("import benchmarks.overlap, benchmarks.catalogue as c; c.load('arithmetic_chain')", []),
    ],
)
def test_each_part_loads_only_what_it_is_for(code, allowed, repo):
    assert set(loaded_after(code, repo)) <= set(allowed)


FORBIDDEN = {
    "algorithms": {"suite", "benchmarks", "dashboard"},
    "benchmarks": {"suite", "algorithms", "dashboard"},
    "suite": {"dashboard"},
}


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_flow_one_way(package, repo):
    for path in (repo / package).rglob("*.py"):
        assert not FORBIDDEN[package] & set(imported_packages(path)), path


@pytest.mark.parametrize(
    ("library", "seam"),
    [
        ("openrlhf", ("algorithms/openrlhf",)),
        ("ray", ("algorithms/openrlhf", "suite/scheduler.py")),
        ("duckdb", ("suite",)),
    ],
)
def test_each_library_is_reached_from_one_place(library, seam, repo):
    files = [p for package in FORBIDDEN for p in (repo / package).rglob("*.py")]
    users = {p.relative_to(repo).as_posix() for p in files if library in set(imported_packages(p))}
    assert users and all(user.startswith(seam) for user in users)


def test_every_file_says_why_it_exists(repo):
    for package in (*FORBIDDEN, "dashboard", "tests"):
        for path in (repo / package).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), path

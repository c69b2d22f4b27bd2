"""The command line stays light and imports flow one way."""

import ast
import re
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
        "from suite.cli.app import main\n"
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


PACKAGES = ("dashboard", "suite", "algorithms", "benchmarks")
# From top to bottom: a room imports what stands below it, and nothing above.
ROOMS = (
    "dashboard",
    "suite.cli",
    "suite.report",
    "suite.plan",
    "suite.run",
    "suite.worker",
    "suite.lab",
    "suite.store",
    "suite.matrix",
    "suite.stats",
    "suite.spool",
    "suite.machine",
    "suite.metrics",
    "suite.workspace",
    "suite.text",
    "suite.bootstrap",
    "benchmarks",
    "algorithms",
)
SEAMS = {
    "openrlhf": ("algorithms/openrlhf/",),
    "ray": ("algorithms/openrlhf/", "suite/run/cluster.py"),
    "streamlit": ("dashboard/",),
}


def modules(repo):
    """Dotted name -> parsed file, of every module of the four packages."""
    trees = {}
    for package in PACKAGES:
        for path in (repo / package).rglob("*.py"):
            name = ".".join(path.relative_to(repo).with_suffix("").parts).removesuffix(".__init__")
            trees[name] = ast.parse(path.read_text())
    return trees


def imported(tree):
    """Full names of everything that a file imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.fixture(scope="module")
def arrows(repo):
    """Module -> the modules of ours that it imports."""
    trees = modules(repo)

    def module_of(name):
        while name and name not in trees:
            name = name.rpartition(".")[0]
        return name

    return {
        name: {module_of(full) for full in imported(tree)} - {"", name}
        for name, tree in trees.items()
    }


def room(module):
    """The first folder, or file beside the folders, that a module lies in."""
    package, _, rest = module.partition(".")
    return f"suite.{rest.split('.')[0]}" if package == "suite" and rest else package


def test_imports_go_down_from_room_to_room(arrows):
    found = {room(module) for module in arrows} - {"suite"}
    assert found == set(ROOMS)
    upwards = [
        f"{module} imports {target}"
        for module, targets in arrows.items()
        for target in targets
        if "suite" not in (module, target)
        and room(module) != room(target)
        and ROOMS.index(room(target)) <= ROOMS.index(room(module))
    ]
    assert upwards == []
    lowest = {"algorithms", "benchmarks"}
    assert not any(
        room(target) in lowest - {room(module)}
        for module, targets in arrows.items()
        if room(module) in lowest
        for target in targets
    ), "algorithms and benchmarks know nothing of each other"


def test_no_modules_import_each_other_in_a_circle(arrows):
    waiting = dict(arrows)
    while waiting:
        free = {name for name, targets in waiting.items() if not targets & waiting.keys()}
        assert free, f"a circle is among {sorted(waiting)}"
        waiting = {name: targets for name, targets in waiting.items() if name not in free}


@pytest.mark.parametrize("library", SEAMS)
def test_each_library_is_reached_from_one_place(library, repo):
    users = {
        path.relative_to(repo).as_posix()
        for package in PACKAGES
        for path in (repo / package).rglob("*.py")
        if library in {name.split(".")[0] for name in imported(ast.parse(path.read_text()))}
    }
    assert users and all(user.startswith(SEAMS[library]) for user in users)


def test_the_store_alone_opens_databases_for_writing(repo):
    def opens(node):
        if not isinstance(node, ast.Call):
            return False
        name = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        return name == "duckdb.connect" or given.get("read_only") == "False"

    writers = {
        name for name, tree in modules(repo).items() if any(opens(node) for node in ast.walk(tree))
    }
    assert "suite.store.store" in writers
    assert {room(name) for name in writers} == {"suite.store"}


def test_tables_are_read_through_views(repo):
    """The schema `data` is the store's own: everybody else asks the views."""
    for package in ("suite", "dashboard"):
        for path in (repo / package).rglob("*.py"):
            if not path.is_relative_to(repo / "suite" / "store"):
                assert not re.search(r"(FROM|JOIN|INTO)\s+data\.", path.read_text()), path


def test_every_file_says_why_it_exists(repo):
    for package in (*PACKAGES, "tests"):
        for path in (repo / package).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), path

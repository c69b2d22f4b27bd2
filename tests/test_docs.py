"""The pages say what is there: commands, algorithms, benchmarks, keys, views, paths, the rooms.

What a reader can find is the README and the pages that it links; what is asked of "the pages" here
is asked of those.
"""

import ast
import re
from itertools import pairwise

import pytest
import yaml
from pydantic_core import PydanticUndefined
from typer.main import get_command

from algorithms import ALGORITHMS
from benchmarks.catalogue import known
from benchmarks.sampling import PRESETS
from suite.cli.app import app
from suite.matrix import schema
from suite.matrix.expand import load_cells
from suite.store.views import VIEWS
from tests.test_imports import ROOMS, imported

README_LINES = 200
WORDS = {12: "twelve", 13: "thirteen", 14: "fourteen", 15: "fifteen", 16: "sixteen"}


@pytest.fixture(scope="module")
def readme(repo):
    return (repo / "README.md").read_text()


@pytest.fixture(scope="module")
def linked(repo, readme):
    """The pages of ours that the README links, and itself: path -> text."""
    paths = {(repo / path).resolve() for path in re.findall(r"\]\(([^)\s#:]+\.md)", readme)}
    return {path: path.read_text() for path in (repo / "README.md", *sorted(paths))}


@pytest.fixture(scope="module")
def readable(linked):
    return "\n".join(linked.values())


def pages(repo):
    return [*repo.glob("*.md"), *(repo / "docs").glob("*.md"), *(repo / "matrices").glob("*.md")]


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def table_rows(text):
    """The cells of each row of each table, without backticks around the first one."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


# The README and its links ------------------------------------------------------------------------


def test_the_readme_is_short(readme):
    assert len(readme.splitlines()) <= README_LINES


def test_the_readme_has_one_picture_and_it_comes_first(readme):
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", readme)
    assert picture.startswith("docs/images/")
    assert readme[: readme.index(picture)].count("\n") < 15


def test_every_page_is_linked_from_the_readme(linked, repo):
    assert {path.resolve() for path in pages(repo)} == {path.resolve() for path in linked}


def anchor(title):
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")


def without_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def test_every_link_leads_somewhere(repo):
    seen = 0
    for page in pages(repo):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if link.startswith("https://"):
                continue
            path, _, fragment = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), (page.name, link)
            if fragment:
                titles = re.findall(r"^#+ (.*)$", without_code(target.read_text()), re.MULTILINE)
                assert fragment in [anchor(title) for title in titles], (page.name, link)
            seen += 1
    assert seen > 60


def test_every_path_named_exists(repo):
    made = ("tests/test_X.py", "algorithms/raft.py")  # a pattern; what a page tells to write
    for page in pages(repo):
        named = r"`((?:suite|algorithms|benchmarks|dashboard|tests|matrices|docs)/[\w/.-]*)`"
        for path in set(re.findall(named, page.read_text())) - set(made):
            assert (repo / path).exists(), (page.name, path)


def test_every_make_target_named_exists(repo):
    targets = set(re.findall(r"^([a-z]+):", (repo / "Makefile").read_text(), re.MULTILINE))
    for page in pages(repo):
        named = re.findall(r"(?:`|^)make ([a-z]+)\b", page.read_text(), re.MULTILINE)
        assert set(named) <= targets, page.name


# Commands ----------------------------------------------------------------------------------------


def test_every_command_is_described(readme):
    for name, command in get_command(app).commands.items():
        assert f"`suite {name}" in readme
        assert command.help


def test_every_described_command_exists(readme):
    assert set(re.findall(r"^\| `suite (\w+)", readme, re.MULTILINE)) == set(
        get_command(app).commands
    )


def test_every_command_of_db_is_described(readable):
    described = set(re.findall(r"^\| `suite db (\w+)", readable, re.MULTILINE))
    assert described == set(get_command(app).commands["db"].commands)


def options(command):
    return {name for parameter in command.params for name in parameter.opts}


def every_option(command):
    return options(command) | {
        name for parameter in command.params for name in parameter.secondary_opts
    }


def test_every_flag_shown_is_one_of_its_command(repo):
    """In lines of commands, and in the table of the README beside a command's name."""
    commands = get_command(app).commands
    seen = []
    for page in [*pages(repo), repo / "Makefile"]:
        for line in page.read_text().splitlines():
            for name, rest in re.findall(r"(?<![\w/.-])suite ([a-z]+)\b([^`#]*)", line):
                if name not in commands:
                    continue
                command, (sub, *_) = commands[name], (*rest.split(), "")
                command = getattr(command, "commands", {}).get(sub, command)
                row = line.startswith(f"| `suite {name}") and line.count("`suite ") == 1
                flags = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line if row else rest)
                for flag in flags:
                    seen.append(flag)
                    assert flag in every_option(command), (page.name, line)
    assert len(seen) > 40


def test_every_option_of_scoring_is_described(repo):
    page = (repo / "docs" / "benchmarks.md").read_text()
    for flag in options(get_command(app).commands["eval"]) - {"model", "--db"}:
        assert re.search(rf"{flag}(?![\w-])", page), flag


def test_every_option_of_a_report_is_described(repo):
    page = (repo / "docs" / "reports.md").read_text()
    for name in ("report", "results"):
        for flag in options(get_command(app).commands[name]) - {"matrix", "source", "--db"}:
            assert re.search(rf"{flag}(?![\w-])", page), (name, flag)


# What there is -----------------------------------------------------------------------------------


def test_every_algorithm_is_described(readme):
    assert set(re.findall(r"^\| `([\w-]+)` \| .* \| 2\d{3}\.", readme, re.MULTILINE)) == set(
        ALGORITHMS
    )


def test_every_benchmark_is_described(readable):
    """With its size, its licence and where it comes from, as the task file says them."""
    for benchmark in known().values():
        if benchmark.embedded:
            assert f"`{benchmark.name}`" in readable
            continue
        (row,) = re.findall(rf"^\| `{benchmark.name}` \|.*$", readable, re.MULTILINE)
        for part in (f"| {benchmark.problems:,} |", benchmark.hub, benchmark.revision[:7]):
            assert part in row


def test_every_preset_is_described(repo):
    page = (repo / "docs" / "benchmarks.md").read_text()
    rows = {name.strip("`"): text for name, text, *_ in table_rows(page)}
    for name, sampling in PRESETS.items():
        for key, value in sampling.items():
            shown = f"{value} samples" if key == "samples" else f"{key} {value:g}"
            assert shown in rows[name], (name, shown)


def test_every_view_is_described(readme, repo):
    page = (repo / "docs" / "history-and-sql.md").read_text()
    for name in VIEWS:
        assert f"`{name}`" in readme
        assert re.search(rf"^\| `{name}` \|", page, re.MULTILINE), name


@pytest.mark.parametrize(
    "section", [schema.Matrix, schema.Budget, schema.Resources, schema.Train, schema.Evaluate]
)
def test_every_key_of_a_matrix_is_described_with_its_default(section, repo):
    rows = list(table_rows((repo / "docs" / "matrix.md").read_text()))
    for key, field in section.model_fields.items():
        shown = [row[1].strip("`") for row in rows if row[0] == f"`{key}`"]
        if field.default is PydanticUndefined:
            assert "needed" in shown, key
        else:
            assert field.default in [yaml.safe_load(text) for text in shown], (key, shown)


def test_every_file_of_matrices_is_described(repo):
    folder = repo / "matrices"
    text = (folder / "README.md").read_text()
    named = {name for name in re.findall(r"`([\w/.-]+\.yaml)`", text) if (folder / name).exists()}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")}
    assert named - {"../matrix.yaml"} == there


def test_every_example_in_yaml_can_be_read(repo):
    for page in pages(repo):
        for text in blocks(page.read_text(), "yaml"):
            assert all(yaml.safe_load_all(text)), page.name


def test_the_matrix_shown_is_a_good_one(readme, repo, tmp_path):
    (shown,) = blocks(readme, "yaml")
    (tmp_path / "m.yaml").write_text(shown)
    assert len(load_cells(tmp_path / "m.yaml")) == 4
    assert blocks((repo / "docs" / "matrix.md").read_text(), "yaml") == [shown]


def test_the_error_shown_is_the_one_given(readable, repo, tmp_path):
    text = (repo / "matrix.yaml").read_text().replace("prompts_per_step", "promts_per_step")
    (tmp_path / "matrix.yaml").write_text(text)
    with pytest.raises(ValueError, match="promts_per_step") as caught:
        load_cells(tmp_path / "matrix.yaml")
    (shown,) = re.findall(r"^matrix.yaml(:\d+: .*)$", readable, re.MULTILINE)
    assert shown in str(caught.value)


def test_the_excerpt_is_of_the_quickstart(readable, repo):
    excerpt = readable.split("<!-- excerpt: make demo -->")[1].split("```")[1]
    for cell in load_cells(repo / "matrix.yaml"):
        assert re.search(rf"│ {cell.arm} +│ {cell.seed} ", excerpt), cell.arm
    assert "│ base model" in excerpt


def test_a_run_is_called_a_run(repo):
    """One word for one thing: "cell" is the name of a class, and of a table's field."""
    written_by_code = ("lab.md", "RESULTS.md")
    for page in pages(repo):
        if page.name not in written_by_code:
            text = re.sub(r"`[^`\n]*`", "", without_code(page.read_text()))
            assert not re.search(r"\bcells\b", text), page.name


# The map -----------------------------------------------------------------------------------------


def test_the_map_has_every_room_in_order(repo):
    page = (repo / "docs" / "architecture.md").read_text()
    table = page.split("| room | what it is for |")[1].split("\n\n")[0]
    shown = [row[0].strip("`").removesuffix(".py").replace("/", ".") for row in table_rows(table)]
    assert set(shown) == set(ROOMS)
    assert all((repo / row[0].strip("`")).exists() for row in table_rows(table))
    folders = [room for room in ROOMS if (repo / room.replace(".", "/")).is_dir()]
    assert [room for room in shown if room in folders] == folders


# One file hands over to the next by importing it, but for these.
HANDED_OVER = {
    ("suite/run/processes.py", "suite/worker/__main__.py"): '"suite.worker"',  # a new process
    # The driver gives OpenRLHF these three classes; it makes and calls them.
    ("algorithms/openrlhf/controller.py", "algorithms/openrlhf/actor.py"): "actor_model_group",
    ("algorithms/openrlhf/trainer.py", "algorithms/grpo.py"): "algorithm.objective(",  # a method
}


def test_every_file_from_the_command_to_the_equation_is_named(repo):
    page = (repo / "docs" / "architecture.md").read_text()
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`", page.split("\n## ")[1], re.MULTILINE)
    assert f"These {WORDS[len(steps)]} files" in page
    assert (steps[0], steps[-1]) == ("suite/cli/app.py", "algorithms/objective.py")
    for step, following in pairwise(steps):
        if (step, following) in HANDED_OVER:
            assert HANDED_OVER[step, following] in (repo / step).read_text(), step
        else:
            assert repo / following in handed_to(repo, repo / step), (step, following)
    plugged_in = {repo / f"algorithms/openrlhf/{name}.py" for name in ("controller", "actor")}
    assert plugged_in <= handed_to(repo, repo / "algorithms/openrlhf/driver.py")
    assert "def objective(" in (repo / "algorithms/grpo.py").read_text()


def handed_to(repo, path):
    """The files of ours that a file imports, or whose functions it calls by their full name."""
    text = path.read_text()
    names = [*imported(ast.parse(text)), *re.findall(r"\balgorithms\.\w+(?=\.\w+\()", text)]
    files = {repo / f"{name.replace('.', '/')}.py" for name in names}
    files |= {repo / f"{name.rpartition('.')[0].replace('.', '/')}.py" for name in names}
    return {file for file in files if file.is_file()}

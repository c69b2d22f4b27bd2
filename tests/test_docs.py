"""The README says what is there: commands, algorithms, paths, matrices, the way to the equation."""

import re
from itertools import pairwise

import pytest
import yaml
from typer.main import get_command

from algorithms import ALGORITHMS
from benchmarks.catalogue import known
from suite.cli.app import app
from suite.matrix.expand import load_cells


@pytest.fixture(scope="module")
def readme(repo):
    return (repo / "README.md").read_text()


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_every_command_is_described(readme):
    for name, command in get_command(app).commands.items():
        assert f"`suite {name}" in readme
        assert command.help


def test_every_described_command_exists(readme):
    assert set(re.findall(r"^\| `suite (\w+)", readme, re.MULTILINE)) == set(
        get_command(app).commands
    )


def options(command):
    return {name for parameter in command.params for name in parameter.opts}


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
                    assert flag in options(command), (page.name, line)
    assert len(seen) > 40


def test_every_example_in_yaml_can_be_read(repo):
    for page in pages(repo):
        for text in blocks(page.read_text(), "yaml"):
            assert all(yaml.safe_load_all(text)), page.name


def test_every_algorithm_is_described(readme):
    assert set(re.findall(r"^\| `([\w-]+)` \| .* \| 2\d{3}\.", readme, re.MULTILINE)) == set(
        ALGORITHMS
    )


def test_every_benchmark_is_described(readme):
    """With its size, its licence and where it comes from, as the task file says them."""
    for benchmark in known().values():
        if benchmark.embedded:
            assert f"`{benchmark.name}`" in readme
            continue
        (row,) = re.findall(rf"^\| `{benchmark.name}` \|.*$", readme, re.MULTILINE)
        for part in (f"| {benchmark.problems:,} |", benchmark.hub, benchmark.revision[:7]):
            assert part in row


def pages(repo):
    return [*repo.glob("*.md"), *(repo / "docs").glob("*.md")]


def test_every_path_named_exists(repo):
    made = ("tests/test_X.py", "algorithms/raft.py")  # a pattern; what a page tells to write
    for page in pages(repo):
        named = r"`((?:suite|algorithms|benchmarks|tests|matrices)/[\w/.-]+\.(?:py|yaml))`"
        for path in set(re.findall(named, page.read_text())) - set(made):
            assert (repo / path).is_file(), (page.name, path)


def test_every_link_leads_somewhere(repo):
    for page in pages(repo):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if link.startswith("https://"):
                continue
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), (page.name, link)
            if anchor:
                titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                assert anchor in [
                    re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles
                ]


def test_every_page_is_linked_from_the_readme(readme, repo):
    for page in (repo / "RESULTS.md", *(repo / "docs").glob("*.md")):
        assert f"]({page.relative_to(repo)})" in readme, page


def test_the_matrix_shown_is_a_good_one(readme, tmp_path):
    (yaml,) = blocks(readme, "yaml")
    (tmp_path / "m.yaml").write_text(yaml)
    assert len(load_cells(tmp_path / "m.yaml")) == 4


def test_the_error_shown_is_the_one_given(readme, repo, tmp_path):
    text = (repo / "matrix.yaml").read_text().replace("prompts_per_step", "promts_per_step")
    (tmp_path / "matrix.yaml").write_text(text)
    with pytest.raises(ValueError, match="promts_per_step") as caught:
        load_cells(tmp_path / "matrix.yaml")
    (shown,) = re.findall(r"^matrix.yaml(:\d+: .*)$", readme, re.MULTILINE)
    assert shown in str(caught.value)


def test_the_excerpt_is_of_the_quickstart(readme, repo):
    excerpt = readme.split("<!-- excerpt: make demo -->")[1].split("```")[1]
    for cell in load_cells(repo / "matrix.yaml"):
        assert re.search(rf"│ {cell.arm} +│ {cell.seed} ", excerpt), cell.arm
    assert "│ base model" in excerpt


def test_five_files_lead_from_the_command_to_the_equation(repo):
    page = (repo / "docs" / "architecture.md").read_text()
    steps = re.findall(r"^\d\. `([\w/]+\.py)`", page, re.MULTILINE)
    assert len(steps) == 5 and steps[0] == "suite/cli/app.py" and steps[-1] == "algorithms/grpo.py"
    hops = {"suite/worker/worker.py": 3}  # the driver and the actor are OpenRLHF's plumbing
    for step, following in pairwise(steps[:-1]):
        near = {repo / step}
        for _ in range(hops.get(step, 1)):
            near |= {path for one in near for path in imported(repo, one)}
        assert repo / following in near, (step, following)
    trainer, grpo = ((repo / step).read_text() for step in steps[-2:])
    assert "algorithm.objective(" in trainer and "def objective(" in grpo


def imported(repo, path):
    """The files of ours that a file imports."""
    found = re.findall(r"from ((?:suite|algorithms)[\w.]*) import ([\w, ]+)", path.read_text())
    for module, names in found:
        for name in ("", *(f".{name.split(' as ')[0].strip()}" for name in names.split(","))):
            file = repo / f"{(module + name).replace('.', '/')}.py"
            if file.is_file():
                yield file

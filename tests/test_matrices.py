"""The papers' matrices: they load, fit their hardware, OpenRLHF takes them, and they shrink."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import algorithms
from suite.cli.app import app
from suite.matrix import sources
from suite.matrix.expand import load_cells
from suite.matrix.schema import Train
from suite.matrix.shrink import GROUP, SAMPLES, STEPS, shrunk
from suite.plan import plan
from suite.plan.show import show
from suite.run.processes import MARK
from suite.store import connect
from suite.workspace import Workspace
from tests.parsing import parsed_by_openrlhf
from tests.running import suite

FOLDER = Path(__file__).resolve().parent.parent / "matrices"
PAPERS = [
    path
    for paper in ("aent", "aepo", "clip")
    for path in sorted((FOLDER / paper).glob("*.yaml"))
    if path.stem != "base"
]
EVERY = [*PAPERS, *sorted(p for p in FOLDER.glob("*.yaml") if p.stem != "published")]
TITLES = {"aent": "AEnt ", "aepo": "AEPO ", "clip": "CLIP"}
HARDWARE = {"aent": (("A100", 4), ("A100", 8)), "aepo": (("A800", 8), ("A800", 16))}
BY_DESIGN = {  # what arms differ in besides the method, because the experiment is about it
    "clip-random-rewards": ["train.reward"],
    "all-methods": ["train.optimizer_steps_per_rollout"],
    "miniature": ["train.optimizer_steps_per_rollout"],
}


def name(path):
    return str(path.relative_to(FOLDER))


every = pytest.mark.parametrize("path", EVERY, ids=name)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """One where nothing is known of any model but its name."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SUITE_DEVICE", "cpu")
    monkeypatch.delenv("SUITE_DATA", raising=False)
    return Workspace(tmp_path / "runs.db")


@pytest.fixture(scope="module")
def parsed(tmp_path_factory, repo):
    """Each file's cells with what OpenRLHF's parser makes of their flags, in one process."""
    workspace = Workspace(tmp_path_factory.mktemp("parsed") / "runs.db")
    cells = [(path, cell) for path in EVERY for cell in load_cells(path) if cell.seed == 0]
    found = parsed_by_openrlhf([cell for _, cell in cells], workspace, repo)
    return [(path, cell, args) for (path, cell), args in zip(cells, found, strict=True)]


def test_there_is_a_file_for_every_table_and_figure():
    assert {name(path) for path in EVERY} >= {
        *(f"aent/{f}.yaml" for f in ("table1a", "table1b", "table3", "fig2", "fig5", "fig6")),
        *(f"aepo/table1-{m}.yaml" for m in ("qwen2.5-7b", "qwen2.5-math-7b", "qwen3-4b")),
        *(f"aepo/{f}.yaml" for f in ("table2", "table3-targets", "table3-ablations")),
        *(f"aepo/fig{n}.yaml" for n in (2, 3, 4)),
        *(f"clip/fig{n}.yaml" for n in (3, 4, 5, 6, 7, 9, 10)),
        "clip/random-rewards.yaml",
        "all-methods.yaml",
    }


@pytest.mark.parametrize("path", PAPERS, ids=name)
def test_its_name_is_its_path_and_its_comment_says_what_it_is(path):
    assert {cell.matrix for cell in load_cells(path)} == {f"{path.parent.name}-{path.stem}"}
    opening = re.split(r"^name:", path.read_text(), flags=re.MULTILINE)[0]
    assert opening.startswith(f"# {TITLES[path.parent.name]}")
    assert "\n# Claims" in opening and "Differs" in opening


@every
def test_it_plans_fits_its_hardware_and_prints_its_commands(path, workspace):
    cells = load_cells(path)
    planned = plan.prepare(cells, workspace)
    assert [one.problems for one in planned if one.problems] == []
    assert all(one.fits and one.estimate.gpu_hours > 0 for one in planned)
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115
    show(console, path, planned, workspace, commands=True)
    assert console.export_text().count("python -m suite.worker.by_hand") == len(cells)
    assert not any(workspace.db.parent.iterdir()), "nothing was written"


@every
def test_arms_differ_in_nothing_but_the_method(path):
    cells = load_cells(path)
    found = [line.split(":")[0] for line in plan.differences(cells)]
    assert found == BY_DESIGN.get(cells[0].matrix, [])
    assert plan.warnings(cells) == []


@pytest.mark.parametrize("path", PAPERS, ids=name)
def test_it_asks_for_its_papers_hardware(path):
    paper = path.parent.name
    for cell in load_cells(path):
        asked = (cell.resources["accelerator"], cell.resources["gpus"])
        assert asked in HARDWARE.get(paper, (("A100", 8),))


def test_every_flag_is_one_of_openrlhfs_and_means_what_the_matrix_says(parsed):
    for path, cell, args in parsed:
        train, where = cell.train, (name(path), cell.arm)
        group, prompts = train["samples_per_prompt"], train["prompts_per_step"]
        steps = train["optimizer_steps_per_rollout"]
        columns = train.get("columns", {})
        assert args["rollout"]["batch_size"] == prompts, where
        assert args["rollout"]["n_samples_per_prompt"] == group, where
        assert args["train"]["batch_size"] * steps == prompts * group, where
        assert args["actor"]["adam"]["lr"] == train["lr"], where
        assert args["data"]["input_key"] == columns.get("problem", "problem"), where
        assert args["data"]["label_key"] == columns.get("answer", "answer"), where
        assert args["data"]["input_template"] == train["prompt_template"], where
        assert args["ds"]["zero_stage"] == train["zero_stage"], where
        if cell.resources["accelerator"]:
            assert args["vllm"]["enable_sleep"] and args["ds"]["enable_sleep"], where
            assert args["actor"]["gradient_checkpointing_enable"], where


def test_the_papers_batches_and_rates():
    """PAPERS' numbers, by hand: prompts, group, optimizer steps, learning rate, response length."""
    expected = {
        "aent/table1a": (512, 16, 4, 2e-6, 3072),
        "aent/table1b": (256, 8, 4, 1e-6, 7168),
        "aent/table3": (512, 8, 4, 1e-5, 3072),
        "aepo/table1-qwen2.5-7b": (512, 8, 4, 1e-6, 8192),
        "clip/fig4": (512, 8, 2, 5e-7, 1024),
    }
    for stem, numbers in expected.items():
        train = load_cells(FOLDER / f"{stem}.yaml")[0].train
        found = (
            train["prompts_per_step"],
            train["samples_per_prompt"],
            train["optimizer_steps_per_rollout"],
            train["lr"],
            train["max_new_tokens"],
        )
        assert found == numbers, stem


def test_another_data_set_does_not_inherit_the_columns_of_the_first():
    """setting (a) reads `expected_answer`; OpenR1-Math has a plain `answer`."""
    columns = [
        load_cells(FOLDER / "aent" / f"{stem}.yaml")[0].train.get("columns")
        for stem in ("table1a", "table1b", "table3")
    ]
    expected = [{"answer": "expected_answer"}, None]
    assert columns == [*expected, {"problem": "question", "answer": "final_answer"}]


def test_figures_of_the_same_runs_are_the_same_cells():
    def ids(stem):
        return {cell.id for cell in load_cells(FOLDER / f"{stem}.yaml")}

    assert ids("clip/fig5") < ids("clip/fig4")
    assert ids("aepo/fig4") == ids("aepo/table1-qwen2.5-7b")
    assert len(ids("aepo/table3-targets") & ids("aepo/table3-ablations")) == 2
    assert len(ids("clip/fig7") & ids("clip/fig4")) == 2
    for figure, shared in (("fig2", 2), ("fig5", 2), ("fig6", 2)):
        assert len(ids(f"aent/{figure}") & ids("aent/table1a")) == 3 * shared, "three seeds each"


def test_the_page_has_every_file_and_its_price(workspace):
    """GPU-hours as `suite plan` estimates them with the sizes in the models' names, to 5 %."""
    rows = re.findall(
        r"^\| ((?:`[\w/.-]+\.yaml`,? ?)+)\| [^|]*?(A\d00), ([\d, and]+) \|",
        (FOLDER / "README.md").read_text(),
        re.MULTILINE,
    )
    told = {}
    for files, _, hours in rows:
        stems, numbers = re.findall(r"`(.*?)`", files), re.findall(r"[\d,]+", hours)
        told |= dict(zip(stems, (float(n.replace(",", "")) for n in numbers), strict=True))
    ours = {"all-methods.yaml", *(path.name for path in FOLDER.glob("a100x8*.yaml"))}
    assert set(told) == {name(path) for path in PAPERS} | ours
    for file, hours in told.items():
        found = plan.total(plan.prepare(load_cells(FOLDER / file), workspace)).gpu_hours
        assert hours == pytest.approx(found, rel=0.05), file


def test_all_methods_has_every_algorithm():
    cells = load_cells(FOLDER / "all-methods.yaml")
    assert [cell.arm for cell in cells] == list(algorithms.ALGORITHMS)
    defaults = {arm: algorithms.load(arm) for arm in algorithms.ALGORITHMS}
    defaults["clip"] = algorithms.load("clip", eps_low=0.2, eps_high=0.2)  # else clip-low once more
    for cell in cells:
        assert algorithms.load(cell.algorithm, **cell.settings) == defaults[cell.arm]


# Shrunk ------------------------------------------------------------------------------------------


@every
def test_shrunk_it_keeps_the_method_and_nothing_of_the_size(path):
    large = load_cells(path)
    small = shrunk(large)
    first = [cell for cell in large if cell.seed == large[0].seed and cell.model == large[0].model]
    assert [c.arm for c in small] == [c.arm for c in first]
    for cell, origin in zip(small, first, strict=True):
        assert (cell.algorithm, cell.settings) == (origin.algorithm, origin.settings)
        assert cell.matrix == f"{origin.matrix}-shrunk"
        for kept in ("reward", "optimizer_steps_per_rollout", "loss_aggregation"):
            assert cell.train[kept] == origin.train[kept]
        assert (cell.model, cell.train["dataset"]) == (sources.EMBEDDED_MODEL, "arithmetic")
        assert cell.budget == {"steps": STEPS} and cell.resources["accelerator"] is None
        assert set(cell.train) == set(Train().model_dump())
        evaluate = cell.evaluate
        assert evaluate["benchmarks"] == ["arithmetic"] and evaluate["data_files"] == {}
        assert max(evaluate["pass_at"]) <= evaluate["samples"] <= SAMPLES
        for sampled in ("temperature", "top_p", "top_k"):
            assert evaluate[sampled] == origin.evaluate[sampled]


@every
def test_shrunk_it_is_a_matrix_that_would_pass_every_check(path, tmp_path):
    """Written out as a file, an arm a matrix, it loads into the same cells."""
    for cell in shrunk(load_cells(path)):
        matrix = {
            "name": cell.matrix,
            "model": cell.model,
            "budget": cell.budget,
            "seeds": [cell.seed],
            "train": cell.train,
            "evaluate": cell.evaluate,
            "resources": cell.resources,
            "arms": {cell.arm: {"algorithm": cell.algorithm, **cell.settings}},
        }
        text = json.dumps(matrix | {"budget": {"steps": STEPS}}).replace("Infinity", ".inf")
        (tmp_path / "m.yaml").write_text(text)
        assert [one.id for one in load_cells(tmp_path / "m.yaml")] == [cell.id]


def test_shrinking_obeys_groups_divisions_and_small_k(cells):
    """pass@k with k = 8 wants a group of nine; nine divided by one, 4 and 3 wants 8 prompts."""
    large = cells("""\
name: m
model: arithmetic-tiny
train: {prompts_per_step: 512, samples_per_prompt: 16}
budget: {gpu_hours: 10}
seeds: [3, 4]
arms:
  grpo: {train: {optimizer_steps_per_rollout: 16}}
  pass_at_k: {k: 8}
  twin: {algorithm: grpo, train: {optimizer_steps_per_rollout: 16, lr: 1e-3}}
evaluate: {samples: 2, pass_at: [2], at: [0.25, 0.5, 0.75]}
""")
    small = shrunk(large)
    assert [cell.arm for cell in small] == ["grpo", "pass_at_k"], "twins by size become one"
    assert {cell.train["samples_per_prompt"] for cell in small} == {GROUP + 1}
    assert {cell.train["prompts_per_step"] for cell in small} == {16}  # 144 / 16 is whole
    assert {cell.seed for cell in small} == {3}
    evaluate = small[0].evaluate
    assert (evaluate["samples"], evaluate["pass_at"], evaluate["at"]) == (2, [2], [0.25, 0.75])


def test_plan_shrinks(workspace):
    """On the command line, priced for this machine."""
    path = FOLDER / "clip" / "fig3.yaml"
    ran = CliRunner().invoke(app, ["plan", str(path), "--shrink", "--json", "--db", workspace.db])
    found = json.loads(ran.stdout)
    assert found["matrix"] == "clip-fig3-shrunk"
    assert [cell["model"] for cell in found["cells"]] == ["arithmetic-tiny"] * 4
    assert found["total"]["gpu_hours"] < 0.1


# On the real stack -------------------------------------------------------------------------------

REHEARSED = ("aent/table1a", "aent/fig2", "aepo/table1-qwen3-4b", "clip/fig3")


@pytest.fixture(scope="module")
def rehearsal(arithmetic_model, model_cache, tmp_path_factory, repo):
    """Matrices of each paper, shrunk, in one command."""
    folder = tmp_path_factory.mktemp("rehearsal")
    shutil.copytree(FOLDER, folder / "matrices")
    env = os.environ | {"SUITE_CACHE": str(model_cache), "PYTHONPATH": str(repo)}
    env.pop(MARK, None)
    files = [f"matrices/{stem}.yaml" for stem in REHEARSED]
    ran = suite(["run", *files, "--shrink"], folder, env)
    output, _ = ran.communicate()
    assert ran.returncode == 0, output
    return folder / "runs.db", output


@pytest.mark.stack
def test_three_papers_shrunk_run_through_the_real_stack(rehearsal):
    db, output = rehearsal
    wanted = [cell for stem in REHEARSED for cell in shrunk(load_cells(FOLDER / f"{stem}.yaml"))]
    with connect(db) as connection:
        runs = connection.execute(
            """SELECT run, status, max(step), attempts
                 FROM data.runs JOIN data.traces USING (run) GROUP BY ALL"""
        ).fetchall()
        scored = connection.execute("SELECT DISTINCT matrix, arm FROM pass_at_k").fetchall()
    assert {run for run, *_ in runs} == {cell.id for cell in wanted}
    assert len(runs) == len(wanted) - 2, "two cells of Figure 2 are Table 1's: trained once"
    assert {row[1:] for row in runs} == {("finished", STEPS, 1)}
    expected = {(c.matrix, c.arm) for c in wanted if c.evaluate["at"]}
    assert set(scored) == expected and len(expected) == 3 + 4 + 2
    for matrix in ("aent-table1a-shrunk", "aent-fig2-shrunk", "aepo-table1-qwen3-4b-shrunk"):
        assert matrix in output


@pytest.mark.stack
def test_a_rehearsal_is_laid_beside_the_paper_and_said_to_mean_nothing(rehearsal):
    for matrix, row in (
        ("aent-table1a-shrunk", r"^\| aent \| aime24 \| pass@1 \| 0\.\d+ .*\| 0\.217 \|"),
        (
            "aent-table1a-shrunk",
            r"^\| grpo \|  \| GPU-hours to update, a step \| [\d.e-]+ \| 0.234",
        ),
        ("aepo-table1-qwen3-4b-shrunk", r"^\| aepo \| average of 7 \| .* \| 0\.692 \|"),
    ):
        file = rehearsal[0].with_name("report.md")
        options = ["--db", str(rehearsal[0]), "--against", "published", "--markdown", str(file)]
        ran = CliRunner().invoke(app, ["report", matrix, *options])
        assert ran.exit_code == 0, ran.output
        assert re.search(row, file.read_text(), re.MULTILINE), file.read_text()
        assert "NOT COMPARABLE" in file.read_text()


@pytest.mark.stack
def test_matrices_that_can_share_a_start_of_the_stack_do(rehearsal):
    """AEnt and AEPO have four optimizer steps, CLIP two and random rewards: two starts."""
    with connect(rehearsal[0]) as connection:
        ((starts,),) = connection.execute(
            "SELECT count(*) FROM data.events WHERE kind = 'preparing'"
        ).fetchall()
    assert starts == 2


@pytest.mark.stack
def test_rehearsed_arms_do_what_their_papers_say_they_do(rehearsal):
    """Each method's own traces: a bonus, a second rollout, rewards that are not the verdicts."""
    db, _ = rehearsal
    with connect(db) as connection:
        found = connection.execute("SELECT arm, metric, value FROM traces").fetchall()
    metrics = {arm: {m for a, m, _ in found if a == arm} for arm, _, _ in found}
    assert {arm for arm in metrics if "state/coefficient" in metrics[arm]} == {"aent"}
    assert {arm for arm in metrics if "extra/samples" in metrics[arm]} == {"aepo"}
    for arm in ("symmetric", "clip-high-off", "clip-low-off", "both-off"):
        of = {
            m: [v for a, key, v in found if a == arm and key == m] for m in ("reward", "accuracy")
        }
        assert of["reward"] != of["accuracy"]
        assert all(value * 64 == round(value * 64) for value in of["reward"])
        assert {"clip/p", "clip/q"} <= metrics[arm], "the matrix asks for the diagnostics"

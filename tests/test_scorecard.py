"""What `suite eval` prints of stored samples: every number by hand, and what is said beside it."""

import itertools
import json

import pytest

from suite.matrix import checkpoint
from suite.report import scorecard
from suite.spool import spool
from suite.store import Store
from suite.worker.recorder import record_benchmarks
from suite.workspace import Workspace

# Each problem's four answers; the first is wrong everywhere it stands, "7" is right.
ANSWERS = {
    "e-1": ["7", "7", "7", "3"],
    "e-2": ["7", "3", "3", "3"],
    "e-3": ["3", "7", None, "7"],
    "e-4": ["7", "7", "7", "7"],
}


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs.db")


@pytest.fixture
def exam(tmp_path):
    """A file that goes by the name of a benchmark whose answers can be guessed."""
    rows = [{"id": name, "problem": f"Find ${name}$", "answer": "7"} for name in ANSWERS]
    path = tmp_path / "aime24.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(workspace, exam, *, pass_at="1,2,4,8", train_data="", seed=0):
    model = exam.parent / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    one = checkpoint.from_options(
        str(model),
        workspace,
        benchmarks=[str(exam)],
        pass_at=pass_at,
        preset="aent",
        sampling={"samples": 4},
        prompting=checkpoint.Prompting(),
        seed=seed,
        resources={"gpus": 1, "engines": 1},
    )
    return checkpoint.trained_on(one, str(model), train_data, workspace)


def finish(workspace, cell, digests=range(4), times=1):
    """Put the evaluation into the database, as a worker that drew ANSWERS leaves it."""
    store = Store(workspace)
    store.register([cell])
    folder = workspace.cell(cell.id)
    attempt = spool.next_attempt(folder)
    write = spool.Spool(spool.path_of(folder, attempt)).write
    cell.save(folder / "cell.json")
    record_benchmarks(cell, workspace, lambda kind, **row: write(kind, attempt=attempt, **row))
    point = {"attempt": attempt, "step": 0, "fraction": checkpoint.FRACTION}
    for (problem, answers), first in itertools.product(ANSWERS.items(), range(times)):
        answers = answers * (len(digests) // 4)
        n = len(answers)
        verdicts = "".join("u" if a is None else "c" if a == "7" else "w" for a in answers)
        write(
            "eval",
            **point,
            benchmark="aime24",
            problem=problem,
            first=n * first,
            n=n,
            seed=0,
            verdicts=verdicts,
            stops="sssl" * (n // 4),
            lengths=[10] * n,
            digests=list(digests),
            answers=answers,
            examples=[],
        )
    write("evaluated", **point, samples=16)
    store.ingest(cell.id)
    store.set_status(cell.id, "finished")
    store.close()
    return cell


def test_scores_votes_and_guessing_by_hand(workspace, exam):
    (card,) = scorecard.card(workspace.db, finish(workspace, asked(workspace, exam)))
    row, guessing = (dict(zip(card.titles, row, strict=True)) for row in card.texts())
    # Right: 3, 1, 2, 4 of four each: 10 of 16; of two: 1, 1/2, 5/6, 1.
    assert row["pass@1"].startswith("0.625 [") and row["pass@2"].startswith("0.833 [")
    assert row["pass@4"].startswith("1.000 [") and row["maj@n"] == "0.750"
    assert (row["no answer"], row["truncated"]) == ("6.2%", "25.0%")
    # One answer in a thousand: 1 - 0.999^k.
    assert [guessing[f"pass@{k}"] for k in (1, 2, 4)] == ["0.001", "0.002", "0.004"]
    assert guessing["benchmark"].strip() == "by guessing"
    assert any(note.startswith("aime24: pass@8 ≈") for note in card.notes)


def test_fewer_samples_than_exist_are_no_coin_flip(workspace, exam):
    """k = n is a matter of what was drawn, not of what was asked for last."""
    cell = asked(workspace, exam, pass_at="1,4")
    finish(workspace, cell, times=2)  # eight of each
    note = "pass@4 is k = n: a coin flip per problem at the margin."
    assert note not in scorecard.card(workspace.db, cell)[0].notes
    finish(workspace, other := asked(workspace, exam, pass_at="1,4", seed=1))
    assert note in scorecard.card(workspace.db, other)[0].notes


def test_the_same_samples_read_otherwise(workspace, exam):
    _, more = scorecard.card(workspace.db, finish(workspace, asked(workspace, exam)), more=True)
    row = dict(zip(more.titles, more.texts()[0], strict=True))
    assert row["mean@n"].startswith("0.625 [")
    # Two of two right: 3/6, 0, 1/6, 1. Four of four: the last problem only.
    assert row["pass^2"].startswith("0.417 [") and row["pass^4"].startswith("0.250 [")
    # The most frequent of two, ties half: 3/6 + 3/6 · 1/2, 0 + 3/6 · 1/2, and of the third 3, 7,
    # none, 7: 7 wins but against 3 (2 of 6 draws, half) and where 3 stands alone (1 of 6): 4/6.
    wanted = (3 / 4 + 1 / 4 + 4 / 6 + 1) / 4
    assert float(row["maj@2"].split()[0]) == pytest.approx(wanted, abs=0.006)
    assert row["maj@4"].startswith("0.750 [")


def test_overlap_is_unknown_until_the_training_set_is_named(workspace, exam, tmp_path):
    cell = finish(workspace, asked(workspace, exam))
    (card,) = scorecard.card(workspace.db, cell)
    assert any("not checked: unknown for this model (--train-data" in n for n in card.notes)
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps({"problem": "find E-3"}) + "\n")
    named = asked(workspace, exam, train_data=str(train))
    assert named.id == cell.id, "what exists is not drawn again"
    store = Store(workspace)
    store.register([named])
    assert store.status(cell.id) == "queued", "but it is looked at again"
    store.close()
    (card,) = scorecard.card(workspace.db, finish(workspace, named))
    assert "1 of 4 problems of aime24 occur in the training prompts (e-3)." in card.notes
    assert not any("not checked" in note for note in card.notes)
    assert asked(workspace, exam) == named, "it is remembered"
    beside = tmp_path / "beside.jsonl"
    train.rename(beside)
    assert asked(workspace, exam).train["dataset"] == "", "but not when it is gone"
    beside.rename(train)
    train.write_text("")
    store = Store(workspace)
    store.register([asked(workspace, exam, train_data=str(train))])
    assert store.status(cell.id) == "queued", "a training set that changed is another"
    store.close()


def test_a_training_set_that_could_not_be_read_is_not_remembered(workspace, exam, tmp_path):
    (tmp_path / "train.jsonl").write_text('{"question": "?"}\n')
    bad = asked(workspace, exam, train_data=str(tmp_path / "train.jsonl"))
    with pytest.raises(ValueError, match="no column 'problem'"):
        finish(workspace, bad)
    assert asked(workspace, exam).train["dataset"] == ""


def test_evaluations_are_listed_with_their_sampling(workspace, exam):
    one, other = (finish(workspace, asked(workspace, exam, seed=seed)) for seed in (0, 1))
    finish(workspace, asked(workspace, exam, seed=1, pass_at="1"))
    assert scorecard.finished(workspace.db) == [one.id, other.id]
    (report,) = scorecard.evaluations(workspace.db)
    rows = [dict(zip(report.titles, row, strict=True)) for row in report.texts()]
    assert [(row["run"], row["seed"]) for row in rows] == [(one.id, "0"), (other.id, "1")]
    assert rows[0]["sampling"] == "T 0.6, top-p 0.95, top-k 20"
    assert rows[0]["pass@4"].startswith("1.000 [") and rows[1]["pass@4"] == ""


def test_samples_drawn_twice_are_said_aloud(workspace, exam):
    def warned(**drawn):
        (card,) = scorecard.card(workspace.db, finish(workspace, asked(workspace, exam), **drawn))
        return [note for note in card.notes if note.startswith("WARNING: 4 batches repeat")]

    assert not warned(digests=range(8))
    assert warned(digests=range(8), times=2)
    assert not warned(digests=[1] * 8, times=2), "a policy that knows one text repeats itself"

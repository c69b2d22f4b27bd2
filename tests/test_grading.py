"""The grader: what is an answer, hostile answers, lost workers, agreement with labels."""

import asyncio
import importlib.util
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks import answers, grading, grading_worker
from benchmarks.answers import extract
from benchmarks.grading import Grader, Verdict, grade_many
from benchmarks.grading_process import Worker

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
ENDLESS, HANGS, HOSTILE = map(
    runpy.run_path(str(ROOT / "tests/bench/hostile_bench.py")).get, ("ENDLESS", "HANGS", "HOSTILE")
)
EVERY_GOLD = "GRADE_EVERY_GOLD"  # set it to grade all 12,008 golds, some five minutes

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed"
)


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=2, timeout=5.0) as shared:
        yield shared


def boxed(answer: str) -> str:
    return "so the answer is $\\boxed{" + answer + "}$."


HARD = (r"\sqrt{8}", boxed(r"2\sqrt{2}"))  # takes a worker


# ---------------------------------------------------------------- extraction


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{41} no, wait: \boxed{42}", "42"),
        (r"\boxed{42}. (Not \boxed{41}.)", "41"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}"),
        (r"\boxed{\{1\}, \}}", r"\{1\}, \}"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{41} and then \boxed{4", "41"),
        (r"\boxed{ an unclosed box, then \boxed{42}", "42"),
        (r"a stray } and { around \boxed{42} }", "42"),
        (r"\boxed {42}", "42"),
        (r"\fbox{42}", "42"),
        (r"\\boxed{42}", "42"),
        ("\\boxed{\n42\n}", "42"),
        ("<answer> 42 </answer>", "42"),
        ("<answer>41</answer> then <answer>42</answer>", "42"),
        (r"<answer>41</answer> \boxed{42}", "42"),
        (r"<think> maybe \boxed{41} </think> <answer> 42 </answer>", "42"),
        (r"<think> \boxed{41} </think> so \boxed{42}", "42"),
        (r"<think> so \boxed{41} </think> as I said", "41"),
        (r"<think> it is \boxed{41}", "41"),
    ],
)
def test_the_answer_is_the_last_one_committed_to(response, answer):
    assert extract(response) == answer


@pytest.mark.parametrize(
    "response",
    [
        "",
        "We try case 1: 42",
        "so $x=42$ and next",
        r"\boxed{42",
        r"\boxed{}",
        r"boxed{42}",
        r"\boxed 42",
        "<answer> 42",
        "42 </answer>",
        "<answer></answer>",
    ],
)
def test_no_commitment_no_answer(response):
    assert extract(response) is None


@pytest.mark.parametrize(
    "piece", ["\\boxed{", "{", "}", "\\", "<answer>", "</answer>", "</think>", "\\boxed {1}", " "]
)
def test_extraction_is_linear(piece):
    begun = time.perf_counter()
    extract(piece * 200_000)
    assert time.perf_counter() - begun < 5


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("gold", "answer", "status"),
    [
        ("42", "42", "correct"),
        ("42", "43", "wrong"),
        ("5", "-5", "wrong"),
        ("070", "70", "correct"),
        ("42", "42.", "correct"),
        ("42", r"\$42", "correct"),
        ("42", r"\(42\)", "correct"),
        ("42", "x = 42", "correct"),
        ("$42$", "42", "correct"),
        ("10{,}000", "10,000", "correct"),
        (r"\frac{1}{2}", "0.5", "correct"),
        (r"\frac{1}{2}", "0.51", "wrong"),
        (r"3\sqrt{13}", r"\sqrt{117}", "correct"),
        (r"3\sqrt{13}", "3", "wrong"),
        ("(3,4]", "(3,4]", "correct"),
        ("(3,4]", "[3,4]", "wrong"),
        ("x^2 - 1", "(x-1)(x+1)", "correct"),
        (r"\text{Evelyn}", "Evelyn", "correct"),
        ("-3./2", r"-\frac{3}{2}", "correct"),
        # math-verify's default takes any number of a text it cannot read; this grader does not.
        ("43", "??? 43", "wrong"),
        ("E_{1},E_{2}", "2", "wrong"),
        # It compares equations by their real solutions: none here, as in any contradiction.
        ("x^{2}+18x+86=0", "1=2", "wrong"),
        ("x^{2}+18x+86=0", "2x^2+36x+172=0", "correct"),
        ("x^{2}+18x+86=0", "2x^2+36x+170=0", "wrong"),
        ("x^{2}+18x+86=0", "x^{2}+18x+86=0", "correct"),
        ("x^{2}+18x+86=0", "x^2 + 86 = -18x", "correct"),
        ("y=2x+3", "2y-4x=6", "correct"),
        ("y=2x+3", "1=2", "wrong"),
    ],
)
def test_verdicts(grader, gold, answer, status):
    assert grader.grade([(gold, boxed(answer))])[0].status == status


def test_cleaning_keeps_what_is_part_of_the_mathematics():
    assert answers.clean(r" $\[ (0, 1), \]$. ") == "(0, 1)"
    assert answers.clean(r"1\\[2pt]2") == r"1\\[2pt]2"
    assert answers.clean(r"5\,") == r"5\,"
    assert answers.clean("3.5/(2.+1)") == "3.5/(2+1)"


def test_no_answer_is_unparsed_and_the_answer_is_reported(grader):
    assert grader.grade([("42", "it is 42")]) == [Verdict("unparsed", None)]
    assert grader.grade([("42", boxed("7" * 999))]) == [Verdict("wrong", "7" * 300)]


def test_an_endless_gold_is_right_against_itself_only(grader):
    gold = "x+" * 400 + "1"
    verdicts = grader.grade([(gold, boxed(gold)), (gold, boxed(gold + "+0"))])
    assert [verdict.status for verdict in verdicts] == ["correct", "wrong"]


def test_an_empty_gold_is_an_error(grader):
    with pytest.raises(ValueError, match="pair 1"):
        grader.grade([("1", boxed("1")), ("$$", boxed("1"))])


def questions_asked(monkeypatch) -> list[tuple[str, str]]:
    """The questions that workers are asked from now on, still answered by them."""
    asked, decide = [], Worker.decide

    def recording(worker, questions, timeout):
        asked.extend(questions)
        return decide(worker, questions, timeout)

    monkeypatch.setattr(Worker, "decide", recording)
    return asked


def test_order_is_kept_and_each_question_is_asked_once(monkeypatch):
    asked = questions_asked(monkeypatch)
    answers = ["1 + 1", r"\sqrt{4}", r"\sqrt{9}", "1", "no box"]
    pairs = [
        (gold, boxed(answer) if answer != "no box" else answer)
        for gold in ("2", r"\sqrt{9}", "1")
        for answer in answers
    ] * 20
    random.Random(0).shuffle(pairs)
    equal = {("2", "1 + 1"), ("2", r"\sqrt{4}")}
    verdicts = grade_many(pairs, workers=2)
    for (gold, _), verdict in zip(pairs, verdicts, strict=True):
        if verdict.answer is None:
            assert verdict.status == "unparsed"
        else:
            right = verdict.answer == gold or (gold, verdict.answer) in equal
            assert verdict.status == ("correct" if right else "wrong")
    # Three golds, four answers; four of these twelve are the gold itself or two plain numbers.
    assert len(asked) == len(set(asked)) == 9


def test_nothing_to_grade():
    assert grade_many([]) == []


def test_plain_integers_start_no_worker():
    with Grader(workers=1) as lazy:
        assert lazy.grade([("7", boxed("7")), ("7", boxed("8")), ("x", "none")])[0].answer == "7"
        assert lazy._workers[0]._process is None


# ---------------------------------------------------------------- hostile answers


@pytest.mark.slow
def test_hostile_answers_stay_within_the_limits_and_harm_no_other():
    assert len(ENDLESS + HANGS + HOSTILE) >= 40
    ordinary = [(r"\sqrt{2}", boxed(rf"\frac{{{top}}}{{\sqrt{{8}}}}")) for top in range(8)] * 4
    hostile = [("x^2+1", f"<answer>{answer}</answer>") for answer in HANGS + ENDLESS + HOSTILE]
    pairs = [*ordinary[:16], *hostile, *ordinary[16:]]
    with Grader(workers=2, timeout=3) as grader:
        grader.start()
        begun = time.perf_counter()
        verdicts = grader.grade(pairs)
        seconds = time.perf_counter() - begun
    statuses = [verdict.status for verdict in verdicts]
    expected = ["correct" if top == 4 else "wrong" for top in range(8)] * 4
    assert statuses[:16] + statuses[-16:] == expected
    undecided = len(HANGS) + len(ENDLESS)
    assert statuses[16 : 16 + undecided] == ["timeout"] * undecided
    assert set(statuses[16 + undecided : -16]) <= {"wrong", "timeout", "unparsed"}
    assert statuses[16 + undecided : -16].count("timeout") <= 5
    assert seconds < 90


def test_an_endless_answer_is_asked_of_nobody(monkeypatch):
    asked = questions_asked(monkeypatch)
    with Grader(workers=1) as lazy:
        verdicts = lazy.grade([("7", f"<answer>{answer}</answer>") for answer in ENDLESS])
    assert {verdict.status for verdict in verdicts} == {"timeout"} and asked == []


def test_a_tower_that_is_the_gold_and_small_ones_are_decided(grader):
    for gold, answer in [("9^{9^{9^9}}",) * 2, ("16", "2^{2^2}"), ("120", "5!"), ("8", "2^3")]:
        assert grader.grade([(gold, boxed(answer))])[0].status == "correct"


@pytest.mark.slow
def test_doubtful_answers_wait_for_ordinary_ones_and_leave_them_a_worker(monkeypatch):
    """Ordinary answers lose nothing to hostile ones around them: none is asked before they are
    done, and from another thread they find a worker while the doubtful one hangs."""
    questions = questions_asked(monkeypatch)
    ordinary = [rf"\sqrt{{{number}}}" for number in range(60, 120)]
    mixed = [answer for pair in zip(ordinary, HANGS * 15, strict=True) for answer in pair]
    with Grader(workers=2, timeout=1.5) as grader:
        grader.start()
        grader.grade([("x^2+1", boxed(answer)) for answer in mixed])
        asked = [answer for _, answer in questions]
        assert sorted(asked[:60]) == sorted(ordinary) and sorted(asked[60:]) == sorted(HANGS)
        hanging = threading.Thread(
            target=grader.grade, args=([("y^2+1", boxed(h)) for h in HANGS],)
        )
        hanging.start()
        time.sleep(0.2)
        verdicts = grader.grade([("y^2+1", boxed(answer)) for answer in ordinary])
        assert hanging.is_alive() and {verdict.status for verdict in verdicts} == {"wrong"}
        hanging.join()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_worker_stays_within_its_memory():
    limit = 700 << 20
    greedy = ["1" * 300, r"\binom{99999}{49999}", "(x+y+z+w)^{99}", r"\sum_{i=1}^{9999} 9^{i}"]
    with Grader(workers=1, timeout=3.0, memory_bytes=limit) as grader:
        grader.start()
        for answer in greedy:
            grader.grade([("x^2+1", boxed(answer))])
            process = grader._workers[0]._process
            if process is not None:
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = next(line for line in status.splitlines() if line.startswith("VmPeak"))
                assert int(peak.split()[1]) * 1024 <= limit


# ---------------------------------------------------------------- remembered verdicts


def test_a_verdict_is_remembered_and_a_timeout_is_not(monkeypatch):
    replies = {"a": "wrong", "b": "timeout", "c": "correct"}
    asked = []

    def decide(worker, questions, timeout):
        for _, answer in questions:
            asked.append(answer)
            yield replies[answer]

    monkeypatch.setattr(Worker, "decide", decide)
    pairs = [("x", boxed(answer)) for answer in "abc"]
    with Grader(workers=1) as grader:
        first = grader.grade(pairs)
        assert grader.grade(pairs) == first and sorted(asked) == ["a", "b", "b", "c"]
    with Grader(workers=1, cache=1) as small:
        small.grade(pairs)
        assert len(small._cache) == 1
    with Grader(workers=1, cache=0) as none:
        none.grade(pairs[:1])
        asked.clear()
        none.grade(pairs[:1])
        assert asked == ["a"]


# ---------------------------------------------------------------- the cheap rules are sound


def plain_numbers() -> list[str]:
    values = (0, 1, -1, 2, 7, -17, 100, 12600, -12600, 999999, 1234567)
    fractions = ((1, 2), (2, 4), (1, 3), (-5, 2), (14, 3), (28, 6), (6, 3), (33333, 100000))
    texts = [text for v in values for text in (str(v), f"{v:,}", f"{v:,}".replace(",", "{,}"))]
    texts += [f"{value}.0" for value in values] + ["0.5", ".5", "-.5", "-2.5", "0.333", "0.33333"]
    texts += ["0.33334", "0.99999", "99999.99999", "0.00001", "12600.5", "1.25", "4.50"]
    for top, bottom in fractions:
        texts += [rf"\{kind}frac{{{top}}}{{{bottom}}}" for kind in ("", "d", "t")]
        texts += [rf"-\frac{{{top}}}{{{bottom}}}", f"{top}/{bottom}"]
    return list(dict.fromkeys(texts))


def read(text: str) -> list:
    """math-verify's own reading, none of this project's mends made."""
    return grading_worker._parse(text)


def test_plain_numbers_are_compared_as_math_verify_does():
    """3,000 of the pairs of every two spellings; all 30,976 of a wider grid agreed as well."""
    import math_verify

    texts = plain_numbers()
    parsed = {text: read(text) for text in texts}
    pairs = [(gold, answer) for gold in texts for answer in texts]
    decided = 0
    for gold, answer in random.Random(0).sample(pairs, 3000):
        status = answers.plain_status(answers.spell(gold), answers.spell(answer))
        if status is not None:
            decided += 1
            equal = math_verify.verify(parsed[gold], parsed[answer], timeout_seconds=None)
            assert (status == "correct") == equal, (gold, answer)
    assert decided > 2900


def test_one_spelling_is_read_as_the_other():
    spellings = [
        (r"\dfrac{1}{\sqrt{2}}", r"\frac{1}{\sqrt{2}}"),
        (r"\left(3, 4\right]", "(3, 4]"),
        (r"\left\{1, 2\right\}", r"\{1, 2\}"),
        (r"\sqrt{2} + 3", r"\sqrt{2}+3"),
        (r"x^{2} - 5x = 6", r"x^{2}-5x = 6"),
        (r"\tfrac{3}{4} < 2 + 3", r"\frac{3}{4}<2+3"),
    ]
    for text, spelled in spellings:
        assert answers.spell(text) == spelled
        assert read(text) == read(spelled) or read(text)[0] == read(spelled)[0]
    kept = ["3, 4", r"\text{a - b}", "2 m", r"\leftarrow", "1,000 , 2", r"\frac 1 2", "a - b"]
    assert [answers.spell(text) for text in kept] == kept


def replace_math_verify(monkeypatch, folder: Path, source: str) -> None:
    """Workers started from now on find this module instead of math-verify."""
    (folder / "math_verify").mkdir()
    (folder / "math_verify" / "__init__.py").write_text(source)
    names = "sympy_solve_and_compare = sympy_symbolic_eq = sympy_compare_sets = None\n"
    (folder / "math_verify" / "grader.py").write_text(names)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_swallowed_memory_errors_are_undecided_not_wrong(monkeypatch, tmp_path):
    source = """
def LatexExtractionConfig(**_): pass
def parse(text, **_): return text
def verify(gold, answer, **_):
    try:
        held = [bytearray(10 << 20) for _ in range(1000 * ("big" in answer))]
    except MemoryError:
        pass
    return False
"""
    replace_math_verify(monkeypatch, tmp_path, source)
    with Grader(workers=1, memory_bytes=500 << 20) as grader:
        verdicts = grader.grade([("x", boxed(answer)) for answer in ("a", "big", "c")])
    assert [verdict.status for verdict in verdicts] == ["wrong", "timeout", "wrong"]


def test_a_worker_that_cannot_start_says_why(monkeypatch, tmp_path):
    replace_math_verify(monkeypatch, tmp_path, "raise ImportError('no antlr here')")
    with Grader(workers=1) as grader, pytest.raises(RuntimeError, match="no antlr here"):
        grader.grade([("x", boxed("y"))])


# ---------------------------------------------------------------- processes and threads


def test_a_worker_that_dies_while_grading_is_replaced():
    with Grader(workers=1, timeout=30.0) as grader:
        assert grader.grade([HARD])[0].status == "correct"
        pid = grader._workers[0]._process.pid
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        verdicts = grader.grade([("x^2+1", boxed(HANGS[2]))])
        assert [verdict.status for verdict in verdicts] == ["timeout"]
        assert grader.grade([("x+1", boxed("1+x"))])[0].status == "correct"
        assert grader._workers[0]._process.pid != pid


def test_a_worker_that_died_between_calls_costs_nothing():
    with Grader(workers=1) as grader:
        grader.grade([HARD])
        process = grader._workers[0]._process
        process.kill()
        process.wait()
        assert grader.grade([("x+1", boxed("1+x"))])[0].status == "correct"


def test_many_threads_share_a_grader(grader):
    results = {}

    def grade(number: int) -> None:
        results[number] = grader.grade([(f"{number}/7", boxed(rf"\frac{{{number}}}{{7}}"))])

    threads = [threading.Thread(target=grade, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[number][0].status for number in range(12)] == ["correct"] * 12


def test_closing_ends_what_is_running():
    grader = Grader(workers=1, timeout=60.0)
    grader.grade([HARD])
    errors = []

    def hang() -> None:
        try:
            grader.grade([("x^2+1", boxed(answer)) for answer in HANGS])
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    time.sleep(0.5)
    begun = time.perf_counter()
    grader.close()
    thread.join(10)
    assert not thread.is_alive() and time.perf_counter() - begun < 5
    assert len(errors) <= 1
    with pytest.raises(RuntimeError, match="closed"):
        grader.grade([("0.5", boxed("1/2"))])


PARENT = """
import sys, threading, time
sys.path.insert(0, {root!r})
from benchmarks.grading import Grader
grader = Grader(workers=2, timeout=60.0)
grader.start()
pairs = [("x^2+1", r"\\boxed{{" + answer + "}}") for answer in {hangs!r}]
threading.Thread(target=grader.grade, args=(pairs,), daemon=True).start()
time.sleep(0.5)
print(*[worker._process.pid for worker in grader._workers if worker._process], flush=True)
time.sleep(60)
"""


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_workers_end_with_their_parent_even_when_busy():
    script = PARENT.format(root=str(ROOT), hangs=HANGS)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids and all(map(running, pids))
        parent.kill()
    deadline = time.monotonic() + 5
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, pids))


def test_importing_the_grader_is_light():
    check = "import sys, benchmarks.grading; print({'sympy', 'torch', 'numpy'} & {*sys.modules})"
    command = [sys.executable, "-c", check]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


# ---------------------------------------------------------------- OpenRLHF's reward


def test_the_reward_as_openrlhf_calls_it():
    """Loaded by path, not registered, called from threads with one query each."""
    torch = pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("reward_func", grading.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    prompt = r"What is 1/2 + 1/4? Put the answer in \boxed{}, as in \boxed{0.75}. "
    responses = [r"\boxed{\frac{3}{4}}<|im_end|>", r"\boxed{1}<|im_end|>", "I do not know"]

    async def fetch() -> list[dict]:
        return await asyncio.gather(
            *(
                asyncio.to_thread(module.reward_func, [prompt + text], [prompt], ["0.75"])
                for text in responses
            )
        )

    results = asyncio.run(fetch())
    module._shared_grader().close()
    # What OpenRLHF's samples generator does with the values.
    assert [torch.tensor([result["rewards"]]).tolist() for result in results] == [[1], [0], [0]]
    assert [result["scores"].item() for result in results] == [1, 0, 0]
    logged = [result["extra_logs"]["no_answer"].flatten()[0].item() for result in results]
    assert logged == [0, 0, 1]


def test_the_prompt_is_no_part_of_the_response():
    prompt = r"<s>Answer in \boxed{}, as in \boxed{7}. What is 3 + 4? Think first."
    assert grading._response(prompt + "Well", prompt) == "Well"
    assert grading._response(prompt[9:] + "Well", prompt) == "Well"  # cut on the left


# ---------------------------------------------------------------- real data


def load(path: Path) -> list[dict]:
    if not path.exists():
        pytest.skip(f"no data at {path}")
    with path.open() as lines:
        return [json.loads(line) for line in lines]


BENCHMARKS = (
    "aime24 aime25 amc23 math500 math_hard minerva_math olympiadbench gsm8k college_math "
    "math_test_all"
)


@pytest.mark.parametrize("name", BENCHMARKS.split())
def test_golds_are_right_against_themselves(grader, name):
    golds = [row["answer"] for row in load(DATA / "benchmarks" / f"{name}.jsonl")]
    if not os.environ.get(EVERY_GOLD):
        golds = random.Random(0).sample(golds, min(40, len(golds)))
    verdicts = grader.grade([(gold, boxed(gold)) for gold in golds])
    assert [gold for gold, v in zip(golds, verdicts, strict=True) if v.status != "correct"] == []
    # The same through math-verify, which an identical answer does not reach.
    cleaned = {answers.clean(gold) for gold in golds}
    hard = [(gold, gold) for gold in sorted(cleaned) if not answers._INTEGER.fullmatch(gold)]
    hard = [pair for pair in hard if len(pair[0]) <= grading.MAX_LENGTH]
    decided = grader._decide_all(hard)
    assert [gold for (gold, _), status in decided.items() if status != "correct"] == []


# Where the grader and the label differ on purpose: (file, problem, sample or model) -> the reason.
DISPUTES = {
    ("qwen_math_100x8", "qwenmath-72", 7): "gold 10{,}000, answer 10000: the label is wrong",
    ("rlintro_gsm8k_100x2", "gsm8ktest-447", "Qwen2.5-1.5B-Instruct"): (
        "gold 5, answer -5: the label's pattern dropped the sign"
    ),
}
NO_ANSWER = {  # files whose labels come from another rule of extraction: what is unparsed here
    "rlintro_gsm8k_100x2": 17,  # the label takes the last number where there is no box
    "lsrl_gsm8k_tool_21x8": 1,  # and labels it wrong, as we score it
    "cs336_grpo_rollouts": 2,  # no closed <answer>, labelled wrong
}
LABELLED = {  # file: labelled responses
    "qwen_math_100x8": 400,
    "rlintro_gsm8k_100x2": 120,
    "lsrl_gsm8k_95x8": 48,
    "lsrl_gsm8k_tool_21x8": 56,
    "cs336_grpo_rollouts": 34,
    "openai_gsm8k_400x4": 800,
}


@pytest.mark.parametrize("name", LABELLED)
def test_agreement_with_labels_nobody_here_wrote(grader, name):
    """Every answer found is judged as its label says, but for DISPUTES; nothing times out.

    The file left out, game24, is labelled by another question: whether an expression uses the four
    given numbers and makes 24. OpenAI's responses end in "A: 8", no box: the body is handed over
    in a tag, because their labels are about values and not about format.
    """
    rows = load(DATA / "model_outputs" / f"{name}.jsonl")
    rows = [row for row in rows if row["label"] is not None]
    assert len(rows) == LABELLED[name]
    if name == "openai_gsm8k_400x4":
        for row in rows:
            row["response"] = f"<answer>{row['response'].rpartition('A: ')[2]}</answer>"
    verdicts = grader.grade([(row["gold"], row["response"]) for row in rows])
    statuses = [verdict.status for verdict in verdicts]
    assert statuses.count("unparsed") == NO_ANSWER.get(name, 0)
    assert statuses.count("timeout") == 0
    differ = {
        (name, row["problem_id"], row.get("sample_idx", row.get("model")))
        for row, status in zip(rows, statuses, strict=True)
        if status != "unparsed" and (status == "correct") != row["label"]
    }
    assert differ == {key for key in DISPUTES if key[0] == name}

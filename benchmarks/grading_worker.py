r"""A grading worker: math-verify in a child process that may hang, swell and be killed.

`benchmarks.grading_process` starts it by path (`grading_worker.py --memory BYTES --parent PID`),
writes one JSON line [gold, answer] a question and reads one byte a verdict. Nothing here keeps
time: the parent does.
"""

import argparse
import contextlib
import functools
import json
import os
import sys


@functools.lru_cache(maxsize=256)
def _parse_gold(gold: str) -> list:
    return _parse(gold)


def _parse(text: str) -> list:
    r"""math-verify's reading of `\boxed{text}`: a SymPy object, its text, both or none.

    Never print, hash into a message or pickle what this returns: that alone can take for ever.
    """
    import math_verify

    latex = math_verify.LatexExtractionConfig(
        try_extract_without_anchor=False, boxed_match_priority=0
    )
    boxed = "\\boxed{" + text + "}"
    return math_verify.parse(boxed, extraction_config=[latex], parsing_timeout=None)


def equal(gold: str, answer: str) -> bool:
    """Whether math-verify holds the two for equal; what it cannot read is not."""
    import math_verify

    try:
        return math_verify.verify(_parse_gold(gold), _parse(answer), timeout_seconds=None)
    except Exception:
        return False


def _peak_memory() -> int:
    """The largest address space this process has had, in bytes; 0 where there is no /proc."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmPeak:"):
                return int(line.split()[1]) * 1024
    return 0


def _die_with_parent(parent: int) -> None:
    """Have Linux kill this process when its parent ends; elsewhere the closed pipe must do."""
    with contextlib.suppress(Exception):
        import ctypes

        pr_set_pdeathsig, sigkill = 1, 9
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, sigkill)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _serve(memory_bytes: int, parent: int) -> None:
    """Answer [gold, answer] lines on stdin with one byte each: c(orrect), w(rong), t(oo much).

    SymPy and math-verify swallow MemoryError and would call it "wrong". A question after which
    the peak memory has grown by an eighth of the limit was over the limit or on the way there:
    its "wrong" is not believed, and the child ends to give the memory back. (A single allocation
    larger than all the limit leaves no trace and stays "wrong".)
    """
    _die_with_parent(parent)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints must not answer for us
    try:
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        sys.path.append(os.path.dirname(os.path.abspath(__file__)))
        import grading_mends

        grading_mends.mend_math_verify()
        equal("0.5", "\\frac{1}{2}")  # compiles the grammar, so that no question pays for it
    except Exception as error:
        replies.write(f"!{error!r}".encode())
        return
    replies.write(b"+")
    peak = _peak_memory()
    for line in sys.stdin.buffer:
        same = equal(*json.loads(line))
        before, peak = peak, _peak_memory()
        if not same and peak - before > memory_bytes // 8:
            replies.write(b"t")
            return
        replies.write(b"c" if same else b"w")


def _main() -> None:
    parser = argparse.ArgumentParser(description="A grading worker; it talks to its parent only.")
    parser.add_argument("--memory", type=int, required=True, help="bytes of address space")
    parser.add_argument("--parent", type=int, required=True, help="process id of the parent")
    arguments = parser.parse_args()
    _serve(arguments.memory, arguments.parent)


if __name__ == "__main__":
    _main()

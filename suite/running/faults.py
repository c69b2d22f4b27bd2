"""Which failures are the infrastructure's, and so are tried again, and which are the cell's own.

A worker that fails writes the qualified names of all classes in the chain of its error. A CUDA
out-of-memory error is the cell's own: the next attempt would end the same way.
"""

from __future__ import annotations

import re
from typing import Any

from suite.running.processes import Lost

_KINDS = {
    "ray.exceptions.NodeDiedError": "node lost",
    "ray.exceptions.LocalRayletDiedError": "node lost",
    "ray.exceptions.NodePreemptedError": "preempted",
    "ray.exceptions.OutOfMemoryError": "out of memory",
    "ray.exceptions.RayActorError": "worker lost",
    "ray.exceptions.WorkerCrashedError": "worker lost",
    "ray.exceptions.ObjectLostError": "worker lost",
    "ray.exceptions.RaySystemError": "Ray lost",
    "ray.exceptions.RpcError": "Ray lost",
    "vllm.v1.engine.exceptions.EngineDeadError": "engine lost",
}
_TEXTS = {
    r"timed out during startup|Failed to (start|connect to) (the )?(GCS|gcs|raylet)": "Ray lost",
    r"Connection (closed|reset) by peer|Broken pipe": "worker lost",
}


def names(error: BaseException) -> list[str]:
    """Qualified names of an error's classes and of those that caused it, nearest first.

    An actor that died by an error of its own constructor was not lost: it adds nothing.
    """
    found: list[str] = []
    link: BaseException | None = error
    while link is not None and len(found) < 100:
        if not getattr(link, "actor_init_failed", False):
            kinds = type(link).__mro__[:-3]  # without Exception, BaseException, object
            found += [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
        link = getattr(link, "cause", None) or link.__cause__ or link.__context__
    return list(dict.fromkeys(found))


def fault(failed: dict[str, Any]) -> Lost | None:
    """What was lost, of a worker's line of kind "failed"; None when the cell itself is at fault."""
    for kind in map(_KINDS.get, failed.get("types", [])):
        if kind:
            return Lost(kind, failed["error"])
    for pattern, kind in _TEXTS.items():
        if re.search(pattern, failed["error"]):
            return Lost(kind, failed["error"])
    return None

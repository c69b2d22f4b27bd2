"""Which failures are the infrastructure's, and so are tried again, and which are the run's own.

A worker that fails writes the qualified names of all classes in the chain of its error. A CUDA
out-of-memory error is the run's own: the next attempt would end the same way.
"""

from __future__ import annotations

import re
from typing import Any

from suite.run.processes import Lost

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


def fault(failed: dict[str, Any]) -> Lost | None:
    """What was lost, of a worker's line of kind "failed"; None when the run itself is at fault."""
    for kind in map(_KINDS.get, failed.get("types", [])):
        if kind:
            return Lost(kind, failed["error"])
    for pattern, kind in _TEXTS.items():
        if re.search(pattern, failed["error"]):
            return Lost(kind, failed["error"])
    return None

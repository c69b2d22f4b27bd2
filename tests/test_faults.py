"""Which failures are tried again: real exceptions of Ray and vLLM, nested as they arrive."""

import pytest
import ray.exceptions

from suite.run.faults import fault
from suite.worker.recorder import names


def failed(error):
    return {"error": str(error), "types": names(error)}


def remote(cause):
    """As `ray.get` raises what an actor's method raised."""
    return ray.exceptions.RayTaskError("fit", "Traceback ...", cause).as_instanceof_cause()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ray.exceptions.ActorDiedError(), "worker lost"),
        (remote(ray.exceptions.ActorDiedError()), "worker lost"),
        (ray.exceptions.WorkerCrashedError(), "worker lost"),
        (ray.exceptions.NodeDiedError("gone"), "node lost"),
        (ray.exceptions.OutOfMemoryError("the node runs low"), "out of memory"),
        (remote(ray.exceptions.OutOfMemoryError("the node runs low")), "out of memory"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), "worker lost"),
        (RuntimeError("The current node timed out during startup."), "Ray lost"),
    ],
)
def test_what_the_infrastructure_took_is_tried_again(error, kind):
    assert fault(failed(error)).kind == kind


@pytest.mark.slow
def test_a_dead_engine_is_the_infrastructure():
    from vllm.v1.engine.exceptions import EngineDeadError

    assert fault(failed(remote(EngineDeadError()))).kind == "engine lost"


@pytest.mark.parametrize(
    "error",
    [ValueError("a bad batch"), remote(KeyError("x")), AssertionError(), FileNotFoundError("m")],
)
def test_an_error_of_the_cell_is_not(error):
    assert fault(failed(error)) is None


def test_a_full_gpu_is_the_cells_own():
    import torch

    assert fault(failed(remote(torch.OutOfMemoryError("CUDA out of memory")))) is None


def made_with(message):
    """As Ray says that an actor died in its own constructor."""
    raised = ray.exceptions.RayTaskError("__init__", f"ValueError: {message}", ValueError())
    return ray.exceptions.ActorDiedError(raised)


def test_an_actor_that_raised_while_it_was_made_was_not_lost():
    """The next attempt would end the same way; unless what it met there was the infrastructure."""
    assert fault(failed(made_with("no room for the cache"))) is None
    assert fault(failed(remote(made_with("no room for the cache")))) is None
    assert fault(failed(made_with("Broken pipe"))).kind == "worker lost"


def test_a_cause_is_found_behind_other_errors():
    try:
        try:
            raise ray.exceptions.ActorDiedError()
        except ray.exceptions.ActorDiedError as inner:
            raise RuntimeError("the update failed") from inner
    except RuntimeError as error:
        assert fault(failed(error)).kind == "worker lost"

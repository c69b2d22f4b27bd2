"""A Ray cluster as a place for runs: the one file that asks Ray for their GPUs."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from algorithms.openrlhf.driver import GANG
from suite.matrix.cell import Cell
from suite.run.processes import (
    PATIENCE_SECONDS,
    Lost,
    Start,
    interrupt,
    killed,
    launch,
    oom_kills,
    reap,
)
from suite.workspace import ROOT

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.util.placement_group import PlacementGroup

NAMESPACE = "suite"
CONNECT_SECONDS = 10.0
READY_SECONDS = 10.0  # for a placement group that should fit
PREEMPTED = 3  # Ray's reason of a node's death: drained because its machine is taken away


class NoCluster(ConnectionError):
    """No Ray cluster answers at the address."""


@dataclass
class _Node:
    """A living node: its GPUs, their type, and how many of them our gangs hold."""

    gpus: int
    kinds: list[str]
    held: int = 0

    def is_of(self, kind: str | None) -> bool:
        """Whether its GPUs are of a kind, as the matrix names it; None: any."""
        return not kind or any(kind.lower() in name.lower() for name in self.kinds)


class Cluster:
    """The GPUs of a Ray cluster that is already there."""

    reuse = False

    def __init__(self, address: str):
        import ray

        self._ray = ray
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns
        root = str(ROOT)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        passed = {k: v for k, v in os.environ.items() if k.startswith(("SUITE_", "HF_"))}
        _check_reachable(address)
        try:
            ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {**passed, "PYTHONPATH": path}},
            )
        except (ConnectionError, ValueError, RuntimeError) as error:  # the last: no node here
            raise _no_cluster(address, error) from error
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray sets one of its own
        self._reserved: list[Reservation] = []
        self._not_before = 0.0

    def close(self) -> None:
        self._ray.shutdown()

    def nodes(self) -> dict[str, _Node]:
        """Id -> what a living node has, and what our gangs hold of it."""
        nodes = {}
        for node in self._ray.nodes():
            resources = node["Resources"]
            if node["Alive"] and resources.get("GPU"):
                prefix = "accelerator_type:"
                kinds = [name.removeprefix(prefix) for name in resources if prefix in name]
                nodes[node["NodeID"]] = _Node(int(resources["GPU"]), kinds)
        for reserved in self._reserved:
            for node_id, gpus in reserved.nodes.items():
                if node_id in nodes:
                    nodes[node_id].held += gpus
        return nodes

    def impossible(self, cell: Cell) -> str | None:
        """More GPUs, or others, than the whole cluster has: Ray would wait for ever."""
        if self.slots(cell):
            return None
        gpus, kind = cell.resources["gpus"], cell.resources["accelerator"]
        nodes = self.nodes().values()
        there = ", ".join(f"{n.gpus} x {'/'.join(n.kinds) or 'GPU'}" for n in nodes) or "no GPU"
        asked = f"{gpus} x {kind}" if kind else f"{gpus} GPUs"
        return f"arm {cell.arm} wants {asked} at a time, the cluster has {there}"

    def slots(self, cell: Cell) -> int:
        return self._slots(cell, lambda node: node.gpus)

    def fits(self, cell: Cell) -> bool:
        if time.monotonic() < self._not_before:
            return False
        return self._slots(cell, lambda node: node.gpus - node.held) > 0

    def _slots(self, cell: Cell, free: Callable[[_Node], int]) -> int:
        """How many gangs of a run's size are free: within nodes, or over them where it must be."""
        gpus, kind = cell.resources["gpus"], cell.resources["accelerator"]
        nodes = [node for node in self.nodes().values() if node.is_of(kind)]
        within = sum(free(node) // gpus for node in nodes)
        if within or any(node.gpus >= gpus for node in nodes) or cell.in_one_process:
            return within
        return sum(free(node) for node in nodes) // gpus

    def start(self, cell: Cell, start: Start) -> _Gang | None:
        """A worker in a gang of its own; None when somebody else holds its GPUs."""
        reserved = self.reserve(cell)
        return _Gang(reserved, start, cell.in_one_process) if reserved else None

    def reserve(self, cell: Cell) -> Reservation | None:
        """The run's GPUs as one placement group; None when somebody else holds them."""
        gpus, kind = cell.resources["gpus"], cell.resources["accelerator"]
        nodes = [node for node in self.nodes().values() if node.is_of(kind)]
        labels = {}
        if kind:
            name = next(k for node in nodes for k in node.kinds if kind.lower() in k.lower())
            labels = {f"accelerator_type:{name}": 0.001}
        number = 1 if cell.in_one_process else gpus
        bundle = {"GPU": gpus // number, "CPU": gpus // number, **labels}
        tight = any(node.gpus >= gpus for node in nodes)
        group = self._ray.util.placement_group(
            [bundle] * number,
            strategy="STRICT_PACK" if tight else "PACK",
            name=f"{cell.id}-{os.getpid()}-{time.time_ns()}",
        )
        if not group.wait(READY_SECONDS):
            self._ray.util.remove_placement_group(group)
            self._not_before = time.monotonic() + READY_SECONDS
            return None
        reserved = Reservation(self._ray, group, self._reserved)
        self._reserved.append(reserved)
        return reserved


class Reservation:
    """A placement group that is ready: which nodes it lies on, and how many GPUs of each.

    Attributes:
        nodes: node id -> GPUs.
        bundles: node id -> (index of its first bundle, GPUs of that bundle).
    """

    def __init__(self, ray: ModuleType, group: PlacementGroup, registered: list[Reservation]):
        self.ray, self.group, self._registered = ray, group, registered
        table = ray.util.placement_group_table(group)
        self.name = table["name"]
        self.nodes: dict[str, int] = {}
        self.bundles: dict[str, tuple[int, int]] = {}
        for index, node in table["bundles_to_node_id"].items():
            gpus = int(table["bundles"][index]["GPU"])
            self.nodes[node] = self.nodes.get(node, 0) + gpus
            self.bundles.setdefault(node, (index, gpus))

    def release(self) -> None:
        """The GPUs are free; Ray kills what still runs in the group."""
        self.ray.util.remove_placement_group(self.group)
        self._registered.remove(self)


class _Gang:
    """A reservation with a `_Host` on each of its nodes; the first of them has the worker."""

    def __init__(self, reserved: Reservation, start: Start, alone: bool):
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._ray, self._reserved = reserved.ray, reserved
        host = self._ray.remote(_Host)
        self._hosts = {
            node: host.options(
                num_cpus=0,
                num_gpus=gpus if alone else 0.01,  # of each bundle, OpenRLHF takes 0.4
                scheduling_strategy=PlacementGroupSchedulingStrategy(reserved.group, index),
            ).remote(start.mark)
            for node, (index, gpus) in reserved.bundles.items()
        }
        self._leader = next(iter(self._hosts.values()))
        self._started = self._leader.start.remote(start, {GANG: f"{NAMESPACE}/{reserved.name}"})
        self._answer = self._leader.poll.remote()

    def poll(self) -> int | None:
        done, _ = self._ray.wait([self._answer], timeout=0)
        if not done:
            self._check_nodes()
            return None
        try:
            self._ray.get(self._started)
            code, ooms = self._ray.get(self._answer)
        except self._ray.exceptions.ActorUnavailableError:
            code = None  # perhaps its node is dying: Ray will know in a few seconds
        except self._ray.exceptions.RayActorError as error:
            self._check_nodes()
            raise Lost("worker lost", f"the worker's host process died: {_line(error)}") from error
        if code is None:
            self._answer = self._leader.poll.remote()
        elif code < 0:
            raise killed(code, ooms)
        return code

    def _check_nodes(self) -> None:
        """Raises Lost when one of the gang's nodes is dead."""
        for node in self._ray.nodes():
            if node["NodeID"] in self._hosts and not node["Alive"]:
                name = node.get("NodeManagerHostname", node["NodeID"])
                if node.get("DeathReason") == PREEMPTED:
                    raise Lost("preempted", f"node {name} was taken away")
                raise Lost("node lost", f"node {name} died")

    def stop(self) -> None:
        self._try(self._leader.stop.remote())

    def release(self) -> None:
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        for node, host in self._hosts.items():
            if node in alive:
                self._try(host.clean.remote())
            self._ray.kill(host)
        self._reserved.release()

    def _try(self, answer: ObjectRef) -> None:
        """Wait for a host that may be dead or out of reach."""
        try:
            self._ray.get(answer, timeout=2 * PATIENCE_SECONDS)
        except (self._ray.exceptions.RayError, TimeoutError):
            return


class _Host:
    """An actor in a gang: starts the worker on its node and cleans up after it."""

    def __init__(self, mark: str):
        self._mark = mark
        self._worker: subprocess.Popen[bytes] | None = None
        self._ooms = 0  # before the worker began
        self.clean()  # whatever an earlier attempt left on this node

    def start(self, start: Start, environment: dict[str, str]) -> None:
        """Start the worker; it dies with this process."""
        import ray

        address = ray.get_runtime_context().gcs_address
        self._ooms = oom_kills()
        self._worker = launch(start, os.environ | environment | {"RAY_ADDRESS": address})

    def poll(self, seconds: float = 0.5) -> tuple[int | None, int]:
        """(exit status or None, processes killed for memory since the start), after a while."""
        if self._worker is None:
            return None, 0  # it could not be started: `start` raises that
        try:
            self._worker.wait(seconds)
        except subprocess.TimeoutExpired:
            return None, 0
        return self._worker.returncode, oom_kills() - self._ooms

    def stop(self) -> None:
        """Ask the worker to end, then insist."""
        if self._worker and self._worker.poll() is None:
            interrupt(self._worker)

    def clean(self) -> None:
        """Kill what carries the mark on this node."""
        reap(self._mark)


def _check_reachable(address: str) -> None:
    """Raises NoCluster when nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: BaseException) -> NoCluster:
    return NoCluster(f"no Ray cluster at {address}: {_line(error)} (`ray start --head` starts one)")


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]

"""executor=flower: the nodes of the ServerApp that this runs in, or else Flower's simulation on this machine (Ray).

Flower sends telemetry when a simulation starts, and so does Ray: both are switched off here.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue

from fedemb.client.work import ClientWork
from fedemb.core import check
from fedemb.core.types import Cohort, Diagnostics, Params
from fedemb.execution.executor import Executor, Load, Sequential, diagnose, refuse_following_the_clock, zero_sum
from fedemb.execution.flower import FlowerNodes, Worker, node_app
from fedemb.execution.flower_api import FITTING, ClientApp, Context, Grid, ServerApp
from fedemb.privacy.clipping import Clipping

_SERVING: ContextVar[tuple[Grid, str] | None] = ContextVar("flower_serving", default=None)
_SECONDS_TO_START = 120.0


@contextmanager
def serving(grid: Grid, data: str = "") -> Iterator[None]:
    """Within a ServerApp: `Flower` executors ask the nodes behind this grid. data: digest of the loop's users."""
    token = _SERVING.set((grid, data))
    try:
        yield
    finally:
        _SERVING.reset(token)


@dataclass(frozen=True, kw_only=True)
class Flower(Executor):
    """Work by Flower nodes: one partial sum a node and round.

    nodes: how many. within: how a node works through its share, in a simulation; a node of a Flower app has its own.
    cpus_per_node, gpus_per_node: what a simulated node is given of this machine; part of a GPU is allowed.
    timeout_seconds: for nodes to connect, and for the answers of a round.
    """

    nodes: int = 2
    within: Executor = field(default_factory=Sequential)
    cpus_per_node: int = 1
    gpus_per_node: float = 0.0
    timeout_seconds: float = 600.0
    _started: list[_Simulation] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check.at_least("executor.nodes", self.nodes, 1)
        check.at_least("executor.cpus_per_node", self.cpus_per_node, 1)
        check.non_negative("executor.gpus_per_node", self.gpus_per_node)
        check.positive("executor.timeout_seconds", self.timeout_seconds)
        refuse_following_the_clock("executor.within", self.within)
        if _SERVING.get() is None and importlib.util.find_spec("ray") is None:
            raise ValueError(
                "executor=flower simulates nodes with Ray, which is not installed: run pip install "
                f"'{FITTING.replace('flwr', 'flwr[simulation]')}', or take another executor="
            )

    @property
    def leaves_no_trace(self) -> bool:
        """No: Flower keeps messages, in its database if it has one."""
        return False

    def clipped_sum(
        self, work: ClientWork, clipping: Clipping, shared: Params, cohort: Cohort, load: Load
    ) -> tuple[Params, Diagnostics]:
        """As `FlowerNodes`. A simulation starts with the first call and lasts while work and load are the same."""
        if not cohort.clients:
            return zero_sum(work, shared, clipping), diagnose([], [])
        grid, data = _SERVING.get() or (self._simulated(work, load), "")
        nodes = FlowerNodes(grid=grid, nodes=self.nodes, timeout_seconds=self.timeout_seconds, data=data)
        return nodes.clipped_sum(work, clipping, shared, cohort, load)

    def close(self) -> None:
        """End the simulation, if there is one."""
        while self._started:
            self._started.pop().stop()

    def _simulated(self, work: ClientWork, load: Load) -> Grid:
        """The grid of the simulation."""
        if not (self._started and self._started[0].work is work and self._started[0].load is load):
            self.close()
            resources = {"num_cpus": float(self.cpus_per_node), "num_gpus": self.gpus_per_node}
            self._started.append(_Simulation(work, load, self.within, self.nodes, resources))
        return self._started[0].grid


class _Simulation:
    """Flower's simulation in a thread beside the loop, whose ServerApp hands its grid over and waits for the end."""

    def __init__(self, work: ClientWork, load: Load, within: Executor, nodes: int, resources: dict[str, float]) -> None:
        """Raises: ValueError in one line if the work or the data cannot be pickled, or Flower does not start."""
        self.work, self.load = work, load
        self._folder = tempfile.TemporaryDirectory(prefix="fedemb-flower-")
        self._ended, self._grids, self._failure = threading.Event(), SimpleQueue[Grid](), ""
        client_app = _client_app(Path(self._folder.name), Worker(work=work, load=load, within=within))
        backend = {
            "client_resources": resources,
            "init_args": {"num_cpus": max(int(nodes * resources["num_cpus"]), 1), "log_to_driver": False},
        }
        self._thread = threading.Thread(
            target=self._run, args=(client_app, nodes, backend), name="fedemb-flower", daemon=True
        )
        self._thread.start()
        self.grid = self._handed_over()

    def stop(self) -> None:
        """End the nodes."""
        self._ended.set()
        self._thread.join()
        self._folder.cleanup()

    def _run(self, client_app: ClientApp, nodes: int, backend: dict[str, dict[str, float]]) -> None:
        _switch_telemetry_off()
        from flwr.simulation import run_simulation

        server_app = ServerApp()

        @server_app.main()
        def main(grid: Grid, context: Context) -> None:
            self._grids.put(grid)
            while threading.main_thread().is_alive() and not self._ended.wait(1.0):
                pass  # a program that ends without closing its executor is not held up

        logging.getLogger("flwr").setLevel(logging.ERROR)
        try:
            run_simulation(server_app, client_app, nodes, backend_config=backend)  # type: ignore[arg-type]
        except Exception as error:  # the loop tells it
            self._failure = f": {error.__cause__ or error}"

    def _handed_over(self) -> Grid:
        for _ in range(int(_SECONDS_TO_START)):
            try:
                return self._grids.get(timeout=1.0)
            except Empty:
                if not self._thread.is_alive():
                    break
        raise ValueError(f"Flower's simulation did not start{self._failure}; take another executor=")


def _switch_telemetry_off() -> None:
    """For this process and those that it starts."""
    from flwr.supercore import telemetry

    telemetry.FLWR_TELEMETRY_ENABLED = "0"  # Flower has read the environment variable already
    os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def _client_app(folder: Path, worker: Worker) -> ClientApp:
    """An app that is small however much data its worker has: nodes read that from a file, once."""
    path = folder / "worker.pickle"
    try:
        path.write_bytes(pickle.dumps(worker))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(f"Flower nodes cannot have what cannot be pickled: {error}; take another executor=") from error
    return node_app(partial(_worker, str(path)))


def _worker(path: str, context: Context) -> Worker:
    return _read(path)


@lru_cache(maxsize=1)
def _read(path: str) -> Worker:
    """A worker from our own file."""
    worker: Worker = pickle.loads(Path(path).read_bytes())
    return worker

"""Who can do a workload's rounds: a line each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib.resources import files

from fedemb.bench.interleave import Way
from fedemb.bench.workloads import WORKLOADS

Maker = Callable[[str, int, str], Way]
"""(workload, PyTorch's threads, device) -> a way to do its rounds. Other simulators take the device they like."""

OWN = {
    "plain": "plain loop",
    "plain_2": "plain loop, 2 processes",
    "sequential": "fedemb, sequential",
    "vectorised": "fedemb, vectorised",
    "distributed_2": "fedemb, 2 ranks",
}
"""Ways of `fedemb.bench.serve`: name -> label."""

VARIANTS = {
    "vectorised_compiled": "fedemb, vectorised, compiled",
    "vectorised_bfloat16": "fedemb, vectorised, bfloat16",
    "vectorised_cuda_graphs": "fedemb, vectorised, CUDA graphs",
}
"""More of them, measured where they are named: one takes minutes to get ready, one computes other numbers, one needs a
GPU."""

PLAIN = ("plain", "plain_2")
"""Those that are not fedemb's."""

FOREIGN = {
    "pfl": ("pfl-research", "pfl_research.py", "install there: pip install 'pfl==0.6.*' torch"),
    "flower": (
        "Flower, 2 actors",
        "flower_simulation.py",
        "install there: pip install 'flwr[simulation]>=1.22' torch",
    ),
}
"""Other simulators: name -> label, script, what to do if it cannot be imported."""


def own(name: str) -> Maker:
    """A way in this interpreter."""

    def make(workload: str, threads: int, device: str) -> Way:
        return Way(
            name=name,
            label={**OWN, **VARIANTS}[name],
            command=[sys.executable, "-m", "fedemb.bench.serve"],
            settings={"way": name, "workload": workload, "threads": threads, "device": device},
            environment=_environment(threads),
        )

    return make


def foreign(name: str, interpreter: str) -> Maker:
    """A way in another interpreter, whose environment is its own."""
    label, script, needs = FOREIGN[name]

    def make(workload: str, threads: int, device: str) -> Way:
        environment = _environment(threads)
        environment.pop("PYTHONPATH", None)
        return Way(
            name=name,
            label=label,
            command=[interpreter, str(files("fedemb.bench") / "peers" / script)],
            settings={**WORKLOADS[workload].settings(), "threads": threads},
            environment=environment,
            needs=needs,
        )

    return make


def _environment(threads: int) -> dict[str, str]:
    return {**_without_ranks(os.environ), "OMP_NUM_THREADS": str(threads)}


def _without_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """Ranks of a way are not those of the command."""
    return {name: value for name, value in environment.items() if name not in ("RANK", "WORLD_SIZE")}

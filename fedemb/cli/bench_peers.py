"""fedemb bench suite=peers: the work that simulators are compared on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fedemb.bench.ways import FOREIGN, OWN, VARIANTS, foreign, own
from fedemb.bench.workloads import PEERS
from fedemb.cli import bench_ways


def measure(cfg: DictConfig) -> dict[str, Any]:
    """fedemb's executors, plain loops, and the other simulators whose interpreters are given."""
    interpreters = {name: _interpreter(cfg, name) for name in FOREIGN if cfg.peers[name] is not None}
    makers = {name: own(name) for name in OWN}
    makers |= {name: foreign(name, interpreter) for name, interpreter in interpreters.items()}
    names = list(makers) if cfg.ways is None else bench_ways.chosen(cfg, "ways", [*OWN, *VARIANTS, *FOREIGN])
    makers |= {name: own(name) for name in VARIANTS}
    if absent := [name for name in names if name not in makers]:
        raise ValueError(f"ways: {absent[0]} needs peers.{absent[0]}=<the python of an environment that has it>")
    return bench_ways.compare(cfg, bench_ways.chosen(cfg, "models", PEERS), [makers[name] for name in names])


def table(answer: Mapping[str, Any]) -> None:
    """Print a table for each model."""
    bench_ways.table(answer)


def figure(answer: Mapping[str, Any]) -> str:
    """A panel a model."""
    return bench_ways.figure(answer, "Rounds of 50 clients with 50 CIFAR-10-shaped images each")


def _interpreter(cfg: DictConfig, name: str) -> str:
    """peers.NAME=, found to be a program."""
    program = Path(str(cfg.peers[name])).expanduser()
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise ValueError(f"peers.{name}={program} is no program: pass an environment's own, e.g. VENV/bin/python")
    return str(program.absolute())  # a virtual environment's python is a link that must not be followed

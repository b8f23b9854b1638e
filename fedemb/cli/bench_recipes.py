"""fedemb bench suite=recipes: DP-FedEmb's own rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from fedemb.bench.ways import VARIANTS, own
from fedemb.bench.workloads import RECIPES
from fedemb.cli import bench_ways

_WAYS = ("sequential", "vectorised", "distributed_2")


def measure(cfg: DictConfig) -> dict[str, Any]:
    """fedemb's executors."""
    names = _WAYS if cfg.ways is None else bench_ways.chosen(cfg, "ways", [*_WAYS, *VARIANTS])
    return bench_ways.compare(cfg, bench_ways.chosen(cfg, "models", RECIPES), [own(name) for name in names])


def table(answer: Mapping[str, Any]) -> None:
    """Print a table for each model."""
    bench_ways.table(answer)


def figure(answer: Mapping[str, Any]) -> str:
    """A panel a model."""
    return bench_ways.figure(answer, "Rounds of DP-FedEmb on random images")

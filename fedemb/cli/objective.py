"""What `fedemb train` hands to a sweeper that optimises: public numbers of the report, by name."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeAlias

from omegaconf import DictConfig, ListConfig

Value: TypeAlias = float | tuple[float, ...] | None
_EPSILON = "epsilon"


def refuse_unknown(cfg: DictConfig, measured: Sequence[str]) -> None:
    """Raise ValueError if objective= names what the run does not measure."""
    averaged = cfg.server.ema_decay > 0
    known = [*measured, *([f"ema/{name}" for name in measured] if averaged else []), _EPSILON]
    for name in _names(cfg):
        _refuse_other(name, known)


def value(cfg: DictConfig, report: Path) -> Value:
    """The objective of a finished run, one number or, for a list of names, several; None without objective=.

    A metric that could not be measured is NaN; the ε of a run without a guarantee is infinite.
    Raises: ValueError if the report has no such number.
    """
    if cfg.objective is None:
        return None
    record = json.loads(report.read_text(encoding="utf-8"))
    found = {_EPSILON: record["privacy"]["epsilon"]} | record["metrics"]
    missing = {_EPSILON: math.inf}
    for name in _names(cfg):
        _refuse_other(name, found)
    values = [found[name] if found[name] is not None else missing.get(name, math.nan) for name in _names(cfg)]
    return tuple(values) if isinstance(cfg.objective, ListConfig) else values[0]


def _refuse_other(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"objective={name} is not measured in this run; choose one of {', '.join(known)}")


def _names(cfg: DictConfig) -> list[str]:
    if cfg.objective is None:
        return []
    return [str(name) for name in (cfg.objective if isinstance(cfg.objective, ListConfig) else [cfg.objective])]

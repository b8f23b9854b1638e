"""report.json: the result of a run in the contract's form. Every float is finite or null."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedemb.report.numbers import lower, small, upper
from fedemb.server.checkpoint import write_atomically

_PACKAGES = ("fedemb", "torch", "numpy", "dp-accounting", "hydra-core")


def claim(*, epsilon: float, epsilon_attack: float, delta: float, sampling: str, secret: bool) -> str:
    """What may be said of the run, in one sentence."""
    if math.isinf(epsilon):
        return "No privacy guarantee: ε is infinite, as the noise is zero or the start has seen private data."
    condition = "" if secret else " It would hold if the seed were secret: this run is a simulation."
    return (
        f"User-level differential privacy, substitute-one, {sampling}: "
        f"ε in [{lower(epsilon_attack)}, {upper(epsilon)}] at δ = {small(delta)}, certified at the upper end, "
        f"shown by an attack at the lower. It covers the models, not the choice of hyper-parameters.{condition}"
    )


def versions() -> dict[str, str]:
    """The packages that decide the numbers, and Python."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def finite(value: Any) -> Any:
    """The same value with every non-finite float replaced by None, inside mappings and lists too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_record(path: Path, report: Mapping[str, Any]) -> None:
    """Write report.json in one step."""
    write_atomically(path, json.dumps(finite(report), indent=2, allow_nan=False, ensure_ascii=False) + "\n")

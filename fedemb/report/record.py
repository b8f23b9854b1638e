"""report.json: the result of a run in the contract's form. Every float is finite or null."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedemb.core.files import write_atomically
from fedemb.privacy.accounting import PrivacySpend
from fedemb.report.numbers import lower, small, upper

NOT_COVERED = "metrics are exact functions of the test users' images, which the guarantee does not cover"
"""What every report says beside its metrics."""
TUNING = (
    "ε is that of one run: choosing among runs by what was measured on them, or passing on more than one, spends more "
    "and is not accounted"
)
"""What every report, and a sweep at its end, says of hyper-parameters that are tuned on private data."""

_PACKAGES = ("fedemb", "torch", "numpy", "dp-accounting", "hydra-core")


def claim(
    spent: PrivacySpend, *, unit: str, user: str, sampling: str, secret: bool, exact: bool, measured: bool
) -> str:
    """What may be said of the run.

    unit: "user" or "example". user: completes "a user is …". secret: was all randomness secret? exact: was the noise
    added in whole numbers? measured: were there test users?
    """
    if math.isinf(spent.epsilon):
        return "No privacy guarantee: ε is infinite, as the noise is zero or the start has seen private data."
    condition = "" if secret else " It would hold if the seed were secret: this run is a simulation."
    metrics = f"; {NOT_COVERED}" if measured else ""
    beside = " or timing" if exact else ", timing or floating-point attacks"
    return (
        f"{unit.capitalize()}-level differential privacy, substitute-one, {sampling}: ε in "
        f"[{lower(spent.epsilon_attack)}, {upper(spent.epsilon)}] at δ = {small(spent.delta)}, certified at the upper "
        f"end, reached at the lower by an attack that sees every charged round. A user is {user}. It covers the "
        f"models, not the choice of hyper-parameters{beside}{metrics}.{condition}"
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

"""Runs as a pandas table, for analyses of one's own."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from fedemb.report.runs import Run, Sweep

_PRICE = ("delta", "unit", "relation", "users", "users_per_round", "users_per_client", "rounds", "noise_multiplier")
"""What a guarantee is made of: keys of report.json's section "privacy"."""


def frame(sweep: Sweep) -> pd.DataFrame:
    """A row a run, as `read_sweep` orders them.

    Columns: run (folder), method, data, seed (missing for a release), epsilon (certified; infinite without a
    guarantee), epsilon_attack (what an attack reaches), the rest of the guarantee, seconds, each metric (of the moving
    average where there is one: that is the exported model), and "settings.KEY" for each key of config.yaml (a list as
    JSON).
    """
    return pd.DataFrame([_row(run, sweep.metrics) for run in sweep.runs])


def _row(run: Run, metrics: list[str]) -> dict[str, object]:
    privacy, attack = run.summary.section("privacy"), run.summary.section("privacy").get("epsilon_attack")
    return {
        "run": str(run.path),
        "method": run.method,
        "data": run.data,
        "seed": run.seed,
        "epsilon": run.epsilon,
        "epsilon_attack": math.inf if attack is None else float(attack),
        **{key: privacy.get(key) for key in _PRICE},
        "seconds": run.summary.section("timing").get("seconds"),
        **{name: run.metric(name) for name in metrics},
        **{f"settings.{key}": _cell(value) for key, value in run.settings.items()},
    }


def _cell(value: Any) -> Any:
    """A scalar as it is."""
    return json.dumps(value) if isinstance(value, list | dict) else value

"""How long a run took and what it spent the time on, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedemb.report import numbers


def timing_rows(timing: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, how much) of a report's timing; nothing for a run without."""
    if not timing:
        return []
    rows = [
        ("Whole run", numbers.duration(timing.get("seconds"))),
        ("One round", numbers.duration(timing.get("seconds_per_round"))),
        ("Client updates per second", numbers.plain(timing.get("client_updates_per_second"))),
        ("Images per second", numbers.plain(timing.get("examples_per_second"))),
        ("Waiting for data", numbers.share(timing.get("waiting_for_data_fraction"))),
        ("Peak memory", numbers.memory(timing.get("peak_memory_bytes"))),
    ]
    executor = timing.get("executor")
    return [*rows, ("Executor", executor_used(executor))] if isinstance(executor, Mapping) else rows


def executor_used(executor: Mapping[str, Any]) -> str:
    """ "Vectorised", "Distributed (Sequential)", or which one was chosen, and why."""
    if isinstance(executor.get("inner"), Mapping):
        return f"{executor['name']} ({executor_used(executor['inner'])})"
    if "chosen" not in executor:
        return str(executor["name"])
    speeds = ", ".join(
        f"{name} {'does not fit into memory' if speed is None else numbers.plain(speed)}"
        for name, speed in executor["client_updates_per_second"].items()
    )
    rounds = executor["measured_rounds"]
    over = f"{rounds} measured round" + ("" if rounds == 1 else "s")
    found = f"{executor['chosen']}, the fastest in" if executor["chosen"] else f"{executor['name']}, not decided after"
    return f"{found} {over}" + (f"; client updates/s: {speeds}" if rounds else "")

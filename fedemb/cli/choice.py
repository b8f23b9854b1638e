"""Which executor works: told and saved when executor=auto has chosen, and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from fedemb.core.types import Diagnostics
from fedemb.execution.auto import Auto
from fedemb.execution.distributed import Distributed
from fedemb.execution.executor import Executor
from fedemb.report.timing import executor_used
from fedemb.server.plan import RunState
from fedemb.server.train import Hook


def hooks(executor: Executor, save: Callable[[RunState], None], console: Console) -> list[Hook]:
    """What is done about a choice between rounds."""
    if not isinstance(executor, Auto):
        return []
    return [_Choice(executor=executor, save=save, console=console, known=executor.chosen is not None)]


def used(executor: Executor) -> dict[str, Any]:
    """Which executor works, for the report; what was chosen and measured, where that was done."""
    name: dict[str, Any] = {"name": type(executor).__name__}
    if isinstance(executor, Distributed):
        return {**name, "inner": used(executor.inner)}
    if not isinstance(executor, Auto):
        return name
    seconds = executor.seconds_per_client()
    return {
        **name,
        "chosen": executor.chosen,
        "measured_rounds": executor.measured_rounds,
        "client_updates_per_second": {which: 1 / each if each else None for which, each in seconds.items()},
    }


@dataclass(kw_only=True)
class _Choice:
    """After the round that decides: a line, and a checkpoint, so that no resumed run chooses another one."""

    executor: Auto
    save: Callable[[RunState], None]
    console: Console
    known: bool

    def __call__(self, state: RunState, diagnostics: Diagnostics) -> None:
        if not self.known and self.executor.chosen is not None:
            self.known = True
            self.save(state)
            self.console.print(f"executor {executor_used(used(self.executor))}", highlight=False, soft_wrap=True)

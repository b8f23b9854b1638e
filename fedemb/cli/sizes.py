"""Executors that may follow how much the users of a virtual client have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fedemb.core.types import VirtualClient
from fedemb.execution.auto import Auto
from fedemb.execution.distributed import Distributed
from fedemb.execution.executor import Executor
from fedemb.execution.vectorised import Vectorised


def following(examples: Callable[[VirtualClient], int] | None, executor: Executor) -> Executor:
    """The executor, and those within it, with work shared out by so many examples a client; None: whatever they are.

    That moves rounding by the sizes of private data: for simulations.
    """
    if isinstance(executor, Distributed):
        within = replace(executor, inner=following(examples, executor.inner))
        return within if examples is None else replace(within, examples=examples)
    if isinstance(executor, Auto):
        return replace(
            executor, candidates={name: following(examples, each) for name, each in executor.candidates.items()}
        )
    return replace(executor, examples=examples) if isinstance(executor, Vectorised) else executor

"""The loop around the round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedemb.core.types import Diagnostics
from fedemb.server.plan import Plan, RunState
from fedemb.server.round import run_round

Hook = Callable[[RunState, Diagnostics], None]
"""Called after every round with the state it left."""


def train(
    plan: Plan, state: RunState, *, rounds: int, hooks: Sequence[Hook], stopped: Callable[[], bool] = lambda: False
) -> RunState:
    """Run rounds until the state's round counter reaches `rounds` or `stopped()` says so between two rounds."""
    while state.round < rounds and not stopped():
        state, diagnostics = run_round(plan, state)
        for hook in hooks:
            hook(state, diagnostics)
    return state

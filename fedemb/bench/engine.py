"""The parts of a round that are not the clients' training, each timed alone, beside the whole round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fedemb.bench.interleave import WARM_UP
from fedemb.bench.workload import Workload, start
from fedemb.core.params import to, zeros_like
from fedemb.execution.executor import Executor
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.ledger import Ledger
from fedemb.server.checkpoint import save
from fedemb.server.plan import Plan, RunState
from fedemb.server.round import run_round

Action = Callable[[], object]

ROUND = "round"
PARTS = ("sampling", "clip and sum", "noise", "server", "ledger", "checkpoint")


def measure(workload: Workload, executor: Executor, turns: Iterable[int], folder: Path) -> dict[str, list[float]]:
    """Seconds of the whole round, checkpoint included, and of each part, turn by turn after the warm-up.

    folder: where the ledgers and checkpoints go; on the disk that is to be measured.
    """
    plan, state = start(workload, executor, Ledger.create(folder / "round.jsonl"))
    actions = parts(workload, plan, replace(state, ledger=Ledger.create(folder / "part.jsonl")), folder / "part")

    def whole() -> None:
        nonlocal state
        state, _ = run_round(plan, state)
        save(folder / "round", state, {})

    found: dict[str, list[float]] = {name: [] for name in (ROUND, *PARTS)}
    for turn in turns:
        for name, action in {ROUND: whole, **actions}.items():
            seconds = _seconds(action)
            if turn >= WARM_UP:
                found[name].append(seconds)
    return found


def parts(workload: Workload, plan: Plan, state: RunState, folder: Path) -> dict[str, Action]:
    """Each part of a round as often as a round has it, on tensors of the model's shapes."""
    clipping = FlatClipping(clip_norm=workload.clip_norm)
    update = {name: 2.0 * value[None] for name, value in state.server.params.items()}  # longer than the clip norm
    total = zeros_like(state.server.params, dtype=torch.float64)
    release = to(total)
    ledger = state.ledger

    def charge() -> None:
        nonlocal ledger
        ledger = ledger.charge(plan.event(state.round))

    def serve() -> None:
        found, _ = plan.query.interpret(release, state.query)
        plan.server.update(state.server, found)

    return {
        "sampling": lambda: plan.sampler.cohort(state.round),
        "clip and sum": partial(_often, workload.clients, lambda: clipping.add_to(total, update)),
        "noise": lambda: plan.mechanism.release(total, state.noise, plan.noise_rng(state.round)),
        "server": serve,
        "ledger": charge,
        "checkpoint": lambda: save(folder, state, {}),
    }


@dataclass(frozen=True, kw_only=True)
class Share:
    """A part's median seconds a round, and its median share of the rounds that it was measured beside."""

    part: str
    seconds: float
    share: float


def shares(found: Mapping[str, Sequence[float]]) -> list[Share]:
    """Of each part, and last of all together."""
    together = {name: found[name] for name in PARTS}
    together["together"] = [sum(values) for values in zip(*together.values(), strict=True)]
    return [
        Share(
            part=name,
            seconds=statistics.median(values),
            share=statistics.median(own / whole for own, whole in zip(values, found[ROUND], strict=True)),
        )
        for name, values in together.items()
    ]


def record(workload: Workload, found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """As JSON values."""
    return {
        "parameters": workload.parameters,
        "clients": workload.clients,
        "round_seconds": statistics.median(found[ROUND]),
        "parts": [vars(share) for share in shares(found)],
        "rounds": {name: list(values) for name, values in found.items()},
    }


def _often(times: int, action: Action) -> None:
    """One after the other: no result is kept."""
    for _ in range(times):
        action()


def _seconds(action: Action) -> float:
    started = time.perf_counter()
    action()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter() - started

"""The round."""

from __future__ import annotations

from fedemb.core.types import Diagnostics
from fedemb.server.plan import Plan, RunState


def run_round(plan: Plan, state: RunState) -> tuple[RunState, Diagnostics]:
    """One round of DP-FedEmb: sample, query, privatise, update (Xu et al. 2023, arXiv:2211.10844)."""
    cohort = plan.sampler.cohort(state.round)
    ledger = state.ledger.charge(plan.event(state.round))  # charged before anything leaves
    value, diagnostics = plan.query.answer(state.query, state.server.params, cohort)
    release, noise = plan.mechanism.release(value, state.noise, plan.noise_rng(state.round))
    update, query = plan.query.interpret(release, state.query)
    server = plan.server.update(state.server, update)
    return RunState(round=state.round + 1, server=server, query=query, noise=noise, ledger=ledger), diagnostics

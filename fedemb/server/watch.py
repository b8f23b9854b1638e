"""Looks at the rounds of a plan from outside, and changes nothing in them.

Shapes: n canaries, P entries of the noise that are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedemb.core.params import flatten
from fedemb.core.rng import NoiseSource
from fedemb.core.types import Cohort, Diagnostics, Params
from fedemb.privacy.canaries import Canaries
from fedemb.privacy.clipping import Clipping
from fedemb.privacy.mechanism import Event, Mechanism, NoiseState
from fedemb.privacy.query import SumUpdates
from fedemb.server.optimizer import Server, ServerState
from fedemb.server.plan import Plan

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is seen of each round. seen: [n] a round, in clip norms; noise: [P] a round."""

    canaries: Canaries
    probed: Tensor
    clip_norms: list[float] = field(default_factory=list)
    seen: list[Array] = field(default_factory=list)
    noise: list[Array] = field(default_factory=list)

    def on(self, plan: Plan) -> Plan:
        """The same plan, watched."""
        query = replace(plan.query, sum_updates=self._noting_clip_norm(plan.query.sum_updates))
        mechanism = _WatchedMechanism(mechanism=plan.mechanism, see=self._see_noise)
        return replace(
            plan, query=query, mechanism=mechanism, server=_WatchedServer(server=plan.server, see=self._see_release)
        )

    def _noting_clip_norm(self, sum_updates: SumUpdates) -> SumUpdates:
        def noting(clipping: Clipping, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
            self.clip_norms.append(clipping.bound * clipping.unit)
            return sum_updates(clipping, shared, cohort)

        return noting

    def _see_noise(self, value: Params, release: Params) -> None:
        added = flatten({name: release[name] - value[name] for name in value})
        self.noise.append(added[self.probed.to(added.device)].cpu().double().numpy())

    def _see_release(self, release: Params) -> None:
        self.seen.append(self.canaries.project(release).numpy() / self.clip_norms[-1])


@dataclass(frozen=True, kw_only=True)
class _WatchedMechanism(Mechanism):
    mechanism: Mechanism
    see: Callable[[Params, Params], None]

    @property
    def std(self) -> float:  # type: ignore[override]
        """That of the mechanism."""
        return self.mechanism.std

    def init(self, like: Params) -> NoiseState:
        """That of the mechanism."""
        return self.mechanism.init(like)

    def release(self, value: Params, state: NoiseState, noise: NoiseSource) -> tuple[Params, NoiseState]:
        """That of the mechanism."""
        release, state = self.mechanism.release(value, state, noise)
        self.see(value, release)
        return release, state

    def event(self, sensitivity: float) -> Event:
        """That of the mechanism."""
        return self.mechanism.event(sensitivity)


@dataclass(frozen=True, kw_only=True)
class _WatchedServer(Server):
    server: Server
    see: Callable[[Params], None]

    def init(self, params: Params, trained: Params) -> ServerState:
        """That of the server."""
        return self.server.init(params, trained)

    def update(self, state: ServerState, release: Params) -> ServerState:
        """That of the server."""
        self.see(release)
        return self.server.update(state, release)

"""Plant faults in a run and show that its audit catches each of them, and nothing where there is none.

    python scripts/audit_faults.py [key=value ...]        the keys of fedemb audit; default: recipe=synthetic

Exit code 1 if a fault is not caught, or the run without one is called violated.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from dp_accounting import SampledWithoutReplacementDpEvent
from hydra import compose, initialize_config_module
from torch import Tensor

from fedemb.cli.audit import audit
from fedemb.cli.build import build
from fedemb.core.params import norm
from fedemb.core.types import Params
from fedemb.data.sampling import FixedSizeSampler
from fedemb.privacy.clipping import Clipping
from fedemb.privacy.mechanism import Event, Mechanism
from fedemb.privacy.query import ClippedSum
from fedemb.server.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Misstated(Mechanism):
    """Says what one mechanism costs and does what another one does."""

    says: Mechanism
    does: Mechanism

    @property
    def std(self) -> float:
        return self.does.std

    def init(self, like):
        return self.does.init(like)

    def release(self, value, state, noise):
        return self.does.release(value, state, noise)

    def event(self, sensitivity: float) -> Event:
        return self.says.event(sensitivity)


@dataclass(frozen=True, kw_only=True)
class Unclipped(Clipping):
    """States the bound of a clipping and does not clip."""

    clipping: Clipping

    @property
    def bound(self) -> float:
        return self.clipping.bound

    def __call__(self, update: Params) -> tuple[Params, Tensor]:
        return {name: value.double() for name, value in update.items()}, norm(update)


@dataclass(frozen=True, kw_only=True)
class HalfSensitive(ClippedSum):
    """Takes C for the sensitivity of a sum under substitute-one, which is 2C."""

    def sensitivity(self, relation) -> float:
        return super().sensitivity(relation) / 2


@dataclass(frozen=True, kw_only=True)
class CountsClients(FixedSizeSampler):
    """Takes m / N for the chance of a user, which is M / N."""

    def event(self, release, round):
        return SampledWithoutReplacementDpEvent(self.num_users, self.planned_clients, release)


@dataclass(frozen=True, kw_only=True)
class InTurns(FixedSizeSampler):
    """The same round over and over, called a sample."""

    def cohort(self, round):
        return replace(super().cohort(0), round=round)


@dataclass(frozen=True, kw_only=True)
class SameSeat(FixedSizeSampler):
    """The user of the first seat has the second one too."""

    def cohort(self, round):
        cohort = super().cohort(round)
        first, second, *others = cohort.clients
        twice = replace(second, users=(first.users[0], *second.users[1:]))
        return replace(cohort, clients=(first, twice, *others))


def fields(value) -> dict:
    """Keyword arguments that make the same object again."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def noise_at(share: float) -> Callable[[Plan], Plan]:
    """Less noise than is charged for."""

    def planted(plan: Plan) -> Plan:
        less = replace(plan.mechanism, std=share * plan.mechanism.std)
        return replace(plan, mechanism=Misstated(says=plan.mechanism, does=less))

    return planted


def unclipped(plan: Plan) -> Plan:
    return replace(plan, query=replace(plan.query, clipping=Unclipped(clipping=plan.query.clipping)))


def sampler_of(kind: type[FixedSizeSampler]) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, sampler=kind(**fields(plan.sampler)))


FAULTS: dict[str, Callable[[Plan], Plan]] = {
    "none": lambda plan: plan,
    "noise at half": noise_at(0.5),
    "noise at 0.8": noise_at(0.8),
    "clipping off": unclipped,
    "C for 2C claimed": lambda plan: replace(plan, query=HalfSensitive(**fields(plan.query))),
    "q = m/N claimed": sampler_of(CountsClients),
    "noise reused": lambda plan: replace(plan, noise_rng=lambda round: plan.noise_rng(0)),
    "no sampling": sampler_of(InTurns),
    "a user in two seats": sampler_of(SameSeat),
}


def main(words: list[str]) -> int:
    """Print fault, verdict, the checks that caught it, p-value and seconds."""
    torch.set_num_threads(1)
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        cfg = compose("audit", words or ["recipe=synthetic"])
    cfg.test_users = None
    missed = 0
    with (job := build(cfg)).load:
        for name, plant in FAULTS.items():
            begun = time.perf_counter()
            answer = audit(cfg, replace(job, plan=plant(job.plan)))
            caught = [check for check in answer["checks"] if check["violated"]]
            told = ", ".join(f"{check['name']} (p = {check['p_value']:.1g})" for check in caught) or "-"
            missed += (answer["verdict"] == "ok") != (name == "none")
            print(f"{name:<20} {answer['verdict']:<9} {time.perf_counter() - begun:5.1f} s  {told}", flush=True)
    print(f"{len(FAULTS) - missed} of {len(FAULTS)} as they should be")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The same rounds by every accountant in use, each with what its number is worth for the sampling at hand.

Only `certified` is what fedemb claims. The others are here because tools print them, some for another neighbouring
relation, another sampling, or half the sensitivity: numbers that look better and say nothing about these rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dp_accounting import (
    DpEvent,
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    TruncatedSubsampledGaussianDpEvent,
)
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq

from fedemb.core import check
from fedemb.privacy.accounting import check_delta, spend
from fedemb.privacy.crosscheck import rdp_epsilon
from fedemb.privacy.events import fixed_size_round, noise_multiplier_of, poisson_round

VALID, LOOSE, INVALID, LOWER = "valid", "valid but loose", "invalid", "lower bound"
MOST_SETTINGS = 8
"""Distinct rounds that dp-accounting prices in seconds."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Equal rounds with one user a virtual client or more. noise_multiplier: z, noise std on the sum / clip norm."""

    users: int
    users_per_round: int
    rounds: int
    noise_multiplier: float
    fixed_size: bool

    def __post_init__(self) -> None:
        check.at_least("users_per_round", self.users_per_round, 1)
        check.at_least("users", self.users, self.users_per_round)
        check.at_least("rounds", self.rounds, 1)
        check.positive("noise_multiplier", self.noise_multiplier)

    @property
    def sampling_rate(self) -> float:
        """q = M / N."""
        return self.users_per_round / self.users

    def event(self) -> DpEvent:
        """One round as it is."""
        return self.fixed() if self.fixed_size else self.poisson()

    def fixed(self, scale: float = 1.0) -> DpEvent:
        """One round of fixed size; scale: of the noise."""
        noise = scale * self.noise_multiplier
        return fixed_size_round(users=self.users, users_per_round=self.users_per_round, noise_multiplier=noise)

    def poisson(self) -> DpEvent:
        """One round of Poisson sampling with one user a client."""
        return poisson_round(sampling_rate=self.sampling_rate, noise_multiplier=self.noise_multiplier)


Schedule = Sequence[Settings]


@dataclass(frozen=True, kw_only=True)
class Price:
    """One accountant's answer. epsilon: None where it has none for these rounds. status: VALID, LOOSE, ..."""

    name: str
    epsilon: float | None
    status: str
    reason: str


def settings_of(event: DpEvent, count: int, users: int | None) -> Settings | None:
    """The settings that an event of a ledger stands for; None for another kind of round or one without noise.

    users: N, which a Poisson event does not hold.
    """
    match event:
        case SampledWithoutReplacementDpEvent(event=GaussianDpEvent(noise_multiplier=ratio)) if ratio > 0:
            return Settings(
                users=event.source_dataset_size,
                users_per_round=event.sample_size,
                rounds=count,
                noise_multiplier=noise_multiplier_of(ratio),
                fixed_size=True,
            )
        case PoissonSampledDpEvent(event=GaussianDpEvent(noise_multiplier=ratio)) if ratio > 0 and users:
            return Settings(
                users=users,
                users_per_round=max(round(event.sampling_probability * users), 1),
                rounds=count,
                noise_multiplier=noise_multiplier_of(ratio),
                fixed_size=False,
            )
        case _:
            return None


def compare(schedule: Schedule, delta: float) -> list[Price]:
    """Every accountant's epsilon at `delta` for these rounds, all of fixed size or all Poisson.

    Raises: ValueError for rounds of both kinds, and for more than MOST_SETTINGS.
    """
    check_delta(delta)
    kinds = {settings.fixed_size for settings in schedule}
    if len(kinds) != 1 or len(schedule) > MOST_SETTINGS:
        raise ValueError(
            f"compare wants 1 to {MOST_SETTINGS} different rounds, all of one sampling, got {len(schedule)} of "
            f"{len(kinds)} samplings: take action=price"
        )
    spent = spend([(settings.event(), settings.rounds) for settings in schedule], delta)
    fixed, whole = kinds.pop(), all(settings.sampling_rate == 1 for settings in schedule)
    prices = [
        Price(
            name="fedemb, certified", epsilon=spent.epsilon, status=VALID, reason="proven for every pair of neighbours"
        ),
        Price(name="fedemb, attack", epsilon=spent.epsilon_attack, status=LOWER, reason="one concrete pair reaches it"),
    ]
    verdicts = _WHOLE if whole else _FIXED if fixed else _POISSON
    for name, price in _PRICES.items():
        status, reason = verdicts[name]
        prices.append(Price(name=name, epsilon=_tried(price, schedule, delta), status=status, reason=reason))
    return prices


def group_epsilon(schedule: Schedule, delta: float) -> float:
    """A substitution as a removal and an addition: (2 e, d (1 + e^e)) if Poisson rounds are (e, d) for either."""
    accountant = _add_remove(schedule)

    def excess(epsilon: float) -> float:
        return float(accountant.get_delta(epsilon)) * (1 + math.exp(epsilon)) - delta

    high = 1.0
    while excess(high) > 0:
        high *= 2
        if high > 500:
            return math.inf
    return 2 * (float(brentq(excess, 0.0, high, xtol=1e-9)) if excess(0.0) > 0 else 0.0)


def add_remove_epsilon(schedule: Schedule, delta: float) -> float:
    """Poisson rounds under add-or-remove-one with sensitivity C, as most libraries print it."""
    return float(_add_remove(schedule).get_epsilon(delta))


def truncated_epsilon(schedule: Schedule, delta: float) -> float:
    """dp-accounting's truncated subsampled Gaussian with its default grid, cohorts always full: fixed-size rounds."""
    accountant = PLDAccountant(NeighboringRelation.REPLACE_ONE)
    for settings in schedule:
        event = TruncatedSubsampledGaussianDpEvent(
            settings.users, 1.0, settings.users_per_round, settings.noise_multiplier
        )
        accountant.compose(event, settings.rounds)
    return float(accountant.get_epsilon(delta))


def _renyi(schedule: Schedule, delta: float) -> float:
    return rdp_epsilon([(settings.fixed(), settings.rounds) for settings in schedule], delta)


def _renyi_with_clip_norm(schedule: Schedule, delta: float) -> float:
    return rdp_epsilon([(settings.fixed(scale=2.0), settings.rounds) for settings in schedule], delta)


def _poisson(schedule: Schedule, delta: float) -> float:
    return spend([(settings.poisson(), settings.rounds) for settings in schedule], delta).epsilon


def _add_remove(schedule: Schedule) -> PLDAccountant:
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    for settings in schedule:
        event = PoissonSampledDpEvent(settings.sampling_rate, GaussianDpEvent(settings.noise_multiplier))
        accountant.compose(event, settings.rounds)
    return accountant


def _tried(price: Callable[[Schedule, float], float], schedule: Schedule, delta: float) -> float | None:
    """The price; None where the library gives up on these rounds."""
    try:
        return price(schedule, delta)
    except (ValueError, OverflowError, ZeroDivisionError, MemoryError):
        return None


_RDP, _TRUNCATED, _PLD = (
    "dp-accounting RDP, fixed size, z/2",
    "dp-accounting truncated, fixed size, z",
    "PLD, Poisson, z",
)
_GROUP, _ADD_REMOVE, _HALVED = (
    "2 x add/remove, Poisson, z",
    "add/remove, Poisson, z",
    "dp-accounting RDP, fixed size, z",
)

_PRICES: Mapping[str, Callable[[Schedule, float], float]] = {
    _RDP: _renyi,
    _TRUNCATED: truncated_epsilon,
    _PLD: _poisson,
    _GROUP: group_epsilon,
    _ADD_REMOVE: add_remove_epsilon,
    _HALVED: _renyi_with_clip_norm,
}

_OTHER_RELATION = (INVALID, "adding or removing a user moves the sum by C, substituting one by 2C")
_OTHER_SENSITIVITY = (INVALID, "takes the sensitivity for C; under substitute-one it is 2C")
_NOT_POISSON = "no slot is empty in a cohort of fixed size"

_FIXED = {
    _RDP: (LOOSE, "Renyi divergences lose what the privacy loss distribution keeps"),
    _TRUNCATED: (LOOSE, "allows updates that are 4C apart"),
    _PLD: (INVALID, _NOT_POISSON),
    _GROUP: (INVALID, _NOT_POISSON),
    _ADD_REMOVE: _OTHER_RELATION,
    _HALVED: _OTHER_SENSITIVITY,
}
_POISSON = {
    _RDP: (INVALID, "prices cohorts of fixed size"),
    _TRUNCATED: (INVALID, "prices cohorts of fixed size"),
    _PLD: (VALID, "the pair is a concrete one: nothing is lost; one user a virtual client"),
    _GROUP: (LOOSE, "a substitution is a removal and an addition; one user a virtual client"),
    _ADD_REMOVE: _OTHER_RELATION,
    _HALVED: _OTHER_SENSITIVITY,
}
_WHOLE = {
    **_POISSON,
    _RDP: _FIXED[_RDP],
    _TRUNCATED: (VALID, "everybody takes part: no sampling to be wrong about"),
    _PLD: (VALID, "everybody takes part: no sampling to be wrong about"),
    _GROUP: (LOOSE, "a substitution is a removal and an addition"),
}

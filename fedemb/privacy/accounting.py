"""What a list of events costs one user: epsilon at delta under substitute-one, as an interval.

Convention: a GaussianDpEvent holds s = noise std / L2 sensitivity, the latter for the substitution of one user.

    event                                                       priced as
    SampledWithoutReplacementDpEvent(N, M, GaussianDpEvent(s))  FixedSizeRound(q = M / N, s)
    PoissonSampledDpEvent(q, GaussianDpEvent(s))                PoissonRound(q, s); one user a virtual client
    GaussianDpEvent(s), or a sampling rate of 1                 all such together: one Gaussian, in closed form
    NonPrivateDpEvent, s = 0                                    epsilon = inf
    NoOpDpEvent                                                 nothing
    ComposedDpEvent, SelfComposedDpEvent                        their parts

Every kind of round has a dominating pair for substitute-one, so any mixture composes, adaptively and in any order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
)

from fedemb.core import check
from fedemb.privacy.attack import attack_epsilon
from fedemb.privacy.gaussian import gaussian_epsilon
from fedemb.privacy.pairs import FixedSizeRound, PoissonRound, Round
from fedemb.privacy.pld import certified_epsilon

Events: TypeAlias = DpEvent | Iterable[tuple[DpEvent, int]]
"""One event, or events with how often each happened."""

ACCOUNTANT = "privacy-loss distribution of the worst pair of each round; lower end: a concrete attack pair"
"""What prints an epsilon, in words."""

SMALLEST_DELTA = 1e-12
LEAST_NOISE = 1e-6
"""Noise below this fraction of the sensitivity is priced as none."""


@dataclass(frozen=True, kw_only=True)
class PrivacySpend:
    """The privacy loss of one user, relation substitute-one.

    epsilon: certified; the mechanism is (epsilon, delta)-DP.
    epsilon_attack: a concrete attack proves that no smaller number than this is true.
    delta: the probability that both are about.
    """

    epsilon: float
    epsilon_attack: float
    delta: float


def default_delta(users: int) -> float:
    """N^-1.1, below 1 / N for every N > 1."""
    check.at_least("users", users, 2)
    return float(users**-1.1)


def spend(events: Events, delta: float) -> PrivacySpend:
    """The interval [attack, certified] that holds epsilon at `delta`.

    Raises: ValueError for a delta outside [1e-12, 1) or an event without a certified price here.
    """
    check_delta(delta)
    rounds, gaussian = _rounds(events)
    if not rounds:
        exact = gaussian_epsilon(gaussian, delta)
        return PrivacySpend(epsilon=exact, epsilon_attack=exact, delta=delta)
    certified = certified_epsilon(rounds, delta)
    attack = attack_epsilon(rounds, delta, certified.step) if certified.epsilon > 0 else 0.0
    return PrivacySpend(epsilon=certified.epsilon, epsilon_attack=attack, delta=delta)


def epsilon(events: Events, delta: float) -> float:
    """The certified epsilon alone, as in `spend`."""
    check_delta(delta)
    rounds, gaussian = _rounds(events)
    return certified_epsilon(rounds, delta).epsilon if rounds else gaussian_epsilon(gaussian, delta)


def affordable_rounds(spent: Events, round_event: DpEvent, *, delta: float, target_epsilon: float, limit: int) -> int:
    """How many times `round_event` can follow what is spent with a certified epsilon of at most `target_epsilon`.

    Returns: the largest such number in 0 .. limit.
    """
    check.positive("target_epsilon", target_epsilon)
    check.at_least("limit", limit, 0)
    before = counted(spent)

    def fits(count: int) -> bool:
        return epsilon([*before, (round_event, count)], delta) <= target_epsilon

    fitting, failing = 0, 1
    while failing <= limit and fits(failing):
        fitting, failing = failing, 2 * failing
    failing = min(failing, limit + 1)
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        fitting, failing = (middle, failing) if fits(middle) else (fitting, middle)
    return fitting


def check_delta(delta: float) -> None:
    """Require 1e-12 <= delta < 1."""
    if not SMALLEST_DELTA <= delta < 1:
        raise ValueError(f"delta must lie in [{SMALLEST_DELTA:g}, 1), got {delta=}; a usual one is users ** -1.1")


def counted(events: Events) -> list[tuple[DpEvent, int]]:
    """Events with their counts, from either form."""
    return [(events, 1)] if isinstance(events, DpEvent) else list(events)


def _rounds(events: Events) -> tuple[list[tuple[Round, int]], float]:
    """(distinct rounds with counts, noise ratio of the unsampled Gaussian rounds together).

    Independent Gaussian rounds add up in 1 / s^2. Where all is Gaussian, nothing (inf) or not private (0), the list
    is empty and the second value says it all; otherwise the list holds the Gaussian part too.
    """
    sampled: Counter[Round] = Counter()
    precision = 0.0
    for event, count in counted(events):
        for round_, times in _parts(event, count):
            if round_.noise_ratio < LEAST_NOISE:
                return [], 0.0
            if round_.sampling_rate == 1:
                precision += times / round_.noise_ratio**2
            else:
                sampled[round_] += times
    gaussian = precision**-0.5 if precision > 0 else math.inf
    if sampled and precision > 0:
        sampled[FixedSizeRound(sampling_rate=1.0, noise_ratio=gaussian)] += 1
    return list(sampled.items()), gaussian


def _parts(event: DpEvent, count: int) -> Iterator[tuple[Round, int]]:
    """The rounds that an event stands for."""
    check.at_least("count", count, 0)
    match event:
        case _ if count == 0:
            return
        case NoOpDpEvent():
            return
        case ComposedDpEvent(events=parts):
            for part in parts:
                yield from _parts(part, count)
        case SelfComposedDpEvent(event=part, count=times):
            yield from _parts(part, times * count)
        case SampledWithoutReplacementDpEvent(source_dataset_size=users, sample_size=sampled, event=release):
            if not 1 <= sampled <= users:
                raise ValueError(f"a round must sample between 1 and all users, got {sampled} of {users}")
            yield FixedSizeRound(sampling_rate=sampled / users, noise_ratio=_noise_ratio(release)), count
        case PoissonSampledDpEvent(sampling_probability=rate, event=GaussianDpEvent() | NonPrivateDpEvent() as release):
            yield PoissonRound(sampling_rate=rate, noise_ratio=_noise_ratio(release)), count
        case _:
            yield FixedSizeRound(sampling_rate=1.0, noise_ratio=_noise_ratio(event)), count


def _noise_ratio(release: DpEvent) -> float:
    """s of everything released about one cohort: Gaussian releases of the same sample add up in 1 / s^2."""
    match release:
        case GaussianDpEvent(noise_multiplier=ratio):
            check.non_negative("noise over sensitivity", ratio)
            return float(ratio)
        case NonPrivateDpEvent():
            return 0.0
        case ComposedDpEvent(events=parts) if parts:
            ratios = [_noise_ratio(part) for part in parts]
            return 0.0 if min(ratios) < LEAST_NOISE else sum(ratio**-2 for ratio in ratios) ** -0.5
        case SelfComposedDpEvent(event=part, count=times) if times >= 1:
            return _noise_ratio(part) / math.sqrt(times)
        case _:
            raise ValueError(f"no certified price for the event {release}: Gaussian releases only")

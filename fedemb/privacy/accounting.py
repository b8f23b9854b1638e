"""What a list of events costs one user: epsilon at delta under substitute-one, as an interval.

Convention: a GaussianDpEvent holds s = noise std / L2 sensitivity, the latter for the substitution of one user.

    event                                                       priced as
    SampledWithoutReplacementDpEvent(N, M, GaussianDpEvent(s))  FixedSizeRound(q = M / N, s)
    PoissonSampledDpEvent(q, GaussianDpEvent(s))                PoissonRound(q, s); one user a virtual client
    GaussianDpEvent(s), or a sampling rate of 1                 all such together: one Gaussian, in closed form
    SeparatedDpEvent of GaussianDpEvent, CorrelatedGaussianDpEvent  those of one run: one Gaussian (participation.py)
    NearDpEvent(event, tau)                                     event, at a delta that leaves tau its share (near.py)
    PersonDpEvent(event, j)                                     all events, for a person of j user ids (persons.py)
    NonPrivateDpEvent, s = 0                                    epsilon = inf
    NoOpDpEvent                                                 nothing
    ComposedDpEvent, SelfComposedDpEvent                        their parts

Every kind of round has a dominating pair for substitute-one, so any mixture composes, adaptively and in any order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
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
from fedemb.privacy import participation
from fedemb.privacy.attack import attack_epsilon
from fedemb.privacy.event_types import CorrelatedGaussianDpEvent, SeparatedDpEvent
from fedemb.privacy.gaussian import gaussian_epsilon
from fedemb.privacy.grouping import Group, grouped, mildest_case, worst_case
from fedemb.privacy.near import near_attack, near_epsilon, without_near
from fedemb.privacy.pairs import FixedSizeRound, PoissonRound, Round
from fedemb.privacy.persons import most_ids, of_one_id, one_by_one, together
from fedemb.privacy.pld import Certified, certified_epsilon

Events: TypeAlias = DpEvent | Iterable[tuple[DpEvent, int]]
"""One event, or events with how often each happened."""

ACCOUNTANT = "privacy-loss distribution of the worst pair of each round; lower end: a concrete attack pair"
"""What prints an epsilon, in words."""

SMALLEST_DELTA = 1e-12
_ATTACK_STEPS = (1, 8)  # grids of an attack, in steps of the bound's; the coarser one serves rare, huge losses
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
    """N^-1.1, below 1 / N for every N > 1. Raises: ValueError for so many users that it is too small to account for."""
    check.at_least("users", users, 2)
    delta = float(users**-1.1)
    if delta < SMALLEST_DELTA:
        raise ValueError(
            f"users={users} gives delta = users ** -1.1 = {delta:.3g}: set delta= to {SMALLEST_DELTA:g} or more"
        )
    return delta


def spend(events: Events, delta: float) -> PrivacySpend:
    """The interval [attack, certified] that holds epsilon at `delta`.

    Raises: ValueError for a delta outside [1e-12, 1) or an event without a certified price here.
    """
    check_delta(delta)
    single, ids = _of_one_id(events)
    total = _total(single, delta)
    certified = cache(total.certified)  # the attack takes the grid from the bound
    one = near_epsilon(lambda share: certified(share).epsilon, delta, total.distance)
    return PrivacySpend(
        epsilon=one if ids == 1 else _of_person(single, ids, delta),
        epsilon_attack=near_attack(lambda share: total.attack(share, certified(share)), delta, total.distance),
        delta=delta,
    )


def epsilon(events: Events, delta: float) -> float:
    """The certified epsilon alone, as in `spend`."""
    check_delta(delta)
    single, ids = _of_one_id(events)
    return _of_user(single, delta) if ids == 1 else _of_person(single, ids, delta)


def _of_user(events: Events, delta: float) -> float:
    """The certified epsilon of events about one id."""
    total = _total(events, delta)
    return near_epsilon(lambda share: total.certified(share).epsilon, delta, total.distance)


def _of_person(events: Sequence[tuple[DpEvent, int]], ids: int, delta: float) -> float:
    """The certified epsilon for a person of several ids, of events about one: the better of two bounds."""
    joint = _of_user([(together(event, ids), count) for event, count in events], delta)
    chained = one_by_one(lambda share: _of_user(events, share), delta, ids, least=SMALLEST_DELTA)
    return min(joint, chained)


def _of_one_id(events: Events) -> tuple[list[tuple[DpEvent, int]], int]:
    """(the events as they are for one user id, how many of them a person has)."""
    found = counted(events)
    return [(of_one_id(event), count) for event, count in found], most_ids(event for event, _ in found)


def dominating_rounds(events: Events, delta: float) -> list[tuple[Round, int]]:
    """Rounds with counts that reveal no less than the events do, few enough for an epsilon at `delta`.

    A round without noise has s = 0. Raises: ValueError for events that are only near to others, whose failures no
    Renyi divergence can hold.
    """
    check_delta(delta)
    single, ids = _of_one_id(events)
    total = _total(single if ids == 1 else [(together(event, ids), count) for event, count in single], delta)
    if total.distance > 0:
        raise ValueError("a discrete release is only near to a Gaussian one: it has an epsilon at delta, but no more")
    return total.dominating()


def affordable_rounds(
    spent: Events,
    rounds: Callable[[int], Iterable[tuple[DpEvent, int]]],
    *,
    delta: float,
    target_epsilon: float,
    limit: int,
) -> int:
    """How many rounds can follow what is spent with a certified epsilon of at most `target_epsilon`.

    rounds: a number -> the events of the next so many rounds.
    Returns: the largest such number in 0 .. limit.
    """
    check.positive("target_epsilon", target_epsilon)
    check.at_least("limit", limit, 0)
    before = counted(spent)

    def fits(count: int) -> bool:
        return epsilon([*before, *rounds(count)], delta) <= target_epsilon

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


@dataclass(frozen=True, kw_only=True)
class _Total:
    """All events together: rounds with a secret cohort, and one Gaussian release for all others.

    sampled: the former in groups, which are priced together (grouping.py).
    precision: 1 / s^2 of that release, which adds up; inf without noise.
    attacked: the part of it that an attack on one user surely gets.
    distance: total variation distance to these from what happened.
    """

    sampled: Sequence[Group]
    precision: float
    attacked: float
    distance: float

    def certified(self, delta: float) -> Certified:
        """The bound at `delta`, in closed form where all is Gaussian, with the distance left out."""
        if math.isinf(self.precision) or not self.sampled:
            return Certified(epsilon=gaussian_epsilon(_ratio(self.precision), delta), step=0.0)
        return certified_epsilon(self.dominating(), delta)

    def attack(self, delta: float, certified: Certified) -> float:
        """What an attack proves at `delta`, with the distance left out; certified: the bound there."""
        if math.isinf(self.attacked) or not self.sampled:
            return gaussian_epsilon(_ratio(self.attacked), delta)
        attacked = [*map(mildest_case, self.sampled), *_unsampled(self.attacked)]
        if certified.epsilon == 0:
            return 0.0
        return max(attack_epsilon(attacked, delta, steps * certified.step) for steps in _ATTACK_STEPS)

    def dominating(self) -> list[tuple[Round, int]]:
        """Rounds that reveal no less, with the distance left out."""
        return [*map(worst_case, self.sampled), *_unsampled(self.precision)]


def _unsampled(precision: float) -> list[tuple[Round, int]]:
    """The Gaussian release of this 1 / s^2, if any."""
    return [(FixedSizeRound(sampling_rate=1.0, noise_ratio=_ratio(precision)), 1)] if precision > 0 else []


def _total(events: Events, delta: float) -> _Total:
    """Everything, added up, in groups that suit an epsilon at `delta`."""
    sampled: Counter[Round] = Counter()
    exact, distance = [], 0.0
    for event, count in counted(events):
        inner, each = without_near(event)
        exact.append((inner, count))
        distance += each * count
    precision, attacked, known = 0.0, 0.0, [0.0]
    for part, times in _run(exact, 1):
        if isinstance(part, _Known):
            precision += times * part.precision
            known.append(part.attacked)
        elif part.noise_ratio < LEAST_NOISE or part.sampling_rate == 1:
            precision += times * _precision(part.noise_ratio)
            attacked += times * _precision(part.noise_ratio)
        else:
            sampled[part] += times
    groups = grouped(list(sampled.items()), delta)
    return _Total(sampled=groups, precision=precision, attacked=attacked + max(known), distance=distance)


@dataclass(frozen=True, kw_only=True)
class _Known:
    """The rounds of one run whose cohorts need not be secret; `precision` and `attacked` as in `_Total`."""

    precision: float
    attacked: float


def _run(events: Iterable[tuple[DpEvent, int]], times: int) -> Iterator[tuple[Round | _Known, int]]:
    """The rounds of a run that happened `times` times; its separated ones are one."""
    separated: dict[participation.Rows, Counter[int]] = {}
    for event, count in events:
        for part, repeats in _parts(event, count):
            if isinstance(part, SeparatedDpEvent):
                separated.setdefault(_rows(part), Counter())[part.round] += repeats
            else:
                yield part, repeats * times
    if any(rows.noise_ratio < LEAST_NOISE for rows in separated):
        yield _Known(precision=math.inf, attacked=math.inf), times
    elif separated:
        precision, attacked = participation.precision(separated), participation.attacked_precision(separated)
        yield _Known(precision=precision, attacked=attacked), times


def _rows(event: SeparatedDpEvent) -> participation.Rows:
    """The kind of rows that a separated round belongs to."""
    match event.event:
        case CorrelatedGaussianDpEvent(noise_multiplier=ratio, span=span, shortest=shortest):
            pass
        case release:
            ratio, span, shortest = _noise_ratio(release), 1, 1.0
    return participation.Rows(
        noise_ratio=ratio,
        span=span,
        separation=event.separation,
        longest_gap=event.longest_gap,
        shortest=shortest,
    )


def _precision(noise_ratio: float) -> float:
    """1 / s^2, inf for too little noise."""
    return noise_ratio**-2 if noise_ratio >= LEAST_NOISE else math.inf


def _ratio(precision: float) -> float:
    """s of one Gaussian release; inf for nothing, 0 without noise."""
    return precision**-0.5 if precision > 0 else math.inf


def _parts(event: DpEvent, count: int) -> Iterator[tuple[Round | _Known | SeparatedDpEvent, int]]:
    """The rounds that an event stands for; separated ones are for their run to price."""
    check.at_least("count", count, 0)
    match event:
        case _ if count == 0:
            return
        case NoOpDpEvent():
            return
        case ComposedDpEvent(events=parts):
            yield from _run(((part, 1) for part in parts), count)
        case SelfComposedDpEvent(event=part, count=times):
            yield from _parts(part, times * count)
        case SeparatedDpEvent():
            yield event, count
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
        case CorrelatedGaussianDpEvent():
            raise ValueError(release.refusal())
        case _:
            raise ValueError(f"no certified price for the event {release}: Gaussian releases only")

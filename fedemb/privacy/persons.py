"""The price for a person who has several user ids, from events about one id.

j ids of one person are j users whom one substitution replaces together. Two bounds hold, and the lower one counts:

    together    One of j ids is drawn with a chance of at most j M / N (Poisson: 1 - (1 - q)^j), and then at most j
                updates differ, each by the sensitivity. Joint convexity over the cohorts with and without one of them
                leads to the pair of one id at that rate and with noise ratio s / j. Where cohorts are known, what j
                ids add over all rounds is at most j times what one does (triangle inequality).
    one by one  j substitutions of one user each lead from one data set to the other: if the releases are
                (eps, delta')-DP for a user, they are (j eps, delta' (1 + e^eps + ... + e^((j - 1) eps)))-DP for the
                person (group privacy, Vadhan 2017, Lemma 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import attrs
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

from fedemb.privacy.event_types import CorrelatedGaussianDpEvent, NearDpEvent, PersonDpEvent, SeparatedDpEvent

_MARGIN = 1e-3  # of the share of delta, so that the search ends
_MOST = 700.0  # exponents; e^700 is the last that is finite


def most_ids(events: Iterable[DpEvent]) -> int:
    """The largest number of ids that any event names; 1 where none does."""
    return max((_ids(event) for event in events), default=1)


def as_group(events: Iterable[tuple[DpEvent, int]], size: int) -> list[tuple[DpEvent, int]]:
    """The events as they are for `size` of their users together, each of whom has the ids that the events name."""
    found = list(events)
    ids = size * most_ids(event for event, _ in found)
    return [(PersonDpEvent(of_one_id(event), ids), count) for event, count in found] if ids > 1 else found


def of_one_id(event: DpEvent) -> DpEvent:
    """The event with every person taken for a single id."""
    match event:
        case PersonDpEvent(event=inner):
            return inner
        case ComposedDpEvent(events=parts):
            return ComposedDpEvent([of_one_id(part) for part in parts])
        case SelfComposedDpEvent(event=part, count=times):
            return SelfComposedDpEvent(of_one_id(part), times)
        case _:
            return event


def together(event: DpEvent, ids: int) -> DpEvent:
    """An event about one id, priced as if all ids took part whenever one of them does.

    Raises: ValueError for an event without such a price.
    """
    match event:
        case NoOpDpEvent() | NonPrivateDpEvent():
            return event
        case GaussianDpEvent(noise_multiplier=ratio) | CorrelatedGaussianDpEvent(noise_multiplier=ratio):
            return attrs.evolve(event, noise_multiplier=ratio / ids)
        case SampledWithoutReplacementDpEvent(source_dataset_size=users, sample_size=sampled, event=release):
            return SampledWithoutReplacementDpEvent(users, min(users, ids * sampled), together(release, ids))
        case PoissonSampledDpEvent(sampling_probability=rate, event=release):
            drawn = 1.0 if rate == 1 else -math.expm1(ids * math.log1p(-rate))
            return PoissonSampledDpEvent(drawn, together(release, ids))
        case SeparatedDpEvent(event=release) | NearDpEvent(event=release):
            return attrs.evolve(event, event=together(release, ids))
        case ComposedDpEvent(events=parts):
            return ComposedDpEvent([together(part, ids) for part in parts])
        case SelfComposedDpEvent(event=part, count=times):
            return SelfComposedDpEvent(together(part, ids), times)
        case _:
            raise ValueError(f"no certified price for several ids of one person in the event {event}")


def one_by_one(price: Callable[[float], float], delta: float, ids: int, *, least: float) -> float:
    """The certified epsilon for the person at `delta`; inf where it would take a delta' below `least`.

    price: delta' -> certified epsilon for one user, not below 0 and falling in delta'.
    """
    share = delta / ids
    while share >= least:
        epsilon = price(share)
        if (ids - 1) * epsilon > _MOST:
            return math.inf
        needed = share * math.fsum(math.exp(step * epsilon) for step in range(ids))
        if needed <= delta * (1 + 1e-12):
            return ids * epsilon
        share *= (1 - _MARGIN) * delta / needed
    return math.inf


def _ids(event: DpEvent) -> int:
    match event:
        case PersonDpEvent(ids=ids):
            return int(ids)
        case ComposedDpEvent(events=parts):
            return most_ids(parts)
        case SelfComposedDpEvent(event=part):
            return _ids(part)
        case _:
            return 1

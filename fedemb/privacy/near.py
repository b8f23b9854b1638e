"""Prices of releases that are only close to what the accountant knows.

If all releases together are within total variation tau of others, whatever the data, and those others are
(eps, delta')-DP, then the releases are (eps, delta' + tau (1 + e^eps))-DP: tau once for either data set.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
)

from fedemb.privacy.event_types import NearDpEvent, SeparatedDpEvent

_MARGIN = 1e-3  # of the share of delta that is set aside, so that the search ends
_MOST = 700.0  # epsilon; e^700 is the last that is finite


def without_near(event: DpEvent) -> tuple[DpEvent, float]:
    """(the event with the releases that its own are near to, the total variation distance of all of them)."""
    match event:
        case NearDpEvent(event=inner, total_variation=distance):
            exact, inside = without_near(inner)
            return exact, inside + distance
        case ComposedDpEvent(events=parts):
            pairs = [without_near(part) for part in parts]
            return ComposedDpEvent([exact for exact, _ in pairs]), math.fsum(distance for _, distance in pairs)
        case SelfComposedDpEvent(event=part, count=times):
            exact, distance = without_near(part)
            return SelfComposedDpEvent(exact, times), times * distance
        case SampledWithoutReplacementDpEvent() | PoissonSampledDpEvent() | SeparatedDpEvent():
            exact, distance = without_near(event.event)
            return attrs.evolve(event, event=exact), distance
        case _:
            return event, 0.0


def near_epsilon(price: Callable[[float], float], delta: float, total_variation: float) -> float:
    """The least epsilon that is certified at `delta`; inf if delta does not cover the distance.

    price: delta' -> certified epsilon of the exact releases, not below 0 and falling in delta'.
    """
    aside, epsilon = 0.0, price(delta)
    while (needed := _cost(total_variation, epsilon)) > aside:
        aside = (1 + _MARGIN) * needed
        if aside >= delta:
            return math.inf
        epsilon = price(delta - aside)
    return epsilon


def near_attack(price: Callable[[float], float], delta: float, total_variation: float) -> float:
    """An epsilon that an attack at `delta` still proves.

    price: delta' -> epsilon that an attack on the exact releases proves, not below 0 and falling in delta'.
    """
    epsilon = price(delta)
    raised = delta + _cost(total_variation, epsilon)
    if raised == delta:
        return epsilon
    return price(raised) if raised < 1 else 0.0


def _cost(total_variation: float, epsilon: float) -> float:
    """tau (1 + e^eps), the share of delta that the distance takes."""
    if total_variation == 0:
        return 0.0
    return total_variation * (1 + math.exp(epsilon)) if epsilon <= _MOST else math.inf

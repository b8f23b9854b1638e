"""Events as plain JSON values, and the events of the two kinds of rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    NeighboringRelation,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
)

from fedemb.core import check
from fedemb.core.types import Cohort, Diagnostics, Params
from fedemb.privacy.clipping import Clipping, FlatClipping
from fedemb.privacy.event_types import CorrelatedGaussianDpEvent, NearDpEvent, PersonDpEvent, SeparatedDpEvent
from fedemb.privacy.mechanism import Gaussian
from fedemb.privacy.query import ClippedSum

Plain = dict[str, Any]
"""What json.dumps writes and json.loads reads."""


def fixed_size_round(*, users: int, users_per_round: int, noise_multiplier: float) -> DpEvent:
    """A round that draws users without replacement. noise_multiplier: z, noise std on the sum / clip norm."""
    check.at_least("users", users, 1)
    check.at_least("users_per_round", users_per_round, 1)
    if users_per_round > users:
        raise ValueError(f"users_per_round must be at most users, got {users_per_round=} {users=}")
    return SampledWithoutReplacementDpEvent(users, users_per_round, _release(noise_multiplier))


def poisson_round(*, sampling_rate: float, noise_multiplier: float) -> DpEvent:
    """A round that takes each user with chance sampling_rate, one user a virtual client; noise_multiplier as above."""
    check.positive("sampling_rate", sampling_rate)
    if sampling_rate > 1:
        raise ValueError(f"sampling_rate must be at most 1, got {sampling_rate=}")
    return PoissonSampledDpEvent(sampling_rate, _release(noise_multiplier))


def noise_multiplier_of(noise_over_sensitivity: float) -> float:
    """z, noise std on the sum / clip norm, of a Gaussian event with this noise std / sensitivity."""
    return noise_over_sensitivity / float(_release(1.0).noise_multiplier)


def to_plain(event: DpEvent) -> Plain:
    """An event as a JSON value. Raises: ValueError for an event without a form here."""
    match event:
        case NoOpDpEvent():
            return {"kind": "nothing"}
        case NonPrivateDpEvent():
            return {"kind": "non-private"}
        case GaussianDpEvent(noise_multiplier=ratio):
            check.non_negative("noise over sensitivity", ratio)
            return {"kind": "gaussian", "noise_over_sensitivity": float(ratio)}
        case SampledWithoutReplacementDpEvent(source_dataset_size=users, sample_size=sampled, event=release):
            inner = to_plain(release)
            return {"kind": "without-replacement", "users": int(users), "sampled": int(sampled), "release": inner}
        case PoissonSampledDpEvent(sampling_probability=rate, event=release):
            return {"kind": "poisson", "sampling_rate": float(rate), "release": to_plain(release)}
        case CorrelatedGaussianDpEvent(noise_multiplier=ratio, span=span, shortest=shortest):
            width = {"span": int(span), "shortest": float(shortest)}
            return {"kind": "correlated-gaussian", "noise_over_sensitivity": float(ratio), **width}
        case SeparatedDpEvent(round=round_, users=users, sampled=sampled, event=release):
            turn = {"round": int(round_), "users": int(users), "sampled": int(sampled)}
            return {"kind": "in-turn", **turn, "release": to_plain(release)}
        case PersonDpEvent(event=part, ids=ids):
            return {"kind": "person", "ids": int(ids), "event": to_plain(part)}
        case NearDpEvent(event=release, total_variation=distance):
            return {"kind": "near", "total_variation": float(distance), "release": to_plain(release)}
        case SelfComposedDpEvent(event=part, count=times):
            return {"kind": "repeated", "times": int(times), "event": to_plain(part)}
        case ComposedDpEvent(events=parts):
            return {"kind": "all", "events": [to_plain(part) for part in parts]}
        case _:
            raise ValueError(f"the ledger has no form for the event {event}")


def from_plain(plain: Mapping[str, Any]) -> DpEvent:
    """The inverse of `to_plain`. Raises: ValueError for anything that `to_plain` does not write."""
    try:
        fields = dict(plain)
        return _READERS[fields.pop("kind")](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an event: {plain!r} ({error})") from None


def _gaussian(*, noise_over_sensitivity: float) -> DpEvent:
    if isinstance(noise_over_sensitivity, bool) or not 0 <= noise_over_sensitivity < math.inf:
        raise ValueError(f"noise_over_sensitivity must be finite and at least 0, got {noise_over_sensitivity}")
    return GaussianDpEvent(noise_over_sensitivity)


def _without_replacement(*, users: int, sampled: int, release: Plain) -> DpEvent:
    check.at_least("sampled", sampled, 1)
    check.at_least("users", users, sampled)
    return SampledWithoutReplacementDpEvent(users, sampled, from_plain(release))


def _poisson(*, sampling_rate: float, release: Plain) -> DpEvent:
    if isinstance(sampling_rate, bool) or not 0 < sampling_rate <= 1:
        raise ValueError(f"sampling_rate must lie in (0, 1], got {sampling_rate}")
    return PoissonSampledDpEvent(sampling_rate, from_plain(release))


def _correlated(*, noise_over_sensitivity: float, span: int, shortest: float) -> DpEvent:
    return CorrelatedGaussianDpEvent(noise_over_sensitivity, span, shortest)


def _in_turn(*, round: int, users: int, sampled: int, release: Plain) -> DpEvent:
    return SeparatedDpEvent(round, users, sampled, from_plain(release))


def _person(*, ids: int, event: Plain) -> DpEvent:
    return PersonDpEvent(from_plain(event), ids)


def _near(*, total_variation: float, release: Plain) -> DpEvent:
    return NearDpEvent(from_plain(release), total_variation)


def _repeated(*, times: int, event: Plain) -> DpEvent:
    check.at_least("times", times, 0)
    return SelfComposedDpEvent(from_plain(event), times)


def _all(*, events: list[Plain]) -> DpEvent:
    return ComposedDpEvent([from_plain(event) for event in events])


_READERS: dict[str, Callable[..., DpEvent]] = {
    "nothing": NoOpDpEvent,
    "non-private": NonPrivateDpEvent,
    "gaussian": _gaussian,
    "without-replacement": _without_replacement,
    "poisson": _poisson,
    "correlated-gaussian": _correlated,
    "in-turn": _in_turn,
    "person": _person,
    "near": _near,
    "repeated": _repeated,
    "all": _all,
}


def _release(noise_multiplier: float) -> Any:
    """The Gaussian event of a clipped sum; the query knows its own sensitivity, and only the ratio counts."""
    query = ClippedSum(clipping=FlatClipping(clip_norm=1.0), sum_updates=_unasked, planned_clients=1)
    mechanism = Gaussian.from_multiplier(noise_multiplier=noise_multiplier, bound=query.bound)
    return mechanism.event(query.sensitivity(NeighboringRelation.REPLACE_ONE))


def _unasked(clipping: Clipping, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
    raise AssertionError("this query only states its sensitivity")


def composed(events: Iterable[tuple[DpEvent, int]]) -> DpEvent:
    """One event for several, each with how often it happened."""
    return ComposedDpEvent([SelfComposedDpEvent(event, count) for event, count in events])

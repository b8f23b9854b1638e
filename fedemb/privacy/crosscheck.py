"""The same rounds priced by dp-accounting: a second opinion beside the certified epsilon, never the claim itself.

Under REPLACE_ONE the two accountants of dp-accounting 0.6 read a GaussianDpEvent differently: PLDAccountant as
noise std / clip norm, RdpAccountant as noise std / sensitivity (google/differential-privacy, issue 378). Which
one an installed version means is found by asking it for the price of a known mechanism.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
    UnsupportedEventError,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from fedemb.privacy.accounting import Events, check_delta, counted

_RELATION = NeighboringRelation.REPLACE_ONE


def rdp_epsilon(events: Events, delta: float) -> float:
    """Epsilon by Renyi DP of fixed-size rounds (Wang, Balle and Kasiviswanathan 2019): valid, but 10 to 60 % too large.

    Raises: ValueError for rounds that the accountant does not know, such as Poisson ones.
    """
    return _epsilon(partial(RdpAccountant, neighboring_relation=_RELATION), events, delta)


def pld_epsilon(events: Events, delta: float, step: float = 1e-4) -> float:
    """Epsilon by dp-accounting's privacy loss distributions, of Poisson and unsampled rounds. step: its loss grid.

    Raises: ValueError for rounds that the accountant does not know, such as fixed-size ones.
    """
    make = partial(PLDAccountant, neighboring_relation=_RELATION, value_discretization_interval=step)
    return _epsilon(make, events, delta)


def _epsilon(make_accountant: Callable[[], Any], events: Events, delta: float) -> float:
    check_delta(delta)
    unit = _gaussian_unit(make_accountant)
    accountant = make_accountant()
    try:
        for event, count in counted(events):
            accountant.compose(_rescaled(event, unit), count)
        return float(accountant.get_epsilon(delta))
    except UnsupportedEventError as error:
        raise ValueError(f"{type(accountant).__name__} cannot price these rounds: {error}") from None
    except ZeroDivisionError:  # what RdpAccountant says of sampled rounds without noise
        return float("inf")


def _gaussian_unit(make_accountant: Callable[[], Any]) -> float:
    """What to multiply s = std / sensitivity by for this accountant: 2 if it wants std / clip norm, otherwise 1.

    Gaussian(1) costs 4.89 at 1e-6 if 1 is std / sensitivity (RDP: 5.22) and 11.00 if it is std / clip norm.
    """
    price = make_accountant().compose(GaussianDpEvent(1.0)).get_epsilon(1e-6)
    return 2.0 if price > 8 else 1.0


def _rescaled(event: DpEvent, unit: float) -> DpEvent:
    """The event with all its noise ratios multiplied by `unit`."""
    match event:
        case GaussianDpEvent(noise_multiplier=ratio):
            return GaussianDpEvent(unit * ratio)
        case SampledWithoutReplacementDpEvent(source_dataset_size=users, sample_size=sampled, event=release):
            return SampledWithoutReplacementDpEvent(users, sampled, _rescaled(release, unit))
        case PoissonSampledDpEvent(sampling_probability=rate, event=release):
            return PoissonSampledDpEvent(rate, _rescaled(release, unit))
        case SelfComposedDpEvent(event=part, count=times):
            return SelfComposedDpEvent(_rescaled(part, unit), times)
        case ComposedDpEvent(events=parts):
            return ComposedDpEvent([_rescaled(part, unit) for part in parts])
        case _:
            return event

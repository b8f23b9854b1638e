"""What an event says of who takes part, and what it costs somebody who does for certain."""

from __future__ import annotations

from dp_accounting import DpEvent, PoissonSampledDpEvent, SampledWithoutReplacementDpEvent

from fedemb.privacy.event_types import SeparatedDpEvent
from fedemb.privacy.persons import of_one_id


def given_cohort(event: DpEvent) -> DpEvent:
    """The round for a user who is known to take part: what its secret sampling wraps.

    A separated round is priced for known cohorts as it is.
    """
    match of_one_id(event):
        case SampledWithoutReplacementDpEvent(event=release) | PoissonSampledDpEvent(event=release):
            return release
        case known:
            return known


def inclusion_rate(event: DpEvent) -> float | None:
    """The chance with which a user takes part; None where no sampling is claimed."""
    match of_one_id(event):
        case SampledWithoutReplacementDpEvent(source_dataset_size=users, sample_size=sampled):
            return float(sampled / users)
        case PoissonSampledDpEvent(sampling_probability=rate):
            return float(rate)
        case _:
            return None


def separation(event: DpEvent) -> int | None:
    """Nobody takes part twice in so many rounds in a row; None where the event does not say."""
    single = of_one_id(event)
    return single.separation if isinstance(single, SeparatedDpEvent) else None

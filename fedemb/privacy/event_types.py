"""Kinds of events that dp_accounting has no word for."""

from __future__ import annotations

import attrs
from dp_accounting import DpEvent

from fedemb.core import check


@attrs.frozen
class CorrelatedGaussianDpEvent(DpEvent):  # type: ignore[misc]
    """One round's row of C x + Z, Z independent Gaussian, where no column of C is longer than 1.

    noise_multiplier: std of Z / l2 sensitivity of one round's answer.
    span: an answer of round j enters the rows of the rounds j .. j + span - 1 at most.
    shortest: the column of a round that all these rows follow is at least so long, for the sake of an attack; 0 says
        nothing.
    """

    noise_multiplier: float
    span: int
    shortest: float = 0.0

    def __attrs_post_init__(self) -> None:
        check.non_negative("noise over sensitivity", self.noise_multiplier)
        check.at_least("span", self.span, 1)
        check.non_negative("shortest", self.shortest)
        if self.shortest > 1:
            raise ValueError(f"no column is longer than 1, got shortest={self.shortest}")

    def refusal(self) -> str:
        """Why there is no price where users may take part again within the span, and what to do."""
        return (
            f"noise that is correlated over {self.span} rounds has a price only if nobody takes part twice within "
            f"{self.span} rounds: take sampler=cyclic with users_per_round <= N/{self.span}"
        )


@attrs.frozen
class SeparatedDpEvent(DpEvent):  # type: ignore[misc]
    """A round of `sampled` of the `users`, who take part in turn: nobody twice in floor(users / sampled) rounds.

    Who takes part when must not depend on the data, and may be known. Such events side by side in one list are of one
    run, in which equal releases have one matrix C and a user keeps the place in the order; a ComposedDpEvent holds
    another run.
    round: its number, from 0. event: the release for a known cohort.
    """

    round: int
    users: int
    sampled: int
    event: DpEvent

    @property
    def separation(self) -> int:
        """The rounds of one user are at least so many apart."""
        return self.users // self.sampled

    @property
    def longest_gap(self) -> int:
        """The rounds of one user are at most so many apart."""
        return -(-self.users // self.sampled)

    def __attrs_post_init__(self) -> None:
        check.at_least("round", self.round, 0)
        check.at_least("sampled", self.sampled, 1)
        check.at_least("users", self.users, self.sampled)
        if isinstance(self.event, CorrelatedGaussianDpEvent) and self.event.span > self.separation:
            raise ValueError(f"{self.event.refusal()}; here it is only {self.separation} rounds")


@attrs.frozen
class NearDpEvent(DpEvent):  # type: ignore[misc]
    """A release whose distribution is within this total variation distance of that of `event`, for any data."""

    event: DpEvent
    total_variation: float

    def __attrs_post_init__(self) -> None:
        check.non_negative("total_variation", self.total_variation)
        if self.total_variation > 1:
            raise ValueError(f"total_variation must be at most 1, got total_variation={self.total_variation}")


@attrs.frozen
class PersonDpEvent(DpEvent):  # type: ignore[misc]
    """A round priced for a person under whose name up to `ids` of the users stand; `event` is about one of them.

    Wherever events meet, all of them are priced for the largest number of ids that any of them names.
    """

    event: DpEvent
    ids: int

    def __attrs_post_init__(self) -> None:
        check.at_least("ids", self.ids, 2)
        if isinstance(self.event, PersonDpEvent):
            raise ValueError("a person of persons: nest the number of ids, not the events")

"""A run attacked through its own rounds: canaries take seats in cohorts, and an observer of the releases scores them.

Sampler, clip, sum, mechanism, interpretation and server are the run's own objects; only what canaries send is given.
Shapes: T rounds of an audited run, n canaries in it, P entries of the noise that are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedemb.core import check
from fedemb.core.params import norm, split, sub
from fedemb.core.rng import NoiseSource, generator
from fedemb.core.types import Cohort, Diagnostics, Params
from fedemb.execution.given import Seating
from fedemb.privacy.accounting import epsilon
from fedemb.privacy.canaries import Canaries
from fedemb.privacy.clipping import Clipping
from fedemb.privacy.conditioning import given_cohort, separation
from fedemb.privacy.correlated import CorrelatedGaussian
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Event
from fedemb.privacy.query import Query, SumUpdates
from fedemb.privacy.verdict import Evidence
from fedemb.server.plan import Plan, RunState
from fedemb.server.train import train
from fedemb.server.watch import Watch

Array = NDArray[np.float64]

SumWith = Callable[[Canaries, Tensor, Seating], SumUpdates]
"""(canaries, coins [n], seating) -> the sum of a cohort's updates with canaries in their seats."""

_PROBED = 2048  # P
_FEWEST = 10  # canaries, for a std to be told
_MOST_ROUNDS = 2048  # whose noise is compared, each with each


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One audited run.

    scores: [n] what was seen of each canary's update in all rounds, in clip norms and in the best weighting for the
        mechanism's noise; its sign is the guess of the coin. coins: [n] of -1 and 1.
    cosines: [n] between the canaries' directions and the change of the model.
    noise: [T, P] what the mechanism added, decorrelated, in the units of the answer.
    """

    scores: Array
    coins: Array
    cosines: Array
    noise: Array


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Runs of `rounds` rounds of a plan with canaries in them, as many as are asked for.

    Where cohorts are secret, canaries are conditioned on taking part: they have the same seats in every round.
    Where they are not, canaries are users and take part in the rounds that the sampler schedules them for.
    start: all parameters before round 0; is_shared: says which of them are trained and leave a client.
    rounds: T. seats_per_round: virtual clients of a round that canaries take; a person with several ids takes several.
    seed: of the coins and the directions.
    """

    plan: Plan
    start: Params
    is_shared: Callable[[str], bool]
    sum_with: SumWith
    rounds: int
    seats_per_round: int
    seed: int

    def __post_init__(self) -> None:
        check.at_least("rounds", self.rounds, 1)
        check.at_least("seats_per_round", self.seats_per_round, 1)
        slots = max(1, int(self.plan.sampler.planned_clients))
        if self.seats_per_round > slots:
            raise ValueError(
                f"seats_per_round must be at most the {slots} virtual clients of a round, "
                f"got seats_per_round={self.seats_per_round}: lower it, or raise users_per_round"
            )

    def claimed(self) -> list[tuple[Event, int]]:
        """What the plan itself charges a user who takes part in these rounds."""
        return [(given_cohort(event), count) for event, count in self.plan.events(0, self.rounds)]

    @cached_property
    def weights(self) -> Array:
        """[n] how strongly each canary's update stands out of noise of std 1 over all rounds: 1 for one round."""
        lengths: Array = np.linalg.norm(self._answers, axis=0)
        return lengths

    def repeat(self, number: int) -> Repetition:
        """One run from the start, with coins and noise of its own."""
        rng = generator(self.seed, "audit coins", number)
        coins = torch.from_numpy(rng.choice([-1.0, 1.0], self._canaries.count))
        watch = Watch(canaries=self._canaries, probed=self._probed)
        plan = watch.on(
            replace(
                self.plan,
                query=replace(self.plan.query, sum_updates=self.sum_with(self._canaries, coins, self._seating)),
                noise_rng=_Later(noise_rng=self.plan.noise_rng, by=number * self.rounds),
            )
        )
        end = train(plan, self._state(plan), rounds=self.rounds, hooks=())
        decoded = self._encoder @ np.stack(watch.seen)
        change = sub(split(end.server.params, self.is_shared)[0], self.start)
        return Repetition(
            scores=(self._answers * decoded).sum(0) / self.weights,
            coins=coins.numpy(),
            cosines=(self._canaries.project(change) / norm(change).cpu()).numpy(),
            noise=self._encoder @ np.stack(watch.noise),
        )

    def _state(self, plan: Plan) -> RunState:
        query = plan.query
        return RunState(
            round=0,
            server=plan.server.init(self.start, self._trained),
            query=query.init(),
            noise=plan.mechanism.init(query.blank(self._trained)),
            ledger=Ledger(),
        )

    @property
    def _trained(self) -> Params:
        return split(self.start, self.is_shared)[0]

    @cached_property
    def _seats(self) -> dict[int, int] | None:
        """User id -> canary, where cohorts are known: the first ids of the first seats, until they come again."""
        turn = separation(self.plan.event(0))
        if turn is None:
            return None
        cohorts = map(self.plan.sampler.cohort, range(min(turn, self.rounds)))
        users = (client.users[0] for cohort in cohorts for client in cohort.clients[: self.seats_per_round])
        return {user: place for place, user in enumerate(users)}

    def _seating(self, cohort: Cohort) -> list[tuple[int, ...]]:
        seats = self._seats
        if seats is None:
            return [(seat,) for seat in range(self.seats_per_round)]
        return [tuple({seats[user] for user in client.users if user in seats}) for client in cohort.clients]

    @cached_property
    def _canaries(self) -> Canaries:
        return Canaries.draw(
            clipping=_clipping(self.plan.query, self.start, self._trained),
            like=self._trained,
            count=1 + (self.seats_per_round - 1 if self._seats is None else max(self._seats.values())),
            rng=generator(self.seed, "audit directions"),
        )

    @cached_property
    def _encoder(self) -> Array:
        """C [T, T]: a mechanism with correlated noise C^-1 Z is known by what is learnt from C x + Z."""
        mechanism = self.plan.mechanism
        if not isinstance(mechanism, CorrelatedGaussian):
            return np.eye(self.rounds)
        return np.stack([mechanism.strategy.column(round, self.rounds) for round in range(self.rounds)], axis=1)

    @cached_property
    def _answers(self) -> Array:
        """[T, n] how a canary of coin 1 enters the rows of C x, in clip norms."""
        takes_part = np.zeros((self.rounds, self._canaries.count))
        for round in range(self.rounds):
            for members in self._seating(self.plan.sampler.cohort(round)):
                takes_part[round, list(members)] += 1.0
        answers: Array = self._encoder @ takes_part
        return answers

    @cached_property
    def _probed(self) -> Tensor:
        """Places [P] in an answer."""
        entries = sum(value.numel() for value in self.plan.query.blank(self._trained).values())
        places = generator(self.seed, "audit probes").permutation(entries)[:_PROBED]
        return torch.from_numpy(np.sort(places))


@dataclass(frozen=True, kw_only=True)
class _Later:
    """Noise of later rounds, so that no repetition has the noise of another."""

    noise_rng: Callable[[int], NoiseSource]
    by: int

    def __call__(self, round: int) -> NoiseSource:
        return self.noise_rng(round + self.by)


def _clipping(query: Query, start: Params, trained: Params) -> Clipping:
    """The clipping that a query asks for in round 0."""
    asked: list[Clipping] = []

    def listen(clipping: Clipping, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
        asked.append(clipping)
        nobody = torch.zeros(0)
        total, _ = clipping(trained)
        return total, Diagnostics(norms=nobody, losses=nobody, examples=nobody)

    replace(query, sum_updates=listen).answer(query.init(), start, Cohort(round=0, clients=()))
    return asked[0]


def gather(
    attack: Attack,
    *,
    canaries: int,
    guesses: int,
    delta: float,
    progress: Callable[[range], Iterable[int]] = iter,
) -> Evidence:
    """So many repetitions that at least `canaries` canaries have sent something.

    guesses: how many coins are guessed. delta: of the claim. progress: passes the numbers of the repetitions on.
    Raises: ValueError for too few canaries, and where there is nothing to refute.
    """
    check.at_least("canaries", canaries, _FEWEST)
    check.at_least("guesses", guesses, 1)
    if guesses > canaries:
        raise ValueError(f"guesses must be at most canaries, got {guesses=} {canaries=}")
    claimed = epsilon(attack.claimed(), delta)
    if math.isinf(claimed):
        raise ValueError(f"epsilon = ∞ at {delta=:.3g}: nothing to audit; raise noise_multiplier, or add noise at all")
    if claimed == 0:
        raise ValueError(f"epsilon = 0 at {delta=:.3g}: nothing that an attack could refute; lower delta")
    seen = [attack.repeat(number) for number in progress(range(-(-canaries // len(attack.weights))))]
    return Evidence(
        scores=np.stack([repetition.scores for repetition in seen]),
        coins=np.stack([repetition.coins for repetition in seen]),
        cosines=np.stack([repetition.cosines for repetition in seen]),
        weights=attack.weights,
        noise=np.concatenate([repetition.noise for repetition in seen])[:_MOST_ROUNDS],
        guesses=guesses,
        epsilon=claimed,
        delta=delta,
    )

"""What an audit found, check by check, and whether it refutes what is claimed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedemb.core.types import Cohort
from fedemb.privacy.audit import (
    GaussianFit,
    noise_ratio_of,
    one_run_lower_bound,
    one_run_p_value,
    paired_one_shot_epsilon,
)
from fedemb.privacy.conditioning import inclusion_rate, separation
from fedemb.privacy.mechanism import Event
from fedemb.privacy.randomness import Attendance, inclusion_p_value, largest_correlation, reuse_p_value

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check. p_value: how likely what was found, or worse, is if the claim is true."""

    name: str
    claimed: str
    found: str
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All checks together: each is held to its share of 1 - confidence, so that a true claim is refuted so rarely."""

    findings: tuple[Finding, ...]
    confidence: float

    def refutes(self, finding: Finding) -> bool:
        """Does this check refute the claim?"""
        return finding.p_value < (1 - self.confidence) / len(self.findings)

    @property
    def violated(self) -> bool:
        """Does any?"""
        return any(map(self.refutes, self.findings))


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All repetitions of an audited run together: R repetitions of n canaries, P entries of the noise of their rounds.

    scores, coins, cosines: [R, n]. weights: [n]. noise: [rounds, P]. guesses: r, fixed in advance.
    epsilon, delta: claimed for a user who takes part as the canaries do.
    """

    scores: Array
    coins: Array
    cosines: Array
    weights: Array
    noise: Array
    guesses: int
    epsilon: float
    delta: float

    @property
    def canaries(self) -> int:
        """R n."""
        return int(self.scores.size)

    @property
    def correct(self) -> int:
        """How many of the r coins with the largest scores are guessed by the sign of the score."""
        scores, coins = self.scores.ravel(), self.coins.ravel()
        surest = np.argsort(-np.abs(scores), kind="stable")[: self.guesses]
        return int((scores[surest] * coins[surest] > 0).sum())

    @property
    def lower_bound(self) -> float:
        """Epsilon that the guesses refute with 95 % confidence."""
        return one_run_lower_bound(canaries=self.canaries, guesses=self.guesses, correct=self.correct, delta=self.delta)

    @property
    def fit(self) -> GaussianFit:
        """Scores that know their coins, as a Gaussian mechanism."""
        weights = np.broadcast_to(self.weights, self.scores.shape)
        return GaussianFit.of((self.scores * self.coins).ravel(), weights.ravel())

    @property
    def one_shot(self) -> float:
        """The estimate of epsilon from the final models alone."""
        return paired_one_shot_epsilon((self.cosines * self.coins).ravel(), self.delta)

    def findings(self) -> tuple[Finding, ...]:
        """All that the canaries and the noise can refute."""
        fit, ratio = self.fit, noise_ratio_of(self.epsilon, self.delta)
        low, high = fit.interval(self.delta)
        guessed = one_run_p_value(
            canaries=self.canaries,
            guesses=self.guesses,
            correct=self.correct,
            epsilon=self.epsilon,
            delta=self.delta,
        )
        spread = fit.noise / fit.length
        return (
            Finding(
                name="coins guessed",
                claimed=f"ε ≤ {self.epsilon:.4g}",
                found=f"{self.correct} of {self.guesses} right: ε ≥ {self.lower_bound:.4g} with 95 % confidence",
                p_value=guessed,
            ),
            Finding(
                name="noise over signal",
                claimed=f"ε ≤ {self.epsilon:.4g}",
                found=f"ε ≈ {fit.epsilon(self.delta):.4g}, 95 % interval [{low:.4g}, {high:.4g}]",
                p_value=fit.p_value(ratio),
            ),
            Finding(
                name="noise",
                claimed=f"std of at least {2 * ratio * fit.strongest:.4g} clip norms",
                found=f"{fit.noise:.4g} clip norms",
                p_value=fit.noise_p_value(ratio),
            ),
            Finding(
                name="clip",
                claimed="an update of at most 1 clip norm",
                found=f"{fit.signal:.4g} ± {1.96 * spread:.2g} clip norms",
                p_value=fit.clip_p_value(),
            ),
            Finding(
                name="noise reused",
                claimed="independent from round to round",
                found=f"{len(self.noise)} rounds: correlations up to {largest_correlation(self.noise):.2g}",
                p_value=reuse_p_value(self.noise),
            ),
        )


def sampler_finding(event: Event, cohorts: Iterable[Cohort], *, users: int) -> Finding:
    """Whether cohorts are as the event of their rounds says: the sampler's own test.

    cohorts: of rounds in a row. users: N ids.
    """
    attended = Attendance.of(cohorts, users)
    found = f"{attended.rate:.4g} in {attended.cohorts} cohorts"
    found += f", {attended.repeated} times a user in two seats"
    claimed, p_value = "nobody in two seats", float(attended.repeated == 0)
    if (rate := inclusion_rate(event)) is not None:
        claimed = f"a user is drawn with a chance of {rate:.4g}, {claimed}"
        p_value *= inclusion_p_value(attended, rate)
    if (turn := separation(event)) is not None:
        gap = attended.shortest_gap
        claimed = f"nobody again within {turn} rounds, {claimed}"
        found += "" if gap is None else f", again after {gap} rounds"
        p_value *= float(gap is None or gap >= turn)
    return Finding(name="sampling", claimed=claimed, found=found, p_value=p_value)

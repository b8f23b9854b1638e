"""Findings from evidence, and what they refute together."""

from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from small import make_cohort

from fedemb.data.cyclic import CyclicSampler
from fedemb.data.sampling import FixedSizeSampler, PoissonSampler
from fedemb.privacy.event_types import SeparatedDpEvent
from fedemb.privacy.gaussian import gaussian_epsilon
from fedemb.privacy.verdict import Evidence, Finding, Verdict, sampler_finding

DELTA, RELEASE = 1e-5, GaussianDpEvent(0.5)


def evidence(seed, *, repetitions=10, canaries=20, noise=1.0, claimed=0.5):
    rng = np.random.default_rng(seed)
    coins = rng.choice([-1.0, 1.0], (repetitions, canaries))
    return Evidence(
        scores=coins + noise * rng.normal(size=coins.shape),
        coins=coins,
        cosines=0.01 * (coins + noise * rng.normal(size=coins.shape)),
        weights=np.ones(canaries),
        noise=noise * rng.normal(size=(repetitions, 200)),
        guesses=repetitions * canaries // 5,
        epsilon=gaussian_epsilon(claimed, DELTA),
        delta=DELTA,
    )


def judged(found):
    return Verdict(findings=found.findings(), confidence=0.95)


def test_false_alarms_of_a_true_claim():
    """100 audits at 95 %: at most 5 expected; more than 15 with a chance below 1e-4."""
    assert sum(judged(evidence(seed)).violated for seed in range(100)) <= 15


@pytest.mark.parametrize("claimed", [0.7, 1.0])
def test_less_noise_than_is_claimed(claimed):
    verdict = judged(evidence(0, claimed=claimed))
    assert {finding.name for finding in verdict.findings if verdict.refutes(finding)} == {"noise", "noise over signal"}


def test_guesses_alone_refute_a_claim_that_is_far_too_small():
    found = evidence(1, repetitions=50, noise=0.3, claimed=5.0)
    assert found.correct == found.guesses == 200
    assert found.lower_bound > found.epsilon
    guessed = found.findings()[0]
    assert guessed.name == "coins guessed"
    assert guessed.p_value < 1e-3  # 2 m delta is what is left of it


def test_the_surest_coins_are_guessed():
    found = replace(
        evidence(2, repetitions=1, canaries=4),
        scores=np.array([[3.0, -0.1, -2.0, 0.2]]),
        coins=np.array([[1.0, 1.0, -1.0, -1.0]]),
        guesses=2,
    )
    assert found.correct == 2
    assert replace(found, guesses=4).correct == 2


def test_the_one_shot_estimate_is_that_of_the_cosines():
    assert evidence(3, repetitions=50).one_shot == pytest.approx(10.0, rel=0.15)


def test_a_verdict_holds_each_check_to_its_share():
    findings = [Finding(name=str(p), claimed="", found="", p_value=p) for p in (0.02, 0.03, 0.04, 0.05, 0.06)]
    assert not Verdict(findings=tuple(findings), confidence=0.95).violated
    worse = Finding(name="0.009", claimed="", found="", p_value=0.009)
    assert Verdict(findings=(worse, *findings[1:]), confidence=0.95).violated
    assert not Verdict(findings=(worse, *findings[1:]), confidence=0.99).violated


@pytest.mark.parametrize("kind", [FixedSizeSampler, PoissonSampler])
def test_the_rate_that_was_drawn_is_no_violation(kind):
    sampler = kind(num_users=30, users_per_round=6, seed=1)
    cohorts = map(sampler.cohort, range(200))
    found = sampler_finding(sampler.event(RELEASE, 0), cohorts, users=30)
    assert found.p_value > 0.01


def test_users_who_take_turns():
    sampler = CyclicSampler(num_users=20, users_per_round=6, order=0, seed=0)
    cohorts = [sampler.cohort(round) for round in range(40)]
    claimed = sampler.event(RELEASE, 0)
    assert sampler_finding(claimed, cohorts, users=20).p_value == 1
    too_much = SeparatedDpEvent(0, sampler.separation + 1, 1, RELEASE)
    assert sampler_finding(too_much, cohorts, users=20).p_value == 0


def test_a_user_in_two_seats():
    found = sampler_finding(RELEASE, [make_cohort((0, 1), (1,))], users=3)
    assert found.p_value == 0
    assert "1 times a user in two seats" in found.found

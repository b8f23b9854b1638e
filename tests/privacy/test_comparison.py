"""The columns of other accountants at settings with known values, and what calibration saves."""

from __future__ import annotations

import pytest

from fedemb.privacy.calibration import solve_noise_multiplier
from fedemb.privacy.comparison import INVALID, LOOSE, LOWER, VALID, Settings, compare, settings_of
from fedemb.privacy.crosscheck import rdp_epsilon
from fedemb.privacy.events import fixed_size_round, poisson_round


def at(users: int, sampled: int, rounds: int, z: float, *, fixed_size: bool = True) -> Settings:
    return Settings(users=users, users_per_round=sampled, rounds=rounds, noise_multiplier=z, fixed_size=fixed_size)


# users, sampled, rounds, z, delta; certified, attack, RDP at z/2, truncated, Poisson, group, add/remove, RDP at z:
# from an independent implementation
ROWS = [
    (10_000, 256, 200, 2.0, 1e-5, (2.6790, 2.3839, 4.4337, 3.3837, 1.4002, 1.6292, 0.7504, 1.7236)),
    (100_000, 1_000, 1_000, 2.0, 1e-6, (2.5128, 2.1245, 4.0212, 3.2142, 1.3745, 1.5333, 0.7209, 1.6292)),
    (1_000_000, 10_000, 1_000, 4.0, 1e-7, (0.9251, 0.8106, 1.7969, 1.5274, 0.7262, 0.7534, 0.3613, 0.8079)),
    (10_000, 10_000, 50, 20.0, 1e-5, (2.9432, 2.9432, 3.1890, None, 2.9432, 2.9930, 1.3565, 1.4781)),
    (1_000, 1, 1, 1.0, 1e-4, (0.0431, 0.0431, 2.3382, 0.0441, 0.0031, 0.0076, 0.0022, 0.4319)),
]


@pytest.mark.parametrize(("users", "sampled", "rounds", "z", "delta", "expected"), ROWS)
def test_all_columns_agree_with_known_values(users, sampled, rounds, z, delta, expected):
    found = compare([at(users, sampled, rounds, z)], delta)
    assert len(found) == len(expected)
    for price, value in zip(found, expected, strict=True):
        if value is not None:
            assert price.epsilon == pytest.approx(value, abs=2e-4), price.name


def test_only_valid_columns_are_never_below_the_attack():
    """An invalid number below what an attack shows is why it is called so."""
    prices = compare([at(10_000, 256, 200, 2.0)], 1e-5)
    attack = prices[1].epsilon
    assert [price.status for price in prices] == [VALID, LOWER, LOOSE, LOOSE, *[INVALID] * 4]
    assert all(price.epsilon >= attack for price in prices if price.status in (VALID, LOOSE))
    assert all(price.epsilon < attack for price in prices if price.status == INVALID)


def test_the_sampling_decides_which_columns_hold():
    prices = compare([at(10_000, 256, 200, 2.0, fixed_size=False)], 1e-5)
    assert [price.status for price in prices] == [VALID, LOWER, INVALID, INVALID, VALID, LOOSE, INVALID, INVALID]
    assert prices[0].epsilon == prices[4].epsilon == pytest.approx(1.4002, rel=0.005)
    whole = compare([at(10_000, 10_000, 50, 20.0)], 1e-5)
    assert [price.status for price in whole] == [VALID, LOWER, LOOSE, VALID, VALID, LOOSE, INVALID, INVALID]


def test_rounds_of_two_settings_are_compared_together():
    one, two = at(10_000, 256, 100, 2.0), at(10_000, 256, 100, 2.0 * (1 + 1e-12))
    [certified, *_, halved] = compare([one, two], 1e-5)
    assert certified.epsilon == pytest.approx(2.6790, rel=0.005)
    assert halved.epsilon == pytest.approx(1.7236, rel=0.005)


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match="all of one sampling"):
        compare([at(100, 10, 1, 1.0), at(100, 10, 1, 1.0, fixed_size=False)], 1e-5)
    with pytest.raises(ValueError, match="1 to 8 different rounds"):
        compare([at(100, 10, 1, 1.0 + i) for i in range(9)], 1e-5)
    with pytest.raises(ValueError, match="noise_multiplier"):
        at(100, 10, 1, 0.0)


def test_events_of_a_ledger_are_settings():
    event = fixed_size_round(users=1000, users_per_round=50, noise_multiplier=3.0)
    assert settings_of(event, 7, None) == at(1000, 50, 7, 3.0)
    drawn = poisson_round(sampling_rate=0.05, noise_multiplier=3.0)
    assert settings_of(drawn, 7, 1000) == at(1000, 50, 7, 3.0, fixed_size=False)
    assert settings_of(drawn, 7, None) is None
    assert settings_of(fixed_size_round(users=9, users_per_round=3, noise_multiplier=0.0), 1, None) is None


@pytest.mark.parametrize(
    ("users", "sampled", "rounds", "delta", "target", "certified", "by_rdp", "saved"),
    [
        (10_000, 256, 200, 1e-5, 8, 1.2814, 1.4797, 0.134),
        (100_000, 1_000, 1_000, 1e-6, 2, 2.2511, 3.4114, 0.340),
        (100_000, 1_000, 1_000, 1e-6, 4, 1.6364, 2.0068, 0.185),
        (1_000_000, 10_000, 2_000, 1e-7, 1, 4.9902, 9.1538, 0.455),
        (1_000_000, 10_000, 2_000, 1e-7, 2, 3.0066, 4.9409, 0.391),
        (1_000_000, 10_000, 2_000, 1e-7, 8, 1.4830, 1.7260, 0.141),
        (10_000_000, 100_000, 5_000, 1e-8, 2, 4.5549, 8.1270, 0.440),
    ],
)
def test_calibrated_noise_is_13_to_46_percent_below_that_of_rdp(
    users, sampled, rounds, delta, target, certified, by_rdp, saved
):
    def event(z: float):
        return fixed_size_round(users=users, users_per_round=sampled, noise_multiplier=z)

    noise = solve_noise_multiplier(event, rounds=rounds, delta=delta, target_epsilon=target)
    assert noise == pytest.approx(certified, rel=0.005)
    assert rdp_epsilon([(event(by_rdp), rounds)], delta) == pytest.approx(target, rel=2e-3)
    assert 1 - noise / by_rdp == pytest.approx(saved, abs=0.004)

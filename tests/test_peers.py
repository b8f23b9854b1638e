"""scripts/peers.py asks the real accountants, and says of each number what it is worth."""

import importlib
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from fedemb.privacy.accounting import spend
from fedemb.privacy.crosscheck import pld_epsilon, rdp_epsilon
from fedemb.privacy.events import fixed_size_round, poisson_round

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "accounting.md").read_text()
RDP, UNHALVED = "dp-accounting RDP, given std / sensitivity", "dp-accounting RDP, given std / C"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("peers")


def price(run):
    event = fixed_size_round(
        users=run.users, users_per_round=run.users_per_round, noise_multiplier=run.noise_multiplier
    )
    return [(event, run.rounds)]


def epsilons(peers, name, runs):
    return peers.ask(name, runs, [sys.executable])["epsilons"]


def test_dp_accounting_is_asked_for_the_run_itself(peers):
    """4.4337: Wang, Balle and Kasiviswanathan's bound of the first run."""
    (found,) = epsilons(peers, RDP, peers.RUNS[:1])
    assert found == pytest.approx(4.4337, abs=1e-3)
    assert found == pytest.approx(rdp_epsilon(price(peers.RUNS[0]), peers.RUNS[0].delta), rel=1e-9)


def test_noise_in_units_of_the_clip_norm_is_too_little_for_rdp_and_right_for_pld(peers):
    run = peers.RUNS[0]
    (found,) = epsilons(peers, UNHALVED, [run])
    assert found < spend(price(run), run.delta).epsilon_attack
    (found,) = epsilons(peers, "dp-accounting PLD, Poisson", [run])
    poisson = poisson_round(sampling_rate=run.sampling_rate, noise_multiplier=run.noise_multiplier)
    assert found == pytest.approx(pld_epsilon([(poisson, run.rounds)], run.delta), rel=1e-9)


def test_what_a_peer_refuses_is_told(peers):
    (found,) = epsilons(peers, "dp-accounting PLD", peers.RUNS[:1])
    assert found.startswith("UnsupportedEventError")


def test_flower_hands_its_multiplier_of_the_clip_norm_on_as_if_it_were_of_the_sensitivity(peers):
    flower = pytest.importorskip("flwr.supercore.privacy_accounting")
    assert flower
    from flwr.supercore.differential_privacy import compute_stdv

    run = peers.RUNS[0]
    assert compute_stdv(run.noise_multiplier, 0.5, 32) * 32 == pytest.approx(run.noise_multiplier * 0.5)
    assert epsilons(peers, "Flower RdpAccountant", [run]) == pytest.approx(epsilons(peers, UNHALVED, [run]))


def test_a_peer_that_is_not_installed_is_named_with_its_command(peers):
    absent = peers.Peer(package="no-such-accountant", analyses="nothing", bounds=True, epsilon=float)
    from peer_epsilons import answer

    reply = answer(absent, list(peers.RUNS))
    assert reply == {"missing": "no-such-accountant"}
    assert "not installed: `pip install no-such-accountant`" in peers.peer_row("x", absent, reply, [1.0], [2.0])


@pytest.mark.parametrize(
    ("epsilon", "bounds", "cell", "verdict"),
    [
        (2.0, True, "2.000 (+0 %)", "valid"),
        (3.0, True, "3.000 (+50 %)", "valid, loose"),
        (0.75, False, "0.7500 (✗ 25.0 %)", "invalid"),
        (1.5, False, "1.500 (?)", "no bound"),
        ("KeyError: 'x'", False, "refused", "cannot represent it"),
    ],
)
def test_what_a_number_is_worth(peers, epsilon, bounds, cell, verdict):
    """An attack reaches 1, the certified bound is 2."""
    assert peers.cell(epsilon, bounds, 1.0, 2.0) == cell
    assert peers.verdict([epsilon], bounds, [1.0], [2.0]) == verdict


def test_one_run_below_the_attack_makes_a_peer_invalid(peers):
    assert peers.verdict([5.0, 0.5], False, [1.0, 1.0], [2.0, 2.0]) == "invalid"


def test_one_round_leaves_nothing_to_adapt_to(peers):
    fixed, adaptive = peers.adaptive_spend(users=1_000, users_per_round=100, rounds=1, noise_multiplier=1.0, delta=1e-4)
    assert adaptive == pytest.approx(fixed.epsilon_attack, rel=1e-3)


def test_without_sampling_the_attacks_are_one(peers):
    fixed, adaptive = peers.adaptive_spend(**asdict(peers.RUNS[3]))
    assert adaptive == fixed.epsilon_attack == pytest.approx(fixed.epsilon, rel=1e-3)


def test_an_adaptive_attack_beats_the_worst_pair_after_composition(peers):
    """2.3977: another programme for the same attack, on a finer grid."""
    fixed, adaptive = peers.adaptive_spend(**asdict(peers.RUNS[0]))
    assert fixed.epsilon_attack + 0.01 < adaptive < 2.3978 < fixed.epsilon
    assert f"adaptive attack {adaptive:.4f}" in PAGE


def test_the_page_holds_what_dp_accounting_prints(peers):
    rows = {line.split("|")[1].strip(): line for line in PAGE.splitlines() if line.startswith("|")}
    assert set(peers.PEERS) <= set(rows)
    for name in (RDP, UNHALVED):
        for found in epsilons(peers, name, peers.RUNS):
            assert f"| {found:#.4g} (" in rows[name]

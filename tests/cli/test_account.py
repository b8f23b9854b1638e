"""`account` and `calibrate` as a user calls them: keys in, JSON or a table out, mistakes as one ValueError."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fedemb.cli import account, calibrate
from fedemb.privacy.events import fixed_size_round, poisson_round
from fedemb.privacy.ledger import Ledger
from fedemb.report.numbers import lower, upper

SETTINGS = {"users": 10_000, "users_per_round": 256, "rounds": 200, "noise_multiplier": 2, "delta": 1e-5}


def call(verb, **keys) -> None:
    path = Path(verb.CONFIG_PATH) / f"{verb.CONFIG}.yaml"
    stored = OmegaConf.masked_copy(OmegaConf.load(path), [key for key in OmegaConf.load(path) if key != "hydra"])
    OmegaConf.set_struct(stored, True)
    verb.run(OmegaConf.merge(stored, keys))


def answer(capsys, verb, **keys) -> dict:
    call(verb, format="json", **keys)
    return json.loads(capsys.readouterr().out)


def run_folder(tmp_path: Path, *events) -> Path:
    ledger = Ledger.create(tmp_path / "ledger.jsonl")
    for event in events:
        ledger = ledger.charge(event)
    return tmp_path


def test_the_configuration_ships_with_the_package():
    for verb in (account, calibrate):
        assert (files("fedemb.conf") / "pricing" / f"{verb.CONFIG}.yaml").is_file()


def test_account_prints_json_only(capsys):
    found = answer(capsys, account, **SETTINGS)
    assert found["epsilon"] == pytest.approx(2.6790, rel=0.005)
    assert found["epsilon_attack"] == pytest.approx(2.3839, rel=0.005)
    assert {name: found[name] for name in SETTINGS} == SETTINGS
    assert (found["unit"], found["relation"]) == ("user", "substitute-one")
    assert found["sampling"] == "fixed-size sampling without replacement"
    assert found["accountant"]
    assert "2.679" in found["claim"]
    assert found["cross_check"]["epsilon"] == pytest.approx(4.4337, rel=0.005)


def test_grouping_does_not_enter_epsilon(capsys):
    """M / N, never (M / users_per_client) / N."""
    alone = answer(capsys, account, **SETTINGS)
    assert answer(capsys, account, users_per_client=8, **SETTINGS)["epsilon"] == alone["epsilon"]


def test_delta_defaults_to_the_population(capsys):
    found = answer(capsys, account, **{**SETTINGS, "delta": None})
    assert found["delta"] == pytest.approx(10_000**-1.1)


def test_poisson_sampling_is_priced_as_such(capsys):
    found = answer(capsys, account, sampling="poisson", **SETTINGS)
    assert found["epsilon"] == pytest.approx(1.4002, rel=0.002)
    assert found["cross_check"]["epsilon"] == pytest.approx(1.4002, rel=0.002)


def test_infinite_epsilon_is_null(capsys):
    found = answer(capsys, account, **{**SETTINGS, "noise_multiplier": 0})
    assert found["epsilon"] is None
    assert found["epsilon_attack"] is None
    assert "no privacy guarantee" in found["claim"]


def test_the_table_states_the_whole_claim(capsys):
    call(account, **SETTINGS)
    out = capsys.readouterr().out
    assert out.splitlines()[0] == (
        "ε ∈ [2.383, 2.679] at δ = 1e-05, substitute-one, user-level, fixed-size sampling without replacement; "
        "assumes secret cohorts and noise"
    )
    assert "dp-accounting RDP" in out


@pytest.mark.parametrize(
    ("unknown", "expected", "tolerance"),
    [("noise_multiplier", 1.2814, 0.005), ("rounds", 200, 0.01), ("users_per_round", 256, 0.01)],
)
def test_calibrate_solves_for_what_is_left_out(capsys, unknown, expected, tolerance):
    keys = {**SETTINGS, "noise_multiplier": 1.2814, unknown: None}
    found = answer(capsys, calibrate, target_epsilon=8, **keys)
    assert found["solved"] == unknown
    assert found["value"] == found[unknown] == pytest.approx(expected, rel=tolerance)
    assert found["epsilon"] <= 8


def test_a_ledger_is_priced_as_its_settings(capsys, tmp_path):
    event = fixed_size_round(users=10_000, users_per_round=256, noise_multiplier=2.0)
    found = answer(capsys, account, run=str(run_folder(tmp_path, *[event] * 200)), delta=1e-5)
    expected = answer(capsys, account, **SETTINGS)
    for name in (
        "epsilon",
        "epsilon_attack",
        "delta",
        "noise_multiplier",
        "users",
        "users_per_round",
        "rounds",
        "sampling",
    ):
        assert found[name] == expected[name]


def test_a_ledger_uses_the_delta_of_its_run(capsys, tmp_path):
    folder = run_folder(tmp_path, fixed_size_round(users=10_000, users_per_round=256, noise_multiplier=2.0))
    assert answer(capsys, account, run=str(folder))["delta"] == pytest.approx(10_000**-1.1)
    (folder / "config.yaml").write_text("delta: 1e-6\n")
    assert answer(capsys, account, run=str(folder))["delta"] == 1e-6


def test_a_mixed_ledger_reports_no_single_setting(capsys, tmp_path):
    rounds = [fixed_size_round(users=1000, users_per_round=10, noise_multiplier=z) for z in (1.0, 2.0)]
    found = answer(capsys, account, run=str(run_folder(tmp_path, *rounds)))
    assert found["noise_multiplier"] is None
    assert (found["users_per_round"], found["rounds"]) == (10, 2)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"users": None}, "users is missing: set users="),
        ({"users": 2.5}, "whole number"),
        ({"rounds": 0}, "rounds must be a whole number of at least 1"),
        ({"noise_multiplier": -1}, "noise_multiplier must be a finite number"),
        ({"noise_multiplier": "two"}, "noise_multiplier must be a finite number"),
        ({"users_per_round": 10_001}, "at most users"),
        ({"users_per_client": 3}, "users_per_client=3 must divide users_per_round=256"),
        ({"delta": 1e-4}, "not below 1/users"),
        ({"delta": 1e-13}, "delta must lie in"),
        ({"delta": 2.0, "allow_large_delta": True}, "delta must lie in"),
        ({"sampling": "shuffled"}, "sampling must be one of fixed, poisson"),
        ({"sampling": "poisson", "users_per_client": 8}, "one user in a client"),
        ({"format": "xml"}, "format must be one of table, json"),
        ({"run": "somewhere"}, "leave out users, users_per_round"),
    ],
)
def test_mistakes_in_account(capsys, keys, words):
    with pytest.raises(ValueError, match=words) as caught:
        call(account, **{**SETTINGS, **keys})
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_large_delta_can_be_insisted_on(capsys):
    assert answer(capsys, account, **{**SETTINGS, "delta": 1e-3, "allow_large_delta": True})["delta"] == 1e-3


@pytest.mark.parametrize("left_out", [(), ("rounds", "noise_multiplier")])
def test_calibrate_needs_exactly_one_unknown(left_out):
    with pytest.raises(ValueError, match="leave exactly one of"):
        call(calibrate, target_epsilon=4, **{**SETTINGS, **dict.fromkeys(left_out)})


def test_mistakes_in_calibrate():
    with pytest.raises(ValueError, match="target_epsilon is missing"):
        call(calibrate, **{**SETTINGS, "rounds": None})
    with pytest.raises(ValueError, match="out of reach"):
        call(calibrate, target_epsilon=1e-3, **{**SETTINGS, "rounds": None})


def test_mistakes_about_ledgers(tmp_path):
    with pytest.raises(ValueError, match="there is no ledger"):
        call(account, run=str(tmp_path))
    folder = run_folder(tmp_path)
    with pytest.raises(ValueError, match="no round has been charged"):
        call(account, run=str(folder))
    Ledger.resume(folder / "ledger.jsonl").charge(poisson_round(sampling_rate=0.1, noise_multiplier=1.0))
    with pytest.raises(ValueError, match="set delta="):
        call(account, run=str(folder))


@pytest.mark.parametrize("value", [2.6789659, 0.0123451, 975276.6, 3.84, 1e-7])
def test_printed_bounds_are_rounded_outwards(value):
    assert float(lower(value, digits=4)) <= value * (1 + 1e-12)
    assert float(upper(value, digits=4)) >= value * (1 - 1e-12)
    assert float(upper(value, digits=4)) - float(lower(value, digits=4)) <= 1.1e-3 * value

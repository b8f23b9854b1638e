"""fedemb audit from the outside: what it prints, what it refuses, how it exits."""

import json

import pytest
import torch

FEW = ("canaries=60", "cohorts=60")


@pytest.fixture
def small(tiny):
    """A second's audit. Evaluation keys of the run are of no effect."""
    return (*tiny, *FEW)


def found(fedemb, *words):
    code, out, err = fedemb("audit", *words, "format=json")
    assert code in (0, 1), err
    return code, json.loads(out)


def test_a_correct_recipe_is_ok(fedemb, small):
    code, answer = found(fedemb, *small)
    assert code == 0
    assert answer["verdict"] == "ok"
    assert (answer["canaries"], answer["seats_per_round"], answer["rounds"]) == (60, 4, 2)
    assert answer["epsilon"] == pytest.approx(15.46, abs=0.01)  # a Gaussian of s = 1 / (2 sqrt(2)) at delta = 1e-5
    assert answer["delta"] == 1e-5
    assert answer["epsilon_lower_bound"] <= answer["epsilon"]
    low, high = answer["epsilon_fit_interval"]
    assert low < answer["epsilon_fit"] < high
    assert [check["name"] for check in answer["checks"]] == [
        "coins guessed", "noise over signal", "noise", "clip", "noise reused", "sampling",
    ]  # fmt: skip
    assert not any(check["violated"] for check in answer["checks"])


def test_the_table_says_what_is_claimed_and_what_was_found(fedemb, small):
    code, out, err = fedemb("audit", *small)
    assert code == 0
    assert err == ""
    assert out.startswith("claimed: ε = 15.46 at δ = 1e-5, substitute-one, for a user who is known to take part")
    for word in ("coins guessed", "noise over signal", "clip", "noise reused", "sampling", "one shot", "verdict: ok"):
        assert word in out


def test_a_fault_in_the_engine_exits_with_1(fedemb, small, monkeypatch):
    """The real path is attacked: a clip that does nothing is found out through the command."""
    monkeypatch.setattr("fedemb.privacy.clipping._factor", lambda length, clip_norm: torch.ones_like(length))
    code, out, _ = fedemb("audit", *small)
    assert code == 1
    assert "verdict: violated" in out


def test_the_answer_can_be_kept(fedemb, small, tmp_path):
    code, answer = found(fedemb, *small, f"out={tmp_path}/audit.json")
    assert code == 0
    assert json.loads((tmp_path / "audit.json").read_text()) == answer


@pytest.mark.parametrize(
    "words",
    [
        ("query=adaptive", "audited_rounds=3"),
        ("query=per_layer",),
        ("query=grid", "mechanism=discrete"),
        ("ids_per_user=2",),
        ("sampler=cyclic", "mechanism=tree", "mechanism.strategy.rounds_per_tree=2"),
        ("sampler=cyclic", "mechanism=banded", "mechanism.strategy.band=3"),
        ("sampler=poisson", "users_per_client=1", "local_classes=2", "+users.labels_per_user=2"),
        ("executor=vectorised",),
        ("mode=release",),
        ("others=train", "seats_per_round=3", "noise_multiplier=5"),
    ],
)
def test_every_mechanism_sampler_and_executor(fedemb, small, words):
    code, answer = found(fedemb, *small, *words, "confidence=0.9999")
    assert code == 0, answer


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seats_per_round=5"], "seats_per_round must be at most the 4 virtual clients of a round"),
        (["noise_multiplier=0"], "epsilon = ∞ at delta=1e-05: nothing to audit; raise noise_multiplier"),
        (["mechanism=none"], "epsilon = ∞"),
        (["canaries=5"], "canaries must be an integer of at least 10"),
        (["canaries=many"], "canaries must be a finite number"),
        (["guesses=61"], "guesses must be at most canaries"),
        (["audited_rounds=0"], "audited_rounds must be a whole number of at least 1"),
        (["others=some"], "others must be one of idle, train"),
        (["confidence=1"], "confidence must lie in [0, 1)"),
        (["format=xml"], "format must be one of table, json"),
        (["out=nowhere/audit.json"], "must be a file in a folder that exists"),
        (["run=runs/a"], "run= is of no use here"),
        (["mechanism=tree"], "take sampler=cyclic"),
        (["canary=5"], "unknown key 'canary'"),
    ],
)
def test_mistakes_are_one_line(fedemb, small, words, told):
    code, out, err = fedemb("audit", *small, *words)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert told in err

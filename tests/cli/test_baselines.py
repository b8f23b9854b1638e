"""Baselines by Hydra groups alone: what they train, what they claim, what they refuse."""

import json

import pytest
from safetensors.torch import load_file

from fedemb.core.rng import generator
from fedemb.privacy.gaussian import gaussian_epsilon
from fedemb.tasks.heads import SoftmaxHead

GRADIENT = ("client=gradient", "client_optimizer=none", "client_schedule=none")
EXAMPLES = ("unit=example", "task=global_head", "classes=24", "users_per_client=1", "noise_multiplier=40", "rounds=2")


@pytest.fixture
def train(fedemb, tiny, tmp_path):
    """Overrides -> report.json of a tiny run."""

    def run(*words, name="run"):
        kept = [word for word in tiny if "client=gradient" not in words or not word.startswith("client.")]
        code, _, err = fedemb("train", *kept, *words, f"run={tmp_path}/{name}")
        assert code == 0, err
        return json.loads((tmp_path / name / "report.json").read_text())

    return run


def test_a_global_head_is_noised_with_the_backbone_and_stays_at_home(train, tmp_path):
    """Its 3,000 rows move by noise of std z C / m = 5 / 4; the clipped updates add at most a length of 1 to all."""
    train("task=global_head", "classes=3000", "noise_multiplier=5", "rounds=1")
    after = load_file(tmp_path / "run" / "checkpoints" / "round-00000001.safetensors")["params/head.weight"]
    moved = after - SoftmaxHead().init(3000, 8, generator(0, "head"))["head.weight"]
    assert float(moved.std()) == pytest.approx(1.25, rel=0.03)
    assert not any("head" in name for name in load_file(tmp_path / "run" / "model" / "backbone.safetensors"))


def test_example_level_rounds_tell_what_they_mean_for_a_user(train):
    """All 24 x 6 examples in both rounds: Gaussian releases; a user's six move them by six times as much."""
    report = train(*EXAMPLES, *GRADIENT, "unit.examples_per_user=6", "users_per_round=144", "delta=1e-5")
    privacy = report["privacy"]
    assert (privacy["unit"], privacy["users"], privacy["examples_per_user"]) == ("example", 144, 6)
    assert privacy["epsilon"] == pytest.approx(gaussian_epsilon(40 / 2 / 2**0.5, 1e-5), rel=1e-6)
    assert privacy["user_epsilon"] == pytest.approx(gaussian_epsilon(40 / 2 / 6 / 2**0.5, 1e-5), rel=1e-6)
    assert "For a whole user, who is up to 6 examples, group privacy gives ε ≤" in privacy["claim"]
    assert report["extrapolation"] == []


def test_without_a_public_number_of_examples_nothing_is_said_of_users(train, tmp_path):
    privacy = train(*EXAMPLES, "users_per_round=8")["privacy"]
    assert (privacy["examples_per_user"], privacy["user_epsilon"]) == (None, None)
    assert "It says nothing about whole users" in privacy["claim"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "example-level ε" in page
    assert "user-level ε" not in page


def test_a_run_about_users_converts_nothing(train):
    privacy = train("rounds=1")["privacy"]
    assert "user_epsilon" not in privacy
    assert "whole user" not in privacy["claim"]


def test_one_class_clients_are_refused_in_one_line(fedemb, tiny, tmp_path):
    code, _, err = fedemb("train", *tiny, "users_per_client=1", f"run={tmp_path}/run")
    assert code == 2
    assert "a softmax over one class learns nothing" in err
    assert err.count("\n") == 1


def test_a_gradient_that_is_told_of_an_optimizer_is_refused_in_one_line(fedemb, tiny, tmp_path):
    words = [word for word in tiny if not word.startswith("client.")]
    code, _, err = fedemb("train", *words, "client=gradient", f"run={tmp_path}/run")
    assert code == 2
    assert err.count("\n") == 1
    assert "AverageGradient" in err


def test_a_public_start_serves_either_task(train, tmp_path):
    train("rounds=1", name="public")
    for words in (["task=local_head"], ["task=global_head", "classes=24"]):
        report = train(*words, "init=public", f"path={tmp_path}/public", "rounds=1", name=str(len(words)))
        assert report["privacy"]["provenance"] == "public"

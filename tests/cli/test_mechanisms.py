"""Queries, mechanisms and samplers as a user chooses them: what they write, charge and refuse."""

import json
import math
import signal

import pytest
import torch
from safetensors.torch import load_file

from fedemb.cli.errors import INTERRUPTED
from fedemb.data.sampling import FixedSizeSampler
from fedemb.privacy.accounting import epsilon
from fedemb.privacy.ledger import Ledger
from fedemb.server.hooks import Checkpoint

IN_TURN = ("sampler=cyclic", "users_per_round=4", "rounds=8")
KINDS = {
    "integers": ("query=grid", "mechanism=discrete"),
    "adaptive": ("query=adaptive",),
    "per layer": ("query=per_layer",),
    "tree": (*IN_TURN, "mechanism=tree", "mechanism.strategy.rounds_per_tree=4"),
    "banded": (*IN_TURN, "mechanism=banded", "mechanism.strategy.band=4"),
}


def report_of(run):
    return json.loads((run / "report.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_charges_what_its_report_says(fedemb, tiny, tmp_path, kind):
    code, _, err = fedemb("train", *tiny, *KINDS[kind], "noise_multiplier=2", f"run={tmp_path}/a")
    assert code == 0, err
    privacy = report_of(tmp_path / "a")["privacy"]
    ledger = Ledger.read(tmp_path / "a" / "ledger.jsonl")
    assert ledger.entries == privacy["rounds"]
    assert privacy["epsilon"] == pytest.approx(epsilon(ledger.events, privacy["delta"]))
    assert 0 < privacy["epsilon_attack"] <= privacy["epsilon"] < math.inf
    assert privacy["noise_multiplier"] == pytest.approx(2, rel=1e-9)
    assert ("floating-point" in privacy["claim"]) == (kind != "integers")


@pytest.mark.parametrize("kind", KINDS)
def test_a_released_run_can_be_published(fedemb, tiny, tmp_path, kind):
    """No seed, no cohort, no diagnostics, and nothing from which noise that is still in the model could be computed."""
    run = tmp_path / "a"
    code, _, err = fedemb("train", *tiny, *KINDS[kind], "mode=release", f"run={run}")
    assert code == 0, err
    assert {path.name for path in run.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "ledger.jsonl",
        "metrics.csv",
        "model",
        "report.html",
        "report.json",
        "train.log",
    }
    (tensors,) = run.glob("checkpoints/*.safetensors")
    kept = {name.split("/")[0] for name in load_file(tensors)}
    assert kept <= {"params", "slots", "average", "query"}
    for line in (run / "ledger.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == {"entry", "event"}
    assert report_of(run)["seed"] is None
    text = " ".join(
        path.read_text() for path in run.rglob("*") if path.suffix not in (".safetensors",) and path.is_file()
    )
    for secret in ("cohort", "norms", "losses", 'seconds_per_round": 0'):
        assert secret not in text.lower().replace("cohorts", "").replace("sampling of a cohort", "")


@pytest.mark.parametrize("kind", ["tree", "banded"])
def test_a_release_that_its_budget_stops_can_be_published_too(fedemb, tiny, tmp_path, kind):
    """Rounds are left, but no budget: nobody will ask for the state of the noise again."""
    words = [*tiny, *KINDS[kind], "mode=release", "noise_multiplier=2", "budget.epsilon=2.9"]
    assert fedemb("train", *words, f"run={tmp_path}/a")[0] == 0
    assert 0 < report_of(tmp_path / "a")["privacy"]["rounds"] < 8
    (tensors,) = (tmp_path / "a").glob("checkpoints/*.safetensors")
    assert not [name for name in load_file(tensors) if name.startswith("noise/")]


@pytest.mark.parametrize("kind", ["tree", "banded"])
@pytest.mark.parametrize("mode", ["simulate", "release"])
def test_an_interrupted_run_goes_on_with_its_noise(fedemb, tiny, tmp_path, monkeypatch, kind, mode):
    """Stopped after two rounds, in the middle of a tree and a band; bit-equal where the noise is seeded."""
    words = [*tiny, *KINDS[kind], f"mode={mode}"]
    assert fedemb("train", *words, f"run={tmp_path}/whole")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", _stop_after(2, Checkpoint.save))
        assert fedemb("train", *words, f"run={tmp_path}/cut")[0] == INTERRUPTED
    (tensors,) = (tmp_path / "cut").glob("checkpoints/*.safetensors")
    assert [name for name in load_file(tensors) if name.startswith("noise/")]
    assert fedemb("train", f"run={tmp_path}/cut", "resume=true")[0] == 0
    whole, cut = (report_of(tmp_path / name)["privacy"] for name in ("whole", "cut"))
    assert cut["epsilon"] == whole["epsilon"]
    left, right = (load_file(tmp_path / name / "model" / "backbone.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(left[name], right[name]) for name in left) == (mode == "simulate")


def _stop_after(rounds, save):
    """Checkpoint.save that asks the process to stop, as Ctrl-C does, once so many rounds are done."""

    def stopping(self, state):
        save(self, state)
        if state.round == rounds:
            signal.raise_signal(signal.SIGINT)

    return stopping


def test_two_releases_from_one_model_have_different_noise(fedemb, tiny, tmp_path):
    """Clients that learn nothing and a common start: only the noise can differ."""
    assert fedemb("train", *tiny, f"run={tmp_path}/start", "rounds=1")[0] == 0
    start = ["init=public", f"path={tmp_path}/start", "provenance=public", "client.learning_rate=1e-30"]
    for name in ("a", "b"):
        assert fedemb("train", *tiny, *start, "mode=release", "rounds=1", f"run={tmp_path}/{name}")[0] == 0
    left, right = (load_file(tmp_path / name / "model" / "backbone.safetensors") for name in ("a", "b"))
    assert all(not torch.equal(left[name], right[name]) for name in left)


def test_every_release_has_a_seed_of_its_own_for_its_cohorts(fedemb, tiny, tmp_path, monkeypatch):
    seeds = []
    make = FixedSizeSampler.__post_init__
    monkeypatch.setattr(FixedSizeSampler, "__post_init__", lambda self: (seeds.append(self.seed), make(self))[1])
    for name in ("a", "b"):
        assert fedemb("train", *tiny, "mode=release", "rounds=1", f"run={tmp_path}/{name}")[0] == 0
    assert len(set(seeds)) == 2
    assert min(seeds) > 2**64


def test_a_start_about_examples_is_none_for_users(fedemb, tiny, tmp_path):
    assert fedemb("train", *tiny, "noise_multiplier=2", "rounds=1", f"run={tmp_path}/start")[0] == 0
    path = tmp_path / "start" / "report.json"
    report = json.loads(path.read_text())
    report["privacy"]["unit"] = "example"
    path.write_text(json.dumps(report))
    start = ["init=pretrained", f"path={tmp_path}/start", "provenance=dp", "noise_multiplier=2"]
    code, _, err = fedemb("train", *tiny, *start, f"run={tmp_path}/a")
    assert (code, err.count("\n")) == (2, 1)
    assert "is about every example, this run's about every user" in err
    path.unlink()
    code, _, err = fedemb("train", *tiny, *start, f"run={tmp_path}/a")
    assert code == 2
    assert "needs a finished run" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("mechanism=banded",), ("sampler=cyclic",)),
        (("mechanism=tree", "sampler=cyclic"), ("users_per_round <= N/16", "only 3 rounds")),
        (("mechanism=discrete",), ("query=grid",)),
        (("query=grid", "noise_multiplier=0"), ("noise_multiplier",)),
        (("query=adaptive", "query.count_noise=0.1"), ("query.count_noise",)),
        (("query=per_layer", "query.clipping.weights={conv9: 2}"), ("conv9 fits no layer",)),
        (("ids_per_user=0",), ("ids_per_user",)),
        ((*IN_TURN, "sampler.participations=1"), ("participations=1",)),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(fedemb, tiny, tmp_path, words, told):
    code, _, err = fedemb("train", *tiny, *words, f"run={tmp_path}/a")
    assert code == 2
    assert err.count("\n") == 1
    for word in told:
        assert word in err
    assert not (tmp_path / "a").exists()


def test_a_person_with_two_ids_costs_more_and_is_named(fedemb, tiny, tmp_path):
    for ids in (1, 2):
        assert fedemb("train", *tiny, f"ids_per_user={ids}", "noise_multiplier=2", f"run={tmp_path}/{ids}")[0] == 0
    one, two = (report_of(tmp_path / str(ids))["privacy"] for ids in (1, 2))
    assert two["epsilon"] > 1.5 * one["epsilon"]
    assert two["epsilon_attack"] == one["epsilon_attack"]
    assert "up to 2 user ids of one person together" in two["claim"]
    assert two["noise_multiplier"] == pytest.approx(one["noise_multiplier"])

"""Queries, mechanisms and samplers as a user chooses them: what they write, charge and refuse."""

import json
import math
import shutil

import pytest
from safetensors.torch import load_file

from fedemb.privacy.accounting import epsilon
from fedemb.privacy.ledger import Ledger

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
def test_an_interrupted_release_goes_on_with_its_noise(fedemb, tiny, tmp_path, kind):
    """Killed after the last checkpoint but before the report: rounds are left, so the state of the noise is there."""
    run, cut = tmp_path / "a", tmp_path / "b"
    words = [*tiny, *KINDS[kind], "mode=release"]
    assert fedemb("train", *words, "rounds=2", f"run={run}")[0] == 0
    shutil.copytree(run, cut)
    assert fedemb("train", f"run={cut}", "resume=true")[0] == 0  # nothing left to do: no noise is needed
    assert report_of(cut)["privacy"]["rounds"] == 2


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
    assert two["epsilon"] > 2 * one["epsilon"]
    assert "up to 2 user ids of one person together" in two["claim"]
    assert two["noise_multiplier"] == pytest.approx(one["noise_multiplier"])

"""Warm starts: what fits, what each provenance costs, and one line for what does not fit."""

import math

import pytest
import torch
from safetensors.torch import save_file
from small import Conv, Drift, make_task

from fedemb.models.exported import save_model
from fedemb.models.lora import LowRank
from fedemb.privacy.accounting import spend
from fedemb.privacy.events import fixed_size_round
from fedemb.privacy.ledger import Ledger
from fedemb.tasks.start import PretrainedStart, PublishedStart, RandomStart

TASK, DELTA = make_task(), 1e-5
ROUND = fixed_size_round(users=1000, users_per_round=50, noise_multiplier=2.0)


def stored(folder, change=lambda params: params):
    """A .safetensors file of another start of the same model."""
    path = folder / "weights.safetensors"
    save_file(change(TASK.init(8)), path)
    return path


def test_random_start_costs_nothing():
    start = RandomStart()
    assert start.cost() is None
    assert torch.equal(start.params(TASK, 4)["conv.weight"], TASK.init(4)["conv.weight"])


def test_stored_values_are_taken_from_file_model_folder_or_run_folder(tmp_path):
    save_model(tmp_path / "run" / "model", backbone={}, params=TASK.init(8), about={})
    for path in (stored(tmp_path), tmp_path / "run" / "model", tmp_path / "run"):
        params = PretrainedStart(path=str(path), provenance="public").params(TASK, 4)
        assert all(torch.equal(params[name], value) for name, value in TASK.init(8).items())


def test_a_stored_head_is_left_behind(tmp_path):
    path = stored(tmp_path, lambda params: {**params, "head.weight": torch.zeros(9, 4)})
    assert set(PretrainedStart(path=str(path), provenance="public").params(TASK, 4)) == set(TASK.init(0))


def test_stored_values_take_the_models_type(tmp_path):
    path = stored(tmp_path, lambda params: {name: value.double() for name, value in params.items()})
    params = PretrainedStart(path=str(path), provenance="public").params(TASK, 4)
    assert all(value.dtype == torch.float32 for value in params.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {n: v for n, v in p.items() if n != "norm.bias"}, "lacks the parameter 'norm.bias'"),
        (lambda p: {**p, "norm.bias": torch.zeros(5)}, r"'norm.bias' has shape \[5\], the model needs \[4\]"),
        (lambda p: {**p, "extra.weight": torch.zeros(5)}, "holds 'extra.weight'"),
    ],
)
def test_misfits_name_the_parameter(tmp_path, change, message):
    path = stored(tmp_path, change)
    with pytest.raises(ValueError, match=message) as raised:
        PretrainedStart(path=str(path), provenance="public").params(TASK, 4)
    assert "\n" not in str(raised.value)


def test_public_start_costs_nothing(tmp_path):
    assert PretrainedStart(path=str(stored(tmp_path)), provenance="public").cost() is None


def test_private_start_makes_epsilon_infinite(tmp_path):
    cost = PretrainedStart(path=str(stored(tmp_path)), provenance="private").cost()
    assert math.isinf(spend([(cost, 1), (ROUND, 3)], DELTA).epsilon)


def test_dp_start_costs_what_its_ledger_says(tmp_path):
    """All charges of the other run, different settings included, on top of this run's."""
    other = fixed_size_round(users=1000, users_per_round=100, noise_multiplier=3.0)
    ledger = Ledger.create(tmp_path / "ledger.jsonl")
    for event in (ROUND, ROUND, other):
        ledger = ledger.charge(event)
    cost = PretrainedStart(path=str(tmp_path), provenance="dp").cost()
    assert spend([(cost, 1)], DELTA).epsilon == pytest.approx(spend([(ROUND, 2), (other, 1)], DELTA).epsilon, rel=1e-9)
    joint = spend([(cost, 1), (ROUND, 3)], DELTA).epsilon
    assert joint == pytest.approx(spend([(ROUND, 5), (other, 1)], DELTA).epsilon, rel=1e-9)
    assert joint > spend([(ROUND, 3)], DELTA).epsilon


def test_dp_start_without_a_ledger_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"provenance=dp needs the run folder .*ledger\.jsonl"):
        PretrainedStart(path=str(tmp_path), provenance="dp").cost()


def test_unknown_provenance_is_refused(tmp_path):
    with pytest.raises(ValueError, match="public, dp, private, got provenance=secret"):
        PretrainedStart(path=str(tmp_path), provenance="secret")


def test_named_parameters_start_anew_and_adapters_without_being_named(tmp_path):
    path = str(stored(tmp_path, lambda params: {**params, "embedding.weight": torch.zeros(9, 9)}))
    backbone = Conv()
    LowRank(layers=["conv"], rank=1, alpha=1.0).apply(backbone)
    task = make_task(backbone=backbone)
    params = PretrainedStart(path=path, provenance="public", fresh=["embedding.*"]).params(task, 4)
    own = task.init(4)
    assert torch.equal(params["conv.weight"], TASK.init(8)["conv.weight"])
    for name in ("embedding.weight", "embedding.bias", "conv.lora.down", "conv.lora.up"):
        assert torch.equal(params[name], own[name]), name
    with pytest.raises(ValueError, match=r"init\.fresh pattern 'fc\*' matches no parameter"):
        PretrainedStart(path=path, provenance="public", fresh=["fc*"]).params(task, 4)


def test_running_statistics_are_left_behind(tmp_path):
    extra = {"norm.running_mean": torch.zeros(4), "norm.num_batches_tracked": torch.tensor(3)}
    path = stored(tmp_path, lambda params: {**params, **extra})
    assert PretrainedStart(path=str(path), provenance="public").params(TASK, 4).keys() == TASK.init(0).keys()


def test_published_weights_are_declared_and_only_of_models_that_have_some():
    with pytest.raises(ValueError, match="public or private"):
        PublishedStart(provenance="dp")
    with pytest.raises(ValueError, match="Conv has no published weights"):
        PublishedStart(provenance="public").params(TASK, 4)
    assert PublishedStart(provenance="public").cost() is None
    assert spend([(PublishedStart(provenance="private").cost(), 1)], DELTA).epsilon == math.inf


class OneWeight(Conv):
    """A backbone with published weights."""

    def published(self):
        return {"w": torch.ones(3)}


class Own(Drift):
    """A task of somebody's own: no kin of fedemb's, but that it has a backbone."""

    backbone = OneWeight()


def test_published_weights_reach_a_task_of_somebodys_own():
    """They only reached fedemb's: 'Own has no published weights', whatever its backbone had."""
    params = PublishedStart(provenance="public").params(Own(pixels=3), 4)
    assert torch.equal(params["w"], torch.ones(3))

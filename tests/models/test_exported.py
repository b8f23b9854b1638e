"""Export and load: the same embeddings, unit length, and one line for a damaged folder."""

import json
import shutil
import sys

import pytest
import torch
from torch import nn

from fedemb.core.params import scale
from fedemb.models.exported import check_rebuilds, embed, load_model, load_params, save_model
from fedemb.models.functional import fresh_params
from fedemb.models.lenet import LeNet

SPEC = {"_target_": "fedemb.models.lenet.LeNet", "channels": 1, "size": 8, "embedding_width": 6}
BACKBONE = LeNet(channels=1, size=8, embedding_width=6)
PARAMS = fresh_params(BACKBONE, 4)
IMAGES = torch.randint(256, (9, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "model", backbone=SPEC, params=PARAMS, about={"epsilon": 3.5})
    return tmp_path / "model"


def test_loaded_model_gives_the_same_embeddings(folder):
    found = load_model(folder)(IMAGES)
    assert torch.equal(found, embed(BACKBONE, PARAMS, IMAGES))
    pixels = IMAGES.float() / 128 - 1
    raw = torch.func.functional_call(BACKBONE, PARAMS, (pixels,))
    torch.testing.assert_close(found, raw / raw.norm(dim=1, keepdim=True))


def test_embeddings_have_unit_length(folder):
    torch.testing.assert_close(load_model(folder)(IMAGES).norm(dim=1), torch.ones(9))


def test_run_folder_and_text_path_work_too(folder):
    for path in (folder.parent, str(folder)):
        assert torch.equal(load_model(path)(IMAGES), embed(BACKBONE, PARAMS, IMAGES))


def test_loaded_parameters_are_bit_exact(folder):
    for path in (folder, folder.parent, folder / "backbone.safetensors"):
        assert all(torch.equal(value, PARAMS[name]) for name, value in load_params(path).items())


def test_config_tells_the_reader_what_it_is(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config == {"backbone": SPEC, "about": {"epsilon": 3.5}}


def test_saving_again_replaces(folder):
    save_model(folder, backbone=SPEC, params=scale(PARAMS, 2.0), about={})
    assert torch.equal(load_params(folder)["conv1.bias"], 2 * PARAMS["conv1.bias"])


def config_of(text):
    return lambda folder: (folder / "config.json").write_text(text)


def spec_of(**changed):
    return config_of(json.dumps({"backbone": {**SPEC, **changed}}))


def weights_of(raw):
    return lambda folder: (folder / "backbone.safetensors").write_bytes(raw)


def cut(folder):
    path = folder / "backbone.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


DAMAGES = {
    "no weights": lambda folder: (folder / "backbone.safetensors").unlink(),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "cut weights": cut,
    "empty weights": weights_of(b""),
    "text as weights": weights_of(b"hello, this is no tensor file"),
    "empty config": config_of(""),
    "half a config": config_of('{"backbone": {'),
    "a list as config": config_of("[]"),
    "no backbone": config_of("{}"),
    "a text as backbone": config_of('{"backbone": "LeNet"}'),
    "no target": config_of('{"backbone": {"size": 8}}'),
    "an unknown module": spec_of(_target_="nowhere.to.be.Found"),
    "an unknown class": spec_of(_target_="fedemb.models.lenet.AlexNet"),
    "no dot": spec_of(_target_="LeNet"),
    "no module class": spec_of(_target_="fedemb.core.params.scale"),
    "an unknown argument": spec_of(depth=3),
    "an impossible argument": spec_of(size=7),
    "another shape": spec_of(embedding_width=7),
    "nothing at all": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_line_that_names_the_place(folder, damage):
    DAMAGES[damage](folder)
    with pytest.raises(ValueError, match=str(folder.parent)) as raised:
        load_model(folder)
    assert "\n" not in str(raised.value)


def test_a_stored_model_runs_no_function(folder, tmp_path):
    """A model from elsewhere must be as harmless as its file format: no pickle, and no other call either."""
    for target, keywords in (("os.mkdir", {"path": str(tmp_path / "pwned")}), ("builtins.dict", {}), ("os.abort", {})):
        spec = {"_target_": target, **keywords}
        (folder / "config.json").write_text(json.dumps({"backbone": spec}))
        with pytest.raises(ValueError, match="no torch module"):
            load_model(folder)
    assert not (tmp_path / "pwned").exists()


class Nested(nn.Module):
    """Another module as an argument."""

    def __init__(self, *, inner, widths=()):
        super().__init__()
        self.inner, self.widths = inner, list(widths)

    def forward(self, images):
        return self.inner(images)


def make_lenet(**keywords):
    """A factory: trains, but a stored model must not call it."""
    return LeNet(**keywords)


@pytest.fixture
def plugin(monkeypatch):
    """This file as an importable module."""
    module = type(sys)("exported_plugin")
    module.Nested, module.make_lenet = Nested, make_lenet
    monkeypatch.setitem(sys.modules, "exported_plugin", module)


def test_a_specification_that_loads_again_passes():
    state = torch.get_rng_state()
    check_rebuilds(SPEC, BACKBONE)
    assert torch.equal(state, torch.get_rng_state())


def test_nested_modules_and_hydras_own_keys_load_again(plugin, tmp_path):
    """Hydra builds inner modules; loading passed their specification on as a dictionary, which failed when called."""
    spec = {"_target_": "exported_plugin.Nested", "_convert_": "all", "inner": SPEC, "widths": [1, 2]}
    backbone = Nested(inner=BACKBONE)
    params = {f"inner.{name}": value for name, value in PARAMS.items()}
    check_rebuilds(spec, backbone)
    save_model(tmp_path, backbone=spec, params=params, about={})
    assert torch.equal(load_model(tmp_path)(IMAGES), embed(BACKBONE, PARAMS, IMAGES))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({**SPEC, "_target_": "exported_plugin.make_lenet"}, "exported_plugin.make_lenet is no torch module class"),
        ({**SPEC, "_target_": "nowhere.LeNet"}, "No module named 'nowhere'"),
        ({**SPEC, "depth": 3}, "depth"),
        ({**SPEC, "embedding_width": 7}, "weights do not fit LeNet"),
        ({**SPEC, "size": object()}, "not JSON serializable"),
        ({**SPEC, "_partial_": True}, "_partial_"),
        ({"size": 8}, "_target_"),
    ],
)
def test_what_would_not_load_again_is_refused_before_training(plugin, spec, words):
    """It was found out after the last round, by load_model."""
    with pytest.raises(ValueError, match=words) as raised:
        check_rebuilds(spec, BACKBONE)
    assert "\n" not in str(raised.value)
    assert f"model={spec.get('_target_')}" in str(raised.value)


def test_a_module_that_is_not_found_is_no_reason_to_export_again(tmp_path):
    save_model(tmp_path / "model", backbone={**SPEC, "_target_": "nowhere.LeNet"}, params=PARAMS, about={})
    with pytest.raises(
        ValueError, match=r"run this in the folder that nowhere lies in, or add that folder to PYTHONPATH$"
    ):
        load_model(tmp_path)


def test_an_unfinished_run_says_how_it_is_finished(tmp_path):
    (tmp_path / "config.yaml").write_text("rounds: 3\n")
    for load in (load_model, load_params):
        with pytest.raises(ValueError, match=rf"the run {tmp_path} is not finished.*resume=true$"):
            load(tmp_path)
    with pytest.raises(ValueError, match=rf"no model at {tmp_path}/elsewhere: expected a model folder"):
        load_model(tmp_path / "elsewhere")

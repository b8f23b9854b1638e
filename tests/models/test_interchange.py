"""One file for other programs: read by its own runtime, for any number of images, with the model's numbers."""

import sys

import pytest
import torch
from safetensors.torch import load_file

from fedemb.models import interchange
from fedemb.models.exported import EmbeddingModel
from fedemb.models.interchange import ONNX, PT2, SAFETENSORS, TORCHSCRIPT, export
from fedemb.models.lenet import LeNet
from fedemb.models.vit import ViT

LENET = EmbeddingModel(LeNet(size=8, embedding_width=6))
VIT = EmbeddingModel(ViT(channels=1, size=8, patch=4, width=8, depth=1, heads=2, embedding_width=6))
IMAGES = torch.randint(256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


@pytest.mark.parametrize("model", [LENET, VIT], ids=["lenet", "vit"])
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_gives_the_same(tmp_path, model):
    export(TORCHSCRIPT, model, (1, 8, 8), tmp_path / "a.pt")
    torch.testing.assert_close(torch.jit.load(tmp_path / "a.pt")(IMAGES), model(IMAGES), rtol=0, atol=1e-5)


def test_pt2_gives_the_same(tmp_path):
    export(PT2, VIT, (1, 8, 8), tmp_path / "a.pt2")
    torch.testing.assert_close(torch.export.load(tmp_path / "a.pt2").module()(IMAGES), VIT(IMAGES), rtol=0, atol=1e-5)


def test_onnx_gives_the_same(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export(ONNX, VIT, (1, 8, 8), tmp_path / "a.onnx")
    found = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(["embeddings"], {"images": IMAGES.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), VIT(IMAGES).detach(), rtol=0, atol=1e-5)


def test_safetensors_hold_the_weights(tmp_path):
    assert export(SAFETENSORS, LENET, (1, 8, 8), tmp_path / "a.safetensors") == 0.0
    found, own = load_file(tmp_path / "a.safetensors"), dict(LENET.backbone.named_parameters())
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], value) for name, value in own.items())


@pytest.mark.parametrize("gap", [2e-5, float("nan")])
def test_a_file_that_differs_is_refused(tmp_path, gap):
    wrong = interchange.Format(write=lambda *_: None, read=lambda model, _: lambda images: model(images) + gap)
    with pytest.raises(ValueError, match="differs from the trained one"):
        export(wrong, LENET, (1, 8, 8), tmp_path / "a")
    near = interchange.Format(write=lambda *_: None, read=lambda model, _: lambda images: model(images) + 5e-6)
    assert export(near, LENET, (1, 8, 8), tmp_path / "a") == pytest.approx(5e-6, rel=0.1)


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_one_line(tmp_path, monkeypatch, library):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == library else sys)
    with pytest.raises(ValueError, match=rf"{library} is needed.*pip install 'fedemb\[onnx\]'"):
        export(ONNX, LENET, (1, 8, 8), tmp_path / "a.onnx")


def test_images_that_do_not_fit_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="size=8 takes no images") as caught:
        export(TORCHSCRIPT, VIT, (1, 9, 9), tmp_path / "a.pt")
    assert "\n" not in str(caught.value)

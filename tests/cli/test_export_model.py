"""fedemb export: a run's file in its format, with adapters merged; mistakes are one line and leave nothing."""

import pytest
import torch

from fedemb.models.exported import load_model

IMAGES = torch.randint(256, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def trained(fedemb, tiny, tmp_path):
    """A run with adapters."""
    words = ["rounds=1", "adapter=lora", "adapter.layers=[embedding]", "trained=[*.lora.*,conv2.bias]"]
    code, out, err = fedemb("train", *tiny, *words, f"run={tmp_path}/run")
    assert code == 0, err
    assert "adapter: rank 4 on 1 layers: embedding (1)" in out
    assert "trained 12,640 of 89,768 parameters" in out  # 4 (3136 + 8) + 64 of 832 + 51,264 + 25,096 + 12,576
    return tmp_path / "run"


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_run_becomes_a_file_and_mistakes_leave_nothing(fedemb, tiny, trained, tmp_path):
    out = tmp_path / "new" / "model.pt"
    words = (f"run={trained}", "format=torchscript", f"out={out}")
    code, said, err = fedemb("export", *words)
    assert code == 0, err
    assert said.startswith(f"{out}: torchscript, images of 1 x 28 x 28; read again, it differs")
    assert [file.name for file in out.parent.iterdir()] == ["model.pt"]
    torch.testing.assert_close(torch.jit.load(out)(IMAGES), load_model(trained)(IMAGES), rtol=0, atol=1e-5)

    code, _, err = fedemb("export", *words)
    assert (code, err) == (2, f"fedemb: {out} is there already: take another out=, or overwrite=true\n")
    assert fedemb("export", *words, "overwrite=true")[0] == 0

    for changed, message in {
        "format=tf": "format must be one of safetensors, torchscript, pt2, onnx, got format=tf",
        f"run={tmp_path}/nothing": f"no model at {tmp_path}/nothing",
        f"out={tmp_path}/new": f"out={tmp_path}/new is a folder: name a file in it",
        f"out={out}/below": f"cannot write {out}/below: ",
        "images=[1,28]": "images must be three whole numbers [channels,height,width], got images=[1, 28]",
        "images=[1,9,9]": "mat1 and mat2 shapes cannot be multiplied",
    }.items():
        settings = {"run": trained, "format": "torchscript", "out": f"{tmp_path}/other.pt"}
        settings |= [changed.split("=")]
        code, said, err = fedemb("export", *(f"{key}={value}" for key, value in settings.items()))
        assert (code, said, err.count("\n")) == (2, "", 1), changed
        assert message in err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new", "run"]

    again = (*tiny, "rounds=1", "init=public", f"path={trained}", "adapter=lora", f"run={tmp_path}/again")
    code, _, err = fedemb("train", *again, "noise_multiplier=0", "server.learning_rate=1e-30")
    assert code == 0, err  # adapters that the merged model lacks start at zero: the same model
    torch.testing.assert_close(load_model(tmp_path / "again")(IMAGES), load_model(trained)(IMAGES))

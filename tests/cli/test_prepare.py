"""`fedemb prepare`: the configuration, a data set from outside the package, and what is printed."""

import re

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from fedemb.cli import prepare

PLUGIN = """
from pathlib import Path
import numpy as np
from fedemb.data.manifest import StoreInfo
from fedemb.data.preparation import Split, prepare_splits, silent
from fedemb.data.record import UserRecord

def prepare(*, out, pixel, overwrite=False, progress=silent):
    info = StoreInfo(name="mine", split="train", image_shape=(1, 2, 2), classes=1, polarity="ink 255 on 0",
                     description=f"pixels are {pixel}", licence="CC0", notice="", sources=(), command="prepare mine")
    def records():
        for user in range(3):
            yield UserRecord(id=str(user), images=np.full((2, 1, 2, 2), pixel, np.uint8), labels=np.zeros(2, int))
    splits = [Split(info=info, users=3, records=records)]
    return prepare_splits(Path(out), splits=splits, overwrite=overwrite, progress=progress)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A configuration for a data set that is a file of the user's own."""
    (tmp_path / "my_data_set.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))

    def config(**changes):
        called = {"_target_": "my_data_set.prepare", "out": str(tmp_path / "mine"), "pixel": 5, **changes}
        return OmegaConf.create({"dataset": {"name": "mine", "prepare": called}})

    return config


def test_the_summary_goes_to_stdout_and_progress_to_stderr(mine, tmp_path, capsys):
    prepare.run(mine())
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"prepared mine in {tmp_path / 'mine'}",
        "  train: 3 users, 6 images of 1x2x2",
        "  licence: CC0",
    ]
    assert printed.err == "mine train: 3 users\n"


def test_preparing_twice_says_so_and_other_data_are_refused(mine, tmp_path, capsys):
    prepare.run(mine())
    capsys.readouterr()
    prepare.run(mine())
    assert capsys.readouterr().out.startswith(f"already prepared: mine in {tmp_path / 'mine'}\n")
    with pytest.raises(Exception, match=r"pixels are 5.*pixels are 6.*overwrite=true"):
        prepare.run(mine(pixel=6))
    prepare.run(mine(pixel=6, overwrite=True))
    assert capsys.readouterr().out.startswith("prepared mine")


def composed(*overrides):
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        return compose(prepare.CONFIG, overrides=list(overrides))


def test_the_defaults_of_omniglot(monkeypatch):
    monkeypatch.delenv("FEDEMB_DATA", raising=False)
    assert OmegaConf.to_container(composed("dataset=omniglot").dataset, resolve=True) == {
        "name": "omniglot",
        "prepare": {
            "_target_": "fedemb.data_prep.omniglot.prepare",
            "source": None,
            "out": "data/omniglot",
            "overwrite": False,
        },
    }
    monkeypatch.setenv("FEDEMB_DATA", "/large/disk")
    assert composed("dataset=omniglot").dataset.prepare.out == "/large/disk/omniglot"


def test_what_the_user_passes_arrives(tmp_path):
    """An empty source folder shows that the values reach the reader."""
    cfg = composed("dataset=omniglot", f"source={tmp_path}", f"out={tmp_path / 'out'}", "overwrite=true")
    assert cfg.dataset.prepare.overwrite is True
    with pytest.raises(Exception, match=re.escape(f"no file {tmp_path}/images_background.zip")):
        prepare.run(cfg)
    assert list(tmp_path.iterdir()) == []

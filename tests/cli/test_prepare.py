"""`fedemb prepare`: the configuration, a data set from outside the package, and what is printed."""

import os

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from fedemb.cli import prepare

PLUGIN = """
import numpy as np
from fedemb.data.manifest import StoreInfo
from fedemb.data.preparation import Split, prepare_splits
from fedemb.data.record import UserRecord

def prepare(request, *, pixel):
    info = StoreInfo(name="mine", split="train", user="a letter", image_shape=(1, 2, 2), classes=1,
                     polarity="ink 255 on 0", description=f"pixels are {pixel}", licence="CC0", notice="",
                     sources=(), command="prepare mine", redistributable=False)
    def records(unit):
        return [UserRecord.from_pixels(id=unit, images=np.full((2, 1, 2, 2), pixel, np.uint8), labels=np.zeros(2, int))]
    split = Split(info=info, users=3, units=["a", "b", "c"], records=records, left_out={"users without an image": 4})
    return prepare_splits(request, [split])
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A configuration for a data set that is a file of the user's own."""
    (tmp_path / "my_data_set.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))

    def config(**changes):
        options = {
            "action": "prepare",
            "source": None,
            "out": str(tmp_path / "mine"),
            "overwrite": False,
            "allow_partial": False,
            "workers": 0,
        }
        called = {"_target_": "my_data_set.prepare", "pixel": "${pixel}"}
        return OmegaConf.create({"name": "mine", "pixel": 5, **options, "prepare": called, **changes})

    return config


def test_the_summary_goes_to_stdout_and_progress_to_stderr(mine, tmp_path, capsys):
    prepare.run(mine())
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"prepared mine in {tmp_path / 'mine'}",
        "  train: 3 users, 6 images of 1x2x2; 4 users without an image",
        "  1 image has up to 3 owners: the guarantee is for a user id; ids_per_user=3 covers the images' owners",
        "  licence: CC0",
        "  Do not pass this store on.",
    ]
    assert printed.err == "mine train: 3 of 3\n"


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
    expected = {
        "name": "omniglot",
        "action": "prepare",
        "source": None,
        "out": "data/omniglot",
        "overwrite": False,
        "allow_partial": False,
        "workers": "auto",
        "user": "character",
        "prepare": {"_target_": "fedemb.data_prep.omniglot.prepare", "user": "character"},
    }
    values = OmegaConf.to_container(composed("dataset=omniglot"), resolve=True)
    assert {key: values[key] for key in expected} == expected
    monkeypatch.setenv("FEDEMB_DATA", "/large/disk")
    assert composed("dataset=omniglot").out == "/large/disk/omniglot"
    drawers = composed("dataset=omniglot_drawers")
    assert (drawers.out, drawers.prepare.user) == ("/large/disk/omniglot_drawers", "drawer")


def test_what_the_user_passes_arrives(mine, tmp_path, monkeypatch):
    """The request is what a preparation gets, beside the options of its own."""
    asked = {}
    monkeypatch.setattr("my_data_set.prepare_splits", lambda request, splits: asked.update(vars(request)) or stop())
    cfg = mine(source="~/zips", out="~/stores", overwrite=True, allow_partial=True, workers="auto")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        prepare.run(cfg)
    assert (asked["source"], asked["out"]) == (tmp_path / "zips", tmp_path / "stores")
    assert (asked["overwrite"], asked["allow_partial"]) == (True, True)
    assert asked["workers"] == len(os.sched_getaffinity(0))


def stop():
    raise KeyboardInterrupt


def test_mistakes_are_one_line_and_exit_2(tmp_path, fedemb):
    for words, message in (
        ((f"source={tmp_path}",), f"no file {tmp_path}/images_background.zip: get images_background.zip from"),
        ((f"source={tmp_path}/none",), f"no {tmp_path}/none: get images_background.zip from"),
        (("user=alphabet",), "user must be one of character, drawer, got user=alphabet"),
        (("workers=-1",), "workers must be an integer of at least 0, got workers=-1"),
        (("workers=many",), "workers must be"),
        (("colour=red",), "unknown key 'colour'; 'fedemb prepare omniglot --cfg job' lists them all"),
    ):
        code, out, err = fedemb("prepare", "omniglot", f"out={tmp_path}/out", *words)
        assert (code, out) == (2, "")
        assert err.startswith("fedemb: ")
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_place_for_stores_is_a_folder_with_a_name(fedemb, tmp_path, monkeypatch):
    """An empty name is easily passed by a shell variable that is not set, and would be the folder one is in."""
    monkeypatch.chdir(tmp_path)
    for words, message in (
        (("out=",), "out= is empty: pass out=<a folder>"),
        (("out=' '",), "out= is empty"),
        (("out=null",), "out= is empty"),
        (("source=",), "source= is empty: pass source=<a folder>"),
        ((f"out={__file__}",), f"{__file__} is no folder, out={__file__} must be one: pass out="),
    ):
        code, out, err = fedemb("prepare", "omniglot", *words)
        assert (code, out) == (2, "")
        assert err.startswith(f"fedemb: {message}")
        assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["overwrite=no", "allow_partial=no", "overwrite=1"])
def test_a_switch_is_true_or_false(fedemb, tmp_path, word):
    """ "no" is a text, and any text would count as true: a store would be replaced by the word that forbids it."""
    code, _, err = fedemb("prepare", "omniglot", f"out={tmp_path}", word)
    assert code == 2
    assert err.startswith(f"fedemb: {word.split('=')[0]} must be true or false, got {word}")
    assert not list(tmp_path.iterdir())

"""A setting of the wrong type is one line with the key as it was typed; nothing is read or written."""

from collections.abc import Mapping, Sequence
from os import PathLike

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image

from fedemb.cli import prepare
from fedemb.cli.settings import check_settings

WRONG = ("abc", "[1,a]", "1.5")


def callee(
    *,
    number: int = 0,
    share: float | None = None,
    name: str = "",
    flag: bool = False,
    file: str | PathLike[str] | None = None,
    sides: Sequence[int] | None = None,
    shares: Mapping[str, float] | None = None,
    other=None,
):
    """Takes one of each kind."""


def checked(**settings):
    check_settings(OmegaConf.create({"_target_": f"{__name__}.callee", **settings}))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setattr("fedemb.cli.settings.pydoc.locate", lambda target: callee)


@pytest.mark.parametrize(
    "settings",
    [
        {"number": 3, "share": 1, "name": "5", "flag": True, "file": "a", "sides": [1, 2], "shares": {"a": 0.5}},
        {"share": None, "file": None, "sides": None, "shares": {}, "other": [object]},
        {"number": "???", "unknown": 5},
    ],
)
def test_what_the_annotations_admit_passes(settings):
    checked(**{name: value for name, value in settings.items() if name != "other"})
    check_settings(None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"number": 1.5}, "number must be a whole number, got number=1.5"),
        ({"number": True}, "number must be a whole number, got number=true"),
        ({"number": None}, "number must be a whole number, got number=null"),
        ({"share": "x"}, "share must be null or a number, got share=x"),
        ({"share": False}, "share must be null or a number, got share=false"),
        ({"name": 5}, """name must be a text, got name=5; type 'name="5"' to have it as a text"""),
        ({"name": float("nan")}, """name must be a text, got name=nan; type 'name="nan"' to have it as a text"""),
        ({"flag": "no"}, "flag must be true or false, got flag=no"),
        ({"file": [1]}, "file must be null or a text, got file=[1]"),
        ({"sides": 5}, "sides must be null or a list [..., ...] of whole numbers, got sides=5"),
        ({"sides": ["a"]}, 'sides must be null or a list [..., ...] of whole numbers, got sides=["a"]'),
        ({"shares": 0.8}, "shares must be null or a mapping {...: ...} of texts to numbers, got shares=0.8"),
        ({"shares": {"train": "abc"}}, "shares.train must be a number, got shares.train=abc"),
    ],
)
def test_another_type_is_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        checked(**settings)
    assert str(caught.value) == message


def test_the_key_is_the_one_that_is_typed():
    """Of a setting that a group hands on, the key of the top level; of one that another group lends, both."""
    target = {"_target_": f"{__name__}.callee"}
    cfg = OmegaConf.create({"side": 1.5, "prepare": {"images": {**target, "number": "${side}"}}})
    with pytest.raises(ValueError, match=r"^side must be a whole number, got side=1.5$"):
        check_settings(cfg.prepare.images)
    lent = {"users": {"size": 8}, "test_users": {**target, "sides": "${oc.select:users.size,null}"}}
    with pytest.raises(ValueError, match=r"got test_users.sides=8, which is users.size: pass another$"):
        check_settings(OmegaConf.create(lent).test_users)


DATASETS = (
    "att_faces",
    "cifar100",
    "digiface",
    "emnist",
    "gld23k",
    "huggingface",
    "image_folder",
    "inaturalist",
    "table",
)


def own_settings(dataset):
    """The keys of conf/dataset/<dataset>.yaml."""
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        whole = compose(prepare.CONFIG, overrides=[f"dataset={dataset}"])
        bare = compose(prepare.CONFIG, overrides=["dataset=qmnist"])
    return [str(key) for key in whole if key not in bare]


@pytest.mark.parametrize("dataset", DATASETS)
def test_no_setting_of_a_data_set_ends_in_a_traceback(fedemb, tmp_path, monkeypatch, dataset):
    """Each with values of all kinds; the source is an empty folder, so that what is accepted ends in one line too."""
    monkeypatch.undo()
    (tmp_path / "empty").mkdir()
    for key in ("name", *own_settings(dataset)):
        for value in WRONG:
            words = (f"source={tmp_path}/empty", f"out={tmp_path}/out", "workers=0", f"{key}={value}")
            code, out, err = fedemb("prepare", dataset, *words)
            assert (code, out, err.count("\n")) == (2, "", 1), (key, value, err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dataset", "word", "message"),
    [
        ("image_folder", "fractions=0.8", "fractions must be null or a mapping {...: ...} of texts to numbers"),
        ("image_folder", "fractions={train: abc}", "fractions.train must be a number, got fractions.train=abc"),
        ("cifar100", "concentration=5", "concentration must be null or a list [..., ...] of numbers"),
        ("cifar100", "partition_seed=x", "partition_seed must be a whole number, got partition_seed=x"),
        ("image_folder", "name=5", "name must be a text, got name=5; type 'name=\"5\"'"),
        ("image_folder", "name=nan", "name must be a text, got name=nan"),
        (
            "table",
            "columns.user=5",
            "columns.user must be null or a text, got columns.user=5; type 'columns.user=\"5\"'",
        ),
        ("omniglot", "source=5", "source must be a text, got source=5; type 'source=\"5\"'"),
        ("omniglot", "out=[a]", 'out must be a text, got out=["a"]'),
    ],
)
def test_what_a_mistake_is_answered_with(fedemb, monkeypatch, tmp_path, dataset, word, message):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    code, out, err = fedemb("prepare", dataset, word)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"fedemb: {message}")
    assert not list(tmp_path.iterdir())


def test_users_in_training(fedemb, monkeypatch, tmp_path, tiny):
    """The classes of users=synthetic are a number, those of users=folder a list of names."""
    monkeypatch.undo()
    for user in "ab":
        (tmp_path / "albums" / user).mkdir(parents=True)
        Image.new("L", (28, 28)).save(tmp_path / "albums" / user / "0.png")
    words = [word for word in tiny if "test_users" not in word]
    measured = ("test_users=folder", f"test_users.root={tmp_path}/albums", f"run={tmp_path}/run")
    code, _, err = fedemb("train", *words, *measured)
    assert (code, err.count("\n")) == (2, 1)
    assert "test_users.classes must be null or a list [..., ...] of texts or whole numbers, got test_users.cl" in err
    assert "which is users.classes: pass another" in err
    code, _, err = fedemb("train", "users=folder", f"users.root={tmp_path}/albums", "users.channels=x")
    assert (code, err) == (2, "fedemb: users.channels must be a whole number, got users.channels=x\n")

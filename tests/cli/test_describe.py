"""fedemb prepare NAME describe: what is printed, and which pictures may be made."""

from dataclasses import replace

import pytest
from cli_stores import INFO, make_store
from PIL import Image


@pytest.fixture
def describe(tmp_path, fedemb):
    """Store users with labels 0 and 0, 1, 2 as the given splits; describe them."""

    def run(splits=("train",), **change):
        for split in splits:
            users = {"é, one": [0], "two": [0, 1, 2]}
            make_store(tmp_path, replace(INFO, split=split, **change), users, left_out={"images missing": 1234})
        return fedemb("prepare", "omniglot", "describe", f"out={tmp_path}")

    return run


def test_everything_that_is_known_is_told(describe, tmp_path):
    code, out, err = describe()
    assert (code, err) == (0, "")
    for words in (
        "2 users, 4 images, 3 classes",
        "a user is            a writer\n",
        "images per user      min 1, 10 % 1, median 1, 90 % 3, max 3, mean 2.0",
        "classes per user     min 1, 10 % 1, median 1, 90 % 3, max 3, mean 2.0",
        "left out             1,234 images missing",
        "owned by several     no image",
        "toy.zip (sha256 abababababab…)",
        "do as you like",
    ):
        assert words in out
    with Image.open(tmp_path / "train_contact_sheet.png") as sheet:
        assert sheet.height == 2 * 60 + 4


def test_splits_come_in_the_usual_order(describe):
    _, out, _ = describe(["test", "other", "train", "validation"])
    heads = [line.split()[1] for line in out.splitlines() if line.startswith("toy")]
    assert heads == ["train", "validation", "test", "other"]


def test_users_who_are_nobody_are_told(describe):
    _, out, _ = describe(["test"], user="a block of images", trainable=False)
    assert "a user is            a block of images: to measure on, not to train on" in out


def test_images_that_are_not_to_be_shown_are_not_drawn(describe, tmp_path):
    code, out, _ = describe(presentable=False)
    assert code == 0
    assert "none: single images of toy are not to be shown" in out
    assert not list(tmp_path.glob("*.png"))


def test_terms_that_forbid_passing_on_are_said(describe):
    _, out, _ = describe(redistributable=False, notice="Ask the authors.")
    assert "Do not pass this store on.\n                       Ask the authors.\n" in out


def test_nothing_prepared_is_one_line(fedemb, tmp_path):
    code, out, err = fedemb("prepare", "omniglot", "describe", f"out={tmp_path}/none")
    assert (code, out) == (2, "")
    assert err == f"fedemb: no store at {tmp_path}/none: run 'fedemb prepare omniglot' first, or pass its out=\n"


def test_an_unknown_action_is_one_line(fedemb, tmp_path):
    code, _, err = fedemb("prepare", "omniglot", "explain", f"out={tmp_path}")
    assert code == 2
    assert err == "fedemb: action must be one of prepare, describe, export, got action=explain\n"

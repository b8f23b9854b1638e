"""fedemb prepare NAME describe: what is printed, and which pictures may be made."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.record import UserRecord
from fedemb.data.store_writer import write_units

INFO = StoreInfo(
    name="toy",
    split="train",
    image_shape=(1, 2, 2),
    classes=3,
    label="class",
    polarity="ink 255 on 0",
    description="",
    licence="do as you like",
    notice="",
    sources=(Source(file="toy.zip", sha256="ab" * 32),),
    command="fedemb prepare toy",
)


@pytest.fixture
def describe(tmp_path, fedemb):
    """Store users with labels 0 and 0, 1, 2 as the given splits; describe them."""

    def run(splits=("train",), **change):
        for split in splits:
            users = [UserRecord.from_pixels(id="é, one", images=np.zeros((1, 1, 2, 2), np.uint8), labels=np.zeros(1))]
            users.append(UserRecord.from_pixels(id="two", images=np.zeros((3, 1, 2, 2), np.uint8), labels=np.arange(3)))
            write_units(
                tmp_path / split,
                info=replace(INFO, split=split, **change),
                units=lambda first, users=users: [users][first:],
                left_out={"images missing": 1234},
            )
        return fedemb("prepare", "omniglot", "describe", f"out={tmp_path}")

    return run


def test_everything_that_is_known_is_told(describe, tmp_path):
    code, out, err = describe()
    assert (code, err) == (0, "")
    for words in (
        "2 users, 4 images, 3 classes",
        "images per user      min 1, 10 % 1, median 1, 90 % 3, max 3, mean 2.0",
        "classes per user     min 1, 10 % 1, median 1, 90 % 3, max 3, mean 2.0",
        "left out             1,234 images missing",
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


def test_images_that_are_not_to_be_shown_are_not_drawn(describe, tmp_path):
    code, out, _ = describe(presentable=False)
    assert code == 0
    assert "none: single images of toy are not to be shown" in out
    assert not list(tmp_path.glob("*.png"))


def test_nothing_prepared_is_one_line(fedemb, tmp_path):
    code, out, err = fedemb("prepare", "omniglot", "describe", f"out={tmp_path}/none")
    assert (code, out) == (2, "")
    assert err == f"fedemb: no store at {tmp_path}/none: run 'fedemb prepare omniglot' first, or pass its out=\n"


def test_an_unknown_action_is_one_line(fedemb, tmp_path):
    code, _, err = fedemb("prepare", "omniglot", "explain", f"out={tmp_path}")
    assert code == 2
    assert err == "fedemb: action must be one of prepare, describe, export, got action=explain\n"

"""Omniglot's archives to stores: small archives in the published layout, and the real ones."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image
from stores import contents

from fedemb.data.manifest import read_manifest
from fedemb.data.preparation import Request
from fedemb.data.store import StoreUsers
from fedemb.data_prep import omniglot

ALPHABETS = {"images_background": ["Greek/character01", "Greek/character02", "Latin/character01"]}
ALPHABETS["images_evaluation"] = ["ULOG/character07", "Angelic/character01"]
SMALL = (
    omniglot.Published(file="images_background.zip", split="train", characters=3, images=6, turns=(0, 1, 2, 3)),
    omniglot.Published(file="images_evaluation.zip", split="test", characters=2, images=4, turns=(0,)),
)


def drawing(ink, size=(105, 105)):
    """PNG with black ink in the box (left, top, right, bottom) of a white page, one bit a pixel."""
    image = Image.new("1", size, 1)
    image.paste(0, ink)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def published(folder, changes=None):
    """Write both archives. Image d of the i-th character has a block of ink whose left edge is 15 i + 30 d."""
    folder.mkdir()
    for archive, characters in ALPHABETS.items():
        members = {
            f"{archive}/{character}/{number:04d}_{drawer + 1:02d}.png": drawing(
                (15 * number + 30 * drawer, 0, 15 * number + 30 * drawer + 15, 30)
            )
            for number, character in enumerate(characters)
            for drawer in range(2)
        }
        with zipfile.ZipFile(folder / f"{archive}.zip", "w") as opened:
            for name, content in {**members, **(changes or {})}.items():
                if content is not None and name.startswith(archive):
                    opened.writestr(name, content)
    return folder


@pytest.fixture
def prepare(monkeypatch):
    """Prepares archives as small as those above."""
    monkeypatch.setattr(omniglot, "PUBLISHED", SMALL)

    def call(source, out, *, user="character", **options):
        return omniglot.prepare(Request(source=source, out=out, **options), user=user)

    return call


FIRST = "images_background/Greek/character01/0000_01.png"


def test_characters_are_users_in_four_orientations(tmp_path, prepare):
    prepare(published(tmp_path / "zips"), tmp_path / "omniglot")
    users = StoreUsers(path=tmp_path / "omniglot")
    assert (users.num_users, users.num_examples_total) == (12, 24)
    assert [users.user_id(user) for user in (0, 3, 4, 11)] == [
        "Greek/character01/turn000",
        "Greek/character01/turn270",
        "Greek/character02/turn000",
        "Latin/character01/turn270",
    ]
    assert users.load(range(12))["label"].tolist() == [user for user in range(12) for _ in range(2)]
    assert users.manifest.info.classes == 12
    test_users = StoreUsers(path=tmp_path / "omniglot", split="test")
    assert [test_users.user_id(user) for user in range(2)] == ["Angelic/character01", "ULOG/character07"]
    assert [test_users.class_name(label) for label in range(2)] == [
        "Angelic/character01",
        "ULOG/character07",
    ]
    assert test_users.load([0, 1])["label"].tolist() == [0, 0, 1, 1]


def test_ink_is_white_on_black_at_28_pixels_upright(tmp_path, prepare):
    """A block of 15 x 30 of 105 pixels in the top left corner covers 4 columns and 8 rows of 28 x 28."""
    prepare(published(tmp_path / "zips"), tmp_path / "omniglot")
    images = StoreUsers(path=tmp_path / "omniglot").load(range(4))["image"].numpy().astype(int)
    assert images.shape == (8, 1, 28, 28)
    upright = images[0, 0]
    assert upright[:7, :3].min() == 255  # one pixel in from the blurred edge
    assert upright[9:].max() == upright[:, 5:].max() == 0
    assert upright.sum() / 255 == pytest.approx(4 * 8, rel=0.03)
    for turn in range(1, 4):  # NumPy turns counter-clockwise as well
        assert np.abs(np.rot90(upright, turn) - images[2 * turn, 0]).max() <= 2
    assert images[1, 0, :7, 9:11].min() == 255  # the second drawer's block starts at 30 pixels: column 8


def test_the_manifest_says_where_the_data_come_from(tmp_path, prepare):
    prepare(published(tmp_path / "zips"), tmp_path / "omniglot")
    info = read_manifest(tmp_path / "omniglot" / "train").info
    assert info.user == "a character turned by 0, 90, 180 or 270 degrees"
    assert read_manifest(tmp_path / "omniglot" / "test").info.user == "a character"
    assert info.licence == "MIT, © 2015 Brenden Lake"
    assert "The MIT License" in info.notice
    assert info.command == "fedemb prepare omniglot"
    assert info.polarity == "ink 255 on 0"
    assert [(source.file, len(source.sha256)) for source in info.sources] == [("images_background.zip", 64)]


def test_a_drawer_is_a_user_of_one_image_a_character(tmp_path, prepare):
    """Two drawers of each alphabet; labels are characters, in sorted order; nothing is turned."""
    prepare(published(tmp_path / "zips"), tmp_path / "omniglot", user="drawer")
    users = StoreUsers(path=tmp_path / "omniglot")
    assert [users.user_id(user) for user in range(users.num_users)] == [
        "Greek/drawer01",
        "Greek/drawer02",
        "Latin/drawer01",
        "Latin/drawer02",
    ]
    assert [users.labels(user).tolist() for user in range(4)] == [[0, 1], [0, 1], [2], [2]]
    assert [users.class_name(label) for label in range(3)] == ALPHABETS["images_background"]
    assert (users.manifest.info.name, users.manifest.info.label) == ("omniglot_drawers", "class")
    assert users.manifest.info.command == "fedemb prepare omniglot_drawers"
    assert users.manifest.info.user == "a drawer of one alphabet"
    # the block of ink of character i and drawer d starts at 15 i + 30 d of 105 pixels: column 4 i + 8 d of 28
    columns = [image[0, 3].numpy().argmax() for user in range(4) for image in users.load([user])["image"]]
    assert [round(float(column) / 4) for column in columns] == [0, 1, 2, 3, 2, 4]
    test_users = StoreUsers(path=tmp_path / "omniglot", split="test")
    assert [test_users.user_id(user) for user in range(4)] == [
        f"{alphabet}/drawer0{drawer}" for alphabet in ("Angelic", "ULOG") for drawer in (1, 2)
    ]


def test_other_users_are_refused(tmp_path, prepare):
    with pytest.raises(ValueError, match="user must be one of character, drawer, got user=alphabet"):
        prepare(tmp_path, tmp_path / "omniglot", user="alphabet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({FIRST: b"not a picture"}, r"background.zip: .*0000_01.png: cannot be read as an image"),
        ({FIRST: drawing((0, 0, 9, 9))[:-30]}, r"background.zip: .*0000_01.png: cannot be read as an image"),
        (
            {FIRST: drawing((0, 0, 9, 9), size=(64, 105))},
            r"0000_01.png has 64 x 105 pixels, not 105 x 105: get images_",
        ),
        ({FIRST: None}, r"background.zip holds 3 characters, 5 images, published are 3 characters, 6 images: get"),
        (
            {"images_evaluation/New/character01/0001_01.png": b""},
            r"holds 3 characters, 5 images, published are 2 characters, 4 images: this is another data set",
        ),
        ({"images_background/../../a.txt": b"x"}, r"background.zip holds .* a name that leaves the archive"),
    ],
    ids=["no picture", "truncated picture", "other size", "missing image", "added character", "name outside"],
)
def test_a_damaged_archive_is_refused_in_one_line_and_leaves_no_store(tmp_path, prepare, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(published(tmp_path / "zips", changes), tmp_path / "omniglot")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "omniglot").rglob("*.sqlite*")) + list((tmp_path / "omniglot").rglob("manifest*"))


def test_fewer_images_are_taken_when_that_is_allowed(tmp_path, prepare):
    prepare(published(tmp_path / "zips", {FIRST: None}), tmp_path / "omniglot", allow_partial=True)
    users = StoreUsers(path=tmp_path / "omniglot")
    assert (users.num_users, users.num_examples_total) == (12, 20)
    assert users.manifest.left_out == {"images missing": 1}
    assert StoreUsers(path=tmp_path / "omniglot", split="test").manifest.left_out == {}


def test_other_members_are_no_images(tmp_path, prepare):
    changes = {"images_background/Greek/": b"", "images_background/.DS_Store": b"x", "images_background/a.txt": b"x"}
    prepare(published(tmp_path / "zips", changes), tmp_path / "omniglot")
    assert StoreUsers(path=tmp_path / "omniglot").num_users == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["omniglot", "zips"]


def test_a_byte_that_was_changed_in_the_archive_is_noticed(tmp_path, prepare):
    """Each member has a CRC: its content is checked even where the picture still decodes."""
    zips = published(tmp_path / "zips")
    content = bytearray((zips / "images_background.zip").read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1
    (zips / "images_background.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*0000_01.png in .*background.zip \(Bad CRC"):
        prepare(zips, tmp_path / "omniglot")


def test_a_missing_or_cut_off_archive_says_what_and_where_to_get_it(tmp_path, prepare):
    zips = published(tmp_path / "zips")
    os.truncate(zips / "images_evaluation.zip", 500)
    with pytest.raises(ValueError, match=r"cannot read .*images_evaluation.zip .*get the file again"):
        prepare(zips, tmp_path / "omniglot")
    (zips / "images_evaluation.zip").unlink()
    with pytest.raises(
        ValueError, match=r"no file .*zips/images_evaluation.zip: get images_evaluation.zip from https://"
    ):
        prepare(zips, tmp_path / "omniglot")
    assert not (tmp_path / "omniglot").exists()


def test_preparing_again_keeps_the_same_and_refuses_other_archives(tmp_path, prepare):
    zips, out = published(tmp_path / "zips"), tmp_path / "omniglot"
    assert prepare(zips, out).written
    assert not prepare(zips, out).written
    other = published(tmp_path / "other", {FIRST: drawing((50, 50, 60, 60))})
    with pytest.raises(ValueError, match=r"train holds another store \(other sources\): pass overwrite=true"):
        prepare(other, out)
    before = StoreUsers(path=out).checksum
    assert prepare(other, out, overwrite=True).written
    assert StoreUsers(path=out).checksum != before


def test_workers_change_nothing(tmp_path, prepare):
    """Processes read the same records in the same order: one worker, three, or none."""
    zips = published(tmp_path / "zips")
    for workers in (0, 1, 3):
        prepare(zips, tmp_path / str(workers), workers=workers)
    for split in ("train", "test"):
        assert len({tuple(sorted(contents(tmp_path / str(n) / split).items())) for n in (0, 1, 3)}) == 1


def test_the_archives_that_come_with_fedemb(omniglot_store):
    """964 x 4 users of 20 images and 659 of 20; the same drawings as in the archive."""
    users, test_users = (StoreUsers(path=omniglot_store, split=split) for split in ("train", "test"))
    counts = [(split.num_users, split.num_examples_total) for split in (users, test_users)]
    assert counts == [(3856, 77_120), (659, 13_180)]
    assert [users.num_examples(user) for user in (0, 1234, 3855)] == [20, 20, 20]
    assert users.user_id(3855) == "Tifinagh/character55/turn270"
    assert test_users.user_id(0) == "Angelic/character01"
    with zipfile.ZipFile(omniglot.SAMPLE / "images_evaluation.zip") as opened:
        page = np.asarray(Image.open(io.BytesIO(opened.read("images_evaluation/Angelic/character01/0965_03.png"))))
    blocks = np.where(page, 0.0, 255.0).reshape(7, 15, 7, 15).mean((1, 3))  # 15 x 15 of 105 = 4 x 4 of 28
    stored = test_users.load([0])["image"][2, 0].numpy().astype(float).reshape(7, 4, 7, 4).mean((1, 3))
    assert np.corrcoef(blocks.flat, stored.flat)[0, 1] > 0.95
    assert stored.mean() == pytest.approx(blocks.mean(), rel=0.02)


def test_the_drawers_that_come_with_fedemb(tmp_path, monkeypatch):
    """30 and 20 alphabets by 20 drawers each, as they are planned; decoding them takes as long as above."""
    monkeypatch.setattr(omniglot, "prepare_splits", lambda request, splits: splits)
    splits = omniglot.prepare(Request(source=None, out=tmp_path), user="drawer")
    counts = [[len(unit.images) for unit in split.units] for split in splits]
    assert [(split.users, len(images), sum(images)) for split, images in zip(splits, counts, strict=True)] == [
        (600, 600, 19_280),
        (400, 400, 13_180),
    ]
    assert (min(counts[0]), max(counts[0])) == (14, 55)
    assert [split.info.classes for split in splits] == [964, 659]

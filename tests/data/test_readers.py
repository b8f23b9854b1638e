"""Users' members of an archive to records: pixels or the files' own bytes, in order; messages name the file."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from fedemb.data.formats.archive import open_archive
from fedemb.data.pictures import Picture
from fedemb.data.readers import ReadOriginals, ReadPixels, UserMembers, numbered, where

PAGES = {f"u/{number}.png": np.full((4, 6), 10 * number, np.uint8) for number in range(4)}


@pytest.fixture
def archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as opened:
        for name, page in PAGES.items():
            file = io.BytesIO()
            Image.fromarray(page).save(file, "PNG")
            opened.writestr(name, file.getvalue())
        opened.writestr("u/bad.png", b"no image")
    with open_archive(tmp_path / "set.zip", scratch=tmp_path) as opened:
        yield opened


USER = UserMembers(id="ü", images=[("u/3.png", 7), ("u/1.png", 0)])


def test_pixels_come_in_the_order_asked_for(archive):
    (record,) = pickle.loads(pickle.dumps(ReadPixels(archive=archive, picture=Picture(channels=1, size=(2, 3)))))(USER)
    assert record.id == "ü"
    assert record.images == [bytes([30] * 6), bytes([10] * 6)]
    assert (record.labels.tolist(), record.labels.dtype) == ([7, 0], np.int64)


def test_originals_are_the_members_themselves(archive):
    read = ReadOriginals(archive=archive, picture=Picture(channels=3, short_side=4))
    (record,) = pickle.loads(pickle.dumps(read))(USER)
    assert list(record.images) == [archive.read("u/3.png"), archive.read("u/1.png")]
    assert read.size(USER) == sum(map(len, record.images))
    (smaller,) = ReadOriginals(archive=archive, picture=Picture(channels=3, short_side=2))(USER)
    assert Image.open(io.BytesIO(smaller.images[0])).size == (3, 2)


def test_a_user_without_images(archive):
    nobody = UserMembers(id="a", images=[])
    for read in (ReadPixels, ReadOriginals):
        (record,) = read(archive=archive, picture=Picture(channels=1))(nobody)
        assert (list(record.images), record.labels.tolist(), record.labels.dtype) == ([], [], np.int64)


@pytest.mark.parametrize("read", [ReadPixels, ReadOriginals])
def test_a_bad_member_is_named(archive, read):
    for name, what in (("u/bad.png", "cannot be read as an image"), ("u/9.png", "cannot read u/9.png in")):
        with pytest.raises(ValueError, match=what) as caught:
            read(archive=archive, picture=Picture(channels=1))(UserMembers(id="a", images=[("u/1.png", 0), (name, 0)]))
        assert str(archive.path) in str(caught.value)
        assert name in str(caught.value)


def test_labels_and_places(archive, tmp_path):
    assert numbered(["b", "a", "b", "C"]) == {"C": 0, "a": 1, "b": 2}
    assert where(archive, "u/1.png") == f"{tmp_path}/set.zip: u/1.png"

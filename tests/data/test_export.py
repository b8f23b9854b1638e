"""Stores as Parquet and Arrow files, read back with pyarrow and Pillow alone."""

import io
import json
import os

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from fedemb.data import export
from fedemb.data.export import export_store
from fedemb.data.manifest import StoreInfo
from fedemb.data.record import UserRecord
from fedemb.data.store_writer import write_units

NAMES = ("zoë, 2", "nobody", "bob")
COUNTS = (3, 0, 2)


def pixels(channels):
    """Per user [n, Ch, 3, 2], all different."""
    stream = np.random.default_rng(5)
    return [stream.integers(256, size=(n, channels, 3, 2), dtype=np.uint8) for n in COUNTS]


def info(**changes):
    fields = {
        "name": "mine", "split": "train", "user": "a zoo", "image_shape": (3, 3, 2), "classes": 3, "label": "class",
        "polarity": "RGB", "description": "random", "licence": "for research only", "notice": "Ask the authors.",
        "redistributable": False, "sources": (), "command": "fedemb prepare mine",
    }  # fmt: skip
    return StoreInfo(**{**fields, **changes})


def store(tmp_path, channels=3, class_names=("cat", "dog", "emu"), **changes):
    """Labels of user 0 are 0, 1, 2, of user 2 are 1, 2."""
    records = [
        [UserRecord.from_pixels(id=name, images=own, labels=np.arange(3 - len(own), 3))]
        for name, own in zip(NAMES, pixels(channels), strict=True)
    ]
    described = info(image_shape=(channels, 3, 2), **changes)
    write_units(
        tmp_path / "mine" / "train", info=described, units=lambda first: records[first:], class_names=class_names
    )
    return tmp_path / "mine"


def rows(file):
    if file.suffix == ".parquet":
        return pyarrow.parquet.read_table(file).to_pylist()
    with pyarrow.OSFile(str(file)) as opened:
        return pyarrow.ipc.open_file(opened).read_all().to_pylist()


def decoded(row):
    image = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out.feather"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_a_row_and_loses_nothing(tmp_path, name, channels):
    exported = export_store(store(tmp_path, channels), "train", tmp_path / name)
    found = rows(tmp_path / name)
    assert [(row["user"], row["label"], row["class_name"]) for row in found] == [
        ("zoë, 2", 0, "cat"), ("zoë, 2", 1, "dog"), ("zoë, 2", 2, "emu"), ("bob", 1, "dog"), ("bob", 2, "emu")
    ]  # fmt: skip
    for row, wanted in zip(found, np.concatenate(pixels(channels)), strict=True):
        assert np.array_equal(decoded(row), wanted)
    assert len({row["image"]["path"] for row in found}) == 5
    assert all(row["image"]["path"].endswith(".png") for row in found)
    assert (exported.users, exported.images, exported.users_without_images) == (2, 5, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["mine", name])


def test_files_that_a_store_keeps_are_exported_as_they_are(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (5, 7), (200, 10, 10)).save(file, "JPEG")
    record = UserRecord(id="a", images=[file.getvalue()] * 2, labels=np.zeros(2, np.int64))
    described = info(image_shape=(3, None, None), codec="jpeg", classes=1, label="identity")
    write_units(tmp_path / "mine" / "train", info=described, units=lambda first: [[record]][first:])
    export_store(tmp_path / "mine", "train", tmp_path / "out.parquet")
    first, second = rows(tmp_path / "out.parquet")
    assert first["image"] == {"bytes": file.getvalue(), "path": "00000000-00000.jpg"}
    assert second["image"]["path"] == "00000000-00001.jpg"
    assert first["class_name"] is None


def metadata(file):
    found = pyarrow.parquet.read_schema(file).metadata
    return {name: json.loads(found[name.encode()]) for name in ("fedemb", "huggingface")}


def test_terms_and_kinds_of_columns_are_in_the_file(tmp_path):
    exported = export_store(store(tmp_path), "train", tmp_path / "out.parquet")
    told = metadata(tmp_path / "out.parquet")
    assert (told["fedemb"]["licence"], told["fedemb"]["notice"]) == ("for research only", "Ask the authors.")
    assert told["fedemb"]["user"] == "a zoo"
    assert told["fedemb"]["redistributable"] is False
    assert (told["fedemb"]["name"], told["fedemb"]["users"]) == ("mine", 3)
    assert told["huggingface"]["info"]["features"]["label"] == {"names": ["cat", "dog", "emu"], "_type": "ClassLabel"}
    assert told["huggingface"]["info"]["features"]["image"] == {"_type": "Image"}
    assert (exported.licence, exported.notice, exported.redistributable) == (
        "for research only", "Ask the authors.", False
    )  # fmt: skip


def test_identities_are_plain_numbers(tmp_path):
    """A class list of a million users would not fit into metadata."""
    export_store(store(tmp_path, label="identity"), "train", tmp_path / "out.parquet")
    features = metadata(tmp_path / "out.parquet")["huggingface"]["info"]["features"]
    assert features["label"] == {"dtype": "int64", "_type": "Value"}


def test_row_groups_are_bounded(tmp_path):
    """A group ends with the image that reaches group_bytes, also within a user."""
    export_store(store(tmp_path), "train", tmp_path / "one.parquet")
    export_store(store(tmp_path), "train", tmp_path / "many.parquet", group_bytes=1)
    groups = [pyarrow.parquet.ParquetFile(tmp_path / f"{name}.parquet").num_row_groups for name in ("one", "many")]
    assert groups == [1, 5]
    assert rows(tmp_path / "one.parquet") == rows(tmp_path / "many.parquet")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = store(tmp_path)
    (tmp_path / "out.parquet").write_bytes(b"old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(export.os, "replace", full)
        with pytest.raises(ValueError, match=r"cannot write .*out.parquet .*No space left"):
            export_store(path, "train", tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["mine", "out.parquet"]
    export_store(path, "train", tmp_path / "out.parquet")
    assert len(rows(tmp_path / "out.parquet")) == 5


def test_mistakes_are_one_line(tmp_path):
    path = store(tmp_path)
    with pytest.raises(ValueError, match=r"cannot tell the format of .*out.csv: name it NAME.parquet"):
        export_store(path, "train", tmp_path / "out.csv")
    with pytest.raises(ValueError, match=r"no split test, there is train"):
        export_store(path, "test", tmp_path / "out.parquet")
    with pytest.raises(ValueError, match=r"no store at .*none"):
        export_store(tmp_path / "none", "train", tmp_path / "out.parquet")
    described = info(image_shape=(2, 3, 2))
    record = UserRecord.from_pixels(id="a", images=np.zeros((1, 2, 3, 2), np.uint8), labels=np.zeros(1, np.int64))
    write_units(tmp_path / "two" / "train", info=described, units=lambda first: [[record]][first:])
    with pytest.raises(ValueError, match=r"cannot export .*two/train: images of 2 channels"):
        export_store(tmp_path / "two", "train", tmp_path / "out.parquet")

"""Hugging Face data sets on disk: a real sample, and files in every other form made here with pyarrow."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fedemb.data.export import export_store
from fedemb.data.formats import arrow
from fedemb.data.formats.arrow_images import Columns
from fedemb.data.image_list import SplitRule
from fedemb.data.own_images import OwnImages
from fedemb.data.pictures import encoded, from_pixels
from fedemb.data.preparation import Request
from fedemb.data.store import StoreUsers
from fedemb.data_prep import huggingface

SAMPLE = Path(__file__).parent / "samples" / "huggingface"
WRITERS = Columns(image="image", user="writer_id", label="character")
OWN = Columns(image="image", user="user", label="label")


def prepare(source, out, *, columns=OWN, rule=None, workers=0, **images):
    return huggingface.prepare(
        Request(source=source, out=out, workers=workers),
        images=OwnImages(name="mine", **images),
        rule=rule or SplitRule(),
        columns=columns,
    )


def grey(split, row):
    """[1, 6, 5]: as README.md of the sample has it."""
    x, y = np.arange(5)[None, :], np.arange(6)[:, None]
    return ((37 * row + 5 * x + 11 * y + 100 * (split == "test")) % 256).astype(np.uint8)[None]


def contents(out, split="train", size=(6, 5)):
    """user -> [(label, pixels), …]."""
    users = StoreUsers(path=out, split=split, size=size)
    batches = [users.load([user]) for user in range(users.num_users)]
    return {
        users.user_id(user): [
            (label, image.tobytes()) for label, image in zip(b["label"].tolist(), b["image"].numpy(), strict=True)
        ]
        for user, b in enumerate(batches)
    }


def test_a_folder_of_save_to_disk(tmp_path):
    """Rows of a user lie in both files; ClassLabel keeps its numbers and names."""
    prepare(SAMPLE, tmp_path / "out", columns=WRITERS, channels=1)
    assert contents(tmp_path / "out") == {
        user: [(2 * row % 3, grey("train", row).tobytes()) for row in rows]
        for user, rows in {"w b": (0, 3, 6), "w,a": (1, 4, 7), "zoë": (2, 5)}.items()
    }
    assert contents(tmp_path / "out", "test") == {
        "t1": [(2 * row % 3, grey("test", row).tobytes()) for row in range(3)]
    }
    users = StoreUsers(path=tmp_path / "out", size=(6, 5))
    assert [users.class_name(label) for label in range(3)] == ["zero", "one", "two"]
    info = users.manifest.info
    assert (info.label, info.classes, info.codec, info.image_shape) == ("class", 3, "mixed", (1, None, None))
    assert (info.licence, info.redistributable, info.polarity) == ("not stated", False, "grey")
    assert "/" not in info.command
    assert info.user == f'one value of the column "{WRITERS.user}"'
    assert len(info.sources) == 4


def test_one_split_of_it_and_the_user_as_label(tmp_path):
    prepare(
        SAMPLE / "train", tmp_path / "out", columns=Columns(image="image", user="character", label=None), channels=1
    )
    assert {user: {label for label, _ in own} for user, own in contents(tmp_path / "out").items()} == {
        "one": {0}, "two": {1}, "zero": {2}
    }  # fmt: skip


def table(**changes):
    """Users of 3, 2 and 1 images, scattered; a label of two digits."""
    images = [encoded(from_pixels(np.full((3, 2, 2), 40 * row, np.uint8)), "png") for row in range(6)]
    columns = {
        "image": [{"bytes": image, "path": None} for image in images],
        "user": ["c", "a", "c", "b", "a", "c"],
        "label": [10, 9, 9, 2, 10, 10],
    }
    return pyarrow.table({**columns, **changes})


EXPECTED = {"a": [(1, 40), (2, 160)], "b": [(0, 120)], "c": [(2, 0), (1, 80), (2, 200)]}  # 2 < 9 < 10


def shades(out, split="train"):
    return {
        user: [(label, pixels[0]) for label, pixels in own] for user, own in contents(out, split, size=(2, 2)).items()
    }


def write(rows, file, **options):
    """By its suffix; .stream.arrow is an IPC stream. Two record batches or row groups."""
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(rows, file, row_group_size=4, **options)
        return file
    new = pyarrow.ipc.new_stream if ".stream" in file.name else pyarrow.ipc.new_file
    with new(str(file), rows.schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(rows, max_chunksize=4)
    return file


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.parquet", {}),
        ("a.arrow", {}),
        ("a.stream.arrow", {}),
        ("a.feather", {"compression": "zstd"}),
        ("a.stream.arrow", {"compression": "lz4"}),
    ],
)
def test_files_of_every_kind_give_the_same(tmp_path, name, options):
    prepare(write(table(), tmp_path / name, **options), tmp_path / "out")
    assert shades(tmp_path / "out") == EXPECTED
    assert not list((tmp_path / "out").glob(".*"))  # no temporary file stays


def test_images_as_plain_bytes_and_whole_numbers_as_users(tmp_path):
    plain = pyarrow.array([row["bytes"] for row in table()["image"].to_pylist()], pyarrow.large_binary())
    rows = table(image=plain, user=[3, 1, 3, 2, 1, 3])
    prepare(write(rows, tmp_path / "a.parquet"), tmp_path / "out")
    assert list(shades(tmp_path / "out").values()) == list(EXPECTED.values())


def test_parquet_files_as_on_the_hub(tmp_path):
    """data/train-00000-of-00002.parquet, …: splits by name."""
    (tmp_path / "hub" / "data").mkdir(parents=True)
    rows = table()
    write(rows.slice(0, 3), tmp_path / "hub" / "data" / "train-00000-of-00002.parquet")
    write(rows.slice(4, 2), tmp_path / "hub" / "data" / "train-00001-of-00002.parquet")
    write(rows.slice(3, 1), tmp_path / "hub" / "data" / "val-00000-of-00001.parquet")
    prepare(tmp_path / "hub", tmp_path / "out")
    assert shades(tmp_path / "out") == {user: EXPECTED[user] for user in ("a", "c")}
    assert shades(tmp_path / "out", "validation") == {"b": EXPECTED["b"]}


def test_a_rule_divides_users_anew(tmp_path):
    (tmp_path / "splits.txt").write_text("test w b\ntrain zoë\ntrain t1\n")
    rule = SplitRule(split_file=tmp_path / "splits.txt")
    prepared = prepare(SAMPLE, tmp_path / "out", columns=WRITERS, rule=rule)
    assert set(contents(tmp_path / "out")) == {"t1", "zoë"}
    assert set(contents(tmp_path / "out", "test")) == {"w b"}
    assert [manifest.left_out for manifest in prepared.manifests] == [{"users in no split": 1}] * 2


def test_a_user_in_two_splits_is_refused(tmp_path):
    (tmp_path / "hub").mkdir()
    write(table(), tmp_path / "hub" / "train.parquet")
    write(table(), tmp_path / "hub" / "test.parquet")
    with pytest.raises(ValueError, match=r"user '.' is in test and in train, .*fractions=\{train: 0.8, test: 0.2\}"):
        prepare(tmp_path / "hub", tmp_path / "out")


def test_workers_give_the_same_bytes(tmp_path):
    for workers in (0, 2):
        prepare(SAMPLE, tmp_path / f"{workers}", columns=WRITERS, channels=1, workers=workers)
    files = [path.relative_to(tmp_path / "0") for path in (tmp_path / "0").rglob("*.*") if path.is_file()]
    assert len(files) >= 4
    for file in files:
        assert (tmp_path / "0" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_what_was_exported_is_prepared_to_the_same_users(tmp_path):
    """Export keeps the files' bytes, the class names and their order: the stores hold the same records."""
    prepare(SAMPLE, tmp_path / "first", columns=WRITERS, channels=1)
    for name in ("a.parquet", "a.arrow"):
        export_store(tmp_path / "first", "train", tmp_path / name)
        prepare(tmp_path / name, tmp_path / f"again {name}", channels=1)
        first, again = (StoreUsers(path=path, size=(6, 5)) for path in (tmp_path / "first", tmp_path / f"again {name}"))
        assert again.checksum == first.checksum
        assert [again.class_name(label) for label in range(3)] == ["zero", "one", "two"]


def refused(call, *words):
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": ["c", "a", None, "b", "a", "c"]}, ["a.parquet, row 2: user is None"]),
        ({"label": [1, 2, 3, 4, None, 5]}, ["row 4: label is None"]),
        ({"label": [[1]] * 6}, ["row 0: label is [1]"]),
        ({"user": [1.5] * 6}, ["row 0: user is 1.5"]),
        ({"image": [None] * 6}, ["column 'image' holds null"]),
        ({"image": [{"bytes": None, "path": "a.png"}] * 6}, ["column 'image' holds struct<bytes: null"]),
        ({"image": ["a.png"] * 6}, ["column 'image' holds string and not images"]),
        ({"image": [{"bytes": b"<html>", "path": None}] * 6}, ["a.parquet:000000001", "cannot be read as an image"]),
        ({"image": [{"bytes": b"\x80\x04.", "path": None}] * 6}, ["a pickle, which is never opened"]),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, changes, words):
    file = write(table(**changes), tmp_path / "a.parquet")
    refused(lambda: prepare(file, tmp_path / "out"), *words)


def test_an_image_that_is_a_path_alone(tmp_path):
    images = table()["image"].to_pylist()
    images[4] = {"bytes": None, "path": "a.png"}
    file = write(table(image=images), tmp_path / "a.parquet")
    refused(lambda: prepare(file, tmp_path / "out"), "a.parquet, row 4: no image's bytes", "save it with its images")
    images[4] = None
    file = write(table(image=images), tmp_path / "a.parquet")
    refused(lambda: prepare(file, tmp_path / "out"), "row 4: no image's bytes")


def test_sources_that_cannot_be_used(tmp_path):
    file = write(table(), tmp_path / "a.parquet")
    columns = Columns(image="image", user="writer", label=None)
    refused(
        lambda: prepare(file, tmp_path / "out", columns=columns),
        "a.parquet has no column 'writer'", "it has image, user, label", "user_column=",
    )  # fmt: skip
    (tmp_path / "b.parquet").write_bytes(file.read_bytes()[:-9])
    refused(lambda: prepare(tmp_path / "b.parquet", tmp_path / "out"), "cannot read", "b.parquet", "download it again")
    (tmp_path / "empty").mkdir()
    refused(lambda: prepare(tmp_path / "empty", tmp_path / "out"), "empty holds no dataset_dict.json", "save_to_disk")
    refused(lambda: prepare(tmp_path / "none", tmp_path / "out"), "no ", "none", "source=")
    assert not (tmp_path / "out").exists()


def test_a_damaged_folder(tmp_path):
    folder = Path(shutil.copytree(SAMPLE, tmp_path / "copy"))
    shard = folder / "train" / "data-00001-of-00002.arrow"
    content = shard.read_bytes()
    shard.write_bytes(content[:900])
    refused(lambda: prepare(folder, tmp_path / "out", columns=WRITERS), "cannot read", shard.name)
    shard.unlink()
    refused(lambda: prepare(folder, tmp_path / "out", columns=WRITERS), f"has no {shard.name}", "state.json lists")
    (folder / "train" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../a.arrow"}]}))
    refused(lambda: prepare(folder, tmp_path / "out", columns=WRITERS), "'../../a.arrow'", "leaves")
    (folder / "train" / "state.json").write_text("{")
    refused(lambda: prepare(folder, tmp_path / "out", columns=WRITERS), "cannot read _data_files in", "state.json")
    (folder / "dataset_dict.json").write_text('{"splits": ["../.."]}')
    refused(lambda: prepare(folder, tmp_path / "out", columns=WRITERS), "leaves")


def test_without_pyarrow_the_remedy_is_told(tmp_path, monkeypatch):
    def gone(name):
        raise ImportError(name)

    monkeypatch.setattr(arrow, "import_module", gone)
    refused(lambda: prepare(SAMPLE, tmp_path / "out", columns=WRITERS), "pip install 'fedemb[parquet]'")


def test_the_command(fedemb, tmp_path):
    code, out, err = fedemb(
        "prepare", "huggingface", f"source={SAMPLE}", f"out={tmp_path}/out", "name=letters", "workers=0",
        "user_column=writer_id", "label_column=character", "channels=1", "licence=CC0",
    )  # fmt: skip
    assert code == 0, err
    assert "train: 3 users, 8 images" in out
    info = StoreUsers(path=tmp_path / "out", size=(6, 5)).manifest.info
    assert (info.name, info.licence, info.redistributable) == ("letters", "CC0", True)
    assert info.command.startswith(
        "fedemb prepare huggingface source=<folder> image_column=image user_column=writer_id"
    )

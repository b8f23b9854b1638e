"""MNIST by QMNIST's writers: small idx files made here, and the published ones where they are at hand."""

import gzip
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from fedemb.data.preparation import Request
from fedemb.data.store import StoreUsers
from fedemb.data_prep import qmnist

# one row an image: (writer, digit); QMNIST's test labels have two rows more than MNIST has images
TRAIN = [(540, 3), (7, 0), (540, 9), (7, 0), (12, 5)]
TEST = [(2100, 1), (900, 2), (2100, 1)]
LATER = [(7, 4), (2599, 6)]
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "qmnist-train-labels-idx2-int"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "qmnist-test-labels-idx2-int"),
}
MISSING = {"train": {"writers missing": 536, "images missing": 59_995}}
MISSING["test"] = {"writers missing": 295, "images missing": 9_997}


def idx(values, code):
    """The bytes of an IDX file; code: 0x08 for uint8, 0x0C for int32."""
    header = bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype({0x08: ">u1", 0x0C: ">i4"}[code]).tobytes()


def pixels(split, row):
    """[28, 28]: every pixel depends on its place, the part and the row."""
    rows, columns = np.mgrid[:28, :28]
    return (9 * rows + 5 * columns + 50 * row + (split == "test")) % 256


def published(folder, change=None, *, train=TRAIN, test=TEST, later=LATER, packed=True):
    """The six files. change: name -> other content, None for no such file."""
    folder.mkdir()
    for split, known, more in (("train", train, []), ("test", test, later)):
        table = [(digit, 1, writer, 0, 48 + digit, 0, 0, 0) for writer, digit in [*known, *more]]
        contents = (
            idx(np.array([pixels(split, row) for row in range(len(known))]), 0x08),
            idx(np.array([digit for _, digit in known]), 0x08),
            idx(np.array(table), 0x0C),
        )
        for name, content in zip(FILES[split], contents, strict=True):
            content = (change or {}).get(name, content)
            if content is not None:
                (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def prepare(source, out, *, allow_partial=True, workers=0):
    return qmnist.prepare(Request(source=source, out=out, allow_partial=allow_partial, workers=workers))


@pytest.mark.parametrize("packed", [True, False])
def test_a_writer_is_a_user_with_all_its_images_in_order(tmp_path, packed):
    train, test = prepare(published(tmp_path / "source", packed=packed), tmp_path / "out").manifests
    expected = {
        "train": {"writer0007": [1, 3], "writer0012": [4], "writer0540": [0, 2]},
        "test": {"writer0900": [1], "writer2100": [0, 2]},
    }
    for split, known in (("train", TRAIN), ("test", TEST)):
        users = StoreUsers(path=tmp_path / "out", split=split)
        assert [users.user_id(user) for user in range(users.num_users)] == list(expected[split])
        for user, rows in enumerate(expected[split].values()):
            batch = users.load([user])
            assert batch["label"].tolist() == [known[row][1] for row in rows]
            assert np.array_equal(batch["image"].numpy()[:, 0], [pixels(split, row) for row in rows])
    assert train.left_out == MISSING["train"]
    assert test.left_out == {**MISSING["test"], "rows of QMNIST's labels without an image": 2}
    assert (train.info.classes, train.info.label, train.info.polarity) == (10, "class", "ink 255 on 0")
    assert len(train.info.sources) == 3
    assert train.info.user == "a writer"


def test_a_writer_of_both_parts_is_refused(tmp_path):
    source = published(tmp_path / "source", test=[*TEST, (12, 5)])
    with pytest.raises(ValueError, match=r"source: writer 12 is in train and in test, a user belongs to one split"):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_published_counts_are_asked_for(tmp_path):
    message = r"holds 3 writers, 5 images, published are 539 writers, 60000 images: get the rest, or pass allow_partial"
    with pytest.raises(ValueError, match=message):
        prepare(published(tmp_path / "source"), tmp_path / "out", allow_partial=False)


def zeros(*shape, code=0x08):
    return idx(np.zeros(shape), code)


IMAGES, DIGITS, WRITERS = FILES["train"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({DIGITS: idx(np.array([3, 0, 8, 1, 5]), 0x08)}, r"int.gz and .*labels-idx1-ubyte.gz differ in 2 .* in row 2:"),
        ({DIGITS: zeros(4)}, r"train-labels-idx1-ubyte.gz holds uint8 of shape \[4\], not one uint8 for each of 5"),
        ({IMAGES: zeros(5, 28, 27)}, r"train-images-idx3-ubyte.gz holds uint8 of shape \[5, 28, 27\], not 28 x 28"),
        ({IMAGES: zeros(5, 28, 28, code=0x0C)}, r"holds int32 of shape \[5, 28, 28\], not 28 x 28 uint8"),
        ({WRITERS: zeros(5, 7, code=0x0C)}, r"qmnist-train-labels-idx2-int.gz holds int32 of shape \[5, 7\], not 8"),
        ({WRITERS: zeros(4, 8, code=0x0C)}, r"\[4, 8\], not 8 int32 for each of 5 images: is it QMNIST's\?"),
        ({WRITERS: zeros(5)}, r"uint8 of shape \[5\], not 8 int32"),
        ({IMAGES: zeros(5, 28, 28)[:-9]}, r"train-images-idx3-ubyte.gz: cut: 3920 bytes are to come"),
        ({WRITERS: b"\x80\x04pickle"}, r"qmnist-train-labels-idx2-int.gz: no IDX file: it begins with"),
        ({FILES["test"][2]: None}, r"no file .*qmnist-test-labels-idx2-int.gz: get MNIST's .* pass source=<the folder"),
    ],
    ids=["digits", "4 labels", "27 columns", "int32", "7 columns", "4 rows", "no table", "cut", "pickle", "missing"],
)
def test_files_that_are_damaged_or_do_not_belong_together(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(published(tmp_path / "source", change), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_worker_processes_make_the_same_store(tmp_path):
    source = published(tmp_path / "source")
    alone, together = (prepare(source, tmp_path / str(workers), workers=workers) for workers in (0, 2))
    assert alone.manifests == together.manifests  # with the digest of every file


def test_the_command_prepares_and_the_recipe_trains(fedemb, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "data"))
    source = published(tmp_path / "source")
    code, out, err = fedemb("prepare", "qmnist", f"source={source}", "allow_partial=true", "workers=0")
    assert code == 0, err
    assert f"prepared qmnist in {tmp_path}/data/qmnist\n  train: 3 users, 5 images of 1x28x28; 536 writers" in out
    small = ["rounds=2", "users_per_round=2", "users_per_client=1", "embedding_width=8"]
    code, _, err = fedemb("train", "recipe=qmnist_writers", *small, f"run={tmp_path}/run")
    assert code == 0, err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["data"]["name"], report["data"]["users"]) == ("qmnist", 3)
    for recipe in ("qmnist_central", "qmnist_fedavg", "qmnist_one_user", "qmnist_dpsgd", "qmnist_examples"):
        code, _, err = fedemb("train", f"recipe={recipe}", *small, f"run={tmp_path}/{recipe}")
        assert code == 0, err
        report = json.loads((tmp_path / recipe / "report.json").read_text())
        assert report["method"] != "DP-FedEmb"


SOURCES = os.environ.get("FEDEMB_TEST_SOURCES")


@pytest.mark.skipif(SOURCES is None, reason="FEDEMB_TEST_SOURCES names no folder with mnist_qmnist/ in it")
def test_the_published_files(tmp_path):
    """539 and 297 writers; their largest have 131 and 130 images; the first training image is a 5."""
    train, test = prepare(Path(SOURCES) / "mnist_qmnist", tmp_path / "out", allow_partial=False).manifests
    assert (train.users, train.examples, test.users, test.examples) == (539, 60_000, 297, 10_000)
    assert (train.left_out, test.left_out) == ({}, {"rows of QMNIST's labels without an image": 50_000})
    for split, most, fewest in (("train", 131, 19), ("test", 130, 8)):
        users = StoreUsers(path=tmp_path / "out", split=split)
        counts = [users.num_examples(user) for user in range(users.num_users)]
        assert (max(counts), min(counts)) == (most, fewest)
    with gzip.open(Path(SOURCES) / "mnist_qmnist" / f"{IMAGES}.gz") as file:
        first = np.frombuffer(file.read(16 + 784)[16:], np.uint8).reshape(28, 28)
    users = StoreUsers(path=tmp_path / "out")
    (owner,) = [
        user
        for user in range(users.num_users)
        if (users.load([user])["image"].numpy()[:, 0] == first).all((1, 2)).any()
    ]
    place = (users.load([owner])["image"].numpy()[:, 0] == first).all((1, 2)).argmax()
    assert users.labels(owner)[place] == 5

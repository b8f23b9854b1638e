"""EMNIST by writer from small files in each of the four published forms; the writers and their images are made here."""

import hashlib
import io
import json
import lzma
import pickle
import sqlite3
import zipfile
from contextlib import closing

import h5py
import numpy as np
import pytest
from PIL import Image
from tfrecords import example

from fedemb.data.preparation import Request
from fedemb.data.store import StoreUsers
from fedemb.data_prep import emnist

# writer -> (labels of the part in train, labels of the part in test); 36-61 are lower case
WRITERS = {
    "f0003_22": ([1, 9], [2]),  # no lower case
    "f0000_14": ([3, 10, 40], [35, 36]),
    "f0002_07": ([50], [37]),  # lower case only
    "f0001_41": ([0, 61], [5]),
}
TRAIN = {"f0000_14": [3, 10, 35], "f0001_41": [0, 5], "f0003_22": [1, 9, 2]}
TEST = {"f0000_14": [40, 36], "f0001_41": [61], "f0002_07": [50, 37]}
MISSING = {"writers missing": 3_400 - 4, "images missing": 671_585 + 77_483 - 13}
PROTOBUF, LZMA, H5 = "emnist_all.sqlite", "emnist_all.sqlite.lzma", "fed_emnist_train.h5"


def stored(writer, label):
    """[28, 28] uint8: what a store should hold; every pixel depends on its place, the writer and the label."""
    rows, columns = np.mgrid[:28, :28]
    return ((rows * 9 + columns * 5 + 37 * int(writer[1:5]) + 3 * label) % 256).astype(np.uint8)


def paper(writer, label):
    """[28, 28] float32: the same as published, with paper 1 and ink 0."""
    return (1 - stored(writer, label) / 255).astype(np.float32)


def tff_sqlite(folder, *, writers=None, change=None):
    """All training rows, then all test rows. change: (writer, label) -> other features."""
    path = folder / PROTOBUF
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)")
        database.execute("CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)")
        for part, split in enumerate(("all_train", "all_test", "digits_only_train")):
            for writer, parts in (writers or WRITERS).items():
                labels = parts[part % 2]
                database.execute("INSERT INTO client_metadata VALUES (?, ?, ?)", (writer, split, len(labels)))
                for label in labels:
                    features = {"pixels": paper(writer, label).ravel().tolist(), "label": [label]}
                    features |= (change or {}).get((writer, label), {})
                    row = (split, writer, example(**features))
                    database.execute("INSERT INTO examples VALUES (?, ?, ?)", row)
        database.commit()
    return folder


def tff_lzma(folder):
    file = tff_sqlite(folder) / PROTOBUF
    (folder / LZMA).write_bytes(lzma.compress(file.read_bytes()))
    file.unlink()
    return folder


def tff_h5(folder, *, change=None):
    folder.mkdir(exist_ok=True)
    for part, name in enumerate(("train", "test")):
        with h5py.File(folder / f"fed_emnist_{name}.h5", "w") as file:
            for writer, parts in WRITERS.items():
                group = file.create_group(f"examples/{writer}")
                arrays = {
                    "pixels": np.array([paper(writer, label) for label in parts[part]]),
                    "label": np.array(parts[part], np.int32),
                }
                for member, values in {**arrays, **(change or {})}.items():
                    if values is not None:
                        group[member] = values
    return folder


def leaf(folder, *, where="", change=None):
    """Two files: the rows of every writer are in both, in another order of the writers."""
    (folder / where).mkdir(parents=True, exist_ok=True)
    for part, order in enumerate((sorted(WRITERS), WRITERS)):
        data = {
            writer: {
                "x": [paper(writer, label).ravel().tolist() for label in WRITERS[writer][part]],
                "y": WRITERS[writer][part],
            }
            for writer in order
        } | (change or {})
        sizes = [len(data[writer]["y"]) for writer in order]
        content = {"users": list(order), "num_samples": sizes, "user_data": data}
        (folder / where / f"all_data_{part}.json").write_text(json.dumps(content))
    return folder


def leaf_parts(folder):
    """LEAF's folders train and test."""
    leaf(folder, where="train")
    (folder / "test").mkdir()
    (folder / "train" / "all_data_1.json").rename(folder / "test" / "all_data_1.json")
    return folder


FORMS = {"sqlite": tff_sqlite, "lzma": tff_lzma, "h5": tff_h5, "leaf": leaf, "leaf train and test": leaf_parts}


def prepare(source, out, *, allow_partial=True, workers=0, **options):
    request = Request(source=source, out=out, allow_partial=allow_partial, workers=workers)
    return emnist.prepare(request, **options)


def held(out, split):
    """writer -> labels, in order."""
    users = StoreUsers(path=out, split=split)
    return {users.user_id(user): users.labels(user).tolist() for user in range(users.num_users)}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_one_user_for_each_writer(tmp_path, form):
    """4 writers in 2 parts each would be 8 users in the paper's code."""
    prepare(FORMS[form](tmp_path / "source"), tmp_path / "out")
    assert list(held(tmp_path / "out", "train").items()) == sorted(TRAIN.items())
    assert list(held(tmp_path / "out", "test").items()) == sorted(TEST.items())
    for split in ("train", "test"):
        users = StoreUsers(path=tmp_path / "out", split=split)
        for user in range(users.num_users):
            batch = users.load([user])
            expected = [stored(users.user_id(user), label) for label in batch["label"].tolist()]
            assert np.array_equal(batch["image"].numpy()[:, 0], np.array(expected))
    assert not list((tmp_path / "out").glob(".*"))  # nothing unpacked stays


def test_the_manifest_counts_what_is_left_out_and_says_whom_it_holds(tmp_path):
    train, test = prepare(tff_sqlite(tmp_path / "source"), tmp_path / "out").manifests
    without = {"users without digits or upper-case letters": 1, "images other than digits or upper-case letters": 5}
    assert train.left_out == {**MISSING, **without}
    assert test.left_out == {
        **MISSING,
        "users without lower-case letters": 1,
        "images other than lower-case letters": 6 + 2,
    }
    assert (train.users, train.examples, test.users, test.examples) == (3, 8, 3, 5)
    assert "the guarantee covers none of these images" in test.info.description
    assert (train.info.user, test.info.user) == ("a writer", "a writer who is in train too, by other characters")
    assert (train.info.polarity, train.info.label, train.info.classes) == ("ink 255 on 0", "class", 62)
    assert train.info.sources[0].sha256 == hashlib.sha256((tmp_path / "source" / PROTOBUF).read_bytes()).hexdigest()
    users = StoreUsers(path=tmp_path / "out")
    assert [users.class_name(label) for label in (0, 9, 10, 35, 36, 61)] == ["0", "9", "A", "Z", "a", "z"]


def test_pixels_are_rounded_to_the_nearest(tmp_path):
    """ink = 255 (1 - x): 0.5 gives 127.5, which rounds to an even 128; 0.999 gives 0.255, 0.997 gives 0.765."""
    pixels = [0.5, 0.999, 0.997, 1.0, 0.0] + [1.0] * 779
    prepare(tff_sqlite(tmp_path / "s", change={("f0000_14", 3): {"pixels": pixels}}), tmp_path / "out")
    image = StoreUsers(path=tmp_path / "out").load([0])["image"][0, 0]
    assert image.flatten()[:6].tolist() == [128, 0, 1, 0, 255, 0]


def test_the_published_counts_are_asked_for(tmp_path):
    counts = r"s holds 4 writers, 13 images, published are {} writers, {} images: get the rest, or pass allow_partial"
    with pytest.raises(ValueError, match=counts.format(3400, 749068)):
        prepare(tff_h5(tmp_path / "s"), tmp_path / "out", allow_partial=False)
    with pytest.raises(ValueError, match=r"leaf holds 4 writers, 13 images, published are 3597 writers, 817851 images"):
        prepare(leaf(tmp_path / "leaf"), tmp_path / "out", allow_partial=False)
    assert not (tmp_path / "out").exists()  # what is refused leaves nothing


def test_disjoint_writers(tmp_path):
    """40 writers with one image of each kind: nobody is in both stores, and about a tenth is in test."""
    writers = {f"f{number:04d}_00": ([1], [40]) for number in range(40)}
    source, kept = tff_sqlite(tmp_path / "s", writers=writers), []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        train, test = prepare(source, out, protocol="disjoint_writers", split_seed=seed).manifests
        kept.append(held(out, "test").keys())
        assert held(out, "train") == {writer: [1] for writer in writers.keys() - kept[seed]}
        assert held(out, "test") == {writer: [40] for writer in kept[seed]}
        assert 1 <= len(kept[seed]) <= 10
        assert train.left_out["writers kept out"] == len(kept[seed]) == 40 - test.left_out["writers kept out"]
    assert kept[0] != kept[1]
    assert train.info.command == "fedemb prepare emnist_disjoint source=<folder> split_seed=1 allow_partial=true"
    assert (train.info.user, test.info.user) == ("a writer", "a writer")
    with pytest.raises(ValueError, match=r"holds another store \(description .*seed 1.*seed 0"):
        prepare(source, tmp_path / "1", protocol="disjoint_writers")


def scan(number, size=128):
    """A PNG page, white, with a black block of 32 x 16 of 128 x 128 pixels; its left edge says the number."""
    page = np.full((size, size), 255, np.uint8)
    page[16:48, 8 * number : 8 * number + 16] = 0
    file = io.BytesIO()
    Image.fromarray(page).convert("RGB").save(file, "PNG")
    return file.getvalue()


NIST = {
    "by_class/33/hsf_0/hsf_0_00000.png": scan(0),  # "3"
    "by_class/4b/hsf_4/hsf_4_00007.png": scan(1),  # "K"
    "by_class/6b/hsf_0/hsf_0_00001.png": scan(2),  # "k"
    "by_class/7a/hsf_0/hsf_0_00002.png": scan(3),  # "z"
    "by_class/7a/hsf_1/hsf_1_00000.png": scan(4),  # nobody wrote it
    "by_class/39/hsf_0.mit/hsf_0_00000.png": scan(5),
    "by_class/39/train_39/train_39_00000.png": scan(5),
    "by_class/39/hsf_0.mit": None,
    "by_write/hsf_4/f2100_50/d2100_50/d2100_50_00000.png": scan(1),
    "by_write/hsf_4/f2100_50/l2100_50/l2100_50_00000.png": scan(2),
    "by_write/hsf_0/f0000_14/l0000_14/l0000_14_00000.png": scan(2),  # the same bytes by another writer
    "by_write/hsf_0/f0000_14/d0000_14/d0000_14_00000.png": scan(0),
    "by_write/hsf_0/f0000_14/d0000_14/d0000_14_00001.png": scan(5),  # its class is in folders that are left aside
    "by_write/hsf_0/f0001_41/l0001_41/l0001_41_00000.png": scan(3),
}


def nist(folder, change=None, *, prefix=""):
    """The trees in a folder. change: member -> content, None for a member that is not there."""
    for name, content in {**NIST, **(change or {})}.items():
        if content is not None:
            (folder / prefix / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / prefix / name).write_bytes(content)
    return folder


def nist_zips(folder, change=None, *, trees=("by_class", "by_write")):
    """As NIST publishes them: one zip file a tree."""
    folder.mkdir()
    for tree in trees:
        with zipfile.ZipFile(folder / f"{tree}.zip", "w") as file:
            for name, content in {**NIST, **(change or {})}.items():
                if content is not None and name.startswith(tree):
                    file.writestr(name, content)
    return folder


def nist_zip(folder):
    """Both trees in one file, below another folder."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "sd19.zip", "w") as file:
        for name, content in NIST.items():
            if content is not None:
                file.writestr(f"SD19/{name}", content)
    return folder / "sd19.zip"


@pytest.mark.parametrize("make", [nist, nist_zips, nist_zip])
def test_the_trees_of_sd19_are_joined_by_content(tmp_path, make):
    train, _ = prepare(make(tmp_path / "source"), tmp_path / "out").manifests
    assert held(tmp_path / "out", "train") == {"f0000_14": [3], "f2100_50": [20]}
    assert held(tmp_path / "out", "test") == {"f0000_14": [46], "f0001_41": [61], "f2100_50": [46]}
    assert train.left_out == {
        "writers missing": 3_597 - 3,
        "images missing": 814_255 - 5,
        "images without a class": 1,
        "images without a writer": 1,
        "users without digits or upper-case letters": 1,
        "images other than digits or upper-case letters": 3,
    }


def test_scans_become_28_x_28_with_ink_255_on_0_upright(tmp_path):
    """A block of 32 rows from 16 and 16 columns from 0 of 128 covers rows 3.5 to 10.5 and columns 0 to 3.5 of 28."""
    prepare(nist(tmp_path / "source"), tmp_path / "out")
    image = StoreUsers(path=tmp_path / "out").load([0])["image"][0, 0].numpy().astype(int)
    assert image[5:9, :2].min() >= 245
    assert max(image[:2].max(), image[13:].max(), image[:, 6:].max()) <= 8  # the side lobes of the filter
    assert image.sum() / 255 == pytest.approx(7 * 3.5, rel=0.05)
    second = StoreUsers(path=tmp_path / "out").load([1])["image"][0, 0].numpy().astype(int)
    assert second[5:9, 3:5].min() >= 245  # 8 pixels to the right: 1.75 of 28


def png(make=None):
    file = io.BytesIO()
    (make or Image.new("L", (128, 100))).save(file, "PNG")
    return file.getvalue()


SCAN = "by_write/hsf_0/f0000_14/d0000_14/d0000_14_00000.png"
TWIN = "by_class/33/hsf_0/hsf_0_00000.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({SCAN: b"no picture", TWIN: b"no picture"}, r"d0000_14_00000.png: cannot be read .*starts with b'no p'"),
        ({SCAN: scan(0)[:-40], TWIN: scan(0)[:-40]}, r"d0000_14_00000.png: cannot be read as an image"),
        ({SCAN: pickle.dumps([1]), TWIN: pickle.dumps([1])}, r"d0000_14_00000.png: .* a pickle, which is never opened"),
        ({SCAN: png(), TWIN: png()}, r"d0000_14_00000.png has \(128, 100\) pixels, not 128 x 128"),
        (
            {SCAN: png(Image.new("1", (9000, 9000))), TWIN: png(Image.new("1", (9000, 9000)))},
            r"d0000_14_00000.png: .*9000 x 9000 pixels",
        ),
        ({"by_class/2b/hsf_0/a.png": scan(9)}, r"by_class/2b/hsf_0/a.png is in no folder of a digit or letter"),
        ({"by_write/hsf_0/nobody/a/a.png": scan(9)}, r"hsf_0/nobody/a/a.png is in no folder of a writer like f0000_14"),
        ({"by_write/../../a/f0000_14/a.png": scan(9)}, r"a name that leaves the archive"),
    ],
    ids=["no picture", "cut", "pickle", "other size", "bomb", "no class", "no writer", "leaves the archive"],
)
def test_damaged_scans_are_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(nist_zips(tmp_path / "source", change), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: tff_sqlite(s, change={("f0000_14", 3): {"label": [62]}}), r"'f0000_14': labels must lie in 0"),
        (lambda s: tff_sqlite(s, change={("f0000_14", 3): {"label": [1, 2]}}), r"'f0000_14' has 2 int64 of 'label'"),
        (lambda s: tff_sqlite(s, change={("f0000_14", 3): {"label": [b"3"]}}), r"has 1 byte string of 'label', not 1"),
        (
            lambda s: tff_sqlite(s, change={("f0000_14", 10): {"pixels": [1.0] * 783}}),
            r"emnist_all.sqlite: client 'f0000_14' of all_train, image 1 has 783 float32 of 'pixels', not 784 float32",
        ),
        (
            lambda s: tff_sqlite(s, change={("f0000_14", 10): {"pixels": [255.0] * 784}}),
            r"client 'f0000_14': pixels must lie in \[0, 1\], got 0.* .. 255",
        ),
        (lambda s: tff_h5(s, change={"pixels": np.zeros((1, 28, 28), np.float32)}), r"differ in length"),
        (lambda s: tff_h5(s, change={"pixels": None}), r"train.h5: client 'f0000_14' has no 'pixels', only label"),
        (lambda s: tff_h5(s, change={"label": None}), r"label"),
        (lambda s: leaf(s, change={"f0000_14": {"x": [[1.0] * 3] * 3, "y": [1] * 3}}), r"shape \[3\], not 28 x 28"),
        (lambda s: leaf(s, change={"f0000_14": {"x": [[1.0] * 784], "y": [-1]}}), r"'f0000_14': labels must lie in 0"),
        (lambda s: nist_zips(s, trees=["by_write"]), r"holds no PNG file in by_class/: get by_class.zip of SD19"),
    ],
    ids=[
        "label 62", "two labels", "label of bytes", "783 pixels", "pixels to 255", "h5 lengths", "h5 no pixels",
        "h5 no label", "leaf 3 pixels", "leaf label -1", "one tree",
    ],
)  # fmt: skip
def test_damaged_sources_are_refused_in_one_line(tmp_path, make, message):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(make(tmp_path / "source"), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.json"))
    assert not list((tmp_path / "out").glob(".*"))


def test_a_cut_lzma_file(tmp_path):
    file = tff_lzma(tmp_path / "source") / LZMA
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"emnist_all.sqlite.lzma is no whole LZMA or SQLite file"):
        prepare(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_of_two_h5_files(tmp_path):
    (tff_h5(tmp_path / "source") / "fed_emnist_test.h5").unlink()
    with pytest.raises(ValueError, match=r"no file .*fed_emnist_test.h5: unpack fed_emnist.tar.bz2"):
        prepare(tmp_path / "source" / H5, tmp_path / "out")


def test_what_the_source_is_must_be_clear(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no published form of EMNIST: pass emnist_all.sqlite.lzma or"):
        prepare(tmp_path / "empty", tmp_path / "out")
    both = leaf(tff_h5(tmp_path / "both"))
    with pytest.raises(ValueError, match=r"both holds tff_h5 and leaf: pass form=<one of them>"):
        prepare(both, tmp_path / "out")
    for form in ("tff_h5", "leaf"):
        prepare(both, tmp_path / form, form=form)
    assert held(tmp_path / "tff_h5", "train") == held(tmp_path / "leaf", "train") == TRAIN
    with pytest.raises(ValueError, match=r"form must be one of auto, tff_sqlite, tff_h5, leaf, nist, got form=idx"):
        prepare(both, tmp_path / "out", form="idx")
    with pytest.raises(ValueError, match=r"no emnist_all.sqlite.lzma or emnist_all.sqlite in .*both"):
        prepare(both, tmp_path / "out", form="tff_sqlite")
    with pytest.raises(ValueError, match=r"protocol must be one of paper, disjoint_writers, got protocol=mine"):
        prepare(both, tmp_path / "out", protocol="mine")
    with pytest.raises(ValueError, match=r"nothing to prepare from: get emnist_all.sqlite.lzma"):
        prepare(None, tmp_path / "out")


def test_worker_processes_make_the_same_bytes(tmp_path):
    source = tff_lzma(tmp_path / "source")
    alone, together = (prepare(source, tmp_path / str(workers), workers=workers) for workers in (0, 2))
    assert alone.manifests == together.manifests
    for manifest in alone.manifests:
        (shard,) = manifest.shards
        file = f"{manifest.info.split}/{shard.file}"
        assert (tmp_path / "0" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_the_command_prepares_and_the_recipe_trains(fedemb, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "data"))
    source = tff_sqlite(tmp_path / "source")
    many = tff_sqlite(tmp_path / "many", writers={f"f{number:04d}_00": ([1], [40]) for number in range(40)})
    for name, folder in (("emnist", source), ("emnist_disjoint", many)):
        code, out, err = fedemb("prepare", name, f"source={folder}", "allow_partial=true", "workers=0")
        assert code == 0, err
        users = "3 users, 8 images of 1x28x28; 3396 writers missing" if name == "emnist" else ""
        assert f"prepared {name} in {tmp_path / 'data' / name}\n  train: {users}" in out
    small = ["rounds=2", "users_per_round=2", "users_per_client=1", "embedding_width=8", "allow_large_delta=true"]
    code, _, err = fedemb("train", "recipe=emnist", *small, "batching.max_examples=8", f"run={tmp_path}/run")
    assert code == 0, err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["data"]["name"], report["data"]["users"]) == ("emnist", 3)

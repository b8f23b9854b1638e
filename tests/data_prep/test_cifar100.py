"""CIFAR-100 in its three published forms to stores: invented images of five classes, and the real ones."""

import io
import lzma
import os
import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tfrecords import example

from fedemb.data.manifest import read_manifest
from fedemb.data.preparation import Request
from fedemb.data.store import StoreUsers
from fedemb.data_prep import cifar100

# fine label, coarse label and name, from the page of CIFAR-100; a class is called like a split
CLASSES = ((0, 4, "apple"), (1, 1, "aquarium_fish"), (2, 14, "baby"), (53, 4, "orange"), (90, 18, "train"))
EACH = {"train": 4, "test": 2}


def pixels(split, fine, number):
    """[3, 32, 32] uint8, other noise for every image."""
    return np.random.default_rng([len(split), fine, number]).integers(256, size=(3, 32, 32), dtype=np.uint8)


def images(split):
    """(coarse, fine, name, number, pixels), class by class."""
    return [
        (coarse, fine, name, number, pixels(split, fine, number))
        for fine, coarse, name in CLASSES
        for number in range(EACH[split])
    ]


def records(split):
    return b"".join(bytes([coarse, fine]) + image.tobytes() for coarse, fine, _, _, image in images(split))


def names(kind):
    """As in the archive, one a line: from the versioned hierarchy, which has a test of its own."""
    lines = [line.split() for line in cifar100.COARSE.read_text().splitlines() if not line.startswith("#")]
    return "\n".join(sorted({line[kind == "fine"] for line in lines})).encode() + b"\n"


def binary(folder, changes=None):
    folder.mkdir()
    members = {f"{split}.bin": records(split) for split in EACH}
    members |= {f"{kind}_label_names.txt": names(kind) for kind in ("fine", "coarse")}
    with tarfile.open(folder / "cifar-100-binary.tar.gz", "w:gz") as tar:
        for name, content in {**members, **(changes or {})}.items():
            if content is not None:
                info = tarfile.TarInfo(f"cifar-100-binary/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return folder


def png(image, size=(32, 32)):
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).resize(size).save(file, "PNG")
    return file.getvalue()


def tree(folder, changes=None):
    folder.mkdir()
    members = {
        f"cifar100/{split}/{name}/{name}_s_{number:06d}.png": png(image)
        for split in EACH
        for _, _, name, number, image in images(split)
    }
    with zipfile.ZipFile(folder / "some_cifar100.zip", "w") as opened:
        for name, content in {**members, **(changes or {})}.items():
            opened.writestr(name, content)
    return folder


def tff(folder, clients=("0", "1", "2", "3"), changed=None):
    """The training images dealt to clients in order; two test clients. changed: features of the first example."""
    folder.mkdir()
    sqlite = folder / "cifar100.sqlite"
    with closing(sqlite3.connect(sqlite)) as database:
        database.execute("CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)")
        database.execute("CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)")
        for split, who in (("train", clients), ("test", ("0", "1"))):
            every = images(split)
            size = len(every) // len(who)
            for place, (coarse, fine, _, _, image) in enumerate(every):
                values = {"image": image.transpose(1, 2, 0).ravel().tolist(), "label": [fine], "coarse_label": [coarse]}
                values |= (changed or {}) if place == 0 else {}
                database.execute(
                    "INSERT INTO examples VALUES (?, ?, ?)", (split, who[place // size], example(**values))
                )
            database.executemany("INSERT INTO client_metadata VALUES (?, ?, ?)", [(one, split, size) for one in who])
        database.commit()
    (folder / "cifar100.sqlite.lzma").write_bytes(lzma.compress(sqlite.read_bytes(), lzma.FORMAT_ALONE))
    sqlite.unlink()
    return folder


FORMS = {"binary": binary, "tree": tree, "tff": tff}


def prepare(source, out, *, allow_partial=True, overwrite=False, workers=0, **options):
    request = Request(source=source, out=out, allow_partial=allow_partial, overwrite=overwrite, workers=workers)
    return cifar100.prepare(request, **({"examples_per_user": 5} | options))


def dealt(store):
    """The fine label and pixels of every image that somebody has."""
    batch = store.load(range(store.num_users))
    return [
        (label, image.tobytes()) for label, image in zip(batch["label"].tolist(), batch["image"].numpy(), strict=True)
    ]


def test_the_hierarchy_is_cifar_100s():
    """Some classes by hand, and 20 x 5; the labels of train_coarse and train_fine follow the sorted names."""
    hierarchy = cifar100.Hierarchy.of(cifar100.read_split_file(cifar100.COARSE).ids)
    assert (len(hierarchy.fine), len(hierarchy.coarse)) == (100, 20)
    assert np.bincount(hierarchy.parents).tolist() == [5] * 20
    for fine, coarse, name in (
        *CLASSES,
        (4, 0, "beaver"),
        (99, 13, "worm"),
        (8, 18, "bicycle"),
        (41, 19, "lawn_mower"),
    ):
        assert hierarchy.fine[fine] == name
        assert hierarchy.parents[fine] == coarse
    assert hierarchy.coarse[13] == "non-insect_invertebrates"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("partition", ["pachinko", "dirichlet"])
def test_every_image_is_dealt_once_with_its_pixels_and_label(tmp_path, form, partition):
    prepare(FORMS[form](tmp_path / "source"), tmp_path / "out", partition=partition)
    train, test = (StoreUsers(path=tmp_path / "out", split=split) for split in ("train", "test"))
    assert [train.num_examples(user) for user in range(train.num_users)] == [5] * 4  # 20 images
    assert train.image_shape == (3, 32, 32)
    for store, split in ((train, "train"), (test, "test")):
        assert sorted(dealt(store)) == sorted((fine, image.tobytes()) for _, fine, _, _, image in images(split))
    assert [test.user_id(user) for user in range(5)] == [name for _, _, name in CLASSES]
    assert test.load([4])["label"].tolist() == [90, 90]
    assert (train.class_name(90), train.class_name(99)) == ("train", "worm")


def test_the_three_forms_give_the_same_users(tmp_path):
    for form, make in FORMS.items():
        prepare(make(tmp_path / f"{form} source"), tmp_path / form, partition_seed=7)
    assert len({StoreUsers(path=tmp_path / form).checksum for form in FORMS}) == 1
    prepare(tmp_path / "binary source", tmp_path / "other", partition_seed=8)
    assert StoreUsers(path=tmp_path / "other").checksum != StoreUsers(path=tmp_path / "binary").checksum


def classes_of(store):
    return [set(store.labels(user).tolist()) for user in range(store.num_users)]


def test_concentration_reaches_the_partition(tmp_path):
    """Near 0 a user has one class; at a large beta one coarse class, which for apple and orange is the same one."""
    source, out = binary(tmp_path / "source"), tmp_path / "out"
    prepare(source, out, partition="dirichlet", examples_per_user=4, concentration=[1e-9])
    assert sorted(map(sorted, classes_of(StoreUsers(path=out)))) == [[0], [1], [2], [53], [90]]
    mixed = set()
    for seed in range(12):
        options = {"num_users": 1, "examples_per_user": 4, "partition_seed": seed, "overwrite": True}
        prepare(source, out, concentration=[1e-9, 1e-9], **options)
        assert len(classes_of(StoreUsers(path=out))[0]) == 1
        prepare(source, out, concentration=[1e-9, 1e9], **options)
        mixed.add(frozenset(classes_of(StoreUsers(path=out))[0]))
    assert {tuple(sorted(found)) for found in mixed if len(found) > 1} == {(0, 53)}
    manifest = read_manifest(out / "train")
    assert manifest.left_out == {"images missing": 50_000 - 20, "images without a user": 16}
    assert "concentration=[1e-09,1000000000.0] partition_seed=11" in manifest.info.command


def test_tffs_own_users(tmp_path):
    prepare(
        tff(tmp_path / "source", clients=("7", "10", "2", "b")),
        tmp_path / "out",
        partition="tff",
        examples_per_user=None,
    )
    train, test = (StoreUsers(path=tmp_path / "out", split=split) for split in ("train", "test"))
    assert [train.user_id(user) for user in range(4)] == ["10", "2", "7", "b"]
    everything = [(fine, image.tobytes()) for _, fine, _, _, image in images("train")]
    batch = train.load([2, 0])
    got = [
        (label, image.tobytes()) for label, image in zip(batch["label"].tolist(), batch["image"].numpy(), strict=True)
    ]
    assert got == everything[:10]  # "7" has the first five, "10" the next
    assert (test.num_users, test.num_examples_total) == (2, 10)
    train, test = (read_manifest(tmp_path / "out" / split).info for split in ("train", "test"))
    assert train.name == "cifar100_tff"
    assert train.user == test.user == "a made-up partition cell (no person)"
    with pytest.raises(
        ValueError, match=r"holds 4 users, published are 500 users|holds 20 images, published are 50000"
    ):
        prepare(tmp_path / "source", tmp_path / "out", partition="tff", examples_per_user=None, allow_partial=False)
    with pytest.raises(ValueError, match="partition=tff takes the users of TFF's file: leave out how"):
        prepare(tmp_path / "source", tmp_path / "out", partition="tff", num_users=3)
    with pytest.raises(ValueError, match=r"source.*has no users; partition=tff needs TFF's cifar100.sqlite.lzma"):
        prepare(tree(tmp_path / "tree source"), tmp_path / "out", partition="tff", examples_per_user=None)


def test_the_manifest_says_that_nobody_is_behind_the_users(tmp_path):
    prepare(tree(tmp_path / "source"), tmp_path / "out", num_users=2)
    manifest = read_manifest(tmp_path / "out" / "train")
    assert (
        "users made up by Pachinko allocation, Reddi et al. 2021, concentration [0.1, 10.0]"
        in manifest.info.description
    )
    assert "an epsilon over them protects nobody" in manifest.info.description
    assert manifest.info.label == "class"
    assert (manifest.info.user, manifest.info.trainable) == ("a made-up partition cell (no person)", True)
    test = read_manifest(tmp_path / "out" / "test").info
    assert (test.user, test.trainable) == ("a class of the test images (no person)", False)
    assert not manifest.info.redistributable
    assert not manifest.info.presentable
    assert manifest.info.command == (
        "fedemb prepare cifar100 partition=pachinko num_users=2 examples_per_user=5 concentration=[0.1,10.0] "
        "partition_seed=0 source=<folder> allow_partial=true"
    )
    assert [source.file for source in manifest.info.sources] == ["some_cifar100.zip", "splits/cifar100_coarse.txt"]
    assert manifest.left_out == {"images missing": 49_980, "images without a user": 10}
    assert read_manifest(tmp_path / "out" / "test").left_out == {"images missing": 9_990}
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_file()]  # no spool stays


def test_unpacked_sources_and_default_numbers(tmp_path):
    """100 images a user by default, and one user where there are fewer than for two."""
    with zipfile.ZipFile(tree(tmp_path / "zip") / "some_cifar100.zip") as opened:
        opened.extractall(tmp_path / "tree")
    with tarfile.open(binary(tmp_path / "tar") / "cifar-100-binary.tar.gz") as tar:
        tar.extractall(tmp_path / "binary", filter="data")
    for source in ("tree", "binary"):
        prepare(tmp_path / source, tmp_path / f"{source} out")
        with pytest.raises(ValueError, match="num_users=1 of examples_per_user=100 need 100 images, there are 20"):
            prepare(tmp_path / source, tmp_path / "other", examples_per_user=None)
    assert StoreUsers(path=tmp_path / "tree out").checksum == StoreUsers(path=tmp_path / "binary out").checksum


def test_wrong_counts_fail_with_both_numbers(tmp_path):
    with pytest.raises(
        ValueError, match=r"\(train\) holds 20 images, published are 50000 images: get the rest, or pass"
    ):
        prepare(binary(tmp_path / "source"), tmp_path / "out", allow_partial=False)


PICKLE = b"\x80\x02}q\x00."


@pytest.mark.parametrize("place", ["file", "folder", "unpacked", "renamed"])
def test_the_python_version_is_refused_and_never_opened(tmp_path, place):
    folder = tmp_path / "source"
    folder.mkdir()
    file = folder / ("cifar.tar.gz" if place == "renamed" else "cifar-100-python.tar.gz")
    with tarfile.open(file, "w:gz") as tar:
        for name in ("train", "test", "meta"):
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(PICKLE)
            tar.addfile(info, io.BytesIO(PICKLE))
    if place == "unpacked":
        with tarfile.open(file) as tar:
            tar.extractall(folder, filter="data")
        file.unlink()
    source = file if place in ("file", "renamed") else folder
    with pytest.raises(ValueError, match=r"Python pickles, which are never opened: get cifar-100-binary.tar.gz from h"):
        prepare(source, tmp_path / "out")


APPLE = "cifar100/train/apple/apple_s_000000.png"


@pytest.mark.parametrize(
    ("form", "changes", "message"),
    [
        ("binary", {"train.bin": records("train")[:-1]}, r"train.bin has 61479 bytes, no multiple of 3074: get it"),
        ("binary", {"test.bin": None}, r"holds cifar-100-binary/train.bin only: get cifar-100-binary.tar.gz from"),
        ("binary", {"train.bin": b""}, r"holds no image of split train"),
        ("binary", {"a/train.bin": records("train")}, r"holds .*train.bin and .*train.bin: pass one of them"),
        (
            "binary",
            {"train.bin": bytes([0, 0]) + bytes(3072)},
            r"image 0 of split train has fine label 0 and coarse lab",
        ),
        ("binary", {"test.bin": bytes([4, 100]) + bytes(3072)}, r"image 0 of split test has fine label 100 and coarse"),
        (
            "binary",
            {"fine_label_names.txt": b"cat\ndog\n"},
            r"fine_label_names.txt names other classes than CIFAR-100's",
        ),
        ("binary", {"../train.bin": b""}, r"a name that leaves the archive"),
        ("tree", {APPLE: png(pixels("train", 0, 0))[:-40]}, r"some_cifar100.zip: .*apple_s_000000.png: cannot be read"),
        ("tree", {APPLE: PICKLE}, r"apple_s_000000.png: .*a pickle, which is never opened"),
        ("tree", {APPLE: png(pixels("train", 0, 0), (31, 32))}, r"apple_s_000000.png has 31 x 32 pixels, not 32 x 32"),
        ("tree", {APPLE: png(pixels("train", 0, 0), (64, 64))}, r"apple_s_000000.png: .*64 x 64 pixels"),
        ("tree", {"cifar100/train/cat/1.png": b""}, r"cat/1.png: CIFAR-100 has no class 'cat'"),
        ("tff", {"image": [0] * 3071}, r"client '0' of train, example 0: image is not 3072 whole numbers"),
        ("tff", {"image": [256] * 3072}, r"client '0' of train, example 0: image must lie in 0 .. 255, got 256 .. 256"),
        ("tff", {"label": [0, 0]}, r"client '0' of train, example 0: label is not 1 whole numbers"),
        ("tff", {"coarse_label": [0.5]}, r"example 0: coarse_label is not 1 whole numbers: is this TFF's"),
    ],
)
def test_bad_sources_are_refused_in_one_line(tmp_path, form, changes, message):
    source = FORMS[form](tmp_path / "source", **{"changed" if form == "tff" else "changes": changes})
    with pytest.raises(ValueError, match=message) as caught:
        prepare(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.sqlite")) if (tmp_path / "out").exists() else True


@pytest.mark.parametrize(("form", "file"), [("binary", "cifar-100-binary.tar.gz"), ("tff", "cifar100.sqlite.lzma")])
def test_a_cut_file_is_refused_and_leaves_nothing(tmp_path, form, file):
    source = FORMS[form](tmp_path / "source")
    os.truncate(source / file, (source / file).stat().st_size // 2)
    with pytest.raises(ValueError, match=file):
        prepare(source, tmp_path / "out")
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.stat().st_size]
    assert not left


def test_a_source_that_is_none_or_several(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds neither train.bin and test.bin nor {train,test}/CLASS/"):
        prepare(tmp_path / "empty", tmp_path / "out")
    both = tree(tmp_path / "both")
    (both / "cifar-100-binary.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"both holds cifar-100-binary.tar.gz, some_cifar100.zip: pass source=<one"):
        prepare(both, tmp_path / "out")
    with pytest.raises(ValueError, match=r"nothing to prepare from: get cifar-100-binary.tar.gz from"):
        prepare(None, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "iid"}, "partition must be one of pachinko, dirichlet, tff, got partition=iid"),
        ({"num_users": 5}, "num_users=5 of examples_per_user=5 need 25 images, there are 20: lower one of the two"),
        ({"num_users": 0}, "num_users must be an integer of at least 1"),
        ({"examples_per_user": 0}, "examples_per_user must be an integer of at least 1"),
        ({"concentration": [0.1]}, r"partition=pachinko has 2 numbers as concentration, got \[0.1\]"),
        ({"concentration": [0.0, 1.0]}, "alpha must be above 0"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(tree(tmp_path / "source"), tmp_path / "out", **options)


def test_workers_change_no_byte(tmp_path):
    source = tree(tmp_path / "source")
    for workers in (0, 2):
        prepare(source, tmp_path / str(workers), workers=workers)
    for file in ("manifest.json", "users-00000-of-00001.sqlite"):
        assert (tmp_path / "0" / "train" / file).read_bytes() == (tmp_path / "2" / "train" / file).read_bytes()


def test_prepare_then_train(tmp_path, fedemb, monkeypatch):
    source = tree(tmp_path / "source")
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "data"))
    words = ("allow_partial=true", "workers=0", "examples_per_user=2", "concentration=[0.2,5]")
    code, out, err = fedemb("prepare", "cifar100", f"source={source}", *words)
    assert code == 0, err
    assert "train: 10 users, 20 images of 3x32x32; 49980 images missing" in out
    small = ("users_per_round=4", "users_per_client=2", "rounds=2", "evaluate_every=2")
    code, _, err = fedemb("train", "recipe=cifar100_pachinko", *small, f"run={tmp_path}/run")
    assert code == 0, err


@pytest.mark.skipif("FEDEMB_TEST_SOURCES" not in os.environ, reason="FEDEMB_TEST_SOURCES names no folder of real data")
def test_real_images(tmp_path):
    source = Path(os.environ["FEDEMB_TEST_SOURCES"]) / "cifar100"
    if not source.exists():
        pytest.skip(f"no {source}")
    train, test = prepare(source, tmp_path / "out", examples_per_user=20).manifests
    assert (
        train.users * 20 + train.left_out.get("images without a user", 0) + train.left_out.get("images missing", 0)
        == 50_000
    )
    assert test.users == 100

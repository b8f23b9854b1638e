"""Folders of images to stores: every layout, and one line for what is none."""

import io
import pickle
import shlex
import tarfile
import zipfile
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from fedemb.data.image_list import SplitRule
from fedemb.data.own_images import OwnImages
from fedemb.data.preparation import Request, Split
from fedemb.data.store import StoreUsers
from fedemb.data_prep import image_folder

CLASSES = ("train/cat/1.png", "train/cat/0.png", "train/dög, 2/0.png", "val/emu/0.png")
PEOPLE = ("ann/cat/0.png", "ann/dog/0.png", "bob/dog/0.png")


def image(name, size=(4, 3), kind="PNG"):
    """A file's bytes; no other name has these pixels."""
    stream = np.random.default_rng(list(name.encode()))
    file = io.BytesIO()
    Image.fromarray(stream.integers(256, size=(*size, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def folder(tmp_path, names, **files):
    for name in names:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files.get(name, image(name)))
    return tmp_path / "source"


def prepare(source, out, *, rule=None, user="class", workers=0, overwrite=False, **images):
    return image_folder.prepare(
        Request(source=source, out=out, workers=workers, overwrite=overwrite),
        images=OwnImages(name="mine", **images),
        rule=rule or SplitRule(),
        user=user,
    )


def contents(out, split="train"):
    """user -> [(label, the file's bytes), …]."""
    users = StoreUsers(path=out, split=split, size=(4, 3))
    return {
        users.user_id(user): list(zip(users.labels(user).tolist(), users.stored(user), strict=True))
        for user in range(users.num_users)
    }


def test_classes_as_users_keep_their_files_as_they_are(tmp_path):
    prepare(folder(tmp_path, CLASSES), tmp_path / "out")
    assert contents(tmp_path / "out") == {
        "cat": [(0, image("train/cat/0.png")), (0, image("train/cat/1.png"))],
        "dög, 2": [(1, image("train/dög, 2/0.png"))],
    }
    assert contents(tmp_path / "out", "validation") == {"emu": [(0, image("val/emu/0.png"))]}
    users = StoreUsers(path=tmp_path / "out", size=(4, 3))
    info = users.manifest.info
    assert (info.name, info.label, info.classes, info.codec) == ("mine", "identity", 2, "mixed")
    assert users.class_name(1) == "dög, 2"
    assert info.command == "fedemb prepare image_folder source=<folder> user=class name=mine"
    assert info.user == "a class of images"


def test_folders_as_users_have_classes(tmp_path):
    prepare(folder(tmp_path, [f"train/{name}" for name in PEOPLE]), tmp_path / "out", user="folder")
    labels = {user: [label for label, _ in own] for user, own in contents(tmp_path / "out").items()}
    assert labels == {"ann": [0, 1], "bob": [1]}
    info = StoreUsers(path=tmp_path / "out", size=(4, 3)).manifest.info
    assert (info.label, info.user) == ("class", "one directory of images")


def test_the_owner_says_what_a_user_is(tmp_path):
    prepare(folder(tmp_path, CLASSES), tmp_path / "out", privacy_unit="a cat's owner")
    info = StoreUsers(path=tmp_path / "out", size=(4, 3)).manifest.info
    assert info.user == "a cat's owner"
    assert shlex.split(info.command)[-1] == 'privacy_unit="a cat\'s owner"'  # as Hydra wants it
    refused(lambda: OwnImages(name="a", privacy_unit="a\nb"), "privacy_unit must be a noun phrase in one line")
    refused(lambda: OwnImages(name="a", privacy_unit=" "), "privacy_unit must be a noun phrase in one line")


def test_one_split_alone_is_no_folder_around_everything(tmp_path):
    prepare(folder(tmp_path, ["val/emu/0.png"]), tmp_path / "out")
    assert contents(tmp_path / "out", "validation") == {"emu": [(0, image("val/emu/0.png"))]}


def test_without_folders_of_splits_all_users_train(tmp_path):
    prepare(folder(tmp_path, PEOPLE), tmp_path / "out", user="folder")
    assert set(contents(tmp_path / "out")) == {"ann", "bob"}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("around", ["", "my data/"])
def test_archives_with_or_without_a_folder_around_everything(tmp_path, kind, around):
    source = tmp_path / f"mine.{kind}"
    members = {around + name: image(name) for name in CLASSES} | {"__MACOSX/._0.png": b"x", f"{around}notes.txt": b"x"}
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(source, "w:gz" if kind == "tar.gz" else "w") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    prepared = prepare(source, tmp_path / "out")
    assert list(contents(tmp_path / "out")) == ["cat", "dög, 2"]
    assert contents(tmp_path / "out", "validation") == {"emu": [(0, image("val/emu/0.png"))]}
    assert all(manifest.left_out == {"files whose names are no images'": 1} for manifest in prepared.manifests)


def test_a_rule_divides_users_and_not_files(tmp_path):
    """The same class in train and val is one user."""
    source = folder(tmp_path, [*CLASSES, "val/cat/9.png"])
    with pytest.raises(ValueError, match=r"user 'cat' is in train and in validation, .*fractions="):
        prepare(source, tmp_path / "out")
    (tmp_path / "splits.txt").write_text("test cat\ntrain emu\n")
    prepared = prepare(source, tmp_path / "out", rule=SplitRule(split_file=tmp_path / "splits.txt"))
    assert len(contents(tmp_path / "out", "test")["cat"]) == 3
    assert set(contents(tmp_path / "out")) == {"emu"}
    assert prepared.manifests[0].left_out == {"users in no split": 1}
    assert prepared.manifests[0].info.command.endswith("split_file=<file> name=mine")


def test_a_split_file_of_nobody_is_refused_in_one_line(fedemb, tmp_path):
    source, file = folder(tmp_path, CLASSES), tmp_path / "splits.txt"
    words = "prepare", "image_folder", f"source={source}", f"split_file={file}", f"out={tmp_path}/out", "workers=0"
    for text, told in (
        ("train fox\n", f"{file} names none of the users in {source}; a line is '<split> <user>'"),
        (
            "train cat\ntest fox\n",
            f"{file}: 'fox' is no user in {source}: write the user as it is there, or remove the line",
        ),
    ):
        file.write_text(text)
        assert fedemb(*words) == (2, "", f"fedemb: {told}\n")
        assert not (tmp_path / "out").exists()


def test_folders_that_give_no_image_are_counted(tmp_path):
    source = folder(tmp_path, [*CLASSES, "train/notes/a/b.txt", ".hidden/a/b.txt"])
    (source / "train" / "fox" / "deep").mkdir(parents=True)
    (source / "train" / "link").symlink_to(source / "train" / "cat")
    for manifest in prepare(source, tmp_path / "out").manifests:
        assert manifest.left_out == {
            "folders without an image": 2, "links to folders, not followed": 1, "files whose names are no images'": 1,
        }  # fmt: skip


def test_a_file_in_place_of_a_store_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train").write_text("mine")
    refused(
        lambda: prepare(folder(tmp_path, CLASSES), tmp_path / "out"),
        f"{tmp_path}/out/train is no folder, a store must be one: move it away, or pass another out=",
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train"]


def test_stores_among_their_own_images_are_refused(tmp_path):
    source = folder(tmp_path, CLASSES)
    for out in (source, source / "stores", tmp_path / "other" / ".." / "source" / "stores"):
        refused(lambda out=out: prepare(source, out), f"out={out} lies in the source {source}: pass out=")
    assert not (source / "stores").exists()
    prepare(source, tmp_path / "source stores")


def test_a_short_side_makes_large_images_smaller(tmp_path):
    name = "train/cat/large.png"
    source = folder(tmp_path, [*CLASSES, name], **{name: image(name, size=(80, 40))})
    prepare(source, tmp_path / "out", short_side=10)
    *small, (_, large) = contents(tmp_path / "out")["cat"]
    assert [data for _, data in small] == [image("train/cat/0.png"), image("train/cat/1.png")]
    assert Image.open(io.BytesIO(large)).size == (10, 20)


def test_workers_give_the_same_bytes(tmp_path):
    source = folder(tmp_path, CLASSES)
    for workers in (0, 2):
        prepare(source, tmp_path / f"{workers}", workers=workers)
    files = [path.relative_to(tmp_path / "0") for path in (tmp_path / "0").rglob("*.*") if path.is_file()]
    for file in files:
        assert (tmp_path / "0" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()
    assert len(files) >= 4


def refused(call, *words):
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("names", "user", "words"),
    [
        ((*CLASSES, "train/emu.png"), "class", ["train/cat/0.png and train/emu.png lie at different depths"]),
        (
            ("train/cat/0.png", "test/emu/0.png", "Validation/emu/1.png"),
            "folder",
            ["source holds Validation, test, train, which look like splits and not users: pass user=class"],
        ),
        (
            ("train/0.png", "test/0.png"),
            "class",
            ["test, train, which look like splits and not users", "<split>/<class>"],
        ),
        (("test/0.png",), "class", ["test, which look like splits and not users"]),
        ((*PEOPLE[:1], "train/ann/cat/0.png"), "folder", ["different depths", "<user>/<class>/<file>"]),
        (("a/b/c/d/e.png", "f/b/c/d/e.png"), "class", ["a/b/c/d/e.png is not at <class>/<file>", "user=folder"]),
        (
            ("cat/0.png", "dog/0.png"),
            "folder",
            ["cat/0.png is not at <user>/<class>/<file>", "pass user=class for"],
        ),
        (
            ("train/ann/cat/0.png", "test/bob/cat/0.png"),
            "class",
            ["test/bob/cat/0.png is not at <class>/<file>", "pass user=folder for <user>/<class>/<file> or <split>"],
        ),
        (("0.png",), "class", ["0.png is not at <class>/<file>"]),
        (("train/notes.txt",), "class", ["source holds no image (.png"]),
        (
            PEOPLE,
            "class",
            ["ann/cat/0.png is not at <class>/<file> or <split>", "'ann' is no split", "pass user=folder"],
        ),
        (
            ("train/cat/0.png", "extra/cat/1.png"),
            "class",
            ["extra/cat/1.png", "'extra' is no split", "valid, validation"],
        ),
        (("people/Train/cat/0.png", "people/test/emu/0.png"), "class", ["'Train' is no split: call it one of train,"]),
        (("a/ann/cat/0.png", "b/bob/cat/0.png"), "folder", ["'a' is no split", "move what is in it one folder up"]),
    ],
)
def test_another_layout_is_refused(tmp_path, names, user, words):
    refused(lambda: prepare(folder(tmp_path, names), tmp_path / "out", user=user), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("called", "split"), [("training", "train"), ("valid", "validation"), ("testing", "test")])
def test_splits_have_their_usual_spellings(tmp_path, called, split):
    prepare(folder(tmp_path, [f"{called}/emu/0.png", f"{called}/cat/0.png"]), tmp_path / "out")
    assert set(contents(tmp_path / "out", split)) == {"cat", "emu"}


def test_an_image_that_changed_and_kept_its_size_is_noticed(tmp_path, monkeypatch):
    """By the next run, be the store whole or only its first shards: those of the old image would stay in it."""
    names = [f"train/{user}/0.png" for user in "abc"]
    source = folder(tmp_path, names)
    monkeypatch.setattr("fedemb.data.own_images.Split", partial(Split, shard_bytes=1))
    whole = (source / names[2]).read_bytes()
    (source / names[2]).write_bytes(b"no image")
    refused(lambda: prepare(source, tmp_path / "out"), names[2])
    assert len(list((tmp_path / "out" / "train").glob(".*.json.partial"))) == 2
    (source / names[2]).write_bytes(whole)
    other = bytearray((source / names[0]).read_bytes())
    other[:] = image("other")[: len(other)].ljust(len(other), b"\0")
    (source / names[0]).write_bytes(other)
    prepare(source, tmp_path / "out")
    assert contents(tmp_path / "out")["a"] == [(0, bytes(other))]
    (source / names[0]).write_bytes(image(names[0]))
    refused(lambda: prepare(source, tmp_path / "out"), "other sources", "overwrite=true")


def test_how_large_a_user_is(tmp_path, monkeypatch):
    """So that large users do not wait in memory by the dozen."""
    asked = []
    monkeypatch.setattr(image_folder, "prepare_splits", lambda request, splits: asked.extend(splits))
    prepare(folder(tmp_path, CLASSES), tmp_path / "out")
    (train,) = (split for split in asked if split.info.split == "train")
    expected = [[*map(len, map(image, CLASSES[:2]))], [len(image(CLASSES[2]))]]
    assert [train.size(unit) for unit in train.units] == list(map(sum, expected))


def bomb():
    """A PNG that says it has 2^32 pixels."""
    data = bytearray(image("bomb"))
    data[16:24] = (1 << 16).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pickle.dumps([1]), ["train/cat/1.png", "a pickle, which is never opened"]),
        (b"<!DOCTYPE html>", ["train/cat/1.png", "it starts with b'<!DO'"]),
        (image("train/cat/1.png")[:-30], ["train/cat/1.png", "cannot be read as an image"]),
        (bomb(), ["train/cat/1.png", "65536 x 65536 pixels"]),
    ],
    ids=["pickle", "html", "cut", "bomb"],
)
def test_a_file_that_is_no_image_is_named(tmp_path, data, words):
    refused(lambda: prepare(folder(tmp_path, CLASSES, **{"train/cat/1.png": data}), tmp_path / "out"), *words)
    assert not (tmp_path / "out" / "train" / "manifest.json").exists()


def test_names_and_options_that_cannot_be(tmp_path):
    source = folder(tmp_path, CLASSES)
    refused(lambda: prepare(source, tmp_path / "out", user="person"), "user must be one of class, folder")
    refused(lambda: prepare(tmp_path / "none", tmp_path / "out"), "none", "source=")
    refused(lambda: OwnImages(name="a/b"), "name must be")
    refused(lambda: OwnImages(name="a", channels=2), "channels must be 1 (grey) or 3 (RGB)")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../train/cat/0.png", image("evil"))
    refused(lambda: prepare(tmp_path / "evil.zip", tmp_path / "out"), "'../train/cat/0.png'", "leaves")


def test_the_command_and_training_on_it(fedemb, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "data"))
    source = folder(tmp_path, [f"{number}/{place}.png" for number in range(8) for place in range(2)])
    code, out, err = fedemb("prepare", "image_folder", f"source={source}", "name=mine", "workers=0")
    assert code == 0, err
    assert "train: 8 users, 16 images" in out
    assert "Do not pass this store on" in out
    code, _, err = fedemb(
        "train", "users=omniglot", f"users.path={tmp_path}/data/mine", "+users.size=[8,8]", "test_users=none",
        "model.channels=3", "model.size=8", "embedding_width=8", "users_per_round=4", "users_per_client=2", "rounds=2",
        f"run={tmp_path}/run",
    )  # fmt: skip
    assert code == 0, err

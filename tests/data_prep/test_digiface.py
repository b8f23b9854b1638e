"""DigiFace-1M's zip files to stores: tiny archives under the published names and in the published layout."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from fedemb.data.manifest import read_manifest
from fedemb.data.preparation import Request
from fedemb.data.store import StoreUsers
from fedemb.data_prep import digiface

NAMES = {
    72: [f"subjects_{ids}_72_imgs.zip" for ids in ("0-1999", "2000-3999", "4000-5999", "6000-7999", "8000-9999")],
    5: [f"subjects_{ids}_5_imgs.zip" for ids in ("100000-133332", "133333-166665", "166666-199998")],
}
TRAIN = {NAMES[72][0]: (2, 10), NAMES[72][3]: (6000, 7999)}
HELD_OUT = {NAMES[72][4]: (8000, 8999, 9000)}
FIVE = {NAMES[5][0]: (100000,), NAMES[5][2]: (199998,)}
ALL = {**TRAIN, **HELD_OUT, **FIVE}


def face(identity, number, size=(112, 112), mode="RGB", kind="PNG"):
    """An image that tells whose it is: noise drawn by identity and number."""
    pixels = np.random.default_rng([identity, number]).integers(256, size=(*size[::-1], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def published(folder, archives=ALL, changes=None, prefix="", images=(0, 2, 10)):
    """Archives with three images an identity; k without leading zeros, so that 10 sorts before 2 as text."""
    folder.mkdir()
    for archive, identities in archives.items():
        members = {f"{prefix}{who}/{k}.png": face(who, k) for who in identities for k in images}
        with zipfile.ZipFile(folder / archive, "w") as opened:
            for name, content in {**members, **(changes or {}).get(archive, {})}.items():
                if content is not None:
                    opened.writestr(name, content)
    return folder


def prepare(source, out, part=72, **options):
    return digiface.prepare(Request(source=source, out=out, **{"allow_partial": True, **options}), part=part)


def ids(store):
    return [store.user_id(user) for user in range(store.num_users)]


def test_the_archives_are_the_published_ones():
    assert [one.file for one in digiface.PUBLISHED] == NAMES[72] + NAMES[5]
    assert sum((one.last - one.first + 1) * one.images for one in digiface.PUBLISHED) == 720_000 + 499_995


@pytest.mark.parametrize(
    ("part", "users"),
    [(72, ["2", "10", "6000", "7999"]), (5, ["100000", "199998"])],
)
def test_an_identity_is_a_user_of_the_split_its_number_says(tmp_path, part, users):
    prepare(published(tmp_path / "zips"), tmp_path / "out", part=part)
    assert ids(StoreUsers(path=tmp_path / "out")) == users  # by number, not as text
    assert ids(StoreUsers(path=tmp_path / "out", split="validation")) == ["8000", "8999"]
    assert ids(StoreUsers(path=tmp_path / "out", split="test")) == ["9000"]


def test_both_parts_train_and_files_are_kept_byte_for_byte(tmp_path):
    """Any prefix before the last two parts of a path; images in the order of their numbers."""
    prepare(published(tmp_path / "zips", prefix="some/top folder/"), tmp_path / "out", part="both")
    store = StoreUsers(path=tmp_path / "out")
    assert ids(store) == ["2", "10", "6000", "7999", "100000", "199998"]
    assert list(store.stored(1)) == [face(10, k) for k in (0, 2, 10)]
    batch = store.load(range(6))
    assert batch["label"].tolist() == [user for user in range(6) for _ in range(3)]
    pixels = np.asarray(Image.open(io.BytesIO(face(199998, 2)))).transpose(2, 0, 1)
    assert np.array_equal(batch["image"][16].numpy(), pixels)
    assert StoreUsers(path=tmp_path / "out", size=[224, 224]).load([0])["image"].shape == (3, 3, 224, 224)
    assert store.class_name(4) == "100000"


def test_the_manifest_says_terms_and_what_is_missing(tmp_path):
    prepare(published(tmp_path / "zips"), tmp_path / "out", part="both")
    train = read_manifest(tmp_path / "out" / "train")
    assert train.left_out == {"identities missing": 107_999 - 6, "images missing": 8_000 * 72 + 99_999 * 5 - 18}
    assert read_manifest(tmp_path / "out" / "test").left_out == {
        "identities missing": 999,
        "images missing": 72_000 - 3,
    }
    assert (train.info.codec, train.info.image_shape, train.info.classes) == ("png", (3, 112, 112), 6)
    assert train.info.user == "a synthetic identity"
    assert not train.info.redistributable
    assert "non-commercial" in train.info.licence
    assert train.info.command == "fedemb prepare digiface part=both source=<folder> allow_partial=true"
    assert [source.file for source in train.info.sources] == [*TRAIN, *FIVE, "splits/digiface.txt"]
    assert [source.file for source in read_manifest(tmp_path / "out" / "test").info.sources] == [
        *HELD_OUT,
        "splits/digiface.txt",
    ]


def test_another_part_replaces_the_training_store_only_when_told_and_keeps_the_others(tmp_path):
    zips = published(tmp_path / "zips")
    prepare(zips, tmp_path / "out")
    before = (tmp_path / "out" / "test" / "manifest.json").stat().st_mtime_ns
    with pytest.raises(ValueError, match="train holds another store"):
        prepare(zips, tmp_path / "out", part=5)
    prepare(zips, tmp_path / "out", part=5, overwrite=True)
    assert ids(StoreUsers(path=tmp_path / "out")) == ["100000", "199998"]
    assert (tmp_path / "out" / "test" / "manifest.json").stat().st_mtime_ns == before


def small(monkeypatch):
    """Published archives small enough to be whole in a test: 2 + 2 identities of 3 images around the splits' bounds."""
    whole = [digiface.Published(first=first, last=first + 1, images=3) for first in (7999, 8999)]
    monkeypatch.setattr(digiface, "PUBLISHED", tuple(whole))
    monkeypatch.setattr(digiface, "_TRAINS", {"72": (3,)})
    return {one.file: (one.first, one.last) for one in whole}


def test_whole_archives_have_nothing_missing(tmp_path, monkeypatch):
    zips = published(tmp_path / "zips", small(monkeypatch))
    prepared = prepare(zips, tmp_path / "out", allow_partial=False)
    assert [manifest.users for manifest in prepared.manifests] == [1, 2, 1]
    assert [manifest.left_out for manifest in prepared.manifests] == [{}, {}, {}]
    assert not prepare(zips, tmp_path / "out", allow_partial=False).written


def test_an_image_too_few_and_an_image_too_many(tmp_path, monkeypatch):
    first, second = archives = small(monkeypatch)
    few = published(tmp_path / "few", archives, {first: {"8000/2.png": None}})
    with pytest.raises(ValueError, match=r"holds 2 identities, 5 images, published are 2 identities, 6 images: get"):
        prepare(few, tmp_path / "out", allow_partial=False)
    uneven = published(tmp_path / "uneven", archives, {second: {"8999/2.png": None, "9000/3.png": face(9000, 3)}})
    with pytest.raises(ValueError, match=r"subjects_8999-9000_3_imgs.zip holds more than 3 images of identity 9000"):
        prepare(uneven, tmp_path / "out", allow_partial=False)
    assert not (tmp_path / "out").exists()


def test_counts_are_by_the_archives_names(tmp_path):
    zips = published(tmp_path / "zips", dict.fromkeys(NAMES[72], ()) | TRAIN | HELD_OUT)
    with pytest.raises(
        ValueError,
        match=r"subjects_0-1999_72_imgs.zip holds 2 identities, 6 images, published are 2000 identities, 144000 images",
    ):
        prepare(zips, tmp_path / "out", allow_partial=False)


def test_missing_archives_are_named(tmp_path):
    zips = published(tmp_path / "zips", TRAIN)
    with pytest.raises(ValueError, match=rf"no {NAMES[72][1]}, {NAMES[72][2]}, {NAMES[72][4]} in .*get them from http"):
        prepare(zips, tmp_path / "out", allow_partial=False)
    assert [manifest.info.split for manifest in prepare(zips, tmp_path / "out").manifests] == ["train"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=rf"no {NAMES[72][0]}, "):
        prepare(tmp_path / "empty", tmp_path / "out2")
    with pytest.raises(ValueError, match="part must be one of 72, 5, both, got part=6"):
        prepare(zips, tmp_path / "out", part=6)


FIRST = NAMES[72][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"2/0.png": face(2, 0)[:-40]}, r"0-1999_72_imgs.zip: 2/0.png: cannot be read as an image"),
        ({"2/0.png": b"\x80\x04\x95pickle"}, r"2/0.png: cannot be read .*a pickle, which is never opened"),
        ({"2/0.png": face(2, 0, kind="JPEG")}, r"2/0.png is a jpeg file under the name of a PNG"),
        ({"2/0.png": face(2, 0, size=(111, 112))}, r"2/0.png has 111 x 112 pixels, not 112 x 112"),
        ({"2/0.png": face(2, 0, size=(113, 112))}, r"2/0.png: .*113 x 112 pixels"),
        ({"2/0.png": face(2, 0, mode="L")}, r"2/0.png is grey, not in colour"),
        ({"2000/0.png": face(2000, 0)}, r"0-1999_72_imgs.zip: 2000/0.png: identity 2000 does not belong in"),
        ({"copy/2/00.png": face(2, 0)}, r"holds image 0 of identity 2 twice: 2/0.png and copy/2/00.png"),
        ({"../2/1.png": face(2, 1)}, r"holds '../2/1.png', a name that leaves the archive"),
    ],
    ids=["cut", "pickle", "jpeg", "smaller", "larger", "grey", "stranger", "twice", "leaves"],
)
def test_bad_images_are_refused_in_one_line(tmp_path, changes, message):
    zips = published(tmp_path / "zips", {FIRST: (2,)}, {FIRST: changes})
    with pytest.raises(ValueError, match=message) as caught:
        prepare(zips, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_cut_archive_is_refused(tmp_path):
    zips = published(tmp_path / "zips", TRAIN)
    os.truncate(zips / FIRST, 500)
    with pytest.raises(ValueError, match=rf"cannot read .*{FIRST}"):
        prepare(zips, tmp_path / "out")


def test_unpacked_archives_and_other_files_beside_the_images(tmp_path):
    zips = published(tmp_path / "zips", {FIRST: (2,)}, {FIRST: {"README.txt": b"x", "2/note.png.txt": b"x"}})
    with zipfile.ZipFile(zips / FIRST) as opened:
        opened.extractall(zips / FIRST.removesuffix(".zip"))
    prepare(zips, tmp_path / "zipped")
    (zips / FIRST).unlink()
    prepare(zips, tmp_path / "unpacked")
    stores = [StoreUsers(path=tmp_path / name) for name in ("zipped", "unpacked")]
    assert stores[0].checksum == stores[1].checksum
    assert [store.num_examples_total for store in stores] == [3, 3]


def test_workers_change_no_byte(tmp_path):
    zips = published(tmp_path / "zips", TRAIN)
    for workers in (0, 2):
        prepare(zips, tmp_path / str(workers), workers=workers)
    for file in ("manifest.json", "users-00000-of-00001.sqlite"):
        assert (tmp_path / "0" / "train" / file).read_bytes() == (tmp_path / "2" / "train" / file).read_bytes()


def test_prepare_then_train(tmp_path, fedemb, monkeypatch):
    zips = published(tmp_path / "zips", {FIRST: range(8), **HELD_OUT})
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "data"))
    words = ("part=72", f"source={zips}", "allow_partial=true", "workers=0")
    code, out, err = fedemb("prepare", "digiface", *words)
    assert code == 0, err
    assert "train: 8 users, 24 images of 3x112x112" in out
    assert "Do not pass this store on" in out
    small = ("users_per_round=4", "users_per_client=2", "rounds=2", "evaluate_every=2", "batching.max_examples=4")
    sizes = ("users.size=[32,32]", "test_users.size=[32,32]", "batching.batch_size=4", "allow_large_delta=true")
    code, _, err = fedemb("train", "recipe=digiface", *small, *sizes, f"run={tmp_path}/run")
    assert code == 0, err

"""The AT&T faces to stores: invented faces in the published layout, and the real ones where they are at hand."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fedemb.data.manifest import read_manifest
from fedemb.data.preparation import Request
from fedemb.data.store import StoreUsers
from fedemb.data_prep import att_faces

PEOPLE = ("s2", "s10", "s30", "s31", "s40")


def pgm(pixels):
    """P5 with the published header. pixels: [H, W] uint8."""
    return f"P5\n{pixels.shape[1]} {pixels.shape[0]}\n255\n".encode() + pixels.tobytes()


def face(person, number):
    """A dark page with a white upper left quarter and a grey that tells whose it is below."""
    pixels = np.zeros((112, 92), np.uint8)
    pixels[:56, :46] = 255
    pixels[56:, :] = int(person[1:]) + 10 * number
    return pgm(pixels)


def published(folder, people=PEOPLE, changes=None, prefix="", images=(1, 2, 10)):
    """att_faces.zip with its README and three images a person."""
    folder.mkdir()
    members = {f"{prefix}{person}/{k}.pgm": face(person, k) for person in people for k in images}
    with zipfile.ZipFile(folder / "att_faces.zip", "w") as opened:
        for name, content in {f"{prefix}README": b"faces", **members, **(changes or {})}.items():
            if content is not None:
                opened.writestr(name, content)
    return folder


def prepare(source, out, size=56, **options):
    return att_faces.prepare(Request(source=source, out=out, **{"allow_partial": True, **options}), size=size)


def ids(store):
    return [store.user_id(user) for user in range(store.num_users)]


def test_a_person_is_a_user_and_people_are_split_by_number(tmp_path):
    prepare(published(tmp_path / "zip"), tmp_path / "out")
    train, test = (StoreUsers(path=tmp_path / "out", split=split) for split in ("train", "test"))
    assert ids(train) == ["s2", "s10", "s30"]
    assert ids(test) == ["s31", "s40"]
    assert test.load([0, 1])["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert train.load([1])["image"][:, 0, 50, 50].tolist() == [20, 30, 110]  # s10, images 1, 2, 10


def test_pixels_are_upright_grey_and_square(tmp_path):
    """The white quarter stays the upper left one; 92 x 112 becomes 56 x 56 whatever that does to the aspect."""
    prepare(published(tmp_path / "zip"), tmp_path / "out")
    image = StoreUsers(path=tmp_path / "out").load([0])["image"][0, 0].numpy()
    assert image.shape == (56, 56)
    assert (image[:27, :27] == 255).all()
    assert (image[:27, 29:] == 0).all()
    assert (image[29:] == 12).all()
    prepare(published(tmp_path / "again"), tmp_path / "small", size=20)
    assert StoreUsers(path=tmp_path / "small").image_shape == (1, 20, 20)


def test_the_manifest_says_terms_and_what_is_missing(tmp_path):
    prepare(published(tmp_path / "zip"), tmp_path / "out")
    manifest = read_manifest(tmp_path / "out" / "train")
    assert manifest.left_out == {"people missing": 27, "images missing": 291}
    assert read_manifest(tmp_path / "out" / "test").left_out == {"people missing": 8, "images missing": 94}
    assert manifest.info.user == "a person"
    assert not manifest.info.presentable
    assert not manifest.info.redistributable
    assert "Olivetti Research Laboratory" in manifest.info.notice
    assert manifest.info.command == "fedemb prepare att_faces size=56 source=<folder> allow_partial=true"
    assert [source.file for source in manifest.info.sources] == ["att_faces.zip", "splits/att_faces.txt"]


def test_a_folder_of_people_is_as_good_as_the_zip(tmp_path):
    zipped = published(tmp_path / "zip", prefix="orl_faces/")
    with zipfile.ZipFile(zipped / "att_faces.zip") as opened:
        opened.extractall(tmp_path / "unpacked")
    sources = {"folder": zipped, "file": zipped / "att_faces.zip", "unpacked": tmp_path / "unpacked"}
    for name, source in sources.items():
        prepare(source, tmp_path / name)
    assert len({StoreUsers(path=tmp_path / name).checksum for name in sources}) == 1


def test_wrong_counts_fail_with_both_numbers(tmp_path):
    zipped = published(tmp_path / "zip")
    with pytest.raises(
        ValueError, match=r"att_faces.zip holds 5 people, 15 images, published are 40 people, 400 images: get the rest"
    ):
        prepare(zipped, tmp_path / "out", allow_partial=False)


@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_whole_set_of_other_people_is_refused(tmp_path, allow_partial):
    """Copies are about in which other people's photographs stand for some of the published ones."""
    zipped = published(tmp_path / "zip", [f"s{number}" for number in range(1, 41)], images=range(1, 11))
    with pytest.raises(ValueError, match="holds other images than were published: copies are about") as caught:
        prepare(zipped, tmp_path / "out", allow_partial=allow_partial)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"s2/1.pgm": face("s2", 1)[:-9]}, r"att_faces.zip: s2/1.pgm: cannot be read as an image"),
        ({"s2/1.pgm": b"\x80\x04\x95pickle"}, r"s2/1.pgm: cannot be read .*a pickle, which is never opened"),
        ({"s2/1.pgm": pgm(np.zeros((111, 92), np.uint8))}, r"s2/1.pgm has 92 x 111 pixels, not 92 x 112"),
        ({"s2/1.pgm": b"P5\n60000 60000\n255\n"}, r"s2/1.pgm: .*60000 x 60000 pixels"),
        ({"s41/1.pgm": face("s41", 1)}, r"s41/1.pgm is none of s1/1 … s40/10: copies with other people's faces"),
        ({"s2/11.pgm": face("s2", 1)}, r"s2/11.pgm is none of s1/1 … s40/10"),
        ({"copy/s2/1.pgm": face("s2", 1)}, r"holds image 1 of s2 twice: copy/s2/1.pgm and s2/1.pgm"),
        ({"../s3/1.pgm": face("s3", 1)}, r"holds '../s3/1.pgm', a name that leaves the archive"),
    ],
    ids=["cut", "pickle", "size", "bomb", "stranger", "number", "twice", "leaves"],
)
def test_bad_sources_are_refused_in_one_line(tmp_path, changes, message):
    zipped = published(tmp_path / "zip", changes=changes)
    with pytest.raises(ValueError, match=message) as caught:
        prepare(zipped, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_missing_source_or_size(tmp_path):
    with pytest.raises(ValueError, match=r"nothing to prepare from: get att_faces.zip of the AT&T Database"):
        prepare(None, tmp_path / "out")
    with pytest.raises(ValueError, match=r"no .*nowhere: get att_faces.zip"):
        prepare(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match="size must be an integer of at least 1, got size=0"):
        prepare(published(tmp_path / "zip"), tmp_path / "out", size=0)


def test_workers_change_no_byte(tmp_path):
    zipped = published(tmp_path / "zip")
    for workers in (0, 2):
        prepare(zipped, tmp_path / str(workers), workers=workers)
    for file in ("manifest.json", "users-00000-of-00001.sqlite"):
        assert (tmp_path / "0" / "train" / file).read_bytes() == (tmp_path / "2" / "train" / file).read_bytes()


def test_prepare_then_train(tmp_path, fedemb, monkeypatch):
    zipped = published(tmp_path / "zip", [f"s{number}" for number in (1, 2, 3, 4, 5, 31, 32)])
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "data"))
    code, out, err = fedemb("prepare", "att_faces", f"source={zipped}", "allow_partial=true", "workers=0", "size=16")
    assert code == 0, err
    assert "train: 5 users, 15 images of 1x16x16; 25 people missing" in out
    small = ("users_per_round=4", "users_per_client=2", "rounds=2", "evaluate_every=2", "model.size=16")
    code, _, err = fedemb("train", "recipe=att_faces", *small, f"run={tmp_path}/run")
    assert code == 0, err


@pytest.mark.skipif("FEDEMB_TEST_SOURCES" not in os.environ, reason="FEDEMB_TEST_SOURCES names no folder of real data")
def test_the_real_faces(tmp_path):
    source = Path(os.environ["FEDEMB_TEST_SOURCES"]) / "att_faces"
    if not source.exists():
        pytest.skip(f"no {source}")
    prepared = prepare(source, tmp_path / "out", allow_partial=False)
    assert [(manifest.users, manifest.examples) for manifest in prepared.manifests] == [(30, 300), (10, 100)]
    assert ids(StoreUsers(path=tmp_path / "out")) == [f"s{number}" for number in range(1, 31)]

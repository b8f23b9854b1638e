"""Google Landmarks in every published form to stores; the archives are tiny and made here."""

import io
import pickle
import re
import zipfile

import numpy as np
import pytest
from photo_archives import content, photo, request, table, tar_bytes, write
from PIL import Image
from tfrecords import example, records

from fedemb.data.manifest import read_manifest
from fedemb.data.store import StoreUsers
from fedemb.data_prep import landmarks

IDS = [f"{'fedcba98'[number % 8]}{number:015x}" for number in range(20)]
AUTHOR = 'Müller, Jörg "山"'
TRAIN = [  # image number, author, landmark; neither sorted by author nor by image
    (3, " 13 ", 7),
    (0, AUTHOR, 0),
    (2, AUTHOR, 202),
    (1, "12", 7),
    (4, AUTHOR, 0),
]
TEST = [(number, number % 3) for number in range(10, 20)]
PHOTOS = {IDS[number]: photo(number, size=(24 + number, 16)) for number in range(20)}


def tables(train=TRAIN, test=TEST):
    return (
        table("user_id,image_id,class", [(author, IDS[number], label) for number, author, label in train]),
        table("image_id,class", [(IDS[number], label) for number, label in test]),
    )


def tree(id):
    return f"{id[0]}/{id[1]}/{id[2]}/{id}.jpg"


def published(folder, *, photos=PHOTOS, names=("mini_gld_train_split.csv", "mini_gld_test.csv"), **changes):
    """Tables and images as flat files."""
    for name, text in zip(names, tables(**changes), strict=True):
        write(folder / name, text)
    for id, data in photos.items():
        write(folder / "images" / f"{id}.jpg", data)
    return folder


def prepare(source, out, name="gld23k", **options):
    asked = {option: options.pop(option) for option in ("short_side",) if option in options}
    return landmarks.prepare(request(source, out, **options), name=name, **asked)


def stored(out):
    return content(StoreUsers(path=out, size=(8, 8))), content(StoreUsers(path=out, split="test", size=(8, 8)))


def expected(train=TRAIN, test=TEST):
    """By hand from the rows: authors sorted, images by id; test in blocks of 8 by id."""
    authors = {
        author: sorted((IDS[number], label) for number, owner, label in train if owner == author)
        for author in sorted({author for _, author, _ in train})
    }
    rest = sorted((IDS[number], label) for number, label in test)
    blocks = {f"test-{start // 8:05d}": rest[start : start + 8] for start in range(0, len(rest), 8)}
    return tuple(
        {user: [(PHOTOS[id], label) for id, label in images] for user, images in users.items()}
        for users in (authors, blocks)
    )


def test_authors_are_users_and_files_stay_as_they_are(tmp_path):
    prepare(published(tmp_path / "gld"), tmp_path / "out")
    train, test = stored(tmp_path / "out")
    assert (train, test) == expected()
    assert list(train) == [" 13 ", "12", AUTHOR]
    assert [len(block) for block in test.values()] == [8, 2]
    info = StoreUsers(path=tmp_path / "out", size=(8, 8)).manifest.info
    assert (info.name, info.codec, info.classes, info.label) == ("gld23k", "jpeg", 203, "class")
    assert info.image_shape == (3, None, None)
    assert (info.redistributable, info.presentable) == (False, False)
    assert info.command == "fedemb prepare gld23k source=<folder> allow_partial=true"
    assert (info.user, info.trainable) == ("an author of photographs", True)
    test = read_manifest(tmp_path / "out" / "test").info
    assert (test.user, test.trainable) == ("a block of 8 test images in the order of the source (no person)", False)
    assert [source.file for source in info.sources] == ["mini_gld_train_split.csv", "gld/"]


def as_tree(folder):
    published(folder, photos={})
    for id, data in PHOTOS.items():
        write(folder / "train" / tree(id), data)


def as_tars(folder):
    """Three tars with other images and folders between; the last one lies with the tables."""
    published(folder, photos={})
    for number in range(3):
        mine = {tree(id): PHOTOS[id] for id in IDS[number::3]} | {f"0/0/0/{number:016x}a.jpg": b"not wanted"}
        under = "train" if number < 2 else "."
        write(folder / under / f"images_{number:03d}.tar", tar_bytes(mine))


def as_files_and_tars(folder):
    """Files come first: the tar's damaged copies of these are not looked at."""
    published(folder, photos={id: PHOTOS[id] for id in IDS[:12]})
    members = {tree(id): PHOTOS[id] for id in IDS[12:]} | {tree(id): b"?" for id in IDS[:12]}
    write(folder / "images_499.tar", tar_bytes(members))


def as_a_link(folder):
    """The images lie on another disk."""
    published(folder, photos={})
    published(folder.parent / "other")
    (folder / "images").symlink_to(folder.parent / "other" / "images")


def as_fedml(folder):
    names = ("data_user_dict/gld23k_user_dict_train.csv", "data_user_dict/gld23k_user_dict_test.csv")
    published(folder, names=names)


@pytest.mark.parametrize("form", [as_tree, as_tars, as_files_and_tars, as_a_link, as_fedml])
def test_every_form_gives_the_same_stores(tmp_path, form):
    form(tmp_path / "gld")
    prepare(tmp_path / "gld", tmp_path / "out")
    assert stored(tmp_path / "out") == expected()


@pytest.mark.parametrize("form", ["folder", "zip", "loose"])
def test_the_bundle_of_gld160k(tmp_path, form):
    train, test = tables([*TRAIN, (5, "z", 2027)])
    members = {"landmarks-user-160k/federated_train.csv": train, "landmarks-user-160k/test.csv": test}
    published(tmp_path, names=("other.csv", "unused.csv"))
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "landmarks-user-160k.zip", "w") as file:
            for name, text in members.items():
                file.writestr(name, text)
    else:
        for name, text in members.items():
            write(tmp_path / (name if form == "folder" else name.split("/")[1]), text)
    prepared = prepare(tmp_path, tmp_path / "out", name="gld160k")
    assert stored(tmp_path / "out") == expected([*TRAIN, (5, "z", 2027)])
    assert prepared.manifests[0].info.name == "gld160k"
    assert prepared.manifests[0].left_out == {
        "users missing": 1262 - 4,
        "classes missing": 2028 - 4,
        "images missing": 164_172 - 6,
    }


def cache(folder, name="gld23k"):
    """What TFF writes: a file for each author in the order of the table."""
    for author in {author for _, author, _ in TRAIN}:
        rows = [(PHOTOS[IDS[number]], label) for number, owner, label in TRAIN if owner == author]
        write(folder / "cache" / name / "train" / author, examples(rows))
    write(folder / "cache" / name / "train" / "nothing found", b"")
    write(folder / "cache" / name / "test.tfRecord", examples((PHOTOS[IDS[number]], label) for number, label in TEST))
    return folder


def examples(rows):
    return records([example(**{"image/encoded_jpeg": [image], "class": [label]}) for image, label in rows])


def test_the_cache_of_tff(tmp_path):
    prepared = prepare(cache(tmp_path / "gld"), tmp_path / "out")
    train, test = stored(tmp_path / "out")
    wanted = [[(PHOTOS[IDS[number]], label) for number, owner, label in TRAIN if owner == who] for who in train]
    assert list(train.values()) == wanted
    assert list(train) == [" 13 ", "12", AUTHOR]
    in_order = [(PHOTOS[IDS[number]], label) for number, label in TEST]
    assert list(test.values()) == [in_order[:8], in_order[8:]]
    assert prepared.manifests[0].left_out == {
        "users missing": 230,
        "images missing": 23_075,
        "users without images": 1,
    }
    with pytest.raises(ValueError, match=r"holds 3 users, 5 images, published are 233 users, 23080 images"):
        prepare(tmp_path / "gld", tmp_path / "other", allow_partial=False)


def test_missing_images_are_counted_and_users_without_any_are_dropped(tmp_path):
    photos = {id: data for id, data in PHOTOS.items() if id not in (IDS[1], IDS[2], IDS[15])}
    source = published(tmp_path / "gld", photos=photos)
    prepared = prepare(source, tmp_path / "out")
    train, test = stored(tmp_path / "out")
    assert list(train) == [" 13 ", AUTHOR]
    assert [label for _, label in train[AUTHOR]] == [label for _, label in sorted([(IDS[0], 0), (IDS[4], 0)])]
    assert [len(block) for block in test.values()] == [8, 1]
    assert prepared.manifests[0].left_out["images of the table missing"] == 2
    assert prepared.manifests[0].left_out["users without images"] == 1
    assert prepared.manifests[1].left_out == {"images of the table missing": 1}


def test_missing_images_need_permission(tmp_path, monkeypatch):
    whole = landmarks.Published(users=3, classes=3, images=5, tables=landmarks.PUBLISHED["gld23k"].tables)
    monkeypatch.setitem(landmarks.PUBLISHED, "gld23k", whole)
    rows = [(number, owner, number % 3) for number, owner, _ in TRAIN]
    source = published(tmp_path / "gld", train=rows)
    prepared = prepare(source, tmp_path / "whole", allow_partial=False)
    assert [manifest.left_out for manifest in prepared.manifests] == [{}, {}]
    for number in (4, 2):
        (source / "images" / f"{IDS[number]}.jpg").unlink()
    first = min(IDS[4], IDS[2])
    message = rf"2 of 5 images of .*train_split.csv are not in {re.escape(str(source))}, the first is {first}.jpg: get"
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "out", allow_partial=False)
    assert not (tmp_path / "out").exists()


def test_images_of_several_authors_and_of_both_splits_are_kept_and_told(tmp_path):
    train, test = [*TRAIN, (0, "other", 5), (0, "third", 5)], [*TEST, (3, 7)]
    prepared = prepare(published(tmp_path / "gld", train=train, test=test), tmp_path / "out")
    assert stored(tmp_path / "out") == expected(train, test)
    assert prepared.manifests[0].left_out["images that several users have, kept for each"] == 1
    assert prepared.manifests[1].left_out == {"images that are training images too, kept": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, "", 1)], r"train_split.csv, line 2: the user_id is empty: fill it in, or remove the line"),
        ([(0, "a", 1), (1, "a", "1.0")], r"line 3: class '1.0' is no whole number from 0 to 202: get this data set's"),
        ([(0, "a", 203)], r"line 2: class '203' is no whole number from 0 to 202"),
        ([(0, "a", -1)], r"line 2: class '-1' is no whole number"),
        ([(0, "a", "²")], r"line 2: class '²' is no whole number"),
        ([(0, "a", 1), (1, "a", 1), (0, "a", 2)], r"line 4: image \w+ of user 'a' again, as in line 2: remove one"),
        ([], r"train_split.csv has no rows under its header: get the table again"),
    ],
)
def test_bad_rows_are_told_with_file_line_and_remedy(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        prepare(published(tmp_path / "gld", train=rows), tmp_path / "out")


def test_bad_tables_are_told(tmp_path):
    source = published(tmp_path / "gld", test=[(10, 1), (11, 1), (10, 1)])
    with pytest.raises(ValueError, match=r"mini_gld_test.csv, line 4: image \w+ again, as in line 2"):
        prepare(source, tmp_path / "out")
    write(source / "mini_gld_test.csv", "image_id,class\r\n,3\r\n")
    with pytest.raises(ValueError, match=r"mini_gld_test.csv, line 2: the image_id is empty"):
        prepare(source, tmp_path / "out")
    write(source / "mini_gld_test.csv", "id,url,landmark_id\r\n")
    with pytest.raises(ValueError, match=r"no column image_id, its columns are id, url, landmark_id"):
        prepare(source, tmp_path / "out")
    (source / "mini_gld_test.csv").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*mini_gld_test.csv"):
        prepare(source, tmp_path / "out")


def test_more_than_was_published_is_another_data_set(tmp_path):
    rows = [(number % 20, f"u{number}", 0) for number in range(234)]
    with pytest.raises(ValueError, match=r"holds 234 users, 1 classes, 20 images, published are 233 users, 203 cl"):
        prepare(published(tmp_path / "gld", train=rows), tmp_path / "out")


def test_no_source(tmp_path):
    with pytest.raises(ValueError, match=r"nothing to prepare from: get mini_gld_train_split.csv, mini_gld_test.csv"):
        prepare(None, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no federated_train.csv, .*and no TFF cache gld160k, in .*empty: get them"):
        prepare(tmp_path / "empty", tmp_path / "out", name="gld160k")
    with pytest.raises(ValueError, match=r"name must be one of gld23k, gld160k, got name=gld"):
        prepare(tmp_path, tmp_path / "out", name="gld")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps([1]), r"cannot be read as an image \(no PNG, .* a pickle, which is never opened"),
        (PHOTOS[IDS[0]][:-60], r"cannot be read as an image"),
        (b"", r"cannot be read as an image"),
        (b"P6 1 1 255\n\0\0\0", r"a pnm file where a JPEG should be: get it again"),
    ],
)
def test_a_bad_image_is_told_with_its_archive_and_name(tmp_path, data, message):
    source = published(tmp_path / "gld", photos={})
    write(source / "images_000.tar", tar_bytes({tree(id): data if id == IDS[2] else PHOTOS[id] for id in IDS}))
    with pytest.raises(ValueError, match=re.escape(f"{source}/images_000.tar: {tree(IDS[2])}: ") + message):
        prepare(source, tmp_path / "out")


def test_a_bad_image_of_a_cache_is_told_with_its_file(tmp_path):
    source = cache(tmp_path / "gld")
    write(source / "cache" / "gld23k" / "train" / "12", examples([(PHOTOS[IDS[0]], 0), (b"?", 0)]))
    with pytest.raises(ValueError, match=r"train/12: image 1 of 12: cannot be read as an image"):
        prepare(source, tmp_path / "out")


def test_bad_archives_are_told(tmp_path):
    source = published(tmp_path / "gld", photos={})
    whole = tar_bytes({tree(id): PHOTOS[id] for id in IDS})
    write(source / "images_000.tar", whole[: len(whole) // 3])
    with pytest.raises(ValueError, match=r"cannot read .*images_000.tar .*: get the file again"):
        prepare(source, tmp_path / "out")
    write(source / "images_000.tar", tar_bytes({f"../{IDS[0]}.jpg": PHOTOS[IDS[0]]}))
    with pytest.raises(ValueError, match=r"images_000.tar holds '../\w+.jpg', a name that leaves the archive"):
        prepare(source, tmp_path / "out")


def test_an_image_at_two_places_is_refused(tmp_path):
    source = published(tmp_path / "gld")
    again = write(source / "train" / tree(IDS[2]), PHOTOS[IDS[2]])
    message = f"image {IDS[2]} is at {source}/images/{IDS[2]}.jpg and at {again}: remove one of the two from {source}"
    with pytest.raises(ValueError, match=re.escape(message)):
        prepare(source, tmp_path / "out")


def test_short_side_makes_larger_images_smaller_once(tmp_path):
    photos = {id: photo(number, size=(60, 40) if number % 2 else (20, 10)) for number, id in enumerate(IDS)}
    prepare(published(tmp_path / "gld", photos=photos), tmp_path / "out", short_side=20)
    users = StoreUsers(path=tmp_path / "out", size=(8, 8))
    assert users.manifest.info.command == "fedemb prepare gld23k source=<folder> short_side=20 allow_partial=true"
    assert "the short side at most 20 pixels" in users.manifest.info.description
    train, _ = stored(tmp_path / "out")
    assert [image == photos[IDS[number]] for number in (0, 2, 4) for image, _ in train[AUTHOR]].count(True) == 3
    ((small, _),) = train["12"]
    assert size_of(small) == (30, 20)
    assert np.abs(users.load([1])["image"].numpy().astype(int)[0, :, 4, 4] - [10, 248, 40]).max() <= 3


def size_of(data):
    return Image.open(io.BytesIO(data)).size


def test_workers_change_nothing(tmp_path):
    source = published(tmp_path / "gld")
    for workers in (0, 2):
        prepare(source, tmp_path / f"out{workers}", workers=workers)
    for file in ("train/users-00000-of-00001.sqlite", "test/users-00000-of-00001.sqlite", "train/manifest.json"):
        assert (tmp_path / "out0" / file).read_bytes() == (tmp_path / "out2" / file).read_bytes()


@pytest.mark.parametrize("name", ["gld23k", "gld160k"])
def test_the_command_prepares_and_the_recipe_trains_on_it(fedemb, tmp_path, monkeypatch, name):
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "data"))
    names = {
        "gld23k": ("mini_gld_train_split.csv", "mini_gld_test.csv"),
        "gld160k": ("gld160k_user_dict_train.csv", "gld160k_user_dict_test.csv"),
    }
    source = published(tmp_path / "gld", names=names[name])
    code, out, err = fedemb("prepare", name, f"source={source}", "workers=0")
    assert code == 2
    assert "holds 3 users, 3 classes, 5 images, published are" in err
    code, out, err = fedemb("prepare", name, f"source={source}", "workers=0", "allow_partial=true")
    assert code == 0, err
    assert f"prepared {name} in {tmp_path / 'data' / name}" in out
    assert "train: 3 users, 5 images of 3 channels, kept in their own sizes" in out
    assert "Do not pass this store on" in out
    code, _, err = fedemb("train", f"recipe={name}", *SMALL, f"run={tmp_path}/run")
    assert code == 0, err


SMALL = (
    "users.size=[32,32]",
    "test_users.size=[32,32]",
    "users_per_round=2",
    "users_per_client=2",
    "rounds=2",
    "evaluate_every=2",
    "batching.max_examples=4",
)

"""What a run says about its guarantee: what a user is, what is not covered, and whom it refuses."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from cli_stores import INFO
from PIL import Image

from fedemb.data.record import UserRecord
from fedemb.data.store import StoreUsers
from fedemb.data.store_writer import write_store

NOT_COVERED = "metrics are exact functions of the test users' images, which the guarantee does not cover"
SMALL = (
    "recipe=omniglot_dp", "rounds=1", "users_per_round=4", "users_per_client=2", "local_classes=4", "delta=0.1",
    "allow_large_delta=true", "noise_multiplier=1", "embedding_width=8",
)  # fmt: skip


def make_store(path, split="train", shift=0, **changes):
    info = replace(INFO, split=split, image_shape=(1, 28, 28), classes=4, label="identity", **changes)
    records = [
        UserRecord.from_pixels(
            id=f"u{u}", images=np.full((2, 1, 28, 28), 9 * u + shift, np.uint8), labels=np.full(2, u)
        )
        for u in range(4)
    ]
    write_store(path / split, info=info, records=records)
    return path


def make_albums(path, shift=0):
    for user in range(4):
        (path / f"u{user}").mkdir(parents=True)
        for number in range(2):
            Image.new("L", (28, 28), 40 * user + number + shift).save(path / f"u{user}" / f"{number}.png")
    return path


def store_words(path):
    return "users=store", f"users.path={path}", "users.split=train", "test_users=store"


def folder_words(path):
    return "users=folder", f"users.root={path}", "users.channels=1", "users.size=[28,28]"


def told(run):
    return json.loads((run / "report.json").read_text())["privacy"]


def refused(result, *words):
    """Exit code 2 and one line on stderr that holds the words."""
    code, _, err = result
    assert (code, err.count("\n")) == (2, 1), err
    for word in words:
        assert word in err
    return True


def test_every_form_of_the_claim_says_what_a_user_is(fedemb, tmp_path):
    path, run = make_store(tmp_path / "toy", user="a clerk"), tmp_path / "run"
    make_store(path, split="test", shift=3, user="a visitor")
    code, out, err = fedemb("train", *SMALL, *store_words(path), f"run={run}")
    assert code == 0, err
    assert f"a user is a clerk; {NOT_COVERED}\n" in out
    assert told(run)["user"] == "a clerk"
    for text in (told(run)["claim"], (run / "report.html").read_text().replace("&#x27;", "'")):
        assert "A user is a clerk." in text
        assert NOT_COVERED in text
    answer = json.loads(fedemb("account", f"run={run}", "format=json")[1])
    assert answer["user"] == "a clerk"
    assert answer["claim"].endswith("; a user is a clerk")
    assert fedemb("account", f"run={run}")[1].splitlines()[0].endswith("; a user is a clerk")
    (run / "report.json").unlink()
    assert json.loads(fedemb("account", f"run={run}", "format=json")[1])["user"] is None


@pytest.mark.parametrize(
    ("words", "user"),
    [((), "one directory of images"), (("users.privacy_unit='a patient (of ward 3)'",), "a patient (of ward 3)")],
)
def test_a_folder_says_it_or_its_owner_does(fedemb, tmp_path, words, user):
    albums, run = make_albums(tmp_path / "albums"), tmp_path / "run"
    code, _, err = fedemb("train", *SMALL, *folder_words(albums), "test_users=none", f"run={run}", *words)
    assert code == 0, err
    assert told(run)["user"] == user


@pytest.mark.parametrize(
    ("words", "user"), [((), 'one value of the column "who"'), (("users.privacy_unit=a patient",), "a patient")]
)
def test_a_table_says_it_or_its_owner_does(fedemb, tmp_path, words, user):
    albums, run = make_albums(tmp_path / "albums"), tmp_path / "run"
    rows = [f"{file.parent.name},{file.relative_to(albums)}" for file in sorted(albums.rglob("*.png"))]
    (albums / "table.csv").write_text("\n".join(["who,path", *rows]))
    table = "users=table", f"users.path={albums}/table.csv", "users.columns.user=who", "users.channels=1"
    code, _, err = fedemb("train", *SMALL, *table, "test_users=none", f"run={run}", *words)
    assert code == 0, err
    assert told(run)["user"] == user


def test_computed_images_and_single_images_say_it_too(fedemb, tiny, tmp_path):
    fedemb("train", *tiny, f"run={tmp_path}/a", "noise_multiplier=1", "rounds=1")
    assert told(tmp_path / "a")["user"] == "a made-up user of computed images (no person)"
    path = make_store(tmp_path / "toy")
    gone = [f"~users.{key}" for key in ("num_users", "examples_per_user", "classes", "image_shape", "seed")]
    base = f"+users.base={{_target_: fedemb.data.store.StoreUsers, path: {path}}}"
    words = "users=synthetic", *gone, base, "users._target_=fedemb.data.users.ExampleAsUser", "test_users=none"
    code, out, err = fedemb("train", *SMALL, *words, f"run={tmp_path}/b")
    assert code == 0, err
    assert out.count("a user is a single image\n") == 1  # nothing was measured
    assert "metrics" not in told(tmp_path / "b")["claim"]
    assert (told(tmp_path / "b")["unit"], told(tmp_path / "b")["user"]) == ("example", "a single image")


@pytest.mark.parametrize("unit", ["''", "'a patient.'"])
def test_a_user_that_is_no_phrase_is_one_line(fedemb, tmp_path, unit):
    words = (*folder_words(make_albums(tmp_path / "albums")), "test_users=none", f"users.privacy_unit={unit}")
    result = fedemb("train", *SMALL, *words, f"run={tmp_path}/run")
    assert refused(result, "privacy_unit must be a noun phrase in one line, e.g. privacy_unit='a writer'")


@pytest.mark.parametrize("kind", ["store.StoreUsers", "duplicates.OneOwner"])
def test_users_who_are_nobody_are_not_trained_on(fedemb, tmp_path, kind):
    """They are measured on: the refusal looks at the store, not at the split's name."""
    path = make_store(tmp_path / "toy", user="a block of test images (no person)", trainable=False)
    words = "users=store", f"users._target_=fedemb.data.{kind}", f"users.path={path}", "test_users=none"
    result = fedemb("train", *SMALL, *words, f"run={tmp_path}/run")
    assert refused(result, "no users to train on", "a block of test images (no person)", "take another split")
    assert not (tmp_path / "run").exists()
    people = make_store(tmp_path / "people", shift=3)
    words = *store_words(people), f"test_users.path={path}", "test_users.split=train", f"run={tmp_path}/run"
    assert fedemb("train", *SMALL, *words)[0] == 0


def copy_of(path):
    shutil.copytree(path, path.with_name("copy"))
    return path.with_name("copy")


def same_records(path):
    return make_store(path.with_name("same records"), name="another")


def repaired(path):
    """Prepared from the same files in the same way, by a program that reads them otherwise."""
    return make_store(path.with_name("repaired"), shift=1)


@pytest.mark.parametrize("other", [lambda path: path, copy_of, same_records, repaired])
def test_a_release_does_not_measure_on_the_store_that_it_trains_on(fedemb, tmp_path, other):
    path = make_store(tmp_path / "toy")
    tested = f"test_users.path={other(path)}", "test_users.split=train", "test_users.size=[28,28]"
    words = *SMALL, *store_words(path), *tested
    result = fedemb("train", *words, "mode=release", f"run={tmp_path}/run")
    assert refused(result, "mode=release cannot measure on the images that it trains on", "test_users=none")
    assert not (tmp_path / "run").exists()
    assert fedemb("train", *words, f"run={tmp_path}/run")[0] == 0


def test_a_release_does_not_measure_on_files_that_it_trains_on(fedemb, tmp_path):
    """Whether the folder is named in another way, read in another size, or split so that one user is in both."""
    albums = make_albums(tmp_path / "albums")
    (tmp_path / "link").symlink_to(albums)
    (tmp_path / "one.txt").write_text("test u0\n")
    again = "test_users=folder", f"test_users.root={tmp_path}/link", "test_users.split=null"
    one = "test_users=folder", f"test_users.split_file={tmp_path}/one.txt"
    for words in (again, (*again, "test_users.size=[32,32]"), one):
        result = fedemb("train", *SMALL, *folder_words(albums), *words, "mode=release", f"run={tmp_path}/run")
        assert refused(result, "mode=release cannot measure on the images that it trains on")


def test_a_release_knows_an_image_again_by_its_bytes(fedemb, tmp_path):
    """Behind a link, as a copy under another name, and in stores that were prepared of it in two ways."""
    albums = make_albums(tmp_path / "albums")
    for user, put in (("link", lambda f, to: to.symlink_to(f)), ("copy", shutil.copyfile)):
        make_albums(tmp_path / user, shift=7)
        (tmp_path / user / "u9").mkdir()
        put(albums / "u2" / "1.png", tmp_path / user / "u9" / "x.png")
    for name, words in (("plain", ()), ("small", ("short_side=28",))):
        source = "image_folder", f"source={albums}", f"name={name}", f"out={tmp_path}/{name}", "channels=1", "workers=0"
        assert fedemb("prepare", *source, *words)[0] == 0
    train = folder_words(albums)
    store = "users=store", f"users.path={tmp_path}/plain", "users.split=train", "users.size=[28,28]"
    folders = [
        ["test_users=folder", f"test_users.root={tmp_path}/{n}", "test_users.split=null"] for n in ("link", "copy")
    ]
    stores = [
        ["test_users=store", f"test_users.path={tmp_path}/{n}", "test_users.split=train"] for n in ("plain", "small")
    ]
    unread = [*folders[0], "users.verify=false"]
    for words in (
        *((*train, *test) for test in (*folders, unread, *((*test, "test_users.size=[28,28]") for test in stores))),
        *((*store, *test) for test in (stores[1], [*folders[1], "test_users.channels=1", "test_users.size=[28,28]"])),
    ):
        result = fedemb("train", *SMALL, *words, "mode=release", f"run={tmp_path}/run")
        assert refused(result, "mode=release cannot measure on the images that it trains on")


def test_training_says_that_images_have_several_owners(fedemb, tmp_path):
    albums = make_albums(tmp_path / "albums")
    shutil.copyfile(albums / "u2" / "1.png", albums / "u3" / "again.png")
    source = "image_folder", f"source={albums}", "name=mine", f"out={tmp_path}/mine", "channels=1", "workers=0"
    code, out, err = fedemb("prepare", *source)
    assert code == 0, err
    line = "up to 2 owners: the guarantee is for a user id; ids_per_user=2 covers the images' owners"
    assert f"  1 image has {line}\n" in out
    assert "images of 1 channel, kept in their own sizes" in out
    store = "users=store", f"users.path={tmp_path}/mine", "users.split=train", "users.size=[28,28]"
    for number, words in enumerate((folder_words(albums), store)):
        words = *SMALL, *words, "test_users=none"
        code, out, err = fedemb("train", *words, f"run={tmp_path}/{number}")
        assert code == 0, err
        assert f"some images have {line}\n" in out
        code, out, err = fedemb("train", *words, "ids_per_user=2", f"run={tmp_path}/{number}-2")
        assert code == 0, err
        assert line not in out


def test_a_release_measures_on_other_users_of_the_same_folder(fedemb, tmp_path):
    albums = make_albums(tmp_path / "albums")
    for user in ("u4", "u5"):
        shutil.copytree(make_albums(tmp_path / user, shift=7) / "u0", albums / user)
    (tmp_path / "splits.txt").write_text("".join(f"{'test' if u > 3 else 'train'} u{u}\n" for u in range(6)))
    words = *folder_words(albums), "users.split=train", f"users.split_file={tmp_path}/splits.txt", "test_users=folder"
    code, _, err = fedemb("train", *SMALL, *words, "mode=release", f"run={tmp_path}/run")
    assert code == 0, err


def test_a_release_measures_on_the_other_split_of_the_same_store(fedemb, tmp_path):
    path = make_store(tmp_path / "toy")
    make_store(path, split="test", shift=3)
    code, _, err = fedemb("train", *SMALL, *store_words(path), "mode=release", f"run={tmp_path}/run")
    assert code == 0, err
    assert StoreUsers(path=path).traces.isdisjoint(StoreUsers(path=path, split="test").traces)

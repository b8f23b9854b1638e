"""Damage of any kind is noticed when it is read, in one line that says what, where and how to mend it."""

import os
import shutil
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from stores import COUNTS, INFO, pixels, prepared, records, shards_of

from fedemb.data import shards
from fedemb.data.store import StoreUsers
from fedemb.data.store_writer import write_store, write_units


def mend(out):
    return f"; prepare it again with 'fedemb prepare toy out={out} overwrite=true'"


def change(shard, statement, *values):
    with sqlite3.connect(shard) as database:
        database.execute(statement, values)
    database.close()


def refusal(read, *arguments):
    with pytest.raises(ValueError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def flipped(content):
    return bytes([content[0] ^ 1]) + content[1:]


HEAD = "the record of user 3 does not match its checksum"


@pytest.mark.parametrize(
    ("field", "damage", "what"),
    [
        ("id", lambda id: id.replace("3", "4"), HEAD),
        ("id", lambda id: id.encode(), HEAD),
        ("examples", lambda count: count - 1, HEAD),
        ("examples", lambda count: -1, HEAD),
        ("examples", lambda count: "five", HEAD),
        ("checksum", flipped, HEAD),
        ("labels", flipped, HEAD),
        ("labels", lambda labels: labels[8:], HEAD),
        ("labels", lambda labels: 7, HEAD),
        ("sizes", flipped, HEAD),
        ("sizes", lambda sizes: sizes + sizes, HEAD),
        ("sizes", lambda sizes: sizes.decode("latin-1"), HEAD),
        ("digests", flipped, HEAD),
        ("digests", lambda digests: digests[16:] + digests[:16], HEAD),
        ("images", flipped, "image 0 of user 3 ('näme 3, with a comma') does not match its checksum"),
        (
            "images",
            lambda images: images[:-1],
            "image 4 of user 3 ('näme 3, with a comma') does not match its checksum",
        ),
        ("images", lambda images: b"", "image 0 of user 3 ('näme 3, with a comma') does not match its checksum"),
        ("images", lambda images: "text", "the images of user 3 are str"),
    ],
)
def test_every_changed_field_is_noticed(tmp_path, field, damage, what):
    prepared(tmp_path)
    (shard,) = shards_of(tmp_path)
    size = shard.stat().st_size
    with sqlite3.connect(shard) as database:
        ((old,),) = database.execute(f"SELECT {field} FROM users WHERE position = 3").fetchall()
    database.close()
    change(shard, f"UPDATE users SET {field} = ? WHERE position = 3", damage(old))
    assert shard.stat().st_size == size
    users = StoreUsers(path=tmp_path)
    assert np.array_equal(users.load([0, 4])["image"].numpy(), np.concatenate([pixels()[0][1], pixels()[4][1]]))
    assert refusal(users.load, [0, 3]) == f"store {tmp_path}/train is damaged: {what}{mend(tmp_path)}"
    if field != "images":
        for read in (users.num_examples, users.user_id, users.labels):
            assert refusal(read, 3) == f"store {tmp_path}/train is damaged: {what}{mend(tmp_path)}"


@pytest.mark.parametrize("what", ["image", "label", "id", "digest"])
def test_a_flipped_bit_in_the_file_is_noticed(tmp_path, what):
    """Found in the bytes as they lie on disk: images as they are, labels as 8 bytes each, ids in UTF-8."""
    prepared(tmp_path)
    (shard,), (id, images, labels) = shards_of(tmp_path), pixels()[3]
    content = bytearray(shard.read_bytes())
    sought = {"image": images.tobytes(), "label": labels.astype("<i8").tobytes(), "id": id.encode()}
    where = content.index(sought[what]) if what in sought else content.index(images.tobytes()) - 1
    content[where] ^= 1
    shard.write_bytes(content)
    assert "does not match its checksum" in refusal(StoreUsers(path=tmp_path).load, [3])


def test_an_image_that_is_cut_off_is_noticed_by_whom_reads_a_part(tmp_path):
    prepared(tmp_path)
    (shard,) = shards_of(tmp_path)
    change(shard, "UPDATE users SET images = substr(images, 1, 100) WHERE position = 3")
    users = StoreUsers(path=tmp_path)
    assert len(users.load_examples([3], [np.array([0, 3])])["label"]) == 2  # bytes 0 .. 23 and 72 .. 95
    assert "image 4 of user 3" in refusal(users.load_examples, [3], [np.array([4])])


def test_swapped_users_are_noticed(tmp_path):
    """Each record is whole, but another user's."""
    prepared(tmp_path)
    (shard,) = shards_of(tmp_path)
    for old, new in ((0, 99), (3, 0), (99, 3)):
        change(shard, "UPDATE users SET position = ? WHERE position = ?", new, old)
    assert "the record of user 0 does not match" in refusal(StoreUsers(path=tmp_path).load, [0])


def test_a_missing_row_is_noticed(tmp_path):
    prepared(tmp_path)
    change(shards_of(tmp_path)[0], "DELETE FROM users WHERE position = 2")
    users = StoreUsers(path=tmp_path)
    assert f"the record of user 2 is missing{mend(tmp_path)}" in refusal(users.load, [2])
    assert f"the record of user 2 is missing{mend(tmp_path)}" in refusal(users.num_examples, 2)


def test_a_file_that_is_no_database_is_noticed_on_reading_but_opening_reads_none_of_it(tmp_path):
    """Opening takes the manifest's word, so it costs the same for any number of users."""
    prepared(tmp_path)
    (shard,) = shards_of(tmp_path)
    shard.write_bytes(b"x" * shard.stat().st_size)
    users = StoreUsers(path=tmp_path)
    assert users.num_users == 7
    assert "user 1 cannot be read (file is not a database)" in refusal(users.load, [1])
    assert "class 1 cannot be read (file is not a database)" in refusal(users.class_name, 1)


def test_a_truncated_or_missing_file_is_noticed_on_opening(tmp_path):
    prepared(tmp_path)
    (shard,) = shards_of(tmp_path)
    size = shard.stat().st_size
    os.truncate(shard, size - 8192)
    assert f"{shard.name} has {size - 8192} bytes and not {size}{mend(tmp_path)}" in refusal(
        lambda: StoreUsers(path=tmp_path)
    )
    shard.unlink()
    assert f"{shard.name} is missing{mend(tmp_path)}" in refusal(lambda: StoreUsers(path=tmp_path))


def test_a_file_that_goes_after_opening_is_noticed(tmp_path):
    users = prepared(tmp_path)
    (shard,) = shards_of(tmp_path)
    content = shard.read_bytes()
    shard.unlink()
    assert "user 3 cannot be read (unable to open database file)" in refusal(users.load, [3])
    shard.write_bytes(content[: len(content) // 2])
    assert "user 3 cannot be read" in refusal(users.load, [3])


def test_a_changed_class_name_is_noticed(tmp_path):
    names = [str(number) for number in range(100)]
    write_units(tmp_path / "train", info=INFO, units=lambda first: [list(records())], class_names=names)
    change(shards_of(tmp_path)[0], "UPDATE classes SET name = 'x' WHERE label = 7")
    users = StoreUsers(path=tmp_path)
    assert users.class_name(8) == "8"
    assert f"the name of class 7 does not match its checksum{mend(tmp_path)}" in refusal(users.class_name, 7)


def test_another_stores_manifest_is_noticed(tmp_path):
    """Both stores have as many users and bytes: only what is sealed into the files tells them apart."""
    for name, licence in (("mine", "MIT"), ("other", "CC0")):
        write_store(tmp_path / name / "train", info=replace(INFO, licence=licence), records=records(), shard_bytes=200)
    shutil.copy(tmp_path / "other" / "train" / "manifest.json", tmp_path / "mine" / "train" / "manifest.json")
    users = StoreUsers(path=tmp_path / "mine")
    for user in range(7):
        assert "sqlite belongs to another store than manifest.json" in refusal(users.load, [user])


def test_shards_that_were_swapped_between_splits_are_noticed(tmp_path):
    for split in ("train", "test"):
        write_store(tmp_path / split, info=replace(INFO, split=split), records=records())
    (shard,) = shards_of(tmp_path)
    shutil.copy(tmp_path / "test" / shard.name, shard)
    assert "belongs to another store" in refusal(StoreUsers(path=tmp_path).load, [0])


def test_shards_that_were_swapped_within_a_store_are_noticed(tmp_path):
    """The first and the third hold three users each, in files of the same size."""
    users = prepared(tmp_path, shard_bytes=200)
    first, _, third = shards_of(tmp_path)
    assert first.stat().st_size == third.stat().st_size
    aside = first.rename(tmp_path / "aside")
    third.rename(first)
    aside.rename(third)
    users = StoreUsers(path=tmp_path)
    for user in (0, 1, 2, 4, 5, 6):
        assert "is missing" in refusal(users.load, [user])
    assert len(users.load([3])["label"]) == COUNTS[3]


def test_a_store_of_many_files_holds_few_of_them_open(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_MOST_OPEN", 3)
    users = prepared(tmp_path, shard_bytes=1)
    for user in (0, 1, 2, 3, 4, 5, 6, 0, 6, 3):
        assert len(users.load([user])["label"]) == COUNTS[user]
        handles = [os.readlink(f"/proc/self/fd/{handle}") for handle in os.listdir("/proc/self/fd") if _lives(handle)]
        assert 1 <= sum(str(tmp_path) in handle for handle in handles) <= 3


def _lives(handle):
    return os.path.lexists(f"/proc/self/fd/{handle}")

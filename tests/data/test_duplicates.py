"""Shared images by hand: users A to D own the images whose letters stand in their rows."""

import hashlib
import pickle

import numpy as np
import pytest
import torch

from fedemb.data.duplicates import OneOwner, SharedImages, keeper
from fedemb.data.manifest import StoreInfo
from fedemb.data.record import UserRecord, digest
from fedemb.data.store import StoreUsers
from fedemb.data.store_writer import write_units
from fedemb.data.users import ExampleAsUser, InMemoryUsers, share_images
from fedemb.testing import check_user_dataset

OWNED = {"Ann": "abcc", "Bob": "bdc", "Cid": "", "Dan": "b", "Eve": "eff"}


def image(letter):
    return np.full((1, 2, 2), ord(letter), np.uint8)


def digest_of(letter):
    return digest(image(letter).tobytes())


def store(folder, owned=OWNED, stop=None):
    records = [
        UserRecord.from_pixels(
            id=user,
            images=np.array([image(letter) for letter in letters], np.uint8).reshape(-1, 1, 2, 2),
            labels=np.full(len(letters), number),
        )
        for number, (user, letters) in enumerate(owned.items())
    ]
    info = StoreInfo(
        name="mine", split="train", user="an owner", image_shape=(1, 2, 2), classes=len(owned), polarity="grey",
        description="", licence="", notice="", sources=(), command="prepare",
    )  # fmt: skip

    def units(first):
        for number, record in enumerate(records[first:], start=first):
            if stop and number == 3:
                raise stop
            yield [record]

    write_units(folder / "train", info=info, units=units, shard_bytes=8)
    return folder


def letters(users):
    """What every user has left."""
    return ["".join(chr(i[0, 0, 0]) for i in users.load([user])["image"].numpy()) for user in range(users.num_users)]


def test_shared_images_and_their_owners(tmp_path):
    """b: Ann, Bob, Dan. c: Ann (twice), Bob. An image that one user has twice is not shared."""
    index = SharedImages(store(tmp_path), "train")
    assert (index.shared, index.most_owners) == (2, 3)
    assert index.owners(digest_of("b")) == (0, 1, 3)
    assert index.owners(digest_of("c")) == (0, 1)
    assert index.owners(digest_of("a")) == index.owners(digest_of("f")) == ()
    assert dict(index.every()) == {digest_of("b"): (0, 1, 3), digest_of("c"): (0, 1)}
    index.close()


def test_nothing_shared(tmp_path):
    index = SharedImages(store(tmp_path, {"Ann": "aa", "Bob": "b"}), "train")
    assert (index.shared, index.most_owners) == (0, 1)
    index.close()


def winner(letter, *owners):
    """By the rule as it is written: the least hash of digest and id."""
    hashes = {owner: hashlib.blake2b(digest_of(letter) + owner.encode()).hexdigest() for owner in owners}
    return min(owners, key=hashes.__getitem__)


def test_every_image_is_left_to_one_owner(tmp_path):
    users = OneOwner(path=store(tmp_path))
    b, c = winner("b", "Ann", "Bob", "Dan"), winner("c", "Ann", "Bob")
    gone = {"Ann": {"b", "c"}, "Bob": {"b", "c"}, "Dan": {"b"}}
    gone[b].discard("b")
    gone[c].discard("c")
    assert letters(users) == ["".join(x for x in own if x not in gone.get(user, ())) for user, own in OWNED.items()]
    left = "".join(letters(users))
    assert set(left) == set("abcdef")
    assert left.count("b") == 1
    assert (users.num_users, users.num_examples_total) == (5, len(left))
    assert [users.num_examples(user) for user in range(5)] == list(map(len, letters(users)))
    assert users.name == "mine, one owner an image"
    assert users.checksum != StoreUsers(path=tmp_path).checksum
    check_user_dataset(users)


def test_labels_and_places_follow(tmp_path):
    users = OneOwner(path=store(tmp_path))
    assert users.load([4, 0])["label"].tolist() == [4] * 3 + [0] * users.num_examples(0)
    some = users.load_examples([4], [np.array([2, 0])])
    assert some["image"][:, 0, 0, 0].tolist() == [ord("f"), ord("e")]
    assert torch.equal(pickle.loads(pickle.dumps(users)).load([0, 1])["image"], users.load([0, 1])["image"])


def test_the_keeper_depends_on_the_image_and_its_owners_alone(tmp_path):
    """Other users, other images and the order of users move nothing; over many images each owner keeps his share."""
    first = letters(OneOwner(path=store(tmp_path / "first")))
    other = dict(reversed([*OWNED.items(), ("Zed", "xyz")]))
    again = letters(OneOwner(path=store(tmp_path / "other", other)))
    assert dict(zip(OWNED, first, strict=True)) == {
        user: left for user, left in zip(other, again, strict=True) if user != "Zed"
    }
    kept = [keeper(number.to_bytes(16, "big"), ["Ann", "Bob", "Dan"]) for number in range(3000)]
    assert all(900 < kept.count(owner) < 1100 for owner in ("Ann", "Bob", "Dan"))  # 1000 ± 4 standard deviations


def damaged(folder):
    """Another id in the row of user 3; the file keeps its size."""
    for shard in (folder / "train").glob("*.sqlite"):
        shard.write_bytes(shard.read_bytes().replace(b"Dan", b"Den"))
    return folder


def test_a_store_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no store at"):
        SharedImages(tmp_path / "none", "train")
    with pytest.raises(ValueError, match="no store at"):
        OneOwner(path=tmp_path / "none")


def test_a_damaged_store_is_told(tmp_path):
    with pytest.raises(ValueError, match="record of user 3 does not match its checksum; prepare it again"):
        SharedImages(damaged(store(tmp_path)), "train")


def test_the_manifest_tells_how_many_owners_images_have(tmp_path):
    """Also after a preparation that stopped between two shards."""
    manifest = StoreUsers(path=store(tmp_path / "whole")).manifest
    assert (manifest.shared_images, manifest.most_owners) == (2, 3)

    class StopError(Exception):
        pass

    owned = dict(OWNED)
    with pytest.raises(StopError):
        store(tmp_path / "cut", owned, stop=StopError)
    resumed = StoreUsers(path=store(tmp_path / "cut", owned)).manifest
    assert resumed == manifest


def test_a_store_is_known_again_behind_what_changes_it(tmp_path):
    """With one owner an image, or every image a user; images in memory are not taken for it."""
    whole, one = StoreUsers(path=store(tmp_path)), OneOwner(path=tmp_path)
    single, memory = ExampleAsUser(whole), InMemoryUsers([whole.load([0])])
    for first, second in ((whole, one), (one, whole), (one, single), (single, whole)):
        assert share_images(first, second)
    for first, second in ((memory, whole), (ExampleAsUser(memory), single)):
        assert not share_images(first, second)
    assert (one.privacy_unit, one.trainable) == ("an owner", True)

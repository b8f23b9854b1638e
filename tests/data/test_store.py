"""Reading a store: it returns what was written, whole or in part, and survives forks, pickles and threads."""

import io
import json
import multiprocessing
import os
import pickle
import random
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from stores import COUNTS, INFO, SHAPE, USERS_BY_SHARD_BYTES, contents, pixels, prepared, records, shards_of

from fedemb.data.record import UserRecord
from fedemb.data.store import StoreUsers
from fedemb.data.store_writer import write_store, write_units
from fedemb.data.users import Described, LoadsExamples


def assert_loads(users, asked):
    """The users asked for are as they were written."""
    written = pixels()
    batch = users.load(asked)
    images = [image for user in asked for image in written[user][1]]
    labels = [label for user in asked for label in written[user][2]]
    assert batch["image"].shape == (len(images), *SHAPE)
    assert (batch["image"].dtype, batch["label"].dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(batch["image"].numpy(), np.reshape(images, (-1, *SHAPE)))
    assert batch["label"].tolist() == labels


@pytest.mark.parametrize("shard_bytes", USERS_BY_SHARD_BYTES)
def test_users_come_back_as_written_in_the_order_asked_for(tmp_path, shard_bytes):
    users = prepared(tmp_path, shard_bytes=shard_bytes)
    shards = USERS_BY_SHARD_BYTES[shard_bytes]
    assert [shard.users for shard in users.manifest.shards] == shards
    assert sorted(contents(tmp_path / "train")) == [
        "manifest.json",
        *(f"users-{number:05d}-of-{len(shards):05d}.sqlite" for number in range(len(shards))),
    ]
    assert users.num_users == 7
    assert [users.num_examples(user) for user in range(7)] == COUNTS
    assert users.user_id(3) == "näme 3, with a comma"
    assert users.labels(3).tolist() == pixels()[3][2].tolist()
    for asked in ([3], [6, 0, 2], [1], [], [4, 4, 3], [1, 5], list(range(7)), np.arange(3)):
        assert_loads(users, asked)


@given(st.lists(st.integers(0, 6), max_size=10), st.sampled_from(sorted(USERS_BY_SHARD_BYTES)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_users_from_any_shards(tmp_path, asked, shard_bytes):
    path = tmp_path / str(shard_bytes)
    if not path.exists():
        prepared(path, shard_bytes=shard_bytes)
    assert_loads(StoreUsers(path=path), asked)


@given(st.permutations(range(7)), st.integers(0, 6), st.randoms(use_true_random=False))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_some_examples_are_those_at_their_places(tmp_path, order, count, draw):
    """Also repeated places, none, and all in another order."""
    if not (tmp_path / "train").exists():
        prepared(tmp_path, shard_bytes=200)
    users, asked, written = StoreUsers(path=tmp_path), order[:count], pixels()
    assert isinstance(users, LoadsExamples)
    lengths = {user: draw.choice([0, 1, COUNTS[user], 7]) if COUNTS[user] else 0 for user in asked}
    places = [np.array([draw.randrange(COUNTS[user]) for _ in range(lengths[user])], np.int64) for user in asked]
    batch = users.load_examples(asked, places)
    expected = [written[user][1][place] for user, place in zip(asked, places, strict=True)]
    labels = [written[user][2][place] for user, place in zip(asked, places, strict=True)]
    assert np.array_equal(batch["image"].numpy(), np.concatenate([np.zeros((0, *SHAPE), np.uint8), *expected]))
    assert batch["label"].tolist() == [label for few in labels for label in few]


def test_examples_that_are_not_asked_for_are_not_read(tmp_path):
    """Image 1 of user 3 is damaged: the others can be had, and a cut off database is not noticed before its cut."""
    prepared(tmp_path)
    (shard,) = shards_of(tmp_path)
    content, image = shard.read_bytes(), pixels()[3][1][1].tobytes()
    shard.write_bytes(content.replace(image, bytes(len(image))))
    users = StoreUsers(path=tmp_path)
    batch = users.load_examples([3], [np.array([4, 0, 2, 3])])
    assert np.array_equal(batch["image"].numpy(), pixels()[3][1][[4, 0, 2, 3]])
    with pytest.raises(ValueError, match=r"image 1 of user 3 \('näme 3, with a comma'\) does not match its checksum"):
        users.load_examples([3], [np.array([0, 1])])


@pytest.mark.parametrize(
    ("users", "places", "message"),
    [
        ([3, 3], [[0], [1]], "must be distinct"),
        ([3], [[5]], r"user 3 has examples 0 \.\. 4, got \[5\]"),
        ([3], [[-1]], r"got \[-1\]"),
        ([1], [[0]], "user 1 has examples"),
    ],
)
def test_examples_that_do_not_exist_are_refused(tmp_path, users, places, message):
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path).load_examples(users, [np.array(place) for place in places])


def test_a_loaded_batch_may_be_changed_without_changing_the_next(tmp_path):
    users = prepared(tmp_path)
    users.load([3])["image"].zero_()
    assert_loads(users, [3])


def test_the_description_is_for_the_report(tmp_path):
    users = prepared(tmp_path)
    assert isinstance(users, Described)
    assert (users.name, users.num_users, users.num_examples_total) == ("toy", 7, 15)
    assert users.manifest.info == INFO


def test_classes_have_the_names_of_the_source(tmp_path):
    names = [f"clàss {number}" for number in range(100)]
    write_units(tmp_path / "train", info=INFO, units=lambda first: [list(records())][first:], class_names=names)
    users = StoreUsers(path=tmp_path)
    assert (users.class_name(0), users.class_name(99), users.class_name(100)) == ("clàss 0", "clàss 99", None)
    prepared(tmp_path / "unnamed")
    assert StoreUsers(path=tmp_path / "unnamed").class_name(0) is None


def photo(side, kind, seed=0):
    """(file's bytes, [3, side, side] as Pillow's own opening decodes them)."""
    coarse = np.random.default_rng(seed).integers(256, size=(4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(file, kind)
    decoded = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))
    return file.getvalue(), decoded.transpose(2, 0, 1)


@pytest.mark.parametrize(("codec", "kinds"), [("png", ["PNG"]), ("jpeg", ["JPEG"]), ("mixed", ["PNG", "JPEG"])])
def test_files_stay_as_they_are_and_are_decoded_when_read(tmp_path, codec, kinds):
    photos = [photo(12, kinds[number % len(kinds)], number) for number in range(5)]
    info = replace(INFO, image_shape=(3, 12, 12), codec=codec, polarity="RGB")
    made = [
        UserRecord(id="a", images=[data for data, _ in photos[:3]], labels=np.arange(3)),
        UserRecord(id="b", images=[], labels=np.arange(0)),
        UserRecord(id="c", images=[data for data, _ in photos[3:]], labels=np.arange(2)),
    ]
    write_store(tmp_path / "train", info=info, records=made)
    users = StoreUsers(path=tmp_path)
    assert list(users.stored(0)) == [data for data, _ in photos[:3]]
    assert list(users.stored(1)) == []
    expected = np.stack([decoded for _, decoded in photos])
    assert np.array_equal(users.load([2, 1, 0])["image"].numpy(), expected[[3, 4, 0, 1, 2]])
    assert np.array_equal(users.load_examples([0], [np.array([2, 0])])["image"].numpy(), expected[[2, 0]])
    assert users.load([1])["image"].shape == (0, 3, 12, 12)


def test_images_of_several_sizes_are_read_in_one_size(tmp_path):
    files = [Image.new("RGB", size, color) for size, color in (((10, 20), (9, 8, 7)), ((33, 5), (200, 100, 50)))]
    info = replace(INFO, image_shape=(3, None, None), codec="png", polarity="RGB")
    streams = [io.BytesIO() for _ in files]
    for file, stream in zip(files, streams, strict=True):
        file.save(stream, "PNG")
    record = UserRecord(id="a", images=[stream.getvalue() for stream in streams], labels=np.arange(2))
    write_store(tmp_path / "train", info=info, records=[record])
    with pytest.raises(ValueError, match=r"have sizes of their own: .*users\.size=\[224,224\]"):
        StoreUsers(path=tmp_path)
    users = StoreUsers(path=tmp_path, size=[8, 6])
    assert users.image_shape == (3, 8, 6)
    expected = np.broadcast_to(np.array([[9, 8, 7], [200, 100, 50]])[:, :, None, None], (2, 3, 8, 6))
    assert np.array_equal(users.load([0])["image"].numpy(), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(users)).load([0])["image"].numpy(), expected)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_raw_images_are_resized_by_the_triangle_filter(tmp_path, channels):
    """4 -> 2: the triangle is 2 wide on each side, so the far half of a row weighs 1/4 of 1/4 + 3 · 1/2: 1/7."""
    image = np.zeros((1, channels, 4, 4), np.uint8)
    image[..., 2:] = 210
    info = replace(INFO, image_shape=(channels, 4, 4))
    record = UserRecord.from_pixels(id="a", images=image, labels=np.zeros(1, int))
    write_store(tmp_path / "train", info=info, records=[record])
    users = StoreUsers(path=tmp_path, size=(2, 2))
    assert users.load([0])["image"].tolist() == [[[[30, 180], [30, 180]]] * channels]
    assert StoreUsers(path=tmp_path, size=(4, 4)).load([0])["image"].tolist() == image.tolist()


@pytest.mark.parametrize("size", [[8], [8, 8, 8], [0, 8], [8, 2.5]])
def test_an_impossible_size_is_refused(tmp_path, size):
    prepared(tmp_path)
    with pytest.raises(ValueError, match="size"):
        StoreUsers(path=tmp_path, size=size)


def test_a_missing_store_says_how_to_make_it(tmp_path):
    with pytest.raises(ValueError) as caught:
        StoreUsers(path=tmp_path / "omniglot")
    assert str(caught.value) == (
        f"no store at {tmp_path}/omniglot: run 'fedemb prepare omniglot out={tmp_path}/omniglot'"
    )
    prepared(tmp_path / "omniglot")
    with pytest.raises(ValueError, match=r"the store .*omniglot has no split test, there is train: pass one"):
        StoreUsers(path=tmp_path / "omniglot", split="test")


def test_a_folder_of_any_name_is_no_data_set(tmp_path):
    with pytest.raises(ValueError) as caught:
        StoreUsers(path=tmp_path / "my faces")
    run = f'fedemb prepare NAME "out={tmp_path}/my faces"'
    assert str(caught.value) == f"no store at {tmp_path}/my faces: run '{run}', NAME being the data set's"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: "{", "manifest.json is damaged"),
        (lambda fields: "[]", "format None"),
        (lambda fields: json.dumps({**fields, "format": 1}), "format 1, this fedemb reads 3: prepare"),
        (lambda fields: json.dumps({**fields, "colour": 1}), "manifest.json is damaged .*colour"),
        (lambda fields: json.dumps({k: v for k, v in fields.items() if k != "shards"}), "is damaged .*shards"),
        (lambda fields: json.dumps({**fields, "info": {**fields["info"], "codec": "webp"}}), "'webp', this fedemb kn"),
        (
            lambda fields: json.dumps({**fields, "info": {**fields["info"], "user": ""}}),
            "damaged .*user must be a noun",
        ),
        (lambda fields: json.dumps({**fields, "users": 8}), r"is damaged .*toy has 8 users, its shards have \[7\]"),
        (lambda fields: json.dumps({**fields, "shards": []}), "manifest.json is damaged"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_in_one_line(tmp_path, change, message):
    prepared(tmp_path)
    manifest = tmp_path / "train" / "manifest.json"
    manifest.write_text(change(json.loads(manifest.read_text())))
    with pytest.raises(ValueError, match=message) as caught:
        StoreUsers(path=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_user_who_does_not_exist_is_refused(tmp_path):
    users = prepared(tmp_path)
    for user in (-1, 7):
        with pytest.raises(ValueError, match=rf"holds users 0 \.\. 6, got user={user}"):
            users.load([0, user])


def test_reading_changes_nothing_on_disk(tmp_path):
    users = prepared(tmp_path)
    before = contents(tmp_path / "train")
    assert_loads(users, list(range(7)))
    assert contents(tmp_path / "train") == before
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        users._shards._connection(0).execute("DELETE FROM users")


def read_all(users):
    """What a worker sends back: the sum of each user's pixels, read in an order of its own."""
    order = random.Random(0).sample(range(7), 7)
    return [int(users.load([user])["image"].numpy().sum()) for user in order]


def test_forked_workers_share_a_store_that_was_read_before(tmp_path):
    users = prepared(tmp_path, shard_bytes=100)
    expected = read_all(users)  # opens the parent's connections, which a fork must not use
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(read_all, [users] * 4) == [expected] * 4
    assert read_all(users) == expected


def test_a_fresh_process_opens_a_store_that_it_is_sent(tmp_path):
    """What spawned workers do: nothing but the pickle goes over."""
    users = prepared(tmp_path)
    expected = users.load([4, 3])["image"].numpy().sum()
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).load([4, 3])['image'].numpy().sum())"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(users), capture_output=True, check=True)
    assert int(done.stdout) == expected


def test_a_forked_process_opens_a_connection_of_its_own(tmp_path):
    users = prepared(tmp_path)
    assert_loads(users, [3])
    connection = users._shards._holding(3)
    assert users._shards._holding(0) is connection  # one for all reads of a process
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, b"same" if users._shards._holding(3) is connection else b"own")
        os._exit(0)
    os.wait()
    assert os.read(read, 9) == b"own"
    os.close(read)
    os.close(write)


def test_threads_read_at_the_same_time(tmp_path):
    users = prepared(tmp_path, shard_bytes=100)
    expected = read_all(users)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_all, [users] * 64)) == [expected] * 64


def test_a_pickle_opens_the_same_store(tmp_path):
    users = prepared(tmp_path)
    assert_loads(users, [3])
    again = pickle.loads(pickle.dumps(users))
    assert again.manifest == users.manifest
    assert_loads(again, [4, 3])

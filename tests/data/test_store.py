"""The store on disk: it returns what was written, notices damage, and survives interruption, forks and threads."""

import hashlib
import json
import multiprocessing
import os
import pickle
import random
import signal
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

from fedemb.data.manifest import Source, StoreInfo, read_manifest
from fedemb.data.record import UserRecord
from fedemb.data.store import StoreUsers
from fedemb.data.store_writer import write_store
from fedemb.data.users import Described

SHAPE = (2, 3, 4)
COUNTS = [3, 0, 1, 5, 2, 0, 4]
INFO = StoreInfo(
    name="toy",
    split="train",
    image_shape=SHAPE,
    classes=100,
    polarity="ink 255 on 0",
    description="noise",
    licence="MIT",
    notice="Do what you like.",
    sources=(Source(file="toy.zip", sha256="0" * 64),),
    command="fedemb prepare toy",
)


def records(counts=COUNTS, seed=0):
    rng = np.random.default_rng(seed)
    for user, count in enumerate(counts):
        images = rng.integers(256, size=(count, *SHAPE), dtype=np.uint8)
        yield UserRecord(id=f"näme {user}, with a comma", images=images, labels=rng.integers(100, size=count))


def prepared(path, **options):
    write_store(path / "train", info=INFO, records=records(), **options)
    return StoreUsers(path=path)


def shard_of(path):
    (shard,) = (path / "train").glob("*.sqlite")
    return shard


def assert_loads(users, asked):
    """The users asked for are as they were written."""
    written = list(records())
    batch = users.load(asked)
    images = [image for user in asked for image in written[user].images]
    labels = [label for user in asked for label in written[user].labels]
    assert batch["image"].shape == (len(images), *SHAPE)
    assert (batch["image"].dtype, batch["label"].dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(batch["image"].numpy(), np.reshape(images, (-1, *SHAPE)))
    assert batch["label"].tolist() == labels


@pytest.mark.parametrize("users_per_shard", [None, 1, 3, 7, 100])
def test_users_come_back_as_written_in_the_order_asked_for(tmp_path, users_per_shard):
    users = prepared(tmp_path, users_per_shard=users_per_shard)
    shards = 1 if users_per_shard is None else -(-7 // users_per_shard)
    assert sorted(file.name for file in (tmp_path / "train").iterdir()) == [
        "manifest.json",
        *(f"users-{number:05d}-of-{shards:05d}.sqlite" for number in range(shards)),
    ]
    assert users.num_users == 7
    assert [users.num_examples(user) for user in range(7)] == COUNTS
    assert users.user_id(3) == "näme 3, with a comma"
    for asked in ([3], [6, 0, 2], [1], [], [4, 4, 3], [1, 5], list(range(7))):
        assert_loads(users, asked)


@given(st.lists(st.integers(0, 6), max_size=10), st.integers(1, 8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_users_from_any_shards(tmp_path, asked, users_per_shard):
    path = tmp_path / str(users_per_shard)
    if not path.exists():
        prepared(path, users_per_shard=users_per_shard)
    assert_loads(StoreUsers(path=path), asked)


def test_a_loaded_batch_may_be_changed_without_changing_the_next(tmp_path):
    users = prepared(tmp_path)
    users.load([3])["image"].zero_()
    assert_loads(users, [3])


def test_the_description_is_for_the_report(tmp_path):
    users = prepared(tmp_path)
    assert isinstance(users, Described)
    assert (users.name, users.num_users, users.num_examples_total) == ("toy", 7, 15)
    assert users.manifest.info == INFO


def test_the_checksum_is_of_the_records_whatever_the_shards(tmp_path):
    checksums = {prepared(tmp_path / str(size), users_per_shard=size).checksum for size in (None, 2, 7)}
    assert len(checksums) == 1
    other = write_store(tmp_path / "other", info=INFO, records=records(seed=1))
    swapped = write_store(tmp_path / "swapped", info=INFO, records=reversed(list(records())))
    assert len({other.checksum, swapped.checksum} | checksums) == 3


def test_the_manifest_states_the_bytes_of_the_files(tmp_path):
    prepared(tmp_path, users_per_shard=4)
    shards = json.loads((tmp_path / "train" / "manifest.json").read_text())["shards"]
    for shard, (first, users) in zip(shards, [(0, 4), (4, 3)], strict=True):
        content = (tmp_path / "train" / shard["file"]).read_bytes()
        assert (shard["first"], shard["users"], shard["bytes"]) == (first, users, len(content))
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()


WRITE = """
import os, pickle, signal, sys
from pathlib import Path
from fedemb.data import store_writer
info, records = pickle.loads(Path({given!r}).read_bytes())
{plant}
store_writer.write_store(Path({folder!r}), info=info, records=records, users_per_shard=3)
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
KILLED_WRITING = f"""
def killed(records):
    for number, record in enumerate(records):
        if number == 5:
            {KILL}
        yield record
records = killed(records)
"""
KILLED_RENAMING = f"""
replace, calls = os.replace, []
def dying(*names):
    calls.append(names)
    if len(calls) == {{call}}:
        {KILL}
    replace(*names)
os.replace = dying
"""


def write_elsewhere(folder, plant=""):
    """Run write_store in a process of its own, which runs `plant` first. Returns: its exit status."""
    given = folder.parent / "given.pickle"
    given.parent.mkdir(exist_ok=True)
    given.write_bytes(pickle.dumps((INFO, list(records()))))
    code = WRITE.format(given=str(given), folder=str(folder), plant=plant)
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_another_process_writes_the_same_bytes(tmp_path):
    prepared(tmp_path, users_per_shard=3)
    assert write_elsewhere(tmp_path / "again") == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "train")


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(KILLED_WRITING, id="writing the second shard"),
        pytest.param(KILLED_RENAMING.format(call=1), id="before the first rename"),
        pytest.param(KILLED_RENAMING.format(call=2), id="between the shards"),
        pytest.param(KILLED_RENAMING.format(call=4), id="before the manifest"),
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_a_killed_preparation_leaves_no_half_valid_store_and_runs_again(tmp_path, plant, older):
    folder, whole = tmp_path / "toy" / "train", tmp_path / "whole"
    write_store(whole, info=INFO, records=records(), users_per_shard=3)
    if older:
        write_store(folder, info=INFO, records=records(seed=1), users_per_shard=2)
    assert write_elsewhere(folder, plant) == -signal.SIGKILL
    if older and plant == KILLED_WRITING:
        assert StoreUsers(path=tmp_path / "toy").load([3])["label"].tolist() == list(records(seed=1))[3].labels.tolist()
    else:
        with pytest.raises(ValueError, match="no store at"):
            StoreUsers(path=tmp_path / "toy")
    write_store(folder, info=INFO, records=records(), users_per_shard=3)
    assert contents(folder) == contents(whole)


def test_a_disk_that_fills_up_leaves_the_old_store(tmp_path):
    prepared(tmp_path)
    before = contents(tmp_path / "train")
    plant = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.excepthook = lambda kind, error, trace: (print(error), os._exit(17 if kind is ValueError else 1))
"""
    assert write_elsewhere(tmp_path / "train", plant) == 17
    assert contents(tmp_path / "train") == before


def test_a_failing_reader_leaves_the_old_store(tmp_path):
    def failing():
        yield from records()
        raise ValueError("the archive ends early")

    users = prepared(tmp_path)
    with pytest.raises(ValueError, match="the archive ends early"):
        write_store(tmp_path / "train", info=INFO, records=failing())
    assert_loads(users, [0, 3])
    assert len(list((tmp_path / "train").iterdir())) == 2


def test_a_new_store_replaces_all_files_of_an_older_one(tmp_path):
    prepared(tmp_path, users_per_shard=1)
    prepared(tmp_path)
    assert len(list((tmp_path / "train").iterdir())) == 2


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (UserRecord(id="a", images=np.zeros((1, *SHAPE)), labels=np.zeros(1, int)), "user 'a'.*float64"),
        (UserRecord(id="a", images=np.zeros((1, 9, 9), np.uint8), labels=np.zeros(1, int)), "user 'a'.*9"),
        (UserRecord(id="a", images=np.zeros((2, *SHAPE), np.uint8), labels=np.zeros(1, int)), "user 'a': 1 labels"),
        (UserRecord(id="a", images=np.zeros((1, *SHAPE), np.uint8), labels=np.array([100])), r"labels .*99, got 100"),
        (UserRecord(id="a", images=np.zeros((1, *SHAPE), np.uint8), labels=np.array([-1])), r"labels .*99, got -1"),
    ],
)
def test_records_that_do_not_fit_are_refused(tmp_path, record, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path, info=INFO, records=[record])
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_users_or_in_an_impossible_place_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one user, got none for toy train"):
        write_store(tmp_path, info=INFO, records=[])
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write the store .*pass another out="):
        write_store(tmp_path / "file" / "train", info=INFO, records=records())


def test_a_missing_store_says_how_to_make_it(tmp_path):
    with pytest.raises(ValueError) as caught:
        StoreUsers(path=tmp_path / "omniglot")
    assert str(caught.value) == f"no store at {tmp_path}/omniglot: run 'fedemb prepare omniglot'"
    prepared(tmp_path / "omniglot")
    with pytest.raises(ValueError, match=r"no store at .*omniglot'.*there is train but not test"):
        StoreUsers(path=tmp_path / "omniglot", split="test")


def damage_byte(path, where):
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("what", ["image", "label", "id"])
def test_a_flipped_bit_is_noticed_when_its_user_is_read(tmp_path, what):
    prepared(tmp_path)
    shard, record = shard_of(tmp_path), list(records())[3]
    sought = {"image": record.images.tobytes(), "label": record.labels.tobytes(), "id": record.id.encode()}[what]
    damage_byte(shard, shard.read_bytes().index(sought) + len(sought) - 1)
    users = StoreUsers(path=tmp_path)
    assert_loads(users, [0, 1, 2, 4, 5, 6])
    with pytest.raises(ValueError) as caught:
        users.load([0, 3])
    message = str(caught.value)
    assert message.startswith(f"store {tmp_path}/train is damaged: the record of user 3 ('näme 3, with a comm")
    assert message.endswith("does not match its checksum; prepare it again with 'fedemb prepare toy overwrite=true'")
    assert "\n" not in message


def test_swapped_users_are_noticed(tmp_path):
    """Each record is whole, but another user's."""
    prepared(tmp_path)
    with sqlite3.connect(shard_of(tmp_path)) as database:
        for old, new in ((0, 99), (3, 0), (99, 3)):
            database.execute("UPDATE users SET position = ? WHERE position = ?", (new, old))
    database.close()
    with pytest.raises(ValueError, match=r"the record of user 0 .*does not match"):
        StoreUsers(path=tmp_path).load([0])


def test_a_missing_row_is_noticed(tmp_path):
    prepared(tmp_path)
    with sqlite3.connect(shard_of(tmp_path)) as database:
        database.execute("DELETE FROM users WHERE position = 2")
    database.close()
    users = StoreUsers(path=tmp_path)
    for read in (lambda: users.load([2]), lambda: users.num_examples(2)):
        with pytest.raises(ValueError, match="the record of user 2 is missing; prepare it again"):
            read()


def test_a_file_that_is_no_database_is_noticed_on_reading_but_opening_reads_none_of_it(tmp_path):
    """Opening takes the manifest's word, so it costs the same for any number of users."""
    prepared(tmp_path)
    shard = shard_of(tmp_path)
    shard.write_bytes(b"x" * shard.stat().st_size)
    users = StoreUsers(path=tmp_path)
    assert users.num_users == 7
    with pytest.raises(ValueError, match=r"train is damaged: user 1 cannot be read \(file is not a database\)"):
        users.load([1])


def test_a_truncated_or_missing_file_is_noticed_on_opening(tmp_path):
    prepared(tmp_path)
    shard = shard_of(tmp_path)
    size = shard.stat().st_size
    os.truncate(shard, size - 8192)
    with pytest.raises(ValueError, match=rf"{shard.name} has {size - 8192} bytes and not {size}; prepare it again"):
        StoreUsers(path=tmp_path)
    shard.unlink()
    with pytest.raises(ValueError, match=rf"{shard.name} is missing; prepare it again with 'fedemb prepare toy"):
        StoreUsers(path=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: "{", "manifest.json is damaged"),
        (lambda fields: "[]", "format None"),
        (lambda fields: json.dumps({**fields, "format": 2}), "format 2, this fedemb reads 1: prepare"),
        (lambda fields: json.dumps({**fields, "colour": 1}), "manifest.json is damaged .*colour"),
        (lambda fields: json.dumps({k: v for k, v in fields.items() if k != "shards"}), "is damaged .*shards"),
        (lambda fields: json.dumps({**fields, "info": {**fields["info"], "codec": "webp"}}), "'webp'.*newer fedemb"),
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
        users._shard(0).execute("DELETE FROM users")


def read_all(users):
    """What a worker sends back: the sum of each user's pixels, read in an order of its own."""
    order = random.Random(0).sample(range(7), 7)
    return [int(users.load([user])["image"].numpy().sum()) for user in order]


def test_forked_workers_share_a_store_that_was_read_before(tmp_path):
    users = prepared(tmp_path, users_per_shard=2)
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
    connection = users._shard(3)
    assert users._shard(0) is connection  # one for all reads of a process
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, b"same" if users._shard(3) is connection else b"own")
        os._exit(0)
    os.wait()
    assert os.read(read, 9) == b"own"
    os.close(read)
    os.close(write)


def test_threads_read_at_the_same_time(tmp_path):
    users = prepared(tmp_path, users_per_shard=2)
    expected = read_all(users)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_all, [users] * 64)) == [expected] * 64


def test_a_pickle_opens_the_same_store(tmp_path):
    users = prepared(tmp_path)
    assert_loads(users, [3])
    again = pickle.loads(pickle.dumps(users))
    assert again.manifest == users.manifest
    assert_loads(again, [4, 3])


def test_manifests_survive_the_round_trip(tmp_path):
    info = replace(INFO, sources=(*INFO.sources, Source(file="ø, ' \".zip", sha256="1" * 64)), notice="© line\nline")
    manifest = write_store(tmp_path, info=info, records=records(), users_per_shard=2)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path / "nothing here") is None

"""Writing a store: byte for byte the same, bounded, and whatever interrupts it, the old store or none is left."""

import hashlib
import json
import pickle
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from stores import INFO, SHAPE, contents, pixels, prepared, records

from fedemb.core.files import locked
from fedemb.data.manifest import Source, read_manifest
from fedemb.data.record import UserRecord
from fedemb.data.store import StoreUsers
from fedemb.data.store_writer import write_store, write_units


def test_the_checksum_is_of_the_records_whatever_the_shards(tmp_path):
    checksums = {prepared(tmp_path / str(size), shard_bytes=size).checksum for size in (1, 200, 10_000)}
    assert len(checksums) == 1
    other = write_store(tmp_path / "other", info=INFO, records=records(seed=1))
    swapped = write_store(tmp_path / "swapped", info=INFO, records=reversed(list(records())))
    assert len({other.checksum, swapped.checksum} | checksums) == 3


def test_the_manifest_states_the_bytes_of_the_files(tmp_path):
    prepared(tmp_path, shard_bytes=300)
    shards = json.loads((tmp_path / "train" / "manifest.json").read_text())["shards"]
    for shard, (first, users) in zip(shards, [(0, 4), (4, 3)], strict=True):
        content = (tmp_path / "train" / shard["file"]).read_bytes()
        assert (shard["first"], shard["users"], shard["bytes"]) == (first, users, len(content))
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()


def test_manifests_survive_the_round_trip(tmp_path):
    info = replace(INFO, sources=(*INFO.sources, Source(file="ø, ' \".zip", sha256="1" * 64)), notice="© line\nline")
    manifest = write_store(tmp_path, info=info, records=records(), shard_bytes=200)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path / "nothing here") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codec": "webp"}, "'webp', this fedemb knows raw, png, jpeg, mixed"),
        ({"label": "digit"}, "label must be one of identity, class"),
        ({"split": "a/b"}, "split must be the name of a folder"),
        ({"image_shape": (1, None, None)}, "raw images have one size"),
        ({"codec": "png"}, "png images have 1 or 3 channels, got 2"),
        ({"classes": -1}, "classes must be an integer of at least 0"),
    ],
)
def test_what_a_store_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(INFO, **change)


WRITE = """
import os, pickle, signal, sys
from pathlib import Path
from fedemb.data import store_writer
info, records = pickle.loads(Path({given!r}).read_bytes())
{plant}
store_writer.write_store(Path({folder!r}), info=info, records=records, shard_bytes=200)
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
KILLED_READING = f"""
def killed(records):
    for number, record in enumerate(records):
        if number == {{call}}:
            {KILL}
        yield record
records = killed(records)
"""
KILLED_RENAMING = f"""
real, calls = os.replace, []
def dying(*names):
    calls.append(names)
    if len(calls) == {{call}}:
        {KILL}
    real(*names)
os.replace = dying
"""


def write_elsewhere(folder, plant=""):
    """Run write_store in a process of its own, which runs `plant` first. Returns: its exit status."""
    given = folder.parent / "given.pickle"
    given.parent.mkdir(exist_ok=True)
    given.write_bytes(pickle.dumps((INFO, list(records()))))
    code = WRITE.format(given=str(given), folder=str(folder), plant=plant)
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def finish(folder, **options):
    """Write the store again. Returns: the users that were read."""
    read = []

    def units(first):
        for user, record in enumerate(records()):
            if user >= first:
                read.append(user)
                yield [record]

    write_units(folder, info=INFO, units=units, **{"shard_bytes": 200, **options})
    return read


def test_another_process_writes_the_same_bytes(tmp_path):
    prepared(tmp_path, shard_bytes=200)
    assert write_elsewhere(tmp_path / "again") == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "train")


# The shards are of users 0-2, 3 and 4-6. Each is noted by a draft that is renamed: calls 1 to 3. At the end the shards
# are renamed, calls 4 to 6, and the manifest, call 7.
@pytest.mark.parametrize(
    ("plant", "old_stays", "read_again"),
    [
        pytest.param(KILLED_READING.format(call=2), True, [0, 1, 2, 3, 4, 5, 6], id="in the first shard"),
        pytest.param(KILLED_READING.format(call=4), True, [4, 5, 6], id="after two shards"),
        pytest.param(KILLED_RENAMING.format(call=2), True, [3, 4, 5, 6], id="before a shard is noted"),
        pytest.param(KILLED_RENAMING.format(call=4), False, [], id="before the first rename"),
        pytest.param(KILLED_RENAMING.format(call=5), False, [], id="between the shards"),
        pytest.param(KILLED_RENAMING.format(call=7), False, [], id="before the manifest"),
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_a_killed_preparation_leaves_no_half_valid_store_and_goes_on(tmp_path, plant, old_stays, read_again, older):
    folder, whole = tmp_path / "toy" / "train", tmp_path / "whole"
    write_store(whole, info=INFO, records=records(), shard_bytes=200)
    if older:
        write_store(folder, info=replace(INFO, licence="old"), records=records(seed=1), shard_bytes=100)
    assert write_elsewhere(folder, plant) == -signal.SIGKILL
    if older and old_stays:
        assert StoreUsers(path=tmp_path / "toy").load([3])["label"].tolist() == pixels(seed=1)[3][2].tolist()
    else:
        with pytest.raises(ValueError, match="no store at"):
            StoreUsers(path=tmp_path / "toy")
    assert finish(folder) == read_again
    assert contents(folder) == contents(whole)


def killed_after_two_shards(folder):
    assert write_elsewhere(folder, KILLED_READING.format(call=5)) == -signal.SIGKILL
    assert len(list(folder.glob(".*.json.partial"))) == 2


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_damaged_left_over_is_not_trusted(tmp_path, damaged):
    """Neither is what comes after it: the checksum of the whole needs the records in order."""
    killed_after_two_shards(tmp_path / "train")
    leftover = tmp_path / "train" / f".users-{damaged:05d}.sqlite.partial"
    content = bytearray(leftover.read_bytes())
    content[-1] ^= 1
    leftover.write_bytes(content)
    assert finish(tmp_path / "train") == [[0, 1, 2, 3, 4, 5, 6], [3, 4, 5, 6]][damaged]
    assert write_elsewhere(tmp_path / "whole") == 0
    assert contents(tmp_path / "train") == contents(tmp_path / "whole")


@pytest.mark.parametrize("note", ["", "{}", "[1]", '{"units": 1}'])
def test_a_note_that_cannot_be_understood_is_not_trusted(tmp_path, note):
    killed_after_two_shards(tmp_path / "train")
    (tmp_path / "train" / ".users-00000.json.partial").write_text(note)
    assert finish(tmp_path / "train") == [0, 1, 2, 3, 4, 5, 6]


def test_a_left_over_of_other_options_is_not_used(tmp_path):
    killed_after_two_shards(tmp_path / "train")
    info = replace(INFO, description="larger")
    whole = write_store(tmp_path / "whole", info=info, records=records(seed=1), shard_bytes=200)
    assert write_store(tmp_path / "train", info=info, records=records(seed=1), shard_bytes=200) == whole
    assert contents(tmp_path / "train") == contents(tmp_path / "whole")


def test_a_left_over_of_other_shards_is_not_used(tmp_path):
    killed_after_two_shards(tmp_path / "train")
    assert finish(tmp_path / "train", shard_bytes=300) == [0, 1, 2, 3, 4, 5, 6]
    assert [shard.users for shard in read_manifest(tmp_path / "train").shards] == [4, 3]


def test_a_second_preparation_is_refused_in_one_line_and_harms_nothing(tmp_path):
    def units(first):
        yield [record := next(records())]
        with pytest.raises(ValueError, match=rf"^another fedemb prepare is writing {tmp_path}: wait .*out=$"):
            write_store(tmp_path, info=INFO, records=[record])
        yield list(records())[1:]

    write_units(tmp_path, info=INFO, units=units)
    assert len(contents(tmp_path)) == 2
    with locked(tmp_path, "no"):
        pass


def limited(kilobytes):
    """What makes files end at a size, as a full disk would."""
    return f"""
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes} * 1024, {kilobytes} * 1024))
def told(kind, error, trace):
    print(error)
    os._exit(17 if kind is ValueError and "make room there" in str(error) and "\\n" not in str(error) else 1)
sys.excepthook = told
"""


def test_a_disk_that_fills_up_leaves_the_old_store(tmp_path):
    prepared(tmp_path)
    before = contents(tmp_path / "train")
    assert write_elsewhere(tmp_path / "train", limited(4)) == 17
    assert contents(tmp_path / "train") == before


def test_after_a_full_disk_the_same_call_goes_on(tmp_path):
    """A user in the third shard is larger than what is left: the two shards before it stay."""
    large = (
        "records[5] = type(records[5])(id='large', images=[bytes(24)] * 9000, labels=records[3].labels.repeat(1800))"
    )
    folder = tmp_path / "train"
    assert write_elsewhere(folder, large + limited(100)) == 17
    assert not (folder / "manifest.json").exists()
    names = sorted(contents(folder))
    assert names == [f".users-0000{number}.{kind}.partial" for number in (0, 1) for kind in ("json", "sqlite")]
    assert finish(folder) == [4, 5, 6]


def test_a_full_disk_at_the_last_step_costs_no_second_reading(tmp_path, monkeypatch):
    def full(folder, manifest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedemb.data.store_writer.write_manifest", full)
    with pytest.raises(ValueError, match=r"cannot write the store .*No space left on device.*make room there"):
        finish(tmp_path)
    monkeypatch.undo()
    assert finish(tmp_path) == []
    assert read_manifest(tmp_path).users == 7


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("the archive ends early"), "the archive ends early"),
        (OSError(5, "Input/output error"), r"cannot read what the store .* is made from .*Input/output error"),
        (sqlite3.DatabaseError("malformed"), "cannot read what the store .* is made from .*malformed"),
    ],
)
def test_a_failing_reader_leaves_the_old_store(tmp_path, error, message):
    def failing():
        yield from records()
        raise error

    users = prepared(tmp_path)
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "train", info=INFO, records=failing())
    assert np.array_equal(users.load([3])["image"].numpy(), pixels()[3][1])
    assert len(contents(tmp_path / "train")) == 2


def test_a_new_store_replaces_all_files_of_an_older_one(tmp_path):
    prepared(tmp_path, shard_bytes=1)
    prepared(tmp_path)
    assert len(contents(tmp_path / "train")) == 2


def raw(images, labels):
    return UserRecord.from_pixels(id="a", images=images, labels=labels)


ONE = np.zeros((1, *SHAPE), np.uint8)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (raw(np.zeros((1, 9, 9), np.uint8), np.zeros(1, int)), r"user 'a'.*\[2, 3, 4\], got one of 81 bytes"),
        (raw(np.zeros((2, *SHAPE), np.uint8), np.zeros(1, int)), "user 'a': 2 images and 1 labels"),
        (raw(ONE, np.array([100])), r"labels .*99, got 100"),
        (raw(ONE, np.array([-1])), r"labels .*99, got -1"),
        (raw(ONE, np.array([0.5])), r"whole numbers, got float64"),
        (raw(ONE, np.array([[1]])), r"labels must be \[n\] whole numbers, got int64 of \[1, 1\]"),
    ],
)
def test_records_that_do_not_fit_are_refused(tmp_path, record, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path, info=INFO, records=[record])
    assert contents(tmp_path) == {}


def test_pixels_of_another_type_are_refused():
    with pytest.raises(ValueError, match=r"user 'a'.*float64"):
        raw(np.zeros((1, *SHAPE)), np.zeros(1, int))


@pytest.mark.parametrize(("codec", "data"), [("png", b"\xff\xd8\xff"), ("jpeg", b"\x89PNG\r\n"), ("mixed", b"<html>")])
def test_files_of_another_kind_are_refused(tmp_path, codec, data):
    info = replace(INFO, codec=codec, image_shape=(3, None, None))
    record = UserRecord(id="a", images=[data], labels=np.zeros(1, int))
    with pytest.raises(ValueError, match=rf"user 'a': an image is .*, the store keeps {codec}"):
        write_store(tmp_path, info=info, records=[record])


def twice():
    """Users 0 to 6, and after them user 3 with other images."""
    *_, changed = records([1, 1, 1, 2], seed=9)
    return [*records(), changed]


TWICE = r"^toy train: user 'näme 3, with a comma' comes twice, at positions 3 and 7: one person, one user; .*record$"


@pytest.mark.parametrize("shard_bytes", [1, 200, 10_000])
def test_a_user_who_comes_twice_is_refused(tmp_path, shard_bytes):
    """Else a person could be in two slots of a round, and change the sum by twice what is accounted for."""
    with pytest.raises(ValueError, match=TWICE):
        write_store(tmp_path / "train", info=INFO, records=twice(), shard_bytes=shard_bytes)
    assert not (tmp_path / "train").exists()
    prepared(tmp_path, shard_bytes=shard_bytes)
    before = contents(tmp_path / "train")
    with pytest.raises(ValueError, match=TWICE):
        write_store(tmp_path / "train", info=INFO, records=twice(), shard_bytes=shard_bytes)
    assert contents(tmp_path / "train") == before


def test_a_user_who_comes_again_after_an_interruption_is_refused(tmp_path):
    """The first of the two is in a shard that another process wrote."""
    killed_after_two_shards(tmp_path / "train")
    with pytest.raises(ValueError, match=TWICE):
        write_units(tmp_path / "train", info=INFO, units=lambda first: [twice()[first:]], shard_bytes=200)
    assert contents(tmp_path / "train") == {}


def test_a_record_larger_than_sqlite_takes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fedemb.data.store_writer.MAX_RECORD_BYTES", 47)
    with pytest.raises(ValueError, match="has more than 47 bytes of images: make them smaller with short_side="):
        write_store(tmp_path, info=INFO, records=[raw(np.zeros((2, *SHAPE), np.uint8), np.zeros(2, int))])


@pytest.mark.parametrize("units", [[], [[], []]])
def test_a_store_without_users_is_refused(tmp_path, units):
    with pytest.raises(ValueError, match="at least one user, got none for toy train"):
        write_units(tmp_path, info=INFO, units=lambda first: iter(units))


def test_units_may_hold_no_user(tmp_path):
    write_units(tmp_path / "train", info=INFO, units=lambda first: [[], list(records()), [], []], shard_bytes=1)
    users = StoreUsers(path=tmp_path)
    assert np.array_equal(users.load([6])["image"].numpy(), pixels()[6][1])
    assert users.num_users == 7


def test_class_names_are_for_all_classes_or_none(tmp_path):
    with pytest.raises(ValueError, match="toy: 2 class names for 100 classes"):
        write_units(tmp_path, info=INFO, units=lambda first: [], class_names=["a", "b"])


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write the store .*pass another out="):
        write_store(tmp_path / "file" / "train", info=INFO, records=records())

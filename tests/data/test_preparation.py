"""Preparing several splits: what is there and whole is kept, other data are not replaced unasked."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from stores import contents

from fedemb.data.manifest import StoreInfo
from fedemb.data.preparation import Request, Split, prepare_splits
from fedemb.data.record import UserRecord
from fedemb.data.store import StoreUsers


def info(split):
    return StoreInfo(
        name="toy",
        split=split,
        user="a writer",
        image_shape=(1, 2, 2),
        classes=2,
        polarity="ink 255 on 0",
        description="",
        licence="MIT",
        notice="",
        sources=(),
        command="fedemb prepare toy",
    )


@dataclass(frozen=True)
class Reader:
    """A unit is a number; its users have that many images of it. Every call leaves a file in `noted`."""

    noted: Path
    value: int = 7
    fails: int | None = None

    def __call__(self, unit):
        self.noted.mkdir(exist_ok=True)
        (self.noted / f"{unit} {len(list(self.noted.iterdir()))}").touch()
        if unit == self.fails:
            raise ValueError(f"unit {unit} cannot be read")
        images = np.full((unit, 1, 2, 2), self.value, np.uint8)
        return [UserRecord.from_pixels(id=f"{unit}{half}", images=images, labels=np.zeros(unit, int)) for half in "ab"]


def read(reader):
    """The units that were read since the last look."""
    files = sorted(reader.noted.glob("*"), key=lambda file: int(file.name.split()[1]))
    for file in files:
        file.unlink()
    return [int(file.name.split()[0]) for file in files]


def splits(reader, units=(1, 2, 3), **change):
    """Two splits of so many units, two users each."""
    return [
        Split(info=replace(info(name), **change), users=2 * len(units), units=list(units), records=reader)
        for name in ("train", "test")
    ]


def request(path, **options):
    return Request(source=None, out=path, **options)


@pytest.fixture
def reader(tmp_path):
    return Reader(tmp_path / "noted")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "toy"


def pixel(path, split):
    return StoreUsers(path=path, split=split).load([0])["image"].max().item()


def test_both_splits_are_made_once(out, reader):
    first = prepare_splits(request(out), splits(reader))
    assert read(reader) == [1, 2, 3, 1, 2, 3]
    again = prepare_splits(request(out), splits(reader))
    assert read(reader) == []
    assert (first.written, again.written) == (True, False)
    assert first.manifests == again.manifests
    assert [(m.info.split, m.users, m.examples) for m in first.manifests] == [("train", 6, 12), ("test", 6, 12)]


def test_only_the_split_that_is_missing_is_made(out, reader):
    prepare_splits(request(out), splits(reader)[:1])
    read(reader)
    assert prepare_splits(request(out), splits(reader)).written
    assert read(reader) == [1, 2, 3]


@pytest.mark.parametrize("damage", ["bytes", "gone", "short"])
def test_a_damaged_store_is_made_again_unasked(out, reader, damage):
    """Else 'prepare it again' would be advice that does not help."""
    prepare_splits(request(out), splits(reader))
    before = contents(out / "test")
    (shard,) = (out / "test").glob("*.sqlite")
    if damage == "bytes":
        shard.write_bytes(shard.read_bytes().replace(b"\7\7\7\7", b"\7\7\7\6"))
    elif damage == "short":
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        shard.unlink()
    read(reader)
    assert prepare_splits(request(out), splits(reader)).written
    assert read(reader) == [1, 2, 3]
    assert contents(out / "test") == before


def test_other_data_are_replaced_only_when_asked(out, reader):
    prepare_splits(request(out), splits(reader))
    read(reader)
    other = splits(replace(reader, value=9), description="larger")
    with pytest.raises(ValueError, match=r"train holds another store \(description '' and not 'larger'\).*overwrite="):
        prepare_splits(request(out), other)
    assert read(reader) == []
    assert pixel(out, "train") == 7
    prepare_splits(request(out, overwrite=True), other)
    assert (pixel(out, "train"), pixel(out, "test")) == (9, 9)


def test_nothing_is_written_if_a_later_split_is_refused(out, reader):
    prepare_splits(request(out), splits(reader)[1:])
    with pytest.raises(ValueError, match="test holds another store"):
        prepare_splits(request(out), splits(reader, description="larger"))
    assert not (out / "train").exists()


def test_nothing_is_written_if_a_split_has_no_user(out, reader):
    with pytest.raises(ValueError, match=r"toy train has no user: is this the right source\?"):
        prepare_splits(request(out), splits(reader, units=()))
    assert not out.exists()


def test_a_damaged_manifest_is_replaced_only_when_asked(out, reader):
    prepare_splits(request(out), splits(reader))
    (out / "train" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json is damaged .*overwrite=true"):
        prepare_splits(request(out), splits(reader))
    prepare_splits(request(out, overwrite=True), splits(reader))
    assert pixel(out, "train") == 7


def test_a_restart_goes_on_after_the_whole_shards_and_ends_the_same(tmp_path, out, reader):
    """Two units a shard: 2 x (16 + 36 n) bytes for n = 1, 2, … are 104, 176, 248, 320, 392."""
    small = [replace(split, shard_bytes=250) for split in splits(reader, units=(1, 2, 3, 4, 5))]
    prepare_splits(request(tmp_path / "whole"), small)
    read(reader)
    failing = [replace(split, records=replace(reader, fails=5)) for split in small]
    with pytest.raises(ValueError, match="unit 5 cannot be read"):
        prepare_splits(request(out), failing)
    assert read(reader) == [1, 2, 3, 4, 5]
    prepare_splits(request(out), small)
    assert read(reader) == [5, 1, 2, 3, 4, 5]
    for split in ("train", "test"):
        assert contents(out / split) == contents(tmp_path / "whole" / split)


def test_progress_counts_what_was_done_before(out, reader):
    seen = []

    def progress(items, *, label, total, done=0):
        seen.append((label, total, done))
        return items

    small = [replace(split, shard_bytes=1) for split in splits(reader)]
    with pytest.raises(ValueError, match="unit 3"):
        prepare_splits(request(out), [replace(small[0], records=replace(reader, fails=3))])
    prepare_splits(request(out, progress=progress), small)
    assert seen == [("toy train", 3, 2), ("toy test", 3, 0)]


FOUND = {"users": 5, "images": 10}


def test_counts_are_those_that_were_published(out):
    strict, lenient = request(out), request(out, allow_partial=True)
    assert strict.missing("x.zip", found=FOUND, published=FOUND) == {}
    published = {"users": 5, "images": 12}
    assert lenient.missing("x.zip", found=FOUND, published=published) == {"images missing": 2}
    with pytest.raises(ValueError) as caught:
        strict.missing("x.zip", found=FOUND, published=published)
    assert str(caught.value) == (
        "x.zip holds 5 users, 10 images, published are 5 users, 12 images: get the rest, or pass allow_partial=true"
    )
    for asked in (strict, lenient):
        with pytest.raises(ValueError, match=r"5 users, 10 images, published are 5 users, 9 images: this is another"):
            asked.missing("x.zip", found=FOUND, published={"users": 5, "images": 9})


def test_a_source_must_be_there(tmp_path, out):
    assert Request(source=tmp_path, out=out).existing_source("x.zip from y") == tmp_path
    with pytest.raises(ValueError, match=r"^nothing to prepare from: get x.zip from y and pass source="):
        request(out).existing_source("x.zip from y")
    with pytest.raises(ValueError, match=r"^no .*/none: get x.zip from y and pass source="):
        Request(source=tmp_path / "none", out=out).existing_source("x.zip from y")


@pytest.mark.parametrize(("size", "most"), [(0, 6), (100, 1), (50, 2)])
def test_large_units_wait_only_as_far_as_their_bytes_fit(out, reader, monkeypatch, size, most):
    """One worker has 100 bytes here: by number alone, six units of a hundred megabytes could be in memory."""
    monkeypatch.setattr("fedemb.data.preparation._BYTES_AHEAD", 100)
    reader.noted.mkdir()

    def begun(item):
        """How many units have been begun with, once no more are."""
        count, end = -1, time.monotonic() + 20
        while count < item + most and time.monotonic() < end:
            count = len(list(reader.noted.iterdir()))
            time.sleep(0.1 if count == item + most else 0.01)  # time for one too many
        return len(list(reader.noted.iterdir()))

    def progress(items, *, label, total, done=0):
        for number, item in enumerate(items):
            if number < 2 and label == "toy train":
                assert begun(number) == number + most
            yield item

    wanted = [replace(split, size=lambda unit: size) for split in splits(reader, units=range(1, 10))]
    prepare_splits(request(out, workers=1, progress=progress), wanted)


def test_a_place_for_stores_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(ValueError, match=rf"^{tmp_path}/file is no folder, out={out} must be one: pass out="):
            request(out)
    assert request(tmp_path / "none" / "deep").out == tmp_path / "none" / "deep"


def test_what_a_killed_run_left_is_removed_and_a_refusal_leaves_the_rest_as_it_was(out, reader):
    out.mkdir()
    (out / ".fedemb-0.spool.partial").touch()
    (out / ".mine").touch()
    with pytest.raises(ValueError, match="toy train has no user"):
        prepare_splits(request(out), splits(reader, units=()))
    assert [file.name for file in out.rglob("*")] == [".mine"]
    with pytest.raises(ValueError, match="unit 1 cannot be read"):
        prepare_splits(request(out), splits(replace(reader, fails=1)))
    assert [file.name for file in out.rglob("*")] == [".mine"]


def test_the_command_of_a_store_that_lacks_something_allows_that(out, reader):
    whole, part = (
        replace(split, left_out=left) for split, left in zip(splits(reader), ({}, {"images missing": 2}), strict=True)
    )
    made = prepare_splits(request(out), [whole, part]).manifests
    assert [one.info.command for one in made] == ["fedemb prepare toy", "fedemb prepare toy allow_partial=true"]


def test_a_manifest_without_shards_is_told(out, reader):
    prepare_splits(request(out), splits(reader))
    manifest = out / "train" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "shards": []}))
    with pytest.raises(ValueError, match=r"manifest.json is damaged \(toy has no shards\): prepare the store again"):
        prepare_splits(request(out), splits(reader))


@pytest.mark.parametrize("workers", [-1, 1.5, True])
def test_an_impossible_number_of_workers_is_refused(out, workers):
    with pytest.raises(ValueError, match="workers"):
        request(out, workers=workers)


def test_preparing_starts_without_pytorch():
    """Its import takes longer than a small data set: commands and worker processes that do not compute go without."""
    script = """
import sys
import fedemb.cli.main
import fedemb.data_prep.image_folder
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)

"""Preparing several splits: what is there and whole is kept, other data are not replaced unasked."""

from dataclasses import replace

import numpy as np
import pytest

from fedemb.data.manifest import StoreInfo
from fedemb.data.preparation import Split, prepare_splits
from fedemb.data.record import UserRecord
from fedemb.data.store import StoreUsers


def info(split):
    return StoreInfo(
        name="toy",
        split=split,
        image_shape=(1, 2, 2),
        classes=2,
        polarity="ink 255 on 0",
        description="",
        licence="MIT",
        notice="",
        sources=(),
        command="fedemb prepare toy",
    )


def splits(value=7, made=None, **change):
    """Two splits; the ones that are made are noted in `made`."""

    def records(name):
        def start():
            if made is not None:
                made.append(name)
            yield UserRecord(id="one", images=np.full((1, 1, 2, 2), value, np.uint8), labels=np.zeros(1, int))

        return start

    return [Split(info=replace(info(name), **change), users=1, records=records(name)) for name in ("train", "test")]


def pixel(path, split):
    return StoreUsers(path=path, split=split).load([0])["image"].max().item()


def test_both_splits_are_made_once(tmp_path):
    made = []
    first = prepare_splits(tmp_path / "toy", splits=splits(made=made))
    again = prepare_splits(tmp_path / "toy", splits=splits(made=made))
    assert made == ["train", "test"]
    assert (first.written, again.written) == (True, False)
    assert first.manifests == again.manifests
    assert [manifest.info.split for manifest in first.manifests] == ["train", "test"]


def test_only_the_split_that_is_missing_is_made(tmp_path):
    made = []
    prepare_splits(tmp_path, splits=splits()[:1])
    assert prepare_splits(tmp_path, splits=splits(made=made)).written
    assert made == ["test"]


def test_a_damaged_store_is_made_again_unasked(tmp_path):
    """Else 'prepare it again' would be advice that does not help."""
    prepare_splits(tmp_path, splits=splits())
    (shard,) = (tmp_path / "test").glob("*.sqlite")
    content = shard.read_bytes()
    shard.write_bytes(content.replace(b"\7\7\7\7", b"\7\7\7\6"))
    made = []
    assert prepare_splits(tmp_path, splits=splits(made=made)).written
    assert made == ["test"]
    assert shard.read_bytes() == content


def test_other_data_are_replaced_only_when_asked(tmp_path):
    prepare_splits(tmp_path, splits=splits())
    made = []
    other = splits(9, made, description="larger")
    with pytest.raises(
        ValueError, match=r"train holds another store \(description '' and not 'larger'\).*overwrite=true"
    ):
        prepare_splits(tmp_path, splits=other)
    assert made == []
    assert pixel(tmp_path, "train") == 7
    prepare_splits(tmp_path, splits=other, overwrite=True)
    assert (pixel(tmp_path, "train"), pixel(tmp_path, "test")) == (9, 9)


def test_nothing_is_written_if_a_later_split_is_refused(tmp_path):
    prepare_splits(tmp_path, splits=splits()[1:])
    with pytest.raises(ValueError, match="test holds another store"):
        prepare_splits(tmp_path, splits=splits(description="larger"))
    assert not (tmp_path / "train").exists()


def test_a_damaged_manifest_is_replaced_only_when_asked(tmp_path):
    prepare_splits(tmp_path, splits=splits())
    (tmp_path / "train" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json is damaged .*overwrite=true"):
        prepare_splits(tmp_path, splits=splits())
    prepare_splits(tmp_path, splits=splits(), overwrite=True)
    assert pixel(tmp_path, "train") == 7


def test_progress_sees_every_record(tmp_path):
    seen = []

    def progress(records, *, label, total):
        seen.append((label, total))
        return records

    prepare_splits(tmp_path, splits=splits(), progress=progress)
    assert seen == [("toy train", 1), ("toy test", 1)]

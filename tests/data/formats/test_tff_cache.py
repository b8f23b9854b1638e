"""TensorFlow Federated's cache of photographs: files to blocks of records, and each block's images and classes."""

import re

import pytest
from photo_archives import write
from tfrecords import example, records

from fedemb.data.formats.tff_cache import blocks_of_test, blocks_of_users, find_cache, read_block


def one(image, label):
    return example(**{"image/encoded_jpeg": [image], "class": [label]})


def test_blocks_cut_the_test_file_and_a_user_is_a_file(tmp_path):
    write(tmp_path / "train" / "b, ö", records([one(b"p", 3), one(b"q" * 300, 200)]))
    write(tmp_path / "train" / "a", b"")
    write(tmp_path / "train" / ".hidden", b"?")
    write(tmp_path / "test.tfRecord", records([one(bytes([n]) * (n + 1), n) for n in range(5)]))
    users = blocks_of_users(tmp_path)
    assert [(user.id, user.records) for user in users] == [("a", 0), ("b, ö", 2)]
    assert [user.bytes for user in users] == [(tmp_path / "train" / user.id).stat().st_size for user in users]
    assert list(read_block(users[1])) == [(b"p", 3), (b"q" * 300, 200)]
    blocks = blocks_of_test(tmp_path, 2)
    assert [block.id for block in blocks] == ["test-00000", "test-00001", "test-00002"]
    assert [block.first + block.bytes for block in blocks] == [
        *(block.first for block in blocks[1:]),
        (tmp_path / "test.tfRecord").stat().st_size,
    ]
    assert [list(read_block(block)) for block in blocks] == [
        [(b"\0", 0), (b"\1\1", 1)],
        [(b"\2\2\2", 2), (b"\3\3\3\3", 3)],
        [(b"\4\4\4\4\4", 4)],
    ]


@pytest.mark.parametrize("place", ["cache/gld23k", "gld23k", "."])
def test_a_cache_is_found(tmp_path, place):
    write(tmp_path / place / "train" / "a", b"")
    assert find_cache(tmp_path, ["gld23k"]) is None
    write(tmp_path / place / "test.tfRecord", b"")
    assert find_cache(tmp_path, ["other", "gld23k"]) == tmp_path / place
    assert (find_cache(tmp_path, ["other"]) is None) == (place != ".")


@pytest.mark.parametrize("left", [5, 12, 30, -1])
def test_a_cut_file_is_told_before_anything_is_read(tmp_path, left):
    write(tmp_path / "test.tfRecord", (records([one(b"p" * 50, 3)]) * 2)[:left])
    with pytest.raises(ValueError, match=r"test.tfRecord: the file ends at byte \d+ within a record: copy the cache"):
        blocks_of_test(tmp_path, 8)


def test_damage_is_told_with_its_place(tmp_path):
    first = records([one(b"p" * 50, 3)])
    file = write(tmp_path / "test.tfRecord", first + b"\x01" + first[1:])
    with pytest.raises(ValueError, match=rf"test.tfRecord: no TFRecord at byte {len(first)}, or it is damaged"):
        blocks_of_test(tmp_path, 8)
    write(file, first + first[:40] + b"?" + first[41:])
    (_, block) = blocks_of_test(tmp_path, 1)
    with pytest.raises(ValueError, match=rf"test.tfRecord, from byte {len(first)} on: .*checksum"):
        list(read_block(block))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"class": [1]}, "record 1 has not one image/encoded_jpeg"),
        ({"class": [1], "image/encoded_jpeg": [b"a", b"b"]}, "record 1 has not one image/encoded_jpeg"),
        ({"class": [1], "image/encoded_jpeg": [3]}, "record 1 has not one image/encoded_jpeg"),
        ({"image/encoded_jpeg": [b"a"]}, "record 1 has not one class that is a whole number"),
        ({"image/encoded_jpeg": [b"a"], "class": [1.0]}, "record 1 has not one class"),
        ({"image/encoded_jpeg": [b"a"], "class": [1, 2]}, "record 1 has not one class"),
    ],
)
def test_other_examples_are_refused(tmp_path, features, message):
    write(tmp_path / "train" / "a", records([one(b"p", 0), example(**features)]))
    (block,) = blocks_of_users(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'train' / 'a'}: {message}")):
        list(read_block(block))

"""The IDX reader against bytes that are put together by hand."""

import gzip
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedemb.data.formats.idx import idx_blocks, read_idx


def idx(code, shape, data):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data


IMAGES = idx(0x08, (3, 2, 2), bytes(range(12)))


@pytest.fixture
def file(tmp_path):
    def make(data, name="data.idx"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return make


def test_images_and_labels_as_mnist_has_them(file):
    """Magic numbers 0x803 and 0x801 of train-images-idx3-ubyte and train-labels-idx1-ubyte."""
    data = bytes.fromhex("00000803 00000001 00000002 00000003") + bytes([1, 2, 3, 4, 5, 255])
    assert read_idx(file(data)).tolist() == [[[1, 2, 3], [4, 5, 255]]]
    assert read_idx(file(bytes.fromhex("00000801 00000002 0907"))).tolist() == [9, 7]


@pytest.mark.parametrize(
    ("code", "letter", "dtype", "values"),
    [
        (0x08, "B", np.uint8, [0, 255]),
        (0x09, "b", np.int8, [-128, 127]),
        (0x0B, "h", np.int16, [-2, 258]),
        (0x0C, "i", np.int32, [-2, 16909060]),
        (0x0D, "f", np.float32, [0.5, -2.0]),
        (0x0E, "d", np.float64, [0.1, -2.0]),
    ],
)
def test_every_type_in_the_machines_byte_order(file, code, letter, dtype, values):
    found = read_idx(file(idx(code, (2,), struct.pack(f">2{letter}", *values))))
    assert found.tolist() == values
    assert found.dtype == dtype
    assert found.dtype.isnative


def test_gzip_is_known_by_its_bytes_and_not_by_its_name(file):
    packed = file(gzip.compress(IMAGES), "images-idx3-ubyte")
    plain = file(IMAGES, "images.gz")
    assert np.array_equal(read_idx(packed), np.arange(12).reshape(3, 2, 2))
    assert np.array_equal(read_idx(plain), read_idx(packed))


def test_arrays_belong_to_the_caller(file):
    assert read_idx(file(IMAGES)).flags.writeable


def test_no_rows(file):
    assert read_idx(file(idx(0x08, (0, 28, 28), b""))).shape == (0, 28, 28)
    assert list(idx_blocks(file(idx(0x08, (0,), b"")), rows=2)) == []


@pytest.mark.parametrize(("rows", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (9, [3])])
def test_blocks(file, rows, sizes):
    blocks = list(idx_blocks(file(gzip.compress(IMAGES)), rows=rows))
    assert [len(block) for block in blocks] == sizes
    assert np.concatenate(blocks).ravel().tolist() == list(range(12))


def test_blocks_need_a_row(file):
    with pytest.raises(ValueError, match="rows=0"):
        list(idx_blocks(file(IMAGES), rows=0))


def whole(path):
    return read_idx(path)


def blocks(path):
    return list(idx_blocks(path, rows=2))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("read", [whole, blocks])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no IDX file"),
        (b"\0\0\x08", "no IDX file"),
        (b"\0\1\x08\1\0\0\0\1a", "no IDX file"),
        (idx(0x0A, (1,), b"a"), "no IDX file"),  # no such type
        (idx(0x08, (), b"a"), "no IDX file"),
        (idx(0x08, (1,) * 17, b"a"), "no IDX file"),
        (IMAGES[:9], "cut within the 3 dimensions"),
        (IMAGES[:-1], "cut: "),
        (IMAGES[:16], "cut: "),
        (IMAGES + b"x", "more bytes"),
        (idx(0x08, (2**32 - 1,), b"abc"), "cut: "),
        (idx(0x0E, (1, 2**32 - 1, 2**32 - 1), b"abc"), "which no data set has"),
        (idx(0x08, (2**32 - 1, 0), b""), "which no data set has"),
        (idx(0x08, (0, 2**32 - 1, 2**32 - 1, 2**32 - 1), b""), "which no data set has"),
    ],
)
def test_damage_is_refused_in_one_line_with_the_files_name(file, pack, read, data, words):
    path = file(pack(data))
    with pytest.raises(ValueError, match=words) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cut", [5, 20, -9, -1])
def test_a_cut_gzip_file_is_refused(file, cut):
    path = file(gzip.compress(IMAGES)[:cut])
    with pytest.raises(ValueError, match=r"data\.idx: .*download"):
        read_idx(path)


def test_a_flipped_bit_in_a_gzip_file_is_found_by_its_checksum(file):
    packed = bytearray(gzip.compress(IMAGES))
    packed[-8] ^= 1
    with pytest.raises(ValueError, match="CRC check failed"):
        read_idx(file(packed))


def test_a_header_that_lies_allocates_no_more_than_the_file_holds(file, monkeypatch):
    largest = []
    honest = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size: largest.append(size) or honest(self, size))
    with pytest.raises(ValueError, match="4294967295 bytes are to come"):
        read_idx(file(gzip.compress(idx(0x08, (2**32 - 1,), b"abc"))))
    assert max(largest) <= 2**20


def test_a_missing_file_stays_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


@given(st.binary(max_size=60), st.sampled_from([b"", b"\0\0", b"\0\0\x08\1", b"\0\0\x0d\2\0\0\0", b"\x1f\x8b\x08"]))
def test_random_bytes_raise_nothing_but_value_errors(tmp_path_factory, data, head):
    path = tmp_path_factory.getbasetemp() / "random.idx"
    path.write_bytes(head + data)
    with suppress(ValueError):
        read_idx(path)

"""TFRecord and Example readers against bytes that are put together by hand."""

import io
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfrecords import (
    bytes_feature,
    delimited,
    example,
    example_of,
    float_feature,
    int_feature,
    masked,
    record,
    records,
    unpacked_float_feature,
    unpacked_int_feature,
    varint,
)

from fedemb.data.formats.tfrecord import parse_example, read_records


def read(data):
    return list(read_records(io.BytesIO(data), "some.tfrecord"))


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


# a whole Example, byte by byte: Features of 16 bytes, in it an entry of 14: key "label", Int64List [300]
LABEL_300 = bytes.fromhex("0a 10  0a 0e  0a 05 6c 61 62 65 6c  12 05  1a 03  08 ac 02".replace(" ", ""))


def test_an_example_byte_by_byte():
    found = parse_example(LABEL_300, "x")
    assert list(found) == ["label"]
    assert found["label"].tolist() == [300]
    assert found["label"].dtype == np.int64


def test_records_in_order():
    payloads = [b"first", b"", b"x" * 3000, b"last"]
    assert read(records(payloads)) == payloads
    assert read(b"") == []


def test_records_from_a_stream_that_gives_little_at_a_time():
    """Sockets and decompressors return fewer bytes than asked for."""

    class Slow(io.BytesIO):
        def read(self, count):
            return super().read(min(count, 5))

    assert list(read_records(Slow(records([b"a" * 33, b"b"])), "x")) == [b"a" * 33, b"b"]


@pytest.mark.parametrize("left", range(1, 28))
def test_a_cut_record_is_refused_with_name_and_position(left):
    """12 bytes header + 12 payload + 4: every cut within the second record; the first one takes bytes 0 to 20."""
    data = record(b"whole") + record(b"twelve bytes")[:left]
    position = 21 if left < 12 else 33
    stream = read_records(io.BytesIO(data), "some.tfrecord")
    assert next(stream) == b"whole"
    with pytest.raises(ValueError, match=rf"^some\.tfrecord: damaged at byte {position}: ") as raised:
        next(stream)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("place", "words"), [(0, "header"), (8, "header"), (12, "12 bytes is wrong"), (24, "is wrong")]
)
def test_a_flipped_bit_is_found_by_the_checksums(place, words):
    with pytest.raises(ValueError, match=words):
        read(flipped(record(b"twelve bytes"), place))


def test_an_absurd_length_is_refused_before_anything_is_read():
    class Stream(io.BytesIO):
        def read(self, count):
            assert count <= 12
            return super().read(count)

    length = struct.pack("<Q", 2**31)
    with pytest.raises(ValueError, match="2147483648 bytes"):
        list(read_records(Stream(length + masked(length)), "x"))


def test_a_length_that_lies_allocates_no_more_than_the_stream_holds():
    class Stream(io.BytesIO):
        largest = 0

        def read(self, count):
            self.largest = max(self.largest, count)
            return super().read(count)

    length = struct.pack("<Q", 2**31 - 1)
    stream = Stream(length + masked(length) + b"some")
    with pytest.raises(ValueError, match=f"ends {2**31 - 1 + 4 - 4} bytes before"):
        list(read_records(stream, "x"))
    assert stream.largest <= 2**20


def test_all_kinds():
    found = parse_example(example(name=[b"a", b"", b"\xff"], pixels=[0.5, -2.0], label=[7, 0]), "x")
    assert found["name"] == [b"a", b"", b"\xff"]
    assert found["pixels"].tolist() == [0.5, -2.0]
    assert found["pixels"].dtype == np.float32
    assert found["label"].tolist() == [7, 0]
    assert found["label"].dtype == np.int64
    assert set(found) == {"name", "pixels", "label"}


def test_arrays_belong_to_the_caller():
    """A view of the payload cannot be written to, and torch warns about it."""
    found = parse_example(example(pixels=[0.5], label=[1]), "x")
    found["pixels"][0], found["label"][0] = 1.0, 2
    assert found["pixels"].flags.owndata


@pytest.mark.parametrize("make", [int_feature, unpacked_int_feature])
def test_whole_numbers_of_every_size(make):
    values = [0, 1, 127, 128, 255, 300, 2**32, -1, -300, 2**63 - 1, -(2**63)]
    assert parse_example(example_of({"n": make(values)}), "x")["n"].tolist() == values
    assert parse_example(example_of({"n": make([5])}), "x")["n"].tolist() == [5]


def test_unpacked_floats():
    assert parse_example(example_of({"p": unpacked_float_feature([0.25, -1.5])}), "x")["p"].tolist() == [0.25, -1.5]


def test_packed_and_unpacked_numbers_of_one_list_are_joined():
    mixed = delimited(3, delimited(1, varint(1) + varint(300)) + varint(8) + varint(2) + delimited(1, varint(3)))
    assert parse_example(example_of({"n": mixed}), "x")["n"].tolist() == [1, 300, 2, 3]


def test_protobufs_rules_for_repetition():
    """The last entry of a name and the last kind of a feature count; lists of one kind are joined."""
    twice = example(label=[1]) + example(label=[2])
    assert parse_example(twice, "x")["label"].tolist() == [2]
    kinds = example_of({"f": float_feature([1.0]) + int_feature([3]) + int_feature([4])})
    assert parse_example(kinds, "x")["f"].tolist() == [3, 4]


def test_unknown_fields_are_skipped():
    extra = (
        varint(9 * 8)
        + varint(300)
        + varint(10 * 8 + 1)
        + bytes(8)
        + varint(11 * 8 + 5)
        + bytes(4)
        + delimited(12, b"?")
    )
    feature = delimited(1, b"label") + delimited(2, extra + int_feature([6]) + extra)
    payload = extra + delimited(1, extra + delimited(1, extra + feature + extra))
    assert parse_example(payload, "x")["label"].tolist() == [6]


def test_empty_things():
    assert parse_example(b"", "x") == {}
    empty = example_of({"none": b"", "b": bytes_feature([]), "f": float_feature([]), "i": int_feature([])})
    found = parse_example(empty, "x")
    assert found["none"] == found["b"] == []
    assert found["f"].shape == found["i"].shape == (0,)
    assert (found["f"].dtype, found["i"].dtype) == (np.float32, np.int64)


def test_only_wanted_features_are_read():
    """A pass over the labels must not decode pixels: the broken ones are not noticed."""
    broken = delimited(2, delimited(1, b"xyz"))
    payload = example_of({"pixels": broken, "label": int_feature([4])})
    found = parse_example(payload, "x", names=("label", "missing"))
    assert {name: value.tolist() for name, value in found.items()} == {"label": [4]}
    assert parse_example(payload, "x", names=()) == {}
    with pytest.raises(ValueError, match="cut"):
        parse_example(payload, "x")


@pytest.mark.parametrize(
    "payload",
    [
        b"\x0a",  # no length
        b"\x0a\x05abc",  # longer than the message
        b"\x08\x01",  # features as a number
        b"\x0b",  # a group
        b"\x02\x00",  # field 0
        b"\xff" * 11,  # a tag without end
        delimited(1, delimited(1, b"\x0a\x04a") + b"\x12\x01x"),  # a name that goes on past its entry
        example_of({"n": delimited(3, delimited(1, b"\x80"))}),  # a packed number without end
        example_of({"n": delimited(3, delimited(1, b"\x80") + delimited(1, b"\x01"))}),  # cut, goes on in the next
        example_of({"n": delimited(3, delimited(1, b"\xff" * 10 + b"\x01"))}),  # of 11 bytes
        example_of({"n": delimited(3, varint(8 + 5) + bytes(4))}),  # fixed32 in an Int64List
        example_of({"n": b"\x18\x01"}),  # a list as a number
        delimited(1, delimited(1, delimited(1, b"\xff") + delimited(2, int_feature([1])))),  # a name that is no UTF-8
    ],
)
def test_what_is_no_example_is_refused_in_one_line(payload):
    with pytest.raises(ValueError, match=r"^row 5: no tf\.train\.Example \(.*download") as raised:
        parse_example(payload, "row 5")
    assert "\n" not in str(raised.value)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_value_errors(data):
    for read_it in (read, lambda data: parse_example(data, "x"), lambda data: parse_example(delimited(1, data), "x")):
        with suppress(ValueError):
            read_it(data)


@given(st.data())
def test_damaged_examples_raise_nothing_but_value_errors(data):
    whole = bytearray(example(a=[1.0, 2.0], b=[300, -1], c=[b"xy"]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with suppress(ValueError):
        parse_example(cut, "x")


NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 300), max_size=20)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=20)
BYTES = st.lists(st.binary(max_size=9) | st.just(b"x" * 300), max_size=5)


@given(NUMBERS, FLOATS, BYTES)
def test_what_is_written_is_read(numbers, floats, strings):
    features = {"é": int_feature(numbers), "": float_feature(floats), "b": bytes_feature(strings)}
    found = parse_example(example_of(features), "x")
    assert (found["é"].tolist(), found[""].tolist(), found["b"]) == (numbers, floats, strings)

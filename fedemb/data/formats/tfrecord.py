"""TFRecord files and the tf.train.Example messages in them, without TensorFlow.

Sources: tensorflow/core/lib/io/record_writer.h (framing) and tensorflow/core/example/{example,feature}.proto; the wire
format is protobuf's, protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import BinaryIO

import numpy as np

from fedemb.data.formats.crc32c import masked_crc32c

Feature = list[bytes] | np.ndarray
"""bytes_list: list[bytes]; float_list: [n] float32; int64_list: [n] int64. A feature of no kind: an empty list."""

_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")
_LONGEST = 2**31 - 1  # a protobuf message holds less than 2 GiB
_PIECE = 1 << 20  # bytes read at once: a length that lies allocates no more than the stream holds
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types
_BYTES, _FLOATS, _INTS = 1, 2, 3  # fields of Feature
_UNPACKED = {_FLOATS: _FIXED32, _INTS: _VARINT}

_Span = tuple[int, int]  # begin and end within the payload


def read_records(stream: BinaryIO, where: str) -> Iterator[bytes]:
    """The payloads of a TFRecord stream, in order; both checksums of each are verified.

    where: the stream's name, for messages.
    Raises: ValueError in one line with the byte position if the stream ends within a record, a checksum does not fit,
        or a record claims 2 GiB or more.
    """
    position = 0
    while header := _read(stream, _HEADER.size):
        if len(header) < _HEADER.size:
            raise _damaged(where, position, f"a record's header has {_HEADER.size} bytes, {len(header)} are left")
        length, checksum = _HEADER.unpack(header)
        if masked_crc32c(header[:8]) != checksum:
            raise _damaged(where, position, "no TFRecord header, or its checksum is wrong")
        if length > _LONGEST:
            raise _damaged(where, position, f"a record of {length} bytes, but no Example is longer than {_LONGEST}")
        position += _HEADER.size
        payload, footer = _read(stream, length), _read(stream, _FOOTER.size)
        if len(footer) < _FOOTER.size:
            missing = length + _FOOTER.size - len(payload) - len(footer)
            raise _damaged(where, position, f"the file ends {missing} bytes before the end of the record")
        if _FOOTER.unpack(footer) != (masked_crc32c(payload),):
            raise _damaged(where, position, f"the checksum of the record's {length} bytes is wrong")
        position += length + _FOOTER.size
        yield payload


def parse_example(payload: bytes, where: str, names: Collection[str] | None = None) -> dict[str, Feature]:
    """The features of one tf.train.Example.

    Args: payload: the serialized message. where: what to call it in messages.
          names: the features wanted; others are skipped unread, and a wanted one that is not there is not in the
          answer. None: all.
    Returns: name -> `Feature`; the arrays are the caller's own.
    As in protobuf: numbers may be packed or not, unknown fields are skipped, of two features of one name or two kinds
    of one feature the last counts, and two lists of one kind are joined.
    Raises: ValueError in one line if these bytes are no Example.
    """
    wanted = None if names is None else {name.encode() for name in names}
    found: dict[str, Feature] = {}
    try:
        for features in _messages(payload, (0, len(payload)), 1):
            for entry in _messages(payload, features, 1):
                name, feature = _key_and_value(payload, entry)
                if wanted is None or name in wanted:
                    found[name.decode()] = _feature(payload, feature)
    except ValueError as error:
        raise ValueError(f"{where}: no tf.train.Example ({error}): copy or download the file again") from None
    return found


def _damaged(where: str, position: int, what: str) -> ValueError:
    return ValueError(f"{where}: damaged at byte {position}: {what}; copy or download the file again")


def _wrong_type(wire: int, value: _Span) -> ValueError:
    return ValueError(f"the field at byte {value[0]} has wire type {wire}, not {_LENGTH}")


def _read(stream: BinaryIO, count: int) -> bytes:
    """That many bytes, or fewer at the end of the stream."""
    pieces = []
    while count and (piece := stream.read(min(count, _PIECE))):
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _fields(payload: bytes, span: _Span) -> Iterator[tuple[int, int, _Span]]:
    """(field number, wire type, where its value lies) of each field of a message."""
    begin, end = span
    while begin < end:
        tag, begin = _varint(payload, begin, end)
        wire = tag & 7
        if wire == _LENGTH:
            size, begin = _varint(payload, begin, end)
            stop = begin + size
        elif wire == _VARINT:
            _, stop = _varint(payload, begin, end)
        elif wire in (_FIXED32, _FIXED64):
            stop = begin + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {wire} at byte {begin}")
        if tag < 8 or stop > end:
            raise ValueError(f"field {tag >> 3} at byte {begin} ends at {stop}, its message at {end}")
        yield tag >> 3, wire, (begin, stop)
        begin = stop


def _varint(payload: bytes, begin: int, end: int) -> tuple[int, int]:
    """An unsigned number, and where it ends."""
    if begin < end and (byte := payload[begin]) < 0x80:  # nearly all are one byte long
        return byte, begin + 1
    value = shift = 0
    for place in range(begin, min(end, begin + 10)):
        byte = payload[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise ValueError(f"a number at byte {begin} has no end")


def _messages(payload: bytes, span: _Span, wanted: int) -> Iterator[_Span]:
    """Where the length-delimited values of one field lie."""
    for number, wire, value in _fields(payload, span):
        if number == wanted:
            if wire != _LENGTH:
                raise _wrong_type(wire, value)
            yield value


def _key_and_value(payload: bytes, entry: _Span) -> tuple[bytes, _Span]:
    """A map's entry; a missing key or value is an empty one."""
    key, feature = (0, 0), (0, 0)
    for number, wire, value in _fields(payload, entry):
        if number <= 2 and wire != _LENGTH:
            raise _wrong_type(wire, value)
        if number == 1:
            key = value
        elif number == 2:
            feature = value
    return payload[slice(*key)], feature


def _feature(payload: bytes, span: _Span) -> Feature:
    """The values of the last kind that is there."""
    kind = 0
    lists: list[_Span] = []
    for number, wire, value in _fields(payload, span):
        if number in (_BYTES, _FLOATS, _INTS):
            if wire != _LENGTH:
                raise _wrong_type(wire, value)
            lists = [*lists, value] if number == kind else [value]
            kind = number
    if kind in _UNPACKED:
        parts = [part for values in lists for part in _numbers(payload, values, kind)]
        return _floats(b"".join(parts)) if kind == _FLOATS else _ints(b"".join(parts))
    return [payload[begin:end] for values in lists for begin, end in _messages(payload, values, 1)]


def _numbers(payload: bytes, values: _Span, kind: int) -> Iterator[bytes]:
    """The bytes of a list's numbers; joined, those of packed and of unpacked ones look alike."""
    for number, wire, (begin, end) in _fields(payload, values):
        if number == 1:
            part = payload[begin:end]
            whole = len(part) % 4 == 0 if kind == _FLOATS else not part or part[-1] < 0x80
            if wire not in (_LENGTH, _UNPACKED[kind]) or not whole:
                raise ValueError(f"numbers at byte {begin} are cut or have wire type {wire}")
            yield part


def _floats(data: bytes) -> np.ndarray:
    """[n] float32 of n times four bytes."""
    return np.frombuffer(data, "<f4").astype(np.float32)


def _ints(data: bytes) -> np.ndarray:
    """[n] int64 of n varints; a negative one is the ten bytes of its two's complement."""
    septets = np.frombuffer(data, np.uint8)
    if data.isascii():  # no byte continues in the next
        return septets.astype(np.int64)
    ends = np.flatnonzero(septets < 0x80)
    begins = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - begins + 1
    if sizes.max() > 10:
        raise ValueError("a number has more than 10 bytes")
    values = np.zeros(len(ends), np.uint64)
    for place in range(int(sizes.max())):
        some = sizes > place
        values[some] |= (septets[begins[some] + place].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * place)
    return values.view(np.int64)

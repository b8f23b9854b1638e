"""TFRecord files and tf.train.Examples made by hand from the definition of the formats; knows nothing of the readers.

A record: length as u64, masked CRC-32C of these 8 bytes, payload, masked CRC-32C of the payload; all little-endian.
Example { Features features = 1 }, Features { map<string, Feature> feature = 1 },
Feature { oneof { BytesList = 1, FloatList = 2, Int64List = 3 } }, each list { repeated value = 1 }.
"""

import struct


def crc32c(data):
    """Bit by bit: the remainder for the reversed Castagnoli polynomial, with all ones before and after."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ 0x82F63B78 if register & 1 else register >> 1
    return register ^ 0xFFFFFFFF


def masked(data):
    checksum = crc32c(data)
    rotated = (checksum >> 15) | (checksum << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) % 2**32)


def record(payload):
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def records(payloads):
    """The bytes of a TFRecord file."""
    return b"".join(map(record, payloads))


def varint(value):
    """Seven bits a byte, the lowest first; a negative number as its 64-bit two's complement."""
    value %= 2**64
    out = bytearray()
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out) + bytes([value])


def delimited(field, content):
    """A field of wire type 2: tag, length, content."""
    return varint(field * 8 + 2) + varint(len(content)) + content


def bytes_feature(values):
    return delimited(1, b"".join(delimited(1, value) for value in values))


def float_feature(values):
    """Packed, as TensorFlow writes it."""
    return delimited(2, delimited(1, struct.pack(f"<{len(values)}f", *values)))


def int_feature(values):
    """Packed, as TensorFlow writes it."""
    return delimited(3, delimited(1, b"".join(map(varint, values))))


def unpacked_float_feature(values):
    return delimited(2, b"".join(varint(1 * 8 + 5) + struct.pack("<f", value) for value in values))


def unpacked_int_feature(values):
    return delimited(3, b"".join(varint(1 * 8 + 0) + varint(value) for value in values))


def example_of(features):
    """name -> the bytes of a Feature, as the bytes of an Example."""
    entries = (delimited(1, name.encode()) + delimited(2, feature) for name, feature in features.items())
    return delimited(1, b"".join(delimited(1, entry) for entry in entries))


def example(**values):
    """name -> list of bytes, of float or of int (none empty), as the bytes of an Example."""
    makers = {bytes: bytes_feature, float: float_feature, int: int_feature}
    return example_of({name: makers[type(value[0])](value) for name, value in values.items()})

"""CRC-32C against the examples of RFC 3720 and against the bit-by-bit definition."""

import numpy as np
import pytest
from tfrecords import crc32c as by_bits
from tfrecords import masked

from fedemb.data.formats.crc32c import crc32c, masked_crc32c


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_published_values(data, checksum):
    """RFC 3720, B.4; the check value of the catalogue of parametrised CRC algorithms."""
    assert crc32c(data) == checksum


@pytest.mark.parametrize("size", [1, 3, 4, 63, 64, 65, 511, 512, 513, 516, 1024, 1500])
def test_blocks_equal_bits_at_every_boundary(size):
    """The long way works on blocks of 512 with zeros in front: an error in carrying over would show at these sizes."""
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert crc32c(data) == by_bits(data)
    assert masked_crc32c(data).to_bytes(4, "little") == masked(data)


def test_leading_zeros_count():
    """The blocks are filled up with zeros in front, which must not hide the data's own."""
    assert crc32c(bytes(100)) == by_bits(bytes(100)) != crc32c(bytes(101))

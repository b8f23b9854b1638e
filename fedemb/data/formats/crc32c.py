"""CRC-32C (Castagnoli) in numpy: a block of bytes at a time instead of a byte at a time."""

from __future__ import annotations

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78  # bit-reversed, RFC 3720 appendix B.4
_BLOCK = 512  # bytes; the table takes 1 KiB for each
_LOOP_BYTES = 64  # below, numpy's calls cost more than the loop


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720: crc32c(b"123456789") = 0xE3069283. About 4 ns a byte after the first call."""
    if len(data) < _LOOP_BYTES:
        return _by_bytes(data)
    padding = -len(data) % _BLOCK
    padded = np.zeros(padding + len(data), np.uint8)  # zeros in front leave a register of 0 as it is
    padded[padding:] = np.frombuffer(data, np.uint8)
    padded[padding : padding + 4] ^= 0xFF  # the register's start, 0xFFFFFFFF
    table = _table()
    positions = padded.reshape(-1, _BLOCK) + np.arange(0, 256 * _BLOCK, 256)
    register = 0
    for block in np.bitwise_xor.reduce(table.take(positions), axis=1).tolist():
        for place in range(4):  # the register so far acts as if added to the block's first bytes
            block ^= table.item(256 * place + (register >> 8 * place & 0xFF))
        register = block
    return register ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The checksum as TFRecord files store it: rotated right by 15 bits, plus 0xA282EAD8, modulo 2^32."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _by_bytes(data: bytes) -> int:
    table, register = _byte_table(), 0xFFFFFFFF
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


@cache
def _byte_table() -> list[int]:
    """[256]: the register after one byte, from 0."""
    table = []
    for register in range(256):
        for _ in range(8):
            register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return table


@cache
def _table() -> np.ndarray:
    """[_BLOCK * 256] uint32: the register at a block's end after a byte at a place in it, all other bytes 0."""
    table = np.empty((_BLOCK, 256), np.uint32)
    table[-1] = byte_table = np.array(_byte_table(), np.uint32)
    for place in range(_BLOCK - 2, -1, -1):
        table[place] = byte_table[table[place + 1] & 0xFF] ^ table[place + 1] >> 8
    return table.ravel()

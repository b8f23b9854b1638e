"""Pair files in the format of LFW (Huang et al. 2007): which images to compare, in folds.

The first line has the number of folds F and P; then come, for each fold, P lines `name i j` of two images of one
person and P lines `name1 i name2 j` of two persons. Fields are divided by tabs, or by spaces where a line has no tab;
i is the i-th image of a person, from 1. Nothing else is read, and nothing is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MAX_BYTES = 2**26


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images, each (a user's name, which of the user's images from 1). line: of the file."""

    first: tuple[str, int]
    second: tuple[str, int]
    same: bool
    line: int


@dataclass(frozen=True, kw_only=True)
class PairList:
    """What a pair file says; every fold has equally many pairs. where: the file, for messages."""

    folds: Sequence[Sequence[Pair]]
    where: str


def read_pairs(path: Path) -> PairList:
    """Read a pair file.

    Raises: ValueError in one line with file and line if it cannot be read, a line has another form, or there are more
        or fewer lines than the first one says.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{path} has more than {_MAX_BYTES} bytes: this is no pair file")
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}): pass a file like LFW's pairs.txt") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no UTF-8 text: pass a file like LFW's pairs.txt") from None
    while lines and not lines[-1].strip():
        lines.pop()
    folds, each = _header(path, lines[0] if lines else "")
    if len(lines) - 1 != folds * 2 * each:
        raise ValueError(
            f"{path}, line 1: {folds} folds of {each} and {each} pairs are {folds * 2 * each} lines, "
            f"the file has {len(lines) - 1} below it: get the file again"
        )
    pairs = [
        _pair(path, number, line, same=(number - 2) % (2 * each) < each) for number, line in enumerate(lines[1:], 2)
    ]
    return PairList(
        folds=[pairs[start : start + 2 * each] for start in range(0, len(pairs), 2 * each)], where=str(path)
    )


def _header(path: Path, line: str) -> tuple[int, int]:
    """(folds, pairs of one kind in a fold)."""
    fields = line.split()
    if len(fields) == 1 and _is_number(fields[0]):
        raise ValueError(
            f"{path}, line 1: one fold only, and a threshold is chosen on the other folds: pass a file with several"
        )
    if len(fields) != 2 or not all(map(_is_number, fields)) or int(fields[0]) < 2:
        raise ValueError(f"{path}, line 1: expected the folds, at least 2, and the pairs of a fold, got {line[:40]!r}")
    return int(fields[0]), int(fields[1])


def _pair(path: Path, number: int, line: str, *, same: bool) -> Pair:
    fields = line.split("\t") if "\t" in line else line.split()
    fields = [field.strip() for field in fields]
    places = (1, 2) if same else (1, 3)
    if len(fields) != places[1] + 1 or not all(fields) or not all(_is_number(fields[place]) for place in places):
        form = "name i j, of one person" if same else "name1 i name2 j, of two persons"
        raise ValueError(f"{path}, line {number}: expected {form}, got {line[:60]!r}")
    first, second = int(fields[1]), int(fields[places[1]])
    other = fields[0] if same else fields[2]
    if not same and other == fields[0]:
        raise ValueError(f"{path}, line {number}: expected two persons, got {fields[0]!r} twice")
    return Pair(first=(fields[0], first), second=(other, second), same=same, line=number)


def _is_number(field: str) -> bool:
    """A whole number from 1 of bearable length."""
    return field.isascii() and field.isdecimal() and len(field) < 10 and int(field) > 0

"""Which user or identity belongs to which split: from a versioned text file, or by a seeded rule.

A split file has one line for an id, or for a range of whole numbers, and # starts a comment:

    train 0-7999
    test 8000-8999
    test Ada Lovelace
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

SplitOf = Callable[[str], str | None]
"""id -> the name of its split, or None if it is in none."""

_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True, kw_only=True)
class SplitFile:
    """The content of a split file; call it with an id.

    ids: id -> split. ranges: (first, last, split), sorted; ids in them are decimal numbers without leading zeros.
    """

    ids: Mapping[str, str]
    ranges: tuple[tuple[int, int, str], ...]

    def __call__(self, id: str) -> str | None:
        """The split of an id, or None."""
        if id in self.ids or not id.isdecimal() or str(int(id)) != id:
            return self.ids.get(id)
        place = bisect_right(self.ranges, int(id), key=lambda range: range[0]) - 1
        if place < 0 or int(id) > self.ranges[place][1]:
            return None
        return self.ranges[place][2]

    def naming_nobody(self, users: Collection[str]) -> list[str]:
        """The ids, as the file has them, and then the ranges that are none of these users'."""
        numbers = sorted(int(user) for user in users if user.isdecimal() and str(int(user)) == user)
        empty = [
            f"{first}-{last}"
            for first, last, _ in self.ranges
            if bisect_right(numbers, last) == bisect_left(numbers, first)
        ]
        return [id for id in self.ids if id not in users] + empty


def read_split_file(path: Path) -> SplitFile:
    """The split file at a path.

    Raises: ValueError in one line if it cannot be read, a line is not understood, or an id is in two splits.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"byte {error.start} is no UTF-8"
        raise ValueError(
            f"cannot read the split file {path} ({why}): pass a text file in UTF-8 with lines '<split> <user>'"
        ) from None
    ids: dict[str, str] = {}
    ranges: list[tuple[int, int, str]] = []
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].split(maxsplit=1)
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(
                f"{path}, line {number}: expected '<split> <id>' or '<split> <first>-<last>', got {line!r}"
            )
        split, id = words[0], words[1].strip()
        if match := _RANGE.fullmatch(id):
            ranges.append((int(match[1]), int(match[2]), split))
        elif ids.setdefault(id, split) != split:
            raise ValueError(f"{path}, line {number}: {id!r} is in {ids[id]} and in {split}: one user, one split")
    _check_apart(path, ids, sorted(ranges))
    return SplitFile(ids=ids, ranges=tuple(sorted(ranges)))


def seeded_split(*, fractions: Mapping[str, float], seed: int) -> SplitOf:
    """A rule that draws each id's split by its name and the seed alone: other ids do not move it.

    fractions: split -> expected share of the ids; they sum to 1.
    """
    shares = fractions.values()
    if not shares or not min(shares) >= 0 or not abs(sum(shares) - 1) <= 1e-9:  # so that nan is refused
        raise ValueError(f"the splits' fractions must be 0 or above and sum to 1, got {dict(fractions)}")

    def split_of(id: str) -> str:
        drawn = hashlib.sha256(f"{seed}/{id}".encode()).digest()
        left = int.from_bytes(drawn[:8], "big") / 2**64
        for split, fraction in fractions.items():
            left -= fraction
            if left < 0:
                return split
        return list(fractions)[-1]

    return split_of


def _check_apart(path: Path, ids: Mapping[str, str], ranges: list[tuple[int, int, str]]) -> None:
    """No id in two splits, and no range upside down."""
    for first, last, split in ranges:
        if last < first:
            raise ValueError(f"{path}: the range {first}-{last} of {split} ends before it starts")
    for (_, last, split), (first, _, other) in pairwise(ranges):
        if first <= last:
            raise ValueError(f"{path}: {first} is in {split} and again in {other}: one user, one split")
    by_range = SplitFile(ids={}, ranges=tuple(ranges))
    for id, split in ids.items():
        if by_range(id) is not None:
            raise ValueError(f"{path}: {id} is in {split} and in a range of {by_range(id)}: one user, one split")

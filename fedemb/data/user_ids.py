"""Users' ids: one person is one user, under one spelling and once. N ids."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Callable, Iterable

import numpy as np

_HASH_BYTES = 8
_CONTROLS = {"Cc", "Zl", "Zp"}  # Unicode's categories


def plain_id(user: str) -> str:
    """An id without what cannot be seen in it, to compare it with others.

    Unicode's format characters (category Cf: zero-width ones, direction marks, soft hyphens, byte order marks) go,
    NFKC makes one of the forms that a letter has, and white space is one space, or none at the ends.
    Capitals and leading zeros stay as they are: "Ann" and "ann", or "7" and "007", are two users here. Where they are
    one person, whoever makes the list has to write them in one way.
    Source: Unicode Standard Annex 15 (normalization forms).
    """
    seen = "".join(letter for letter in user if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen).split())


def check_apart(users: Iterable[str], where: object) -> None:
    """A person under two spellings of an id would be two users, and the guarantee would be for each half.

    Args: users: ids, each once. where: the folder or table, for the message.
    Raises: ValueError in one line that names both, if two ids have the same `plain_id`, or that names one with control
        characters or line ends, as every list of ids would break there.
    """
    seen: dict[str, str] = {}
    for user in users:
        other = seen.setdefault(plain_id(user), user)
        if other != user:
            raise ValueError(
                f"{where}: users {other!a} and {user!a} look the same (they differ in spaces, invisible characters or "
                "forms of a letter): write a user's name in one way"
            )
    for user in seen.values():
        if any(unicodedata.category(letter) in _CONTROLS for letter in user):
            raise ValueError(
                f"{where}: user {user!a} has control characters or line ends in the name: write it without them"
            )


class IdsOnce:
    """Whether an id comes twice among many that come one at a time. 8 bytes of memory each, twice that while asked."""

    def __init__(self) -> None:
        """Without ids."""
        self._hashes = array("Q")

    def add(self, user: str) -> None:
        """Take note of the next id."""
        self._hashes.frombytes(hashlib.blake2b(str(user).encode(), digest_size=_HASH_BYTES).digest())

    def repeated(self, id_at: Callable[[int], str]) -> tuple[str, int, int] | None:
        """(an id, its first and second position), or None if no id comes twice.

        id_at: position -> its id; asked for positions of the same hash alone, because two ids can share one.
        """
        hashes = np.frombuffer(self._hashes, np.uint64)
        ordered = np.sort(hashes)
        for shared in np.unique(ordered[1:][ordered[1:] == ordered[:-1]]):
            seen: dict[str, int] = {}
            for position in np.flatnonzero(hashes == shared).tolist():
                user = id_at(position)
                if (first := seen.setdefault(user, position)) != position:
                    return user, first, position
        return None

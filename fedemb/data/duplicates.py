"""Images that several users of a store own, and the store with each of them left to one owner.

An image is known by the digest of the bytes that the store keeps: nothing is decoded, and the same picture encoded in
another way is another image. What this means for privacy is said at OneOwner.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from fedemb.core.types import Batch, UserId
from fedemb.data.record import SELECT_HEAD, decode_head
from fedemb.data.shards import Shards
from fedemb.data.store import StoreUsers
from fedemb.data.users import UserDataset

_ANY_SIZE = (1, 1)  # nothing is decoded, so a store opens whose images differ in size
_BUILD = (
    "CREATE INDEX by_digest ON images (digest, user)",
    """CREATE TABLE owned AS SELECT DISTINCT digest, user FROM images
JOIN (SELECT digest FROM images GROUP BY digest HAVING min(user) < max(user)) USING (digest)""",
    "DROP TABLE images",
    "CREATE INDEX owners ON owned (digest, user)",
)
_COUNT = """SELECT count(*), coalesce(max(owners), 1)
FROM (SELECT count(*) AS owners FROM owned GROUP BY digest)"""


class SharedImages:
    """An index of the images that more than one user of a store owns, kept in a temporary SQLite database.

    It takes 50 bytes an image in SQLite's folder for temporary files (SQLITE_TMPDIR, else /var/tmp) while it is made,
    and memory that does not grow. Not for several threads.
    """

    def __init__(self, path: Path, split: str) -> None:
        """Reads the digests of the whole store, user by user. path: the folder that was prepared.

        Raises: ValueError in one line if the store cannot be read, or there is no room.
        """
        users = StoreUsers(path=path, split=split, size=_ANY_SIZE)
        self._database = sqlite3.connect("", isolation_level=None)  # an unnamed file that goes with the connection
        try:
            self._build(_images(path / split, users))
        except sqlite3.Error as error:
            self.close()
            raise ValueError(
                f"cannot index {path / split} ({error}): set SQLITE_TMPDIR to a folder with room"
            ) from None
        except ValueError:
            self.close()
            raise

    def _build(self, images: Iterator[tuple[bytes, UserId]]) -> None:
        """From all images to those with several owners."""
        self._database.execute("CREATE TABLE images (digest BLOB NOT NULL, user INTEGER NOT NULL)")
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO images VALUES (?, ?)", images)
        self._database.execute("COMMIT")
        for statement in _BUILD:
            self._database.execute(statement)
        self._shared, self._most = self._database.execute(_COUNT).fetchone()

    @property
    def shared(self) -> int:
        """How many different images have several owners."""
        return int(self._shared)

    @property
    def most_owners(self) -> int:
        """k, the most users that own one image; 1 if none is shared.

        Were the protected unit one image wherever it occurs, a change of it would change k users' updates, and so the
        sum of updates clipped to C by up to 2kC, where each user trains alone.
        """
        return int(self._most)

    def owners(self, digest: bytes) -> tuple[UserId, ...]:
        """Who owns an image, if it is shared; else nobody."""
        rows = self._database.execute("SELECT user FROM owned WHERE digest = ? ORDER BY user", (digest,))
        return tuple(user for (user,) in rows)

    def every(self) -> Iterator[tuple[bytes, tuple[UserId, ...]]]:
        """(digest, owners) of every shared image, sorted."""
        rows = self._database.execute("SELECT digest, user FROM owned ORDER BY digest, user")
        for digest, owned in groupby(rows, itemgetter(0)):
            yield digest, tuple(user for _, user in owned)

    def close(self) -> None:
        """Remove the database."""
        self._database.close()


class OneOwner(UserDataset):
    """A store without the copies of shared images: each is left to one owner, in whose data it stays as it is.

    Which one follows from the image's digest and its owners' ids alone (`keeper`). Users who are left without images
    keep their slots, so N stays.

    What it means for privacy: this is preprocessing of the partition into users, done before the guarantee begins. A
    user's images here depend on who else owns them: exchange one person's raw images, and up to as many others as
    share something with their old or their new images gain or lose some. So the guarantee for a user holds between
    neighbours of the partition as it comes out of here, and not of the raw one: it does not hide that a person owned
    what others own.
    """

    def __init__(
        self, *, path: str | os.PathLike[str], split: str = "train", size: Sequence[int] | None = None
    ) -> None:
        """Arguments as StoreUsers has them. Reads all digests; memory grows with the users who lose an image."""
        self._base = StoreUsers(path=path, split=split, size=size)
        self.privacy_unit, self.trainable = self._base.privacy_unit, self._base.trainable
        shared = SharedImages(Path(path), split)
        try:
            lost = _lost(self._base, shared)
        finally:
            shared.close()
        self._kept = {user: _rest(Path(path, split), self._base, user, gone) for user, gone in lost.items()}
        self._removed = sum(self._base.num_examples(user) - len(kept) for user, kept in self._kept.items())

    @property
    def name(self) -> str:
        """The data set's name in a report."""
        return f"{self._base.name}, one owner an image"

    @property
    def num_users(self) -> int:
        """N, as in the store."""
        return self._base.num_users

    @property
    def num_examples_total(self) -> int:
        """Images that are left, of all users."""
        return self._base.num_examples_total - self._removed

    @property
    def checksum(self) -> str:
        """Digest of the store's own and of the rule."""
        return hashlib.blake2b(f"one owner, {self._base.checksum}".encode(), digest_size=16).hexdigest()

    @property
    def traces(self) -> frozenset[str]:
        """The store's."""
        return self._base.traces

    def image_digests(self) -> Iterator[bytes]:
        """The store's: every image has an owner left."""
        return self._base.image_digests()

    def num_examples(self, user: UserId) -> int:
        """How many images a user has left."""
        return len(self._kept[user]) if user in self._kept else self._base.num_examples(user)

    def load(self, users: Sequence[UserId]) -> Batch:
        """What is left of some distinct users, in the order asked for."""
        return self._base.load_examples(users, [self._places(user) for user in users])

    def load_examples(self, users: Sequence[UserId], places: Sequence[np.ndarray]) -> Batch:
        """Some of that. places: for each user, positions among the examples that are left."""
        own = [self._places(user)[wanted] for user, wanted in zip(users, places, strict=True)]
        return self._base.load_examples(users, own)

    def _places(self, user: UserId) -> np.ndarray:
        """[n] positions in the store."""
        return self._kept[user] if user in self._kept else np.arange(self._base.num_examples(user))


def keeper(digest: bytes, owners: Sequence[str]) -> str:
    """The owner who keeps an image: the one whose id makes the least hash with the digest; in whatever order they are.

    So, for ids that were not chosen with the image in mind, each owner is as likely as the others; the hash has no key,
    and who chooses an id can have it win. Neither other images nor other users matter.
    """
    return min(owners, key=lambda owner: hashlib.blake2b(digest + owner.encode()).digest())


def _lost(users: StoreUsers, shared: SharedImages) -> dict[UserId, set[bytes]]:
    """User -> digests of the images that others keep."""
    lost = defaultdict[UserId, set[bytes]](set)
    for digest, owners in shared.every():
        ids = {users.user_id(user): user for user in owners}
        kept = ids[keeper(digest, list(ids))]
        for user in owners:
            if user != kept:
                lost[user].add(digest)
    return dict(lost)


def _rest(folder: Path, users: StoreUsers, user: UserId, gone: set[bytes]) -> np.ndarray:
    """Positions of the images that stay."""
    digests = _digests(Shards(folder, users.manifest), user)
    return np.array([place for place, digest in enumerate(digests) if digest not in gone], np.int64)


def _images(folder: Path, users: StoreUsers) -> Iterator[tuple[bytes, UserId]]:
    """(digest, owner) of every image of a store."""
    shards = Shards(folder, users.manifest)
    return ((digest, user) for user in range(users.num_users) for digest in _digests(shards, user))


def _digests(shards: Shards, user: UserId) -> Iterator[bytes]:
    """A user's images, by what the store has noted of them."""
    head = decode_head(user, shards.row(user, SELECT_HEAD))
    if head is None:
        raise shards.damaged(f"the record of user {user} does not match its checksum")
    return (digest.tobytes() for digest in head.digests)

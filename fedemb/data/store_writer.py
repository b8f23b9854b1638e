"""Writing a store: memory bounded but for 12 bytes an image, the same bytes every time, nothing half-valid if cut off.

Users arrive in units of work, one or more users each. Shards grow under temporary names in the store's own folder; a
shard that is whole is noted beside it, and the next run with the same description goes on after it. When all are whole
they are renamed, and the manifest comes last: an interrupted run leaves the old store or, at the very end, none.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

from fedemb.core import check
from fedemb.core.files import locked, sha256, sync, write_atomically
from fedemb.data.manifest import MANIFEST, Manifest, Shard, StoreInfo, write_manifest
from fedemb.data.owners import Owners
from fedemb.data.pictures import kind_of
from fedemb.data.record import INSERT, INSERT_CLASS, MAX_RECORD_BYTES, TABLES, UserRecord, class_checksum, encode
from fedemb.data.spool import unwritable
from fedemb.data.user_ids import IdsOnce

SHARD_BYTES = 1 << 29

_PAGE_BYTES = 8192
_SELECT_SEALED = "SELECT position, id, checksum, digests FROM users ORDER BY position"
_ENCODED = ("png", "jpeg", "mixed")

Units = Callable[[int], Iterable[Sequence[UserRecord]]]
"""number of the first unit of work that is wanted -> the users of that unit, of the next, …"""


def write_store(
    folder: Path, *, info: StoreInfo, records: Iterable[UserRecord], shard_bytes: int = SHARD_BYTES
) -> Manifest:
    """Write users that come one at a time, the same ones after an interruption. Else as `write_units`."""
    return write_units(
        folder,
        info=info,
        units=lambda first: islice(([record] for record in records), first, None),
        shard_bytes=shard_bytes,
    )


def write_units(
    folder: Path,
    *,
    info: StoreInfo,
    units: Units,
    class_names: Sequence[str] = (),
    left_out: Mapping[str, int] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write the users, in order, as the store of one split, in place of a store that may be there.

    Args: folder: made if missing. units: consumed one at a time. class_names: of labels 0, 1, …, or none.
        left_out: goes into the manifest. shard_bytes: a shard ends with the unit that reaches so many bytes of records.
    Returns: the manifest, which is on disk as well.
    Raises: ValueError in one line if a record does not fit `info`, there is no user, an id comes twice (a person in two
        slots of a round would count twice), another process writes there, the sources cannot be read or the folder not
        be written to. A store that was there before is then still there,
        unless the very last step failed; the next call then needs no more than that step.
    """
    check.at_least("shard_bytes", shard_bytes, 1)
    if class_names and len(class_names) != info.classes:
        raise ValueError(f"{info.name}: {len(class_names)} class names for {info.classes} classes")
    try:
        with locked(folder, f"another fedemb prepare is writing {folder}: wait for it, or pass another out="):
            writer = _Writer(folder, info, class_names, shard_bytes)
            writer.go_on()
            try:
                writer.write(_read(units, writer.units, folder))
                writer.check_once()
                return writer.publish(left_out or {})
            finally:
                writer.clear_unfinished()
    except (sqlite3.Error, OSError) as error:
        raise unwritable(f"the store {folder}", error) from None


def _read(units: Units, first: int, folder: Path) -> Iterator[Sequence[UserRecord]]:
    """The units from the first one on. What fails here is not the store's folder."""
    try:
        yield from units(first)
    except (sqlite3.Error, OSError) as error:
        raise ValueError(f"cannot read what the store {folder} is made from ({error})") from None


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """A whole shard under its temporary name. plan: of the store. units: how many the shards up to here hold."""

    plan: str
    units: int
    users: int
    examples: int
    bytes: int
    sha256: str


class _Writer:
    """The shards of one store under their temporary names, and what is in them."""

    def __init__(self, folder: Path, info: StoreInfo, class_names: Sequence[str], shard_bytes: int) -> None:
        self._folder, self._info, self._class_names, self._shard_bytes = folder, info, class_names, shard_bytes
        self._plan = hashlib.sha256(json.dumps([info.seal, shard_bytes, *class_names]).encode()).hexdigest()
        self._digest = hashlib.blake2b(f"{info.codec} {info.image_shape}".encode(), digest_size=16)
        self._finished: list[_Finished] = []
        self._ids, self._owners = IdsOnce(), Owners()

    @property
    def units(self) -> int:
        """How many units of work the whole shards hold."""
        return self._finished[-1].units if self._finished else 0

    def go_on(self) -> None:
        """Take over the whole shards of an interrupted run of the same store; clear everything else away."""
        while (finished := self._left_over(len(self._finished))) is not None:
            self._finished.append(finished)
            with closing(sqlite3.connect(self._temporary(len(self._finished) - 1))) as database:
                for position, user, sealed, images in database.execute(_SELECT_SEALED):
                    self._ids.add(user)
                    self._owners.add(position, images)
                    self._digest.update(sealed)
        self.clear_unfinished()

    def clear_unfinished(self) -> None:
        """Remove temporary files, but whole shards and their notes."""
        whole = range(len(self._finished))
        kept = {path for number in whole for path in (self._temporary(number), self._note(number))}
        for leftover in {*self._folder.glob(".*.partial"), *self._folder.glob(".*.draft")} - kept:
            leftover.unlink(missing_ok=True)

    def write(self, units: Iterator[Sequence[UserRecord]]) -> None:
        """Write all users to temporary shards."""
        for unit in units:
            self._write_shard(chain([unit], units))
        if not any(finished.users for finished in self._finished):
            raise ValueError(f"a store needs at least one user, got none for {self._info.name} {self._info.split}")

    def check_once(self) -> None:
        """Refuse an id that comes twice; the shards go too, as the next run would go on after them."""
        if (repeated := self._ids.repeated(self._id_at)) is None:
            return
        user, first, second = repeated
        self._finished = []
        raise ValueError(
            f"{self._info.name} {self._info.split}: user {user!r} comes twice, at positions {first} and {second}: "
            "one person, one user; put all images of a person in one record"
        )

    def publish(self, left_out: Mapping[str, int]) -> Manifest:
        """Rename the shards and write the manifest; from here on an older store is gone."""
        shards = tuple(self._shard(number) for number in range(len(self._finished)))
        (self._folder / MANIFEST).unlink(missing_ok=True)
        sync(self._folder)
        for number, shard in enumerate(shards):
            os.replace(self._temporary(number), self._folder / shard.file)
        for stale in set(self._folder.glob("users-*.sqlite")) - {self._folder / shard.file for shard in shards}:
            stale.unlink()
        sync(self._folder)
        shared, most_owners = self._owners.shared()
        manifest = Manifest(
            info=self._info,
            users=sum(shard.users for shard in shards),
            examples=sum(finished.examples for finished in self._finished),
            checksum=self._digest.hexdigest(),
            left_out=dict(left_out),
            shared_images=shared,
            most_owners=most_owners,
            shards=shards,
        )
        write_manifest(self._folder, manifest)
        self._finished = []
        return manifest

    def _write_shard(self, units: Iterator[Sequence[UserRecord]]) -> None:
        """One shard, with as many units as it takes."""
        number, done, examples, size = len(self._finished), self.units, 0, 0
        first = position = sum(finished.users for finished in self._finished)
        with closing(sqlite3.connect(self._temporary(number), isolation_level=None)) as database:
            self._begin(database, number)
            for unit in units:
                for record in unit:
                    check_fits(record, self._info)
                    row = encode(position, record)
                    database.execute(INSERT, row)
                    self._ids.add(record.id)
                    self._owners.add(position, row[6])
                    self._digest.update(row[3])
                    position, examples, size = position + 1, examples + row[2], size + sum(map(len, row[3:]))
                done += 1
                if size >= self._shard_bytes:
                    break
            database.execute("COMMIT")
        self._finish(number, units=done, users=position - first, examples=examples)

    def _begin(self, database: sqlite3.Connection, number: int) -> None:
        for setting in (f"page_size={_PAGE_BYTES}", "journal_mode=OFF", "synchronous=OFF"):
            database.execute(f"PRAGMA {setting}")
        database.execute("BEGIN")
        for table in TABLES:
            database.execute(table)
        database.execute("INSERT INTO store VALUES (?)", (self._info.seal,))
        if number == 0:
            named = ((label, name, class_checksum(label, name)) for label, name in enumerate(self._class_names))
            database.executemany(INSERT_CLASS, named)

    def _finish(self, number: int, *, units: int, users: int, examples: int) -> None:
        """Flush a shard and note that it is whole."""
        temporary = self._temporary(number)
        sync(temporary)
        size, digest = temporary.stat().st_size, sha256(temporary)
        finished = _Finished(plan=self._plan, units=units, users=users, examples=examples, bytes=size, sha256=digest)
        write_atomically(self._note(number), json.dumps(asdict(finished)))
        self._finished.append(finished)

    def _left_over(self, number: int) -> _Finished | None:
        """A whole shard that an interrupted run of the same store left, under its temporary name; or None."""
        try:
            finished = _Finished(**json.loads(self._note(number).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        temporary, places = self._temporary(number), [self._temporary(number)]
        if not (self._folder / MANIFEST).exists():  # the run may have ended while it renamed the shards
            places += sorted(self._folder.glob(f"users-{number:05d}-of-*.sqlite"))
        for place in places:
            if finished.plan == self._plan and place.is_file() and sha256(place) == finished.sha256:
                os.replace(place, temporary)
                return finished
        return None

    def _shard(self, number: int) -> Shard:
        finished = self._finished[number]
        return Shard(
            file=f"users-{number:05d}-of-{len(self._finished):05d}.sqlite",
            first=sum(earlier.users for earlier in self._finished[:number]),
            users=finished.users,
            bytes=finished.bytes,
            sha256=finished.sha256,
        )

    def _id_at(self, position: int) -> str:
        """The id of a user in the temporary shards."""
        shards = map(self._shard, range(len(self._finished)))
        number = next(number for number, shard in enumerate(shards) if position < shard.first + shard.users)
        with closing(sqlite3.connect(self._temporary(number))) as database:
            (user,) = database.execute("SELECT id FROM users WHERE position = ?", (position,)).fetchone()
        return str(user)

    def _temporary(self, number: int) -> Path:
        return self._folder / f".users-{number:05d}.sqlite.partial"

    def _note(self, number: int) -> Path:
        return self._folder / f".users-{number:05d}.json.partial"


def check_fits(record: UserRecord, info: StoreInfo) -> None:
    """Raise ValueError in one line if a record does not hold what the store promises."""
    labels, who = record.labels, f"user {record.id!r}"
    if len(record.images) != len(labels):
        raise ValueError(f"{who}: {len(record.images)} images and {len(labels)} labels")
    if not len(labels):
        return
    if labels.ndim != 1 or (labels.dtype.kind not in "iu" and (labels % 1).any()):
        raise ValueError(f"{who}: labels must be [n] whole numbers, got {labels.dtype} of {list(labels.shape)}")
    if not 0 <= labels.min() <= labels.max() < info.classes:
        raise ValueError(f"{who}: labels must lie in 0 .. {info.classes - 1}, got {labels.min()} .. {labels.max()}")
    if sum(map(len, record.images)) > MAX_RECORD_BYTES:
        raise ValueError(f"{who} has more than {MAX_RECORD_BYTES} bytes of images: make them smaller with short_side=")
    for image in record.images:
        _check_image(who, image, info)


def _check_image(who: str, image: bytes, info: StoreInfo) -> None:
    if info.codec in _ENCODED:
        kind = kind_of(image)
        if kind is None or info.codec not in (kind, "mixed"):
            raise ValueError(f"{who}: an image is {kind or 'of no known format'}, the store keeps {info.codec}")
        return
    channels, height, width = info.image_shape
    if height is None or width is None or len(image) != channels * height * width:
        raise ValueError(f"{who}: images must be uint8 of {list(info.image_shape)}, got one of {len(image)} bytes")

"""What every data set's preparation shares: count, make the splits that are not there yet, refuse to replace others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fedemb.core import check
from fedemb.core.files import sha256
from fedemb.core.workers import Workers
from fedemb.data.manifest import Manifest, StoreInfo, read_manifest
from fedemb.data.record import UserRecord
from fedemb.data.spool import clear_spools
from fedemb.data.store_writer import SHARD_BYTES, write_units

_AHEAD = 4  # units of work waiting to be written, beyond one a worker
_BYTES_AHEAD = 1 << 27  # a worker; of all units that are worked on or wait, where their sizes are known

_MISSING = " missing"  # ends the reason for what was published and is not there

Item = TypeVar("Item")


class Progress(Protocol):
    """Passes items on and shows how many went by."""

    def __call__(self, items: Iterable[Item], *, label: str, total: int, done: int = 0) -> Iterable[Item]:
        """The same items. total: how many there are with the `done` that were worked on before."""


def silent(items: Iterable[Item], *, label: str, total: int, done: int = 0) -> Iterable[Item]:
    """Shows nothing."""
    return items


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks a preparation for.

    source: the published files' folder, or one such file; None where they come with fedemb.
    out: folder for the stores. overwrite: replace stores that were made from other files.
    allow_partial: accept fewer images than were published, and note how many are missing.
    workers: processes that decode; 0 for none. The store does not depend on it.
    """

    source: Path | None
    out: Path
    overwrite: bool = False
    allow_partial: bool = False
    workers: int = 0
    progress: Progress = silent

    def __post_init__(self) -> None:
        check.at_least("workers", self.workers, 0)
        there = next((place for place in (self.out, *self.out.parents) if os.path.lexists(place)), None)
        if there is not None and not there.is_dir():
            raise ValueError(f"{there} is no folder, out={self.out} must be one: pass out=<a folder for the stores>")

    def existing_source(self, what: str) -> Path:
        """`source`, which must be there. what: the files to get and where from, for the message."""
        if self.source is None:
            raise ValueError(f"nothing to prepare from: get {what} and pass source=<the folder they are in>")
        if not self.source.exists():
            raise ValueError(f"no {self.source}: get {what} and pass source=<the folder they are in>")
        return self.source

    def missing(self, where: object, *, found: Mapping[str, int], published: Mapping[str, int]) -> dict[str, int]:
        """{"<things> missing": how many}, for the manifest; empty where all is there.

        found, published: "users", "images", … -> how many.
        Raises: ValueError with both numbers if they differ, unless fewer are allowed.
        """
        counted = ", ".join(f"{found[thing]} {thing}" for thing in published)
        wanted = ", ".join(f"{count} {thing}" for thing, count in published.items())
        if any(found[thing] > count for thing, count in published.items()):
            raise ValueError(
                f"{where} holds {counted}, published are {wanted}: this is another data set, or mixed files"
            )
        short = {
            f"{thing}{_MISSING}": count - found[thing] for thing, count in published.items() if found[thing] < count
        }
        if short and not self.allow_partial:
            raise ValueError(
                f"{where} holds {counted}, published are {wanted}: get the rest, or pass allow_partial=true"
            )
        return short


@dataclass(frozen=True, kw_only=True)
class Split:
    """One store to be made.

    units: the pieces of work, in order; records: unit -> the users it holds, called in worker processes (both are
        pickled).
    size: unit -> about how many bytes its users have, where units may be large: so many of them wait at a time, and
        no more, as fit into 128 MiB for each worker, or one.
    users: how many users all units hold. class_names: of the labels, or none.
    left_out: what is not in the store, reason -> how many.
    """

    info: StoreInfo
    users: int
    units: Sequence[Any]
    records: Callable[[Any], Sequence[UserRecord]]
    size: Callable[[Any], int] = lambda unit: 0
    class_names: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    shard_bytes: int = SHARD_BYTES


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The stores under `path`, in the order of the splits; `written` is false where all were there already."""

    path: Path
    manifests: tuple[Manifest, ...]
    written: bool


def prepare_splits(request: Request, splits: Sequence[Split]) -> Prepared:
    """Make `out`/<split> for every split that is missing or damaged; keep what is there and the same.

    Raises: ValueError in one line, before anything is written, if a store was prepared from other files or in another
        way, or its manifest is damaged, and `overwrite` is false.
    """
    clear_spools(request.out)
    for split in splits:
        if not split.users:
            raise ValueError(f"{split.info.name} {split.info.split} has no user: is this the right source?")
        folder = request.out / split.info.split
        if os.path.lexists(folder) and not folder.is_dir():
            raise ValueError(f"{folder} is no folder, a store must be one: move it away, or pass another out=")
    splits = [_repeatable(split) for split in splits]
    kept = [_kept(request.out / split.info.split, split.info, request.overwrite) for split in splits]
    manifests = tuple(manifest or _written(request, split) for split, manifest in zip(splits, kept, strict=True))
    return Prepared(path=request.out, manifests=manifests, written=None in kept)


def _repeatable(split: Split) -> Split:
    """The split with a command that allows what is missing, where something is."""
    if not any(reason.endswith(_MISSING) for reason in split.left_out):
        return split
    return replace(split, info=replace(split.info, command=f"{split.info.command} allow_partial=true"))


def _written(request: Request, split: Split) -> Manifest:
    """The store of one split."""
    label = f"{split.info.name} {split.info.split}"
    make = Workers.processes(split.records, request.workers) if request.workers else Workers.alone(split.records)

    def units(first: int) -> Iterable[Sequence[UserRecord]]:
        room = _BYTES_AHEAD * request.workers
        made = make.map(split.units[first:], ahead=_AHEAD, size=split.size, bytes_ahead=room)
        return request.progress(made, label=label, total=len(split.units), done=first)

    with make:
        return write_units(
            request.out / split.info.split,
            info=split.info,
            units=units,
            class_names=split.class_names,
            left_out=split.left_out,
            shard_bytes=split.shard_bytes,
        )


def _kept(folder: Path, info: StoreInfo, overwrite: bool) -> Manifest | None:
    """The store in a folder if it is the wanted one and every byte of it is as its manifest says, else None."""
    try:
        manifest = read_manifest(folder)
    except ValueError:
        if overwrite:
            return None
        raise
    if manifest is None:
        return None
    if manifest.info != info:
        if overwrite:
            return None
        raise ValueError(
            f"{folder} holds another store ({_difference(manifest.info, info)}): "
            "pass overwrite=true to replace it, or another out="
        )
    files = [(folder / shard.file, shard.sha256) for shard in manifest.shards]
    return manifest if all(file.is_file() and sha256(file) == digest for file, digest in files) else None


def _difference(found: StoreInfo, wanted: StoreInfo) -> str:
    """The first thing that two stores differ in."""
    names = [name for name in vars(wanted) if getattr(found, name) != getattr(wanted, name)]
    shown = names[0]
    if shown in ("sources", "notice"):
        return f"other {shown}"
    return f"{shown} {getattr(found, shown)!r} and not {getattr(wanted, shown)!r}"

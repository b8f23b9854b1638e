"""What every data set's preparation shares: make the splits that are not there yet, refuse to replace other data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedemb.core.files import sha256
from fedemb.data.manifest import Manifest, StoreInfo, read_manifest
from fedemb.data.record import UserRecord
from fedemb.data.store_writer import write_store


class Progress(Protocol):
    """Passes records on and shows how many went by."""

    def __call__(self, records: Iterable[UserRecord], *, label: str, total: int) -> Iterable[UserRecord]:
        """The same records."""


def silent(records: Iterable[UserRecord], *, label: str, total: int) -> Iterable[UserRecord]:
    """Shows nothing."""
    return records


@dataclass(frozen=True, kw_only=True)
class Split:
    """One store to be made. users: how many records there will be. records: starts reading the archives."""

    info: StoreInfo
    users: int
    records: Callable[[], Iterable[UserRecord]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The stores under `path`, in the order of the splits; `written` is false where all were there already."""

    path: Path
    manifests: tuple[Manifest, ...]
    written: bool


def prepare_splits(
    out: Path, *, splits: Sequence[Split], overwrite: bool = False, progress: Progress = silent
) -> Prepared:
    """Make `out`/<split> for every split that is missing or damaged; keep what is there and the same.

    Raises: ValueError in one line, before anything is written, if a store was prepared from other files or in another
        way, or its manifest is damaged, and `overwrite` is false.
    """
    kept = [_kept(out / split.info.split, split.info, overwrite) for split in splits]
    manifests = tuple(manifest or _written(out, split, progress) for split, manifest in zip(splits, kept, strict=True))
    return Prepared(path=out, manifests=manifests, written=None in kept)


def _written(out: Path, split: Split, progress: Progress) -> Manifest:
    records = progress(split.records(), label=f"{split.info.name} {split.info.split}", total=split.users)
    return write_store(out / split.info.split, info=split.info, records=records)


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

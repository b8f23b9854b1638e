"""The page in front of a store: what it holds, where that came from, under which licence, and how to make it again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedemb.core.files import sync

FORMAT = 2
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file that a store was prepared from; of a folder ("name/"), sha256 is over its files' names and sizes."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One SQLite file of a store, with the users from position `first` on."""

    file: str
    first: int
    users: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What whoever prepares a store says about it; equal for equal stores.

    name: of the data set. split: of the data set, and the store's folder name.
    image_shape: (Ch, H, W); H and W are None where the images' sizes differ.
    codec: how images are kept: "png", "jpeg" or "mixed" are the bytes of image files, "raw" is Ch·H·W bytes uint8.
    classes: labels are 0 .. classes-1. label: what one stands for, "identity" (a user of its own) or "class".
    polarity: what high and low values mean, e.g. "ink 255 on 0" or "RGB".
    description: size, orientation and what else was done to the images; changes when the reader changes.
    licence: one line. notice: the licence's text, and what the authors ask for.
    redistributable: may the store be passed on? presentable: may single images be shown to others?
    sources: the published files. command: prepares the store again.
    """

    name: str
    split: str
    image_shape: tuple[int, int | None, int | None]
    codec: str = "raw"
    classes: int
    label: str = "identity"
    polarity: str
    description: str
    licence: str
    notice: str
    redistributable: bool = True
    presentable: bool = True
    sources: tuple[Source, ...]
    command: str

    @property
    def seal(self) -> str:
        """A digest of all this, kept in every shard: a manifest beside another store's shards is noticed."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A complete store.

    checksum: digest of all records, the same whatever the shards and the SQLite version.
    left_out: what the sources hold, or should hold, and the store does not: reason -> how many.
    """

    info: StoreInfo
    users: int
    examples: int
    checksum: str
    left_out: Mapping[str, int] = field(default_factory=dict)
    shards: tuple[Shard, ...]
    format: int = FORMAT


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest in place in one step: with it, and not before, the store exists."""
    temporary = folder / f".{MANIFEST}.{os.getpid()}.partial"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / MANIFEST)
    sync(folder)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of the store in a folder; None if there is none.

    Raises: ValueError in one line if the file cannot be understood.
    """
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): prepare the store again with overwrite=true") from None
    written = fields.get("format") if isinstance(fields, dict) else None
    if written != FORMAT:
        raise ValueError(
            f"{path} has format {written}, this fedemb reads {FORMAT}: prepare the store again with overwrite=true"
        )
    try:
        return _manifest(fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): prepare the store again with overwrite=true") from None


def _manifest(fields: dict[str, Any]) -> Manifest:
    """The record from its JSON form."""
    info = fields["info"]
    sources = tuple(Source(**source) for source in info["sources"])
    shards = tuple(Shard(**shard) for shard in fields["shards"])
    told = StoreInfo(**{**info, "image_shape": tuple(info["image_shape"]), "sources": sources})
    return Manifest(**{**fields, "info": told, "shards": shards})

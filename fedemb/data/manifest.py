"""The page in front of a store: what it holds, where that came from, under which licence, and how to make it again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from fedemb.core import check
from fedemb.core.files import write_atomically

FORMAT = 3
MANIFEST = "manifest.json"

_CODECS = ("raw", "png", "jpeg", "mixed")
_LABELS = ("identity", "class")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file that a store was prepared from; of a folder ("name/"), sha256 is over its files, see who made it."""

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
    user: a short noun phrase that completes "a user is …", e.g. "a writer"; every claim about a run says it.
    trainable: false where a user is nobody by construction, e.g. a block of test images; such a split is to measure on.
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
    user: str
    trainable: bool = True
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

    def __post_init__(self) -> None:
        if self.codec not in _CODECS:
            raise ValueError(f"{self.name} keeps images as {self.codec!r}, this fedemb knows {', '.join(_CODECS)}")
        if self.label not in _LABELS:
            raise ValueError(f"{self.name}: label must be one of {', '.join(_LABELS)}, got {self.label!r}")
        if self.split in ("", ".", "..") or "/" in self.split:
            raise ValueError(f"{self.name}: split must be the name of a folder, got {self.split!r}")
        check.phrase("user", self.user)
        check.at_least("classes", self.classes, 0)
        channels, height, width = self.image_shape
        check.at_least("channels", channels, 1)
        if self.codec == "raw" and (height is None or width is None):
            raise ValueError(f"{self.name}: raw images have one size, got {self.image_shape}")
        if self.codec != "raw" and channels not in (1, 3):
            raise ValueError(f"{self.name}: {self.codec} images have 1 or 3 channels, got {channels}")

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
    shared_images: different ones that several users own. most_owners: the most users that own one.
    """

    info: StoreInfo
    users: int
    examples: int
    checksum: str
    left_out: Mapping[str, int] = field(default_factory=dict)
    shared_images: int = 0
    most_owners: int = 1
    shards: tuple[Shard, ...]
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not self.shards:
            raise ValueError(f"{self.info.name} has no shards")
        ends = list(accumulate(shard.users for shard in self.shards))
        if [shard.first for shard in self.shards] != [0, *ends][:-1] or self.users != ends[-1]:
            raise ValueError(
                f"{self.info.name} has {self.users} users, its shards have {[s.users for s in self.shards]}"
            )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest in place in one step: with it, and not before, the store exists."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(folder / MANIFEST, f"{text}\n")


def into(out: Path) -> str:
    """The word of a preparation's command that says where its stores go."""
    word = f"out={out}"
    return word if shlex.quote(word) == word else json.dumps(word, ensure_ascii=False)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of the store in a folder; None if there is none.

    Raises: ValueError in one line if the file cannot be understood.
    """
    path = folder / MANIFEST
    again = f"prepare the store again with {into(folder.parent)} overwrite=true"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {again}") from None
    written = fields.get("format") if isinstance(fields, dict) else None
    if written != FORMAT:
        raise ValueError(f"{path} has format {written}, this fedemb reads {FORMAT}: {again}")
    try:
        return _manifest(fields)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): {again}") from None


def _manifest(fields: dict[str, Any]) -> Manifest:
    """The record from its JSON form."""
    info = fields["info"]
    sources = tuple(Source(**source) for source in info["sources"])
    shards = tuple(Shard(**shard) for shard in fields["shards"])
    told = StoreInfo(**{**info, "image_shape": tuple(info["image_shape"]), "sources": sources})
    return Manifest(**{**fields, "info": told, "shards": shards})

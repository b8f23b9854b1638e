"""`fedemb prepare NAME describe`: what is in a prepared store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from omegaconf import DictConfig

from fedemb.cli.settings import path
from fedemb.cli.splits import prepared_splits, terms
from fedemb.data.duplicates import SharedImages
from fedemb.data.manifest import read_manifest
from fedemb.data.store import StoreUsers
from fedemb.report.stores import Description, contact_sheet, describe

_SIDE = 112  # pixels that images of different sizes are shown in
_PLURAL = {"identity": "identities", "class": "classes"}


def run(cfg: DictConfig) -> None:
    """Print counts of every split under `cfg.out`; write a contact sheet where images may be shown."""
    out = path(cfg, "out")
    for split in prepared_splits(out, cfg.name):
        _describe(out, split)


def _describe(out: Path, split: str) -> None:
    store = _store(out, split)
    info = store.manifest.info
    print(f"{info.name} {split} in {out / split}")
    for name, told in [*_lines(store, describe(store)), *_terms(store, _shared(out, split))]:
        print(f"  {name:<20} {told}")
    if not info.presentable:
        print(f"  {'contact sheet':<20} none: single images of {info.name} are not to be shown")
        return
    sheet = out / f"{split}_contact_sheet.png"
    contact_sheet(store).save(sheet)
    print(f"  {'contact sheet':<20} {sheet}")


def _store(out: Path, split: str) -> StoreUsers:
    """Opened to be shown: images of different sizes are brought to one."""
    manifest = read_manifest(out / split)
    assert manifest is not None
    return StoreUsers(path=out, split=split, size=None if manifest.info.image_shape[1] else (_SIDE, _SIDE))


def _lines(store: StoreUsers, found: Description) -> list[tuple[str, str]]:
    """(what, how much) of a split."""
    manifest, info = store.manifest, store.manifest.info
    held = f"{manifest.users:,} users, {manifest.examples:,} images, {info.classes:,} {_PLURAL[info.label]}"
    height, width = info.image_shape[1:]
    shape = f"{height} x {width}" if height else "each in its own size"
    pixels = f"{shape}, {info.polarity}, kept as {info.codec}"
    who = info.user if info.trainable else f"{info.user}: to measure on, not to train on"
    lines = [("holds", held), ("a user is", who), ("images", pixels), ("images per user", found.images.line())]
    lines += [("", row) for row in found.images.histogram()]
    lines.append((f"{_PLURAL[info.label]} per user", found.classes.line()))
    lines += [("left out", f"{count:,} {reason}") for reason, count in manifest.left_out.items()]
    return lines


def _shared(out: Path, split: str) -> str:
    """How far the users' images are their own."""
    with closing(SharedImages(out, split)) as images:
        if not images.shared:
            return "no image"
        return f"{images.shared:,} images, each by at most {images.most_owners:,} users"


def _terms(store: StoreUsers, shared: str) -> list[tuple[str, str]]:
    """(what, how much) of where it comes from and what may be done with it."""
    manifest, info = store.manifest, store.manifest.info
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    lines = [("owned by several", shared)]
    lines.append(("on disk", f"{size:,.1f} MB in {len(manifest.shards)} file(s), checksum {manifest.checksum}"))
    lines += [("prepared from", f"{source.file} (sha256 {source.sha256[:12]}…)") for source in info.sources]
    return [*lines, ("by", info.command), *terms(manifest)]

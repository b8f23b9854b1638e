"""The stores that a preparation has left in a folder, and the terms that they come under."""

from __future__ import annotations

from pathlib import Path

from fedemb.data.manifest import MANIFEST, Manifest

_ORDER = ("train", "validation", "test")


def prepared_splits(out: Path, name: str) -> list[str]:
    """The splits there, the usual ones first.

    Raises: ValueError in one line if there is none.
    """
    splits = sorted(path.parent.name for path in out.glob(f"*/{MANIFEST}"))
    if not splits:
        raise ValueError(f"no store at {out}: run 'fedemb prepare {name}' first, or pass its out=")
    return sorted(splits, key=lambda split: _ORDER.index(split) if split in _ORDER else len(_ORDER))


def terms(manifest: Manifest) -> list[tuple[str, str]]:
    """("licence", one line), and where the store may not be passed on, that and what its authors ask."""
    info = manifest.info
    if info.redistributable:
        return [("licence", info.licence)]
    asked = [("", line) for line in info.notice.strip().splitlines()]
    return [("licence", info.licence), ("", "Do not pass this store on."), *asked]

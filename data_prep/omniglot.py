"""Omniglot's two zip archives to a store: one character is one user.

Train: the background characters, each turned by 0, 90, 180 and 270 degrees, are 964 x 4 = 3,856 users of 20 images.
Test: the 659 characters of the evaluation set, never trained on. Labels are identities, numbered within the split.
Source: Lake, Salakhutdinov, Tenenbaum, Science 350 (2015); a character turned by 90 degrees is another character, as in
Vinyals et al. 2016, arXiv:1606.04080.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fedemb.core.files import sha256
from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.preparation import Prepared, Progress, Split, prepare_splits, silent
from fedemb.data.record import UserRecord

SAMPLE = Path(__file__).parent / "samples" / "omniglot"

_URL = "https://github.com/brendenlake/omniglot/tree/master/python"
_SIDE, _DRAWN_SIDE = 28, 105
_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}
_MEMBER = re.compile(r"[^/]+/(?P<identity>[^/]+/[^/]+)/[^/]+\.png")
_FOLDER = re.compile(r"[^/]+/(?P<identity>[^/]+/[^/]+)/")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A published file, how many identities and images it must hold, and how it is turned into users."""

    file: str
    split: str
    identities: int
    images: int
    turns: Sequence[int] = (0,)  # quarter turns, counter-clockwise


BACKGROUND = Archive(file="images_background.zip", split="train", identities=964, images=19_280, turns=(0, 1, 2, 3))
EVALUATION = Archive(file="images_evaluation.zip", split="test", identities=659, images=13_180)


def prepare(
    *,
    source: str | Path | None = None,
    out: str | Path,
    overwrite: bool = False,
    progress: Progress = silent,
    archives: Sequence[Archive] = (BACKGROUND, EVALUATION),
) -> Prepared:
    """Make the stores `out`/train and `out`/test in one pass over each archive, unpacking nothing to disk.

    Args: source: folder with the zip files; None for the copy that comes with fedemb. overwrite: replace a store
        that was made from other files. archives: what is expected in `source`.
    Raises: ValueError in one line if a file is missing or damaged, an identity has no image, or the counts are not
        the published ones.
    """
    folder = SAMPLE if source is None else Path(source)
    splits = [_split(folder, archive) for archive in archives]
    return prepare_splits(Path(out), splits=splits, overwrite=overwrite, progress=progress)


def _split(folder: Path, archive: Archive) -> Split:
    path = folder / archive.file
    if not path.is_file():
        raise ValueError(f"no file {path}: get {archive.file} from {_URL} and pass source=<the folder it is in>")
    members = _members(path, archive)
    users = len(members) * len(archive.turns)
    info = StoreInfo(
        name="omniglot",
        split=archive.split,
        image_shape=(1, _SIDE, _SIDE),
        classes=users,
        polarity="ink 255 on 0",
        description=f"upright, {_DRAWN_SIDE} to {_SIDE} pixels a side by the triangle filter (antialiased)",
        licence="MIT, © 2015 Brenden Lake",
        notice=(SAMPLE / "LICENSE").read_text(encoding="utf-8"),
        sources=(Source(file=archive.file, sha256=sha256(path)),),
        command="fedemb prepare omniglot",
    )
    return Split(info=info, users=users, records=lambda: _records(path, members, archive.turns))


def _members(path: Path, archive: Archive) -> Mapping[str, Sequence[str]]:
    """Identity -> its images' names, both sorted; the counts checked."""
    found: dict[str, list[str]] = {}
    with _opened(path) as opened:
        for name in opened.namelist():
            if match := _MEMBER.fullmatch(name):
                found.setdefault(match["identity"], []).append(name)
            elif match := _FOLDER.fullmatch(name):
                found.setdefault(match["identity"], [])
    empty = [identity for identity, names in found.items() if not names]
    if empty:
        raise ValueError(f"{path}: character {empty[0]!r} has no image; get the archive again from {_URL}")
    images = sum(map(len, found.values()))
    if (len(found), images) != (archive.identities, archive.images):
        raise ValueError(
            f"{path} holds {len(found)} characters with {images} images, published are {archive.identities} with "
            f"{archive.images}; get the archive again from {_URL}"
        )
    return {identity: sorted(found[identity]) for identity in sorted(found)}


def _records(path: Path, members: Mapping[str, Sequence[str]], turns: Sequence[int]) -> Iterator[UserRecord]:
    """Each identity in each orientation, in order."""
    with _opened(path) as opened:
        for number, (identity, names) in enumerate(members.items()):
            drawn = [_image(opened, path, name) for name in names]
            for slot, turn in enumerate(turns):
                label = number * len(turns) + slot
                yield UserRecord(
                    id=f"{identity}/turn{90 * turn:03d}",
                    images=np.stack([_small(image, turn) for image in drawn])[:, None],
                    labels=np.full(len(drawn), label),
                )


def _image(opened: zipfile.ZipFile, path: Path, member: str) -> Image.Image:
    """A drawing with ink 255 on 0, 8 bits, at its published size."""
    try:
        image = Image.open(io.BytesIO(opened.read(member)), formats=("PNG",))
        if image.size != (_DRAWN_SIDE, _DRAWN_SIDE):  # known before the pixels are decoded
            raise ValueError(f"it has {image.size[0]} x {image.size[1]} pixels, not {_DRAWN_SIDE} x {_DRAWN_SIDE}")
        return ImageOps.invert(image.convert("L"))
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"{path}: cannot read {member} ({error}); get the archive again from {_URL}") from None


def _small(image: Image.Image, turn: int) -> np.ndarray:
    """[28, 28] uint8: turned at full size, then resized."""
    turned = image.transpose(_TURNS[turn]) if turn else image
    return np.asarray(turned.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"cannot read {path} ({error}); get the archive again from {_URL}") from None

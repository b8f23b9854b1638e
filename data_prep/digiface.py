"""DigiFace-1M's zip files to stores: one synthetic identity is one user.

Train: identities 0-7999 with 72 images each, 100000-199998 with 5 each, or both. Validation and test: 8000-8999 and
9000-9999, 72 images each, never trained on. The authors publish no split; data_prep/splits/digiface.txt is fedemb's.
Source: Bae et al., WACV 2023, https://github.com/microsoft/DigiFace1M
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fedemb.core.files import sha256
from fedemb.data.formats.archive import Archive, open_archive
from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.pictures import Picture, kind_of
from fedemb.data.preparation import Prepared, Request, Split, prepare_splits
from fedemb.data.readers import ReadOriginals, UserMembers, where
from fedemb.data.record import UserRecord
from fedemb.data.splits import read_split_file

SPLITS = Path(__file__).parent / "splits" / "digiface.txt"
URL = "https://github.com/microsoft/DigiFace1M"

_SIDE = 112
_COLOUR_TYPES = (2, 3, 6)  # of a PNG: RGB, palette, RGBA; the others are grey
_IHDR = struct.Struct(">IIBB")  # width, height, bits, colour type
_IHDR_AT = 16
_MEMBER = re.compile(r"(?:.*/)?(?P<identity>\d+)/(?P<image>\d+)\.png")

NOTICE = """\
DigiFace-1M: rendered faces of people who do not exist, © Microsoft. Bae et al., "DigiFace-1M: 1 Million Digital Face
Images for Face Recognition", WACV 2023.
Terms: Microsoft Research Use of Data Agreement v1.0. In short, and without replacing its text: the images are for
non-commercial research only; neither they nor results made with them, trained models included, may go into a
commercial offering; whoever passes them on must do so under the same agreement and with attribution.
Read the agreement at https://github.com/microsoft/DigiFace1M/blob/main/LICENSE before you use them.
"""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published archive: identities `first` .. `last` with `images` each."""

    first: int
    last: int
    images: int

    @property
    def file(self) -> str:
        """Its name."""
        return f"subjects_{self.first}-{self.last}_{self.images}_imgs.zip"


PUBLISHED = (
    *(Published(first=first, last=first + 1_999, images=72) for first in range(0, 10_000, 2_000)),
    *(Published(first=first, last=first + 33_332, images=5) for first in range(100_000, 199_999, 33_333)),
)
_TRAINS: Mapping[str, Sequence[int]] = {"72": (72,), "5": (5,), "both": (72, 5)}


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is there of a published archive, all of it or, where that is allowed, less.

    members: identity -> its images' names in order, by rising identity.
    """

    published: Published
    archive: Archive
    source: Source
    members: Mapping[int, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A unit of work: one user, and the place of its archive among those of the split."""

    archive: int
    user: UserMembers


def prepare(request: Request, *, part: int | str = 72) -> Prepared:
    """Make the stores `out`/train, `out`/validation and `out`/test of the original PNG files.

    Args: request: source is the folder with the zip files, or with folders of their names that they were unpacked to.
        With allow_partial archives may be missing, and a split of which nothing is there is not made.
        part: the images to train on: those of 72 or of 5 an identity, or both.
    Raises: ValueError in one line if an archive is missing or damaged, or the counts are not the published ones.
    """
    if str(part) not in _TRAINS:
        raise ValueError(f"part must be one of {', '.join(_TRAINS)}, got part={part}")
    folder = request.existing_source(f"{PUBLISHED[0].file}, … from {URL}")
    needed = _needed(str(part))
    paths = {published: path for published in needed if (path := _path(folder, published)) is not None}
    absent = [published.file for published in needed if published not in paths]
    if not paths or (absent and not request.allow_partial):
        raise ValueError(f"no {', '.join(absent)} in {folder}: get them from {URL}, or pass allow_partial=true")
    with ExitStack() as stack:
        parts = []
        for published, path in paths.items():
            archive = stack.enter_context(open_archive(path, scratch=request.out, wanted=_is_face))
            parts.append(_counted(request, published, archive))
        names = dict.fromkeys(name for identities in needed.values() for name in identities.values())
        splits = [_split(request, name, str(part), needed, parts) for name in names]
        there = [split for split in splits if split.users] if request.allow_partial else []
        return prepare_splits(request, there or splits)


def _is_face(name: str) -> bool:
    return _MEMBER.fullmatch(name) is not None


def _needed(part: str) -> dict[Published, dict[int, str]]:
    """Archive -> identity -> split, for what a preparation reads."""
    split_of = read_split_file(SPLITS)
    needed = {}
    for published in PUBLISHED:
        splits = {identity: split_of(str(identity)) for identity in range(published.first, published.last + 1)}
        trains = published.images in _TRAINS[part]
        used = {identity: split for identity, split in splits.items() if split and (trains or split != "train")}
        if used:
            needed[published] = used
    return needed


def _path(folder: Path, published: Published) -> Path | None:
    """The zip file, or what it was unpacked to."""
    zipped = folder / published.file
    return next((path for path in (zipped, zipped.with_suffix("")) if path.exists()), None)


def _counted(request: Request, published: Published, archive: Archive) -> Part:
    """Who is in an archive, with as many images as its name says."""
    images = defaultdict[int, dict[int, str]](dict)
    for name in archive.names():
        match = _MEMBER.fullmatch(name)
        assert match is not None
        identity, number = int(match["identity"]), int(match["image"])
        if not published.first <= identity <= published.last:
            raise ValueError(
                f"{where(archive, name)}: identity {identity} does not belong in {published.file}: get it from {URL}"
            )
        if (other := images[identity].setdefault(number, name)) != name:
            raise ValueError(f"{archive.path} holds image {number} of identity {identity} twice: {other} and {name}")
        if len(images[identity]) > published.images:
            raise ValueError(
                f"{archive.path} holds more than {published.images} images of identity {identity}: get it from {URL}"
            )
    identities = published.last - published.first + 1
    request.missing(
        archive.path,
        found={"identities": len(images), "images": len(archive.names())},
        published={"identities": identities, "images": identities * published.images},
    )
    members = {identity: [name for _, name in sorted(images[identity].items())] for identity in sorted(images)}
    return Part(published=published, archive=archive, source=archive.source(), members=members)


def _split(
    request: Request, name: str, part: str, needed: Mapping[Published, Mapping[int, str]], parts: Sequence[Part]
) -> Split:
    """One split, from the archives that hold some of it."""
    used = [held for held in parts if name in needed[held.published].values()]
    who = [
        (archive, identity)
        for archive, held in enumerate(used)
        for identity in held.members
        if needed[held.published].get(identity) == name
    ]
    units = [
        Identity(archive=archive, user=_user(identity, used[archive].members[identity], label))
        for label, (archive, identity) in enumerate(who)
    ]
    sizes = [published.images for published in needed for split in needed[published].values() if split == name]
    left_out = request.missing(
        f"split {name}",
        found={"identities": len(units), "images": sum(len(unit.user.images) for unit in units)},
        published={"identities": len(sizes), "images": sum(sizes)},
    )
    return Split(
        info=_info(name, part, [held.source for held in used], len(units)),
        users=len(units),
        units=units,
        records=Reader(archives=[held.archive for held in used]),
        class_names=[unit.user.id for unit in units],
        left_out=left_out,
    )


def _user(identity: int, names: Sequence[str], label: int) -> UserMembers:
    return UserMembers(id=str(identity), images=[(name, label) for name in names])


def _info(split: str, part: str, sources: Sequence[Source], classes: int) -> StoreInfo:
    return StoreInfo(
        name="digiface",
        split=split,
        user="a synthetic identity",
        image_shape=(3, _SIDE, _SIDE),
        codec="png",
        classes=classes,
        polarity="RGB",
        description="the PNG files as published: rendered faces, aligned and cropped",
        licence="Microsoft Research Use of Data Agreement v1.0: non-commercial research only",
        notice=NOTICE,
        redistributable=False,
        sources=(*sources, Source(file=f"splits/{SPLITS.name}", sha256=sha256(SPLITS))),
        command=f"fedemb prepare digiface{f' part={part}' if split == 'train' else ''} source=<folder>",
    )


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads identities, in whatever process it is called, and checks each image."""

    archives: Sequence[Archive]

    def __call__(self, unit: Identity) -> list[UserRecord]:
        """The user's record."""
        archive = self.archives[unit.archive]
        read = ReadOriginals(archive=archive, picture=Picture(channels=3, max_pixels=_SIDE * _SIDE))
        records = read(unit.user)
        for record in records:
            for image, (name, _) in zip(record.images, unit.user.images, strict=True):
                _check_image(image, where(archive, name))
        return records


def _check_image(image: bytes, where: str) -> None:
    """Raise ValueError unless the bytes of a readable image are a colour PNG of 112 x 112."""
    if kind_of(image) != "png":
        raise ValueError(f"{where} is a {kind_of(image)} file under the name of a PNG: get it from {URL}")
    width, height, _, colour_type = _IHDR.unpack_from(image, _IHDR_AT)
    if (width, height) != (_SIDE, _SIDE):
        raise ValueError(f"{where} has {width} x {height} pixels, not {_SIDE} x {_SIDE}: get it from {URL}")
    if colour_type not in _COLOUR_TYPES:
        raise ValueError(f"{where} is grey, not in colour: get it from {URL}")

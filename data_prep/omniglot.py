"""Omniglot's two zip archives to a store: one character is one user, or one drawer is.

user=character. Train: the background characters, each turned by 0, 90, 180 and 270 degrees, are 964 x 4 = 3,856 users
of 20 images. Test: the 659 characters of the evaluation set, never trained on. Labels are identities.
user=drawer. A person's drawings of one alphabet, one image a character: 600 users of 14 to 55 images to train on, 400
to test on. Labels are characters. Nothing links the drawers of two alphabets: a person may be several users.
Source: Lake, Salakhutdinov, Tenenbaum, Science 350 (2015); a character turned by 90 degrees is another character, as in
Vinyals et al. 2016, arXiv:1606.04080.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fedemb.data.formats.archive import Archive, open_archive
from fedemb.data.manifest import StoreInfo
from fedemb.data.pictures import Picture
from fedemb.data.preparation import Prepared, Request, Split, prepare_splits
from fedemb.data.readers import where
from fedemb.data.record import UserRecord

SAMPLE = Path(__file__).parent / "samples" / "omniglot"

_URL = "https://github.com/brendenlake/omniglot/tree/master/python"
_SIDE, _DRAWN_SIDE = 28, 105
_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}
_MEMBER = re.compile(r"(?:[^/]+/)?(?P<alphabet>[^/]+)/(?P<character>[^/]+)/\d+_(?P<drawer>\d+)\.png")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published archive, and how much of it there is."""

    file: str
    split: str
    characters: int
    images: int
    turns: Sequence[int]  # quarter turns, counter-clockwise, that make more identities


PUBLISHED = (
    Published(file="images_background.zip", split="train", characters=964, images=19_280, turns=(0, 1, 2, 3)),
    Published(file="images_evaluation.zip", split="test", characters=659, images=13_180, turns=(0,)),
)


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """A unit of work: users of the same images, each turned by another angle. images: (member, label before turns)."""

    id: str
    images: Sequence[tuple[str, int]]
    turns: Sequence[int]

    @property
    def ids(self) -> list[str]:
        """Of the users, one for each turn."""
        turned = [f"{self.id}/turn{90 * turn:03d}" for turn in self.turns]
        return turned if len(turned) > 1 else [self.id]


def prepare(request: Request, *, user: str = "character") -> Prepared:
    """Make the stores `out`/train and `out`/test in one pass over each archive, unpacking nothing to disk.

    Args: request: source is the folder with the zip files, None for the copy that comes with fedemb.
        user: "character" or "drawer".
    Raises: ValueError in one line if a file is missing or damaged, or the counts are not the published ones.
    """
    if user not in _USERS:
        raise ValueError(f"user must be one of {', '.join(_USERS)}, got user={user}")
    folder = SAMPLE if request.source is None else request.existing_source(f"images_background.zip from {_URL}")
    with ExitStack() as stack:
        splits = []
        for published in PUBLISHED:
            path = folder / published.file
            if not path.is_file():
                raise ValueError(f"no file {path}: get {published.file} from {_URL} and pass source=<its folder>")
            archive = stack.enter_context(open_archive(path, scratch=request.out, wanted=_is_drawing))
            splits.append(_split(request, archive, published, user))
        return prepare_splits(request, splits)


def _is_drawing(name: str) -> bool:
    return _MEMBER.fullmatch(name) is not None


def _split(request: Request, archive: Archive, published: Published, user: str) -> Split:
    characters = defaultdict[str, list[str]](list)
    for name in archive.names():
        match = _MEMBER.fullmatch(name)
        assert match is not None
        characters[f"{match['alphabet']}/{match['character']}"].append(name)
    left_out = request.missing(
        archive.path,
        found={"characters": len(characters), "images": len(archive.names())},
        published={"characters": published.characters, "images": published.images},
    )
    name = "omniglot" if user == "character" else f"omniglot_{user}s"
    units, class_names = _USERS[user](characters, published.turns)
    character = "a character turned by 0, 90, 180 or 270 degrees" if len(published.turns) > 1 else "a character"
    info = StoreInfo(
        name=name,
        split=published.split,
        user=character if user == "character" else "a drawer of one alphabet",
        image_shape=(1, _SIDE, _SIDE),
        classes=len(class_names),
        label="identity" if user == "character" else "class",
        polarity="ink 255 on 0",
        description=f"upright, {_DRAWN_SIDE} to {_SIDE} pixels a side by the triangle filter (antialiased)",
        licence="MIT, © 2015 Brenden Lake",
        notice=(SAMPLE / "LICENSE").read_text(encoding="utf-8"),
        sources=(archive.source(),),
        command=f"fedemb prepare {name}",
    )
    return Split(
        info=info,
        users=sum(len(unit.turns) for unit in units),
        units=units,
        records=Reader(archive=archive),
        class_names=class_names,
        left_out=left_out,
    )


def _by_character(
    characters: Mapping[str, Sequence[str]], turns: Sequence[int]
) -> tuple[list[Drawings], Sequence[str]]:
    units = [
        Drawings(id=character, images=[(name, number * len(turns)) for name in characters[character]], turns=turns)
        for number, character in enumerate(sorted(characters))
    ]
    return units, [id for unit in units for id in unit.ids]


def _by_drawer(characters: Mapping[str, Sequence[str]], turns: Sequence[int]) -> tuple[list[Drawings], Sequence[str]]:
    """Drawings as they are: a turned alphabet would be the same person again."""
    drawers = defaultdict[str, list[tuple[str, int]]](list)
    for number, character in enumerate(sorted(characters)):
        for name in characters[character]:
            match = _MEMBER.fullmatch(name)
            assert match is not None
            drawers[f"{match['alphabet']}/drawer{match['drawer']}"].append((name, number))
    return [Drawings(id=drawer, images=drawers[drawer], turns=(0,)) for drawer in sorted(drawers)], sorted(characters)


_USERS: Mapping[str, Callable[[Mapping[str, Sequence[str]], Sequence[int]], tuple[list[Drawings], Sequence[str]]]] = {
    "character": _by_character,
    "drawer": _by_drawer,
}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads and shrinks drawings, in whatever process it is called."""

    archive: Archive

    def __call__(self, unit: Drawings) -> list[UserRecord]:
        """One user for each turn."""
        drawn = [self._drawn(name) for name, _ in unit.images]
        labels = np.array([label for _, label in unit.images])
        return [
            UserRecord.from_pixels(
                id=id,
                images=np.stack([_small(image, turn) for image in drawn])[:, None],
                labels=labels + slot,
            )
            for slot, (id, turn) in enumerate(zip(unit.ids, unit.turns, strict=True))
        ]

    def _drawn(self, name: str) -> Image.Image:
        """A drawing with ink 255 on 0, 8 bits, at its published size."""
        image = Picture(channels=1, invert=True).image(self.archive.read(name), where(self.archive, name))
        if image.size != (_DRAWN_SIDE, _DRAWN_SIDE):
            raise ValueError(
                f"{where(self.archive, name)} has {image.width} x {image.height} pixels, "
                f"not {_DRAWN_SIDE} x {_DRAWN_SIDE}: get {self.archive.path.name} from {_URL}"
            )
        return image


def _small(image: Image.Image, turn: int) -> np.ndarray:
    """[28, 28] uint8: turned at full size, then resized."""
    turned = image.transpose(_TURNS[turn]) if turn else image
    return np.asarray(turned.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))

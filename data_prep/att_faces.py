"""The AT&T (formerly Olivetti, "ORL") Database of Faces to stores: one person is one user.

40 people, 10 grey photographs each. s1 to s30 train, s31 to s40 test; the authors publish no split, this one is
data_prep/splits/att_faces.txt. Real people: an internal test set, whose images and embeddings are shown to nobody.
Source: Samaria and Harter, 2nd IEEE Workshop on Applications of Computer Vision, 1994.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fedemb.core import check
from fedemb.core.files import sha256
from fedemb.data.formats.archive import Archive, open_archive
from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.pictures import Picture
from fedemb.data.preparation import Prepared, Request, Split, prepare_splits
from fedemb.data.readers import UserMembers, where
from fedemb.data.record import UserRecord
from fedemb.data.splits import read_split_file

SPLITS = Path(__file__).parent / "splits" / "att_faces.txt"

_FILE = "att_faces.zip"
_PEOPLE, _EACH = 40, 10
_WIDTH, _HEIGHT = 92, 112
_MEMBER = re.compile(r"(?:.*/)?(?P<person>s[1-9]\d*)/(?P<image>[1-9]\d*)\.pgm")
_PUBLISHED_SHA256 = "d81dc0ce1b7cae73897b46ab3d4d0ee2d1ff72f033819ec7c2a184dbba14a58f"  # s1/1, s1/2, … s40/10

NOTICE = """\
AT&T Laboratories Cambridge, Database of Faces: photographs of 40 people, taken at the Olivetti Research Laboratory in
Cambridge, UK, from April 1992 to April 1994.
The authors state no licence. They ask that whoever uses the images credits the Olivetti Research Laboratory, and refer
to F. Samaria and A. Harter, "Parameterisation of a stochastic model for human face identification", 2nd IEEE Workshop
on Applications of Computer Vision, Sarasota, December 1994.
These are real people: use the images to test software, and do not publish images or embeddings of single persons.
"""


def prepare(request: Request, *, size: int = 56) -> Prepared:
    """Make the stores `out`/train and `out`/test.

    Args: request: source is att_faces.zip, the folder it lies in, or a folder with s1 … s40.
        size: side of the square that the 92 x 112 pixels are resized to, aspect not kept.
    Raises: ValueError in one line if the source is missing or damaged, the counts are not the published ones, or all
        400 images are there and are not those that were published.
    """
    check.at_least("size", size, 1)
    source = request.existing_source(f"{_FILE} of the AT&T Database of Faces")
    zipped = source / _FILE
    with open_archive(zipped if zipped.is_file() else source, scratch=request.out, wanted=_is_face) as archive:
        people = _people(archive)
        everybody = sum(map(len, people.values()))
        request.missing(
            archive.path,
            found={"people": len(people), "images": everybody},
            published={"people": _PEOPLE, "images": _PEOPLE * _EACH},
        )
        if everybody == _PEOPLE * _EACH:
            _check_content(archive, people)
        reader = Reader(archive=archive, size=size)
        return prepare_splits(request, [_split(request, split, people, reader) for split in ("train", "test")])


def _is_face(name: str) -> bool:
    return _MEMBER.fullmatch(name) is not None


def _people(archive: Archive) -> dict[str, list[str]]:
    """Person -> members, both by number. Raises ValueError for somebody unknown, or an image too many."""
    split_of = read_split_file(SPLITS)
    images = defaultdict[str, dict[int, str]](dict)
    for name in archive.names():
        match = _MEMBER.fullmatch(name)
        assert match is not None
        person, number = match["person"], int(match["image"])
        if split_of(person) is None or number > _EACH:
            raise ValueError(
                f"{where(archive, name)} is none of s1/1 … s{_PEOPLE}/{_EACH}: copies with other people's faces are "
                f"about; get {_FILE} from another place"
            )
        if (other := images[person].setdefault(number, name)) != name:
            raise ValueError(f"{archive.path} holds image {number} of {person} twice: {other} and {name}")
    return {
        person: [name for _, name in sorted(images[person].items())]
        for person in sorted(images, key=lambda person: int(person[1:]))
    }


def _check_content(archive: Archive, people: dict[str, list[str]]) -> None:
    digest = hashlib.sha256()
    for names in people.values():
        for name in names:
            digest.update(archive.read(name))
    if digest.hexdigest() != _PUBLISHED_SHA256:
        raise ValueError(
            f"{archive.path} holds other images than were published: copies are about in which s1 and s2 are "
            f"photographs of other people; get {_FILE} from another place"
        )


def _split(request: Request, split: str, people: dict[str, list[str]], reader: Reader) -> Split:
    split_of = read_split_file(SPLITS)
    who = [person for person in people if split_of(person) == split]
    all_of_it = sum(found == split for found in split_of.ids.values())
    return Split(
        info=_info(split, reader, len(who)),
        users=len(who),
        units=[
            UserMembers(id=person, images=[(name, label) for name in people[person]])
            for label, person in enumerate(who)
        ],
        records=reader,
        class_names=who,
        left_out=request.missing(
            f"split {split}",
            found={"people": len(who), "images": sum(len(people[person]) for person in who)},
            published={"people": all_of_it, "images": all_of_it * _EACH},
        ),
    )


def _info(split: str, reader: Reader, classes: int) -> StoreInfo:
    return StoreInfo(
        name="att_faces",
        split=split,
        user="a person",
        image_shape=(1, reader.size, reader.size),
        classes=classes,
        polarity="grey, white is 255",
        description=f"{_WIDTH} x {_HEIGHT} to {reader.size} x {reader.size} pixels by the triangle filter",
        licence="none stated; the authors ask for credit to the Olivetti Research Laboratory",
        notice=NOTICE,
        redistributable=False,
        presentable=False,
        sources=(reader.archive.source(), Source(file=f"splits/{SPLITS.name}", sha256=sha256(SPLITS))),
        command=f"fedemb prepare att_faces size={reader.size} source=<folder>",
    )


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads and shrinks photographs, in whatever process it is called."""

    archive: Archive
    size: int

    def __call__(self, user: UserMembers) -> list[UserRecord]:
        """The user's record."""
        pixels = [self._small(name) for name, _ in user.images]
        labels = np.array([label for _, label in user.images])
        return [UserRecord.from_pixels(id=user.id, images=np.stack(pixels)[:, None], labels=labels)]

    def _small(self, name: str) -> np.ndarray:
        """[size, size] uint8."""
        place = where(self.archive, name)
        image = Picture(channels=1, max_pixels=_WIDTH * _HEIGHT).image(self.archive.read(name), place)
        if image.size != (_WIDTH, _HEIGHT):
            raise ValueError(
                f"{place} has {image.width} x {image.height} pixels, not {_WIDTH} x {_HEIGHT}: get {_FILE} again"
            )
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR))

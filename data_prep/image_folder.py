"""Images in folders, or in a zip or tar of such folders, to a store: `[<split>/]<user>/[<class>/]<file>`.

user=class. `[<split>/]<class>/<file>`, as image classification data sets lie on disk: every class is an identity, and
one user. user=folder. `[<split>/]<user>/<class>/<file>`: labels are classes. A split's folder is called as SPLIT_NAMES
has it (fedemb/data/own_images.py). A folder around everything is ignored, and a folder without images is nobody.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from fedemb.data.formats.archive import open_archive
from fedemb.data.image_list import ONE_DIRECTORY, OTHER_FILES, ListedImage, SplitRule, look_like_splits
from fedemb.data.own_images import SPLIT_NAMES, TRAIN, OwnImages, divided
from fedemb.data.pictures import SUFFIXES, is_image
from fedemb.data.preparation import Prepared, Request, prepare_splits

_LAYOUTS = {"class": "<class>/<file>", "folder": "<user>/<class>/<file>"}
_DEEPER = {
    "class": "make a folder for each class in them, <split>/<class>/<file>",
    "folder": "pass user=class for <split>/<class>/<file>",
}
_UNITS = {"class": "a class of images", "folder": ONE_DIRECTORY}


def prepare(request: Request, *, images: OwnImages, rule: SplitRule, user: str = "class") -> Prepared:
    """Make a store of every split.

    Args: request: source is the folder, .zip or .tar; links to folders are not followed. rule: without one, users are
        in the split whose folder they lie in, or all in train. user: "class" or "folder", see above.
    Raises: ValueError in one line if the layout is another one, a user is in two splits, or a file is no image.
    """
    if user not in _LAYOUTS:
        raise ValueError(f"user must be one of {', '.join(_LAYOUTS)}, got user={user}")
    source = request.existing_source("a folder, .zip or .tar of images")
    _refuse_within(request, source)
    wanted = _OnlyImages()
    with open_archive(source, scratch=request.out, wanted=wanted) as archive:
        if not archive.names():
            raise ValueError(f"{source} holds no image ({', '.join(SUFFIXES)}): is this the right source?")
        parts = divided(_listed(archive.names(), user, f"{source}"), source, rule)
        others = _folders(source, archive.names()) if source.is_dir() else {}
        if wanted.others:
            others[OTHER_FILES] = wanted.others
        parts = {split: replace(part, left_out={**part.left_out, **others}) for split, part in parts.items()}
        command = f"fedemb prepare image_folder source=<folder> user={user}{rule.words()}"
        sources = [archive.source()]
        return prepare_splits(
            request, images.splits(archive, parts, user=_UNITS[user], sources=sources, command=command)
        )


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


@dataclass
class _OnlyImages:
    """Chooses members by name, and counts the others. others: but hidden ones, so far."""

    others: int = field(default=0, init=False)

    def __call__(self, name: str) -> bool:
        """Is it an image?"""
        unseen = any(map(_hidden, name.split("/")))
        wanted = is_image(name) and not unseen
        self.others += not wanted and not unseen
        return wanted


def _refuse_within(request: Request, source: Path) -> None:
    """Raise ValueError if the stores would lie among the images, where they would be part of the next source."""
    if source.is_dir() and request.out.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"out={request.out} lies in the source {source}: pass out=<a folder beside it>")


def _folders(source: Path, names: Sequence[str]) -> dict[str, int]:
    """Folders that give no image: reason -> how many, not counting what is below one of them. names: of the images."""
    holding = {
        parent.as_posix() for folder in {PurePath(n).parent for n in names} for parent in (folder, *folder.parents)
    }
    counted = Counter[str]()
    for place, folders, _ in os.walk(source):
        for name in [folder for folder in folders if not _hidden(folder)]:
            folder = Path(place, name)
            if folder.is_symlink():
                counted["links to folders, not followed"] += 1
            elif folder.relative_to(source).as_posix() not in holding:
                counted["folders without an image"] += 1
        folders[:] = [folder for folder in folders if Path(place, folder).relative_to(source).as_posix() in holding]
    return dict(counted)


def _listed(names: Sequence[str], user: str, where: str) -> list[tuple[str, ListedImage]]:
    """(split, image) of each member."""
    depth = names[0].count("/")
    for name in names:
        if name.count("/") != depth:
            raise ValueError(f"{where}: {names[0]} and {name} lie at different depths: all must be at {_layout(user)}")
    place = _place(names, user)
    if place is None:
        suiting = [f"pass user={other} for {_layout(other)}" for other in _LAYOUTS if _place(names, other)]
        mend = " ".join(suiting) or "see user=class and user=folder, or take a table"
        raise ValueError(f"{where}: {names[0]} is not at {_layout(user)}: {mend}")
    above, around = place
    owners = sorted({_owner(name, above) for name in names})
    if look_like_splits(owners):
        raise ValueError(
            f"{where} holds {', '.join(owners)}, which look like splits and not users: {_DEEPER[user]}, or rename them"
        )
    return [
        (_split(name, above, user, where) if above > around else TRAIN, _image(name, above, user)) for name in names
    ]


def _place(names: Sequence[str], user: str) -> tuple[int, int] | None:
    """(folders above the user's, of these around everything: 0 or 1); None if the names are not at this layout.

    names: all at one depth.
    """
    above = names[0].count("/") - _LAYOUTS[user].count("/")
    tops = {name.split("/")[0] for name in names}
    around = int(above > 0 and len(tops) == 1 and not tops & SPLIT_NAMES.keys())
    return (above, around) if above - around in (0, 1) else None


def _image(name: str, above: int, user: str) -> ListedImage:
    return ListedImage(_owner(name, above), name, name.split("/")[above + 1] if user == "folder" else None)


def _owner(name: str, above: int) -> str:
    return name.split("/")[above]


def _split(name: str, above: int, user: str, where: str) -> str:
    """By the folder over the user's. Raises: ValueError if that is no split's: people would be taken for splits."""
    folder = name.split("/")[above - 1]
    if folder not in SPLIT_NAMES:
        other = " (or pass user=folder for <user>/<class>/<file>)" if user == "class" else ""
        raise ValueError(
            f"{where}: {name} is not at {_layout(user)}, as {folder!r} is no split: call it one of "
            f"{', '.join(SPLIT_NAMES)}, or move what is in it one folder up{other}"
        )
    return SPLIT_NAMES[folder]


def _layout(user: str) -> str:
    return f"{_LAYOUTS[user]} or <split>/{_LAYOUTS[user]}"

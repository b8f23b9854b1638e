"""Images in folders, or in a zip or tar of such folders, to a store: `[<split>/]<user>/[<class>/]<file>`.

user=class. `[<split>/]<class>/<file>`, as image classification data sets lie on disk: every class is an identity, and
one user. user=folder. `[<split>/]<user>/<class>/<file>`: labels are classes. A split's folder is called as SPLIT_NAMES
has it (fedemb/data/own_images.py). A folder around everything is ignored, and a folder without images is nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fedemb.data.formats.archive import open_archive
from fedemb.data.image_list import ONE_DIRECTORY, OTHER_FILES, ListedImage, SplitRule
from fedemb.data.own_images import SPLIT_NAMES, TRAIN, OwnImages, divided
from fedemb.data.pictures import SUFFIXES, is_image
from fedemb.data.preparation import Prepared, Request, prepare_splits

_LAYOUTS = {"class": "<class>/<file>", "folder": "<user>/<class>/<file>"}
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
    wanted = _OnlyImages()
    with open_archive(source, scratch=request.out, wanted=wanted) as archive:
        if not archive.names():
            raise ValueError(f"{source} holds no image ({', '.join(SUFFIXES)}): is this the right source?")
        parts = divided(_listed(archive.names(), user, f"{source}"), source, rule)
        others = {OTHER_FILES: wanted.others} if wanted.others else {}
        parts = {split: replace(part, left_out={**part.left_out, **others}) for split, part in parts.items()}
        command = f"fedemb prepare image_folder source=<folder> user={user}{rule.words()}"
        sources = [archive.source()]
        return prepare_splits(
            request, images.splits(archive, parts, user=_UNITS[user], sources=sources, command=command)
        )


@dataclass
class _OnlyImages:
    """Chooses members by name, and counts the others. others: but hidden ones, so far."""

    others: int = field(default=0, init=False)

    def __call__(self, name: str) -> bool:
        """Is it an image?"""
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
        wanted = is_image(name) and not hidden
        self.others += not wanted and not hidden
        return wanted


def _listed(names: Sequence[str], user: str, where: str) -> list[tuple[str, ListedImage]]:
    """(split, image) of each member."""
    depth = names[0].count("/")
    for name in names:
        if name.count("/") != depth:
            raise ValueError(f"{where}: {names[0]} and {name} lie at different depths: all must be at {_layout(user)}")
    above = depth - _LAYOUTS[user].count("/")  # folders above the user's
    tops = {name.split("/")[0] for name in names}
    around = above > 0 and len(tops) == 1 and not tops & SPLIT_NAMES.keys()
    if above - around not in (0, 1):
        raise ValueError(
            f"{where}: {names[0]} is not at {_layout(user)}: see user=class and user=folder, or take a table"
        )
    return [
        (_split(name, above, user, where) if above > around else TRAIN, _image(name, above, user)) for name in names
    ]


def _image(name: str, above: int, user: str) -> ListedImage:
    owner, *rest = name.split("/")[above:]
    return ListedImage(owner, name, rest[0] if user == "folder" else None)


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

"""Which image is whose: users, files and classes as folders or tables list them, to users with numbered labels."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from fedemb.data.pictures import SUFFIXES, is_image
from fedemb.data.readers import UserMembers, numbered
from fedemb.data.splits import SplitFile, SplitOf, read_split_file, seeded_split
from fedemb.data.user_ids import check_apart

OTHER_FILES = "files whose names are no images'"

ONE_DIRECTORY = "one directory of images"

_LAYOUTS = "<user>/<file>, or <user>/<class>/<file>"
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def one_value(column: str) -> str:
    """What a user is where a table's column says whose each image is."""
    return f'one value of the column "{column}"'


class ListedImage(NamedTuple):
    """name: the file's path below the images' folder, with slashes. class_name: None where the user is the class."""

    user: str
    name: str
    class_name: str | None


@dataclass(frozen=True, kw_only=True)
class UserSplit:
    """The users of one split, sorted by id, their images sorted by name.

    class_names: of labels 0, 1, …. label: what one stands for, "identity" (the user) or "class".
    left_out: what was listed and is not here: reason -> how many.
    """

    users: Sequence[UserMembers]
    class_names: Sequence[str]
    label: str
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How users are divided among splits, if at all.

    split_file: a text file (fedemb/data/splits.py). fractions: split -> share of the users, each drawn by its id and
    `split_seed`.
    """

    split_file: str | os.PathLike[str] | None = None
    fractions: Mapping[str, float] | None = None
    split_seed: int | None = None

    def __post_init__(self) -> None:
        if self.split_file is not None and self.fractions is not None:
            raise ValueError("split_file= and fractions= are two rules for the splits: pass one of them")
        if self.fractions is not None and self.split_seed is None:
            raise ValueError("fractions= draws each user's split: say from which seed, e.g. split_seed=0")

    def split_of(self, users: Collection[str], where: object) -> SplitOf | None:
        """user -> split; None without a rule.

        users, where: all there are, and the folder or table that has them.
        Raises: ValueError in one line if the file or the fractions are wrong, or the file names none of these users or
            somebody else.
        """
        if self.split_file is not None:
            return _split_file_of(Path(self.split_file), users, where)
        if self.fractions is None or self.split_seed is None:
            return None
        return seeded_split(fractions=dict(self.fractions), seed=self.split_seed)

    def words(self) -> str:
        """For a command line that does not tell where files are."""
        if self.split_file is not None:
            return " split_file=<file>"
        if self.fractions is None:
            return ""
        shares = ", ".join(f"{split}: {share}" for split, share in self.fractions.items())
        return f" 'fractions={{{shares}}}' split_seed={self.split_seed}"


def user_splits(
    images: Iterable[ListedImage],
    where: object,
    *,
    split_of: SplitOf,
    classes: Sequence[str | int] | None = None,
    order: Sequence[str] | None = None,
) -> dict[str, UserSplit]:
    """Split -> its users, splits sorted. A user belongs to a split as a whole.

    Identities are numbered within their split. Classes are numbered over all splits by name, so a label means the same
    in each.

    Users without a class that is wanted are dropped before N is fixed, so N depends on the data. The guarantee is for
    the partition as it comes out of here: N and who is left out are taken as public, and it is not hidden whether
    somebody has a training class.

    Args: where: the folder or table, for messages. split_of: user -> split; users in none are left out.
        classes: those that are wanted; None for all. Other images are left out, and users who have no other.
        order: the classes by their numbers, where it is not that of their names.
    Raises: ValueError in one line if an image is listed twice for a user, two users' ids look the same
        (fedemb/data/user_ids.py; capitals and leading zeros do count), or a wanted class is not there.
    """
    owned = _by_user(images, where)
    labels = _labels(owned, where, classes) if order is None else {name: n for n, name in enumerate(order)}
    found = defaultdict[str, list[UserMembers]](list)
    left_out = defaultdict[str | None, Counter[str]](Counter)
    for user, own in owned.items():
        split = split_of(user)
        if split is None:
            left_out[None]["users in no split"] += 1
            continue
        kept = [image for image in own if image.class_name is None or image.class_name in labels]
        left_out[split]["images of other classes"] += len(own) - len(kept)
        if not kept:
            left_out[split]["users without training classes"] += 1
            continue
        identity = len(found[split])
        members = [(name, identity if class_name is None else labels[class_name]) for _, name, class_name in kept]
        found[split].append(UserMembers(id=user, images=members))
    return {
        split: UserSplit(
            users=users,
            class_names=list(labels) or [user.id for user in users],
            label="class" if labels else "identity",
            left_out=dict(+(left_out[split] + left_out[None])),
        )
        for split, users in sorted(found.items())
    }


def look_like_splits(users: Collection[str]) -> bool:
    """Are all of these folders called as splits usually are?"""
    return {user.lower() for user in users} <= _SPLITS


def _split_file_of(path: Path, users: Collection[str], where: object) -> SplitFile:
    """The split file, if each of its lines names one of the users."""
    split_of = read_split_file(path)
    if all(split_of(user) is None for user in users):
        raise ValueError(f"{path} names none of the users in {where}; a line is '<split> <user>'")
    if unknown := split_of.naming_nobody(users):
        more = f", nor are {len(unknown) - 1} others of its lines" if len(unknown) > 1 else ""
        raise ValueError(
            f"{path}: {unknown[0]!r} is no user in {where}{more}: write the user as it is there, or remove the line"
        )
    return split_of


def list_folder(root: Path) -> tuple[list[ListedImage], dict[str, int]]:
    """(the images below a folder with one folder for each user, {OTHER_FILES: how many} if there are any).

    Files are at `<user>/<file>`, or all at `<user>/<class>/<file>`; links are followed, hidden entries are not there.

    Raises: ValueError in one line if `root` is missing, its layout is another one, or a user has no image.
    """
    users, loose, others = _entries(root)
    if not users:
        raise ValueError(f"{root} has no folder in it: make one for each user, {_LAYOUTS}, or take a table of files")
    if loose:
        raise ValueError(f"{root}/{loose[0]} is in no user's folder: move it into one ({_LAYOUTS}), or away")
    if look_like_splits(users):
        raise ValueError(f"{root} holds {', '.join(users)}, which look like splits and not users: pass one as the root")
    images: list[ListedImage] = []
    for user in users:
        own, unused = _list_user(root, user)
        images += own
        others += unused
    for first, second in pairwise(images):
        if (first.class_name is None) != (second.class_name is None):
            raise ValueError(f"{root}: {first.name} has another layout than {second.name}: all must be at {_LAYOUTS}")
    return images, {OTHER_FILES: others} if others else {}


def _list_user(root: Path, user: str) -> tuple[list[ListedImage], int]:
    """(a user's images, how many other files)."""
    classes, own, others = _entries(root / user)
    images = [ListedImage(user, f"{user}/{name}", None) for name in own]
    for name in classes:
        deeper, files, unused = _entries(root / user / name)
        if deeper:
            raise ValueError(f"{root}/{user}/{name}/{deeper[0]} is one folder too deep: the layout is {_LAYOUTS}")
        images += [ListedImage(user, f"{user}/{name}/{file}", name) for file in files]
        others += unused
    if not images:
        kinds = ", ".join(SUFFIXES)
        raise ValueError(f"{root}/{user} holds no image ({kinds}): put the user's images there or remove the folder")
    return images, others


def _entries(folder: Path) -> tuple[list[str], list[str], int]:
    """(names of folders, names of images, number of other files), sorted."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((e for e in found if not e.name.startswith(".")), key=attrgetter("name"))
    except OSError as error:
        raise ValueError(
            f"cannot list {folder} ({error.strerror}): pass a folder that has one folder for each user"
        ) from None
    folders = [entry.name for entry in entries if entry.is_dir() and entry.name != "__MACOSX"]
    files = [entry.name for entry in entries if not entry.is_dir()]
    images = [name for name in files if is_image(name)]
    for name in (*folders, *images):
        if not _is_text(name):
            raise ValueError(f"{folder}: the name {name!a} is not UTF-8: rename it")
    return folders, images, len(files) - len(images)


def _is_text(name: str) -> bool:
    """False for bytes of a file name that are no UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _by_user(images: Iterable[ListedImage], where: object) -> dict[str, list[ListedImage]]:
    """User -> its images, both sorted."""
    owned = defaultdict[str, list[ListedImage]](list)
    for image in images:
        owned[image.user].append(image)
    check_apart(owned, where)
    for user, own in owned.items():
        own.sort(key=attrgetter("name"))
        for first, second in pairwise(own):
            if first.name == second.name:
                raise ValueError(f"{where}: user {user!r} has the image {first.name} twice: remove one of the two")
    return dict(sorted(owned.items()))


def _labels(
    owned: Mapping[str, Sequence[ListedImage]], where: object, classes: Sequence[str | int] | None
) -> dict[str, int]:
    """Class -> number, sorted, of the wanted classes; none where users are the classes."""
    names = sorted({image.class_name for own in owned.values() for image in own if image.class_name is not None})
    if classes is None:
        return numbered(names)
    if not names:
        raise ValueError(f"{where} has no classes, as users are the classes: leave classes= out")
    wanted = [str(name) for name in classes]  # a command line's classes=[0,1] are numbers
    if unknown := sorted(set(wanted) - set(names)):
        raise ValueError(f"{where} has no class {unknown[0]!r}: classes= must be among {_some(names)}")
    if not wanted:
        raise ValueError(f"classes= names no class of {where}: leave it out to use all, or choose among {_some(names)}")
    return numbered(wanted)


def _some(names: Sequence[str]) -> str:
    """The first names of many."""
    return f"{', '.join(names[:8])}, …" if len(names) > 8 else ", ".join(names)

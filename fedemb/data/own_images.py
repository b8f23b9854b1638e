"""A data set that nobody published: its stores keep the image files as they are, in splits that its owner says."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedemb.core import check
from fedemb.data.formats.archive import Archive
from fedemb.data.image_list import ListedImage, SplitRule, UserSplit, user_splits
from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.pictures import Picture
from fedemb.data.preparation import Split
from fedemb.data.readers import ReadOriginals

TRAIN = "train"
"""The split of all users where neither the source nor a rule has splits."""

SPLIT_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What folders and files are called -> the split."""

_POLARITY = {1: "grey", 3: "RGB"}


@dataclass(frozen=True, kw_only=True)
class OwnImages:
    """What its stores are called and what is done to the images.

    channels: 1 for grey, 3 for RGB. short_side: in pixels; larger images are made smaller; None keeps all as they are.
    licence: one line; without one, the stores are marked as not to be passed on.
    privacy_unit: what a user is, e.g. "a patient"; None for how the source says whose an image is.
    """

    name: str
    channels: int = 3
    short_side: int | None = None
    licence: str | None = None
    privacy_unit: str | None = None

    def __post_init__(self) -> None:
        Picture(channels=self.channels, short_side=self.short_side)  # refuses what no image can be
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ValueError(f"name must be a name for the data set and its folder, got name={self.name!r}")
        if self.privacy_unit is not None:
            check.phrase("privacy_unit", self.privacy_unit)

    def splits(
        self, archive: Archive, parts: Mapping[str, UserSplit], *, user: str, sources: Sequence[Source], command: str
    ) -> list[Split]:
        """The stores to make. sources: what all this was read from. command: without name= and the options above.

        user: what one is, where the owner of the images has not said.
        """
        side = f" short_side={self.short_side}" if self.short_side else ""
        channels = f" channels={self.channels}" if self.channels != 3 else ""
        told = f"privacy_unit={json.dumps(self.privacy_unit, ensure_ascii=False)}"
        unit = "" if self.privacy_unit is None else f" {shlex.quote(told)}"
        read = ReadOriginals(archive=archive, picture=Picture(channels=self.channels, short_side=self.short_side))
        smaller = (
            f", larger ones made smaller, to {self.short_side} pixels on the short side" if self.short_side else ""
        )
        return [
            Split(
                info=StoreInfo(
                    name=self.name,
                    split=split,
                    user=user if self.privacy_unit is None else self.privacy_unit,
                    image_shape=(self.channels, None, None),
                    codec="mixed",
                    classes=len(part.class_names),
                    label=part.label,
                    polarity=_POLARITY[self.channels],
                    description=f"images as they are in the source, {self.channels} channels when read{smaller}",
                    licence=self.licence or "not stated",
                    notice=self.licence or "Whoever owns these images has stated no terms.",
                    redistributable=self.licence is not None,
                    presentable=False,
                    sources=(*sources, _partition(part)),
                    command=f"{command} name={self.name}{channels}{side}{unit}",
                ),
                users=len(part.users),
                units=part.users,
                records=read,
                size=read.size,
                class_names=part.class_names,
                left_out=part.left_out,
            )
            for split, part in parts.items()
        ]


def _partition(part: UserSplit) -> Source:
    """Who has which file under which label: other columns or another split file make another store."""
    digest = hashlib.sha256(repr([(user.id, list(user.images)) for user in part.users]).encode())
    return Source(file="users and their files", sha256=digest.hexdigest())


def divided(
    found: Sequence[tuple[str, ListedImage]], where: object, rule: SplitRule, order: Sequence[str] | None = None
) -> dict[str, UserSplit]:
    """Images with the splits that the source has them in, to users with the split that the rule says, or the source.

    order: as user_splits has it.
    Raises: ValueError in one line if a user would be in two splits.
    """
    images = [image for _, image in found]
    split_of = rule.split_of({image.user for image in images}, where)
    if split_of is not None:
        return user_splits(images, where, split_of=split_of, order=order)
    splits: dict[str, str] = {}
    for split, image in found:
        if splits.setdefault(image.user, split) != split:
            raise ValueError(
                f"{where}: user {image.user!r} is in {splits[image.user]} and in {split}, one user must be in one "
                "split: pass fractions={train: 0.8, test: 0.2} or split_file=, which divide users anew"
            )
    return user_splits(images, where, split_of=splits.get, order=order)

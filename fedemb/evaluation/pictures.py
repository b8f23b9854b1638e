"""Images that are not a test user's, in the form that the model takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fedemb.data.formats.archive import Archive
from fedemb.data.pictures import Picture
from fedemb.data.readers import where
from fedemb.evaluation.embedded import Embedded, Model
from fedemb.evaluation.evaluate import embed

_IMAGES_AT_ONCE = 256


def embed_members(model: Model, archive: Archive, names: Sequence[str], *, invert: bool = False) -> Tensor:
    """[n, D] unit embeddings of members of an archive, in the order given.

    invert: for ink-on-white sources. Raises: ValueError in one line for a member that is no readable image.
    """
    channels, height, width = model.image_shape
    picture = Picture(channels=channels, size=(height, width), invert=invert)

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(names), _IMAGES_AT_ONCE):
            some = names[start : start + _IMAGES_AT_ONCE]
            pixels = np.stack([picture.pixels(archive.read(name), where(archive, name)) for name in some])
            yield torch.from_numpy(pixels).to(model.device)

    return embed(model.forward, batches())


def model_of(test: Embedded, what: str) -> Model:
    """The model. what: that needs it. Raises: ValueError where there are embeddings alone."""
    if test.model is None:
        raise ValueError(f"{what} embeds images of its own, and here are embeddings without a model")
    return test.model

"""A small store for tests of the commands that show and export stores."""

import numpy as np

from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.record import UserRecord
from fedemb.data.store_writer import write_units

INFO = StoreInfo(
    name="toy",
    split="train",
    user="a writer",
    image_shape=(1, 2, 2),
    classes=3,
    label="class",
    polarity="ink 255 on 0",
    description="",
    licence="do as you like",
    notice="",
    sources=(Source(file="toy.zip", sha256="ab" * 32),),
    command="fedemb prepare toy",
)


def make_store(out, info, users, left_out=None):
    """users: id -> labels. Image k of the whole store is filled with k."""
    records, first = [], 0
    for user, labels in users.items():
        pixels = np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None, None]
        images = np.broadcast_to(pixels, (len(labels), 1, 2, 2)).copy()
        records.append(UserRecord.from_pixels(id=user, images=images, labels=np.array(labels, int)))
        first += len(labels)
    write_units(out / info.split, info=info, units=lambda first: [records][first:], left_out=left_out)

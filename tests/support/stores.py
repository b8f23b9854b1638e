"""A small store for tests: seven users with 3, 0, 1, 5, 2, 0 and 4 images of 2 x 3 x 4 bytes."""

import numpy as np

from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.record import UserRecord
from fedemb.data.store import StoreUsers
from fedemb.data.store_writer import write_store

SHAPE = (2, 3, 4)
COUNTS = [3, 0, 1, 5, 2, 0, 4]
INFO = StoreInfo(
    name="toy",
    split="train",
    user="a writer",
    image_shape=SHAPE,
    classes=100,
    polarity="ink 255 on 0",
    description="noise",
    licence="MIT",
    notice="Do what you like.",
    sources=(Source(file="toy.zip", sha256="0" * 64),),
    command="fedemb prepare toy",
)
# A record of n images takes 16 + 52 n bytes: 172, 16, 68, 276, 120, 16, 224. So many users go into each shard:
USERS_BY_SHARD_BYTES = {1: [1, 1, 1, 1, 1, 1, 1], 100: [1, 3, 1, 2], 200: [3, 1, 3], 300: [4, 3], 10_000: [7]}


def pixels(counts=COUNTS, seed=0):
    """(id, images [n, 2, 3, 4] uint8, labels [n]) of each user."""
    rng = np.random.default_rng(seed)
    return [
        (f"näme {user}, with a comma", rng.integers(256, size=(n, *SHAPE), dtype=np.uint8), rng.integers(100, size=n))
        for user, n in enumerate(counts)
    ]


def records(counts=COUNTS, seed=0):
    for id, images, labels in pixels(counts, seed):
        yield UserRecord.from_pixels(id=id, images=images, labels=labels)


def prepared(path, **options):
    write_store(path / "train", info=INFO, records=records(), **options)
    return StoreUsers(path=path)


def shards_of(path):
    return sorted((path / "train").glob("*.sqlite"))


def contents(folder):
    """Name -> bytes of all files that are no lock."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".lock"}

"""A data set of 40 users in 8 shards that takes its time, and notes in files who reads which unit when."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedemb.data.manifest import StoreInfo
from fedemb.data.preparation import Split, prepare_splits
from fedemb.data.record import UserRecord

USERS, USERS_A_SHARD = 40, 5


@dataclass(frozen=True)
class Read:
    """A unit is a number; its user has 20 images of it."""

    noted: Path
    seconds: float

    def __call__(self, unit):
        (self.noted / f"{unit} {os.getpid()} {time.time_ns()}").touch()
        time.sleep(self.seconds)
        images = np.full((20, 1, 8, 8), unit, np.uint8)
        return [UserRecord.from_pixels(id=str(unit), images=images, labels=np.full(20, unit))]


def prepare(request, *, seconds=0.0):
    """Notes go beside `request.out`. A record is 16 + 20 (64 + 28) = 1856 bytes: five reach 9000."""
    info = StoreInfo(
        name="slow",
        split="train",
        user="a number",
        image_shape=(1, 8, 8),
        classes=USERS,
        polarity="ink 255 on 0",
        description="numbers",
        licence="CC0",
        notice="",
        sources=(),
        command="fedemb prepare slow",
    )
    noted = request.out.parent / "noted"
    noted.mkdir(exist_ok=True)
    read = Read(noted, seconds)
    return prepare_splits(request, [Split(info=info, users=USERS, units=range(USERS), records=read, shard_bytes=9000)])

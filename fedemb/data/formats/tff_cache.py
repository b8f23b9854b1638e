"""The photographs that TensorFlow Federated keeps after its first load: TFRecord files of tf.train.Example.

`train/<user id>`, one file a user, and `test.tfRecord`; an Example has image/encoded_jpeg, one bytes, and class, one
int64. Sources: tensorflow_federated/python/simulation/datasets/{gldv2,inaturalist,vision_datasets_utils}.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from fedemb.data.formats.crc32c import masked_crc32c
from fedemb.data.formats.tfrecord import parse_example, read_records

TEST = "test.tfRecord"
TRAIN = "train"

_IMAGE, _CLASS = "image/encoded_jpeg", "class"
_HEADER, _FOOTER_BYTES = struct.Struct("<QI"), 4
_AGAIN = "copy the cache again, or let TensorFlow Federated make it again"


@dataclass(frozen=True, kw_only=True)
class Block:
    """Records that lie one after the other in a file: so many, and so many bytes, from byte `first` on.

    id: of their user.
    """

    id: str
    file: Path
    first: int
    bytes: int
    records: int


def find_cache(folder: Path, names: Sequence[str]) -> Path | None:
    """A cache in `folder`/<name> or `folder`/cache/<name>, or `folder` itself if it is one; None if there is none.

    names: spellings of the data set's name, the first that is there counts.
    """
    places = [folder / under / name for name in names for under in ("", "cache")]
    caches = (place for place in [*places, folder] if (place / TRAIN).is_dir() and (place / TEST).is_file())
    return next(caches, None)


def blocks_of_users(cache: Path) -> list[Block]:
    """One block for each file under train/, sorted by name; reads the records' headers, no image.

    A user whose images all were missing has a block of 0 records.
    Raises: ValueError in one line if a file ends within a record or its headers are damaged.
    """
    files = sorted(file for file in (cache / TRAIN).iterdir() if file.is_file() and not file.name.startswith("."))
    return [
        Block(id=file.name, file=file, first=0, bytes=file.stat().st_size, records=len(_beginnings(file)))
        for file in files
    ]


def blocks_of_test(cache: Path, records: int) -> list[Block]:
    """The test file cut into blocks of so many records, the last one with the rest; as `blocks_of_users` else."""
    file = cache / TEST
    beginnings = _beginnings(file)
    ends = [*beginnings[records::records], file.stat().st_size]
    return [
        Block(
            id=f"test-{number:05d}",
            file=file,
            first=beginnings[start],
            bytes=ends[number] - beginnings[start],
            records=min(records, len(beginnings) - start),
        )
        for number, start in enumerate(range(0, len(beginnings), records))
    ]


def read_block(block: Block) -> Iterator[tuple[bytes, int]]:
    """(a JPEG file's bytes, its class) of every record, in order.

    Raises: ValueError in one line that names file and record if a checksum is wrong or an Example is another one.
    """
    where = str(block.file) if not block.first else f"{block.file}, from byte {block.first} on"
    with block.file.open("rb") as stream:
        stream.seek(block.first)
        for number, payload in enumerate(islice(read_records(stream, where), block.records)):
            one = f"{where}: record {number}"
            features = parse_example(payload, one, (_IMAGE, _CLASS))
            image, label = features.get(_IMAGE), features.get(_CLASS)
            if not isinstance(image, list) or len(image) != 1:
                raise ValueError(f"{one} has not one {_IMAGE}: {_AGAIN}")
            if not isinstance(label, np.ndarray) or label.dtype != np.int64 or label.shape != (1,):
                raise ValueError(f"{one} has not one {_CLASS} that is a whole number: {_AGAIN}")
            yield image[0], int(label[0])


def _beginnings(file: Path) -> list[int]:
    """The byte that each record begins at."""
    beginnings: list[int] = []
    position, size = 0, file.stat().st_size
    with file.open("rb") as stream:
        while position < size:
            stream.seek(position)
            header = stream.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise ValueError(f"{file}: the file ends at byte {size} within a record: {_AGAIN}")
            length, checksum = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != checksum:
                raise ValueError(f"{file}: no TFRecord at byte {position}, or it is damaged: {_AGAIN}")
            beginnings.append(position)
            position += _HEADER.size + length + _FOOTER_BYTES
    if position > size:
        raise ValueError(f"{file}: the file ends at byte {size} within a record: {_AGAIN}")
    return beginnings

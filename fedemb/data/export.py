"""A prepared store as one Parquet or Arrow file, one row an image, in the columns that Hugging Face's tools expect.

Columns: user (string), label (int64), class_name (string or null), image (struct of bytes and path, the image as a
file: PNG where the store keeps pixels). A user without images has no row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedemb.core.files import sync
from fedemb.data.formats.arrow import arrow_errors, pyarrow_for
from fedemb.data.pictures import encoded, from_pixels, kind_of
from fedemb.data.store import StoreUsers

GROUP_BYTES = 1 << 23

_READ_SIZE = (1, 1)  # images are not decoded here: any size opens a store whose images differ
_CHANNELS = (1, 3)
_PARQUET, _ARROW = (".parquet",), (".arrow", ".feather")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written. users: with at least one image. notice: the terms that the images come under.

    users_without_images: users of the store that are not in the file, where a row is an image.
    """

    file: Path
    users: int
    images: int
    users_without_images: int
    licence: str
    notice: str
    redistributable: bool


def export_store(path: Path, split: str, file: Path, *, group_bytes: int = GROUP_BYTES) -> Exported:
    """Write one split of a store, user by user in the store's order; a file that is there is replaced at the end.

    Memory holds one user and one row group. The file's metadata has the store's description, licence and notice under
    "fedemb", and the columns' kinds under "huggingface".

    Args: path: the folder that was prepared. file: ends in .parquet, or in .arrow or .feather for an Arrow IPC file.
        group_bytes: of images after which a row group is written.
    Raises: ValueError in one line if the store is missing or damaged, the file's name ends otherwise or it cannot be
        written, or pyarrow is not installed.
    """
    if file.suffix.lower() not in (*_PARQUET, *_ARROW):
        raise ValueError(f"cannot tell the format of {file}: name it NAME.parquet, or NAME.arrow")
    pyarrow = pyarrow_for(file)
    users = StoreUsers(path=path, split=split, size=_READ_SIZE)
    info = users.manifest.info
    if info.image_shape[0] not in _CHANNELS:
        raise ValueError(f"cannot export {path / split}: images of {info.image_shape[0]} channels are no image files")
    empty = 0
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with arrow_errors(f"cannot write {file}"):
            file.parent.mkdir(parents=True, exist_ok=True)
            schema = _schema(pyarrow, users)
            with _writer(pyarrow, partial, file.suffix.lower(), schema) as writer:

                def write(group: list[dict[str, Any]]) -> None:
                    writer.write_batch(pyarrow.RecordBatch.from_pylist(group, schema=schema))

                rows = _Rows(write, group_bytes)
                for user in range(users.num_users):
                    empty += users.num_examples(user) == 0
                    rows.add(_user_rows(users, user))
                rows.flush()
            sync(partial)
            os.replace(partial, file)
            sync(file.parent)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(
        file=file,
        users=users.num_users - empty,
        images=users.num_examples_total,
        users_without_images=empty,
        licence=info.licence,
        notice=info.notice,
        redistributable=info.redistributable,
    )


class _Rows:
    """Rows on their way into a file, a row group at a time."""

    def __init__(self, write: Callable[[list[dict[str, Any]]], None], group_bytes: int) -> None:
        self._write, self._group_bytes = write, group_bytes
        self._waiting: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, rows: Iterator[dict[str, Any]]) -> None:
        """Some rows more."""
        for row in rows:
            self._waiting.append(row)
            self._bytes += len(row["image"]["bytes"])
            if self._bytes >= self._group_bytes:
                self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._write(self._waiting)
        self._waiting, self._bytes = [], 0


def _user_rows(users: StoreUsers, user: int) -> Iterator[dict[str, Any]]:
    """A user's images in their order."""
    user_id, raw = users.user_id(user), users.manifest.info.codec == "raw"
    for place, (label, stored) in enumerate(zip(users.labels(user).tolist(), users.stored(user), strict=True)):
        image = _png(users, stored) if raw else stored
        kind = kind_of(image)
        yield {
            "user": user_id,
            "label": label,
            "class_name": users.class_name(label),
            "image": {"bytes": image, "path": f"{user:08d}-{place:05d}.{'jpg' if kind == 'jpeg' else kind}"},
        }


def _png(users: StoreUsers, stored: bytes) -> bytes:
    """Pixels as a file, nothing lost."""
    shape = users.manifest.info.image_shape
    return encoded(from_pixels(np.frombuffer(stored, np.uint8).reshape(shape)), "png")  # type: ignore[arg-type]


def _schema(pyarrow: Any, users: StoreUsers) -> Any:
    """The columns and what the file says about itself."""
    info = users.manifest.info
    names = [users.class_name(label) for label in range(info.classes)] if info.label == "class" else [None]
    label = {"dtype": "int64", "_type": "Value"} if None in names else {"names": names, "_type": "ClassLabel"}
    text = {"dtype": "string", "_type": "Value"}
    features = {"user": text, "label": label, "class_name": text, "image": {"_type": "Image"}}
    about = {**asdict(info), "users": users.num_users, "checksum": users.checksum}
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = [
        ("user", pyarrow.string()),
        ("label", pyarrow.int64()),
        ("class_name", pyarrow.string()),
        ("image", image),
    ]
    metadata = {
        "fedemb": json.dumps(about, ensure_ascii=False, sort_keys=True),
        "huggingface": json.dumps({"info": {"features": features}}, ensure_ascii=False),
    }
    return pyarrow.schema(columns, metadata=metadata)


@contextmanager
def _writer(pyarrow: Any, file: Path, kind: str, schema: Any) -> Iterator[Any]:
    """A writer of record batches. Images are compressed already: only Parquet's other columns are."""
    with pyarrow.OSFile(str(file), "wb") as out:
        if kind in _PARQUET:
            compression = {"user": "zstd", "label": "zstd", "class_name": "zstd", "image.bytes": "none"}
            columns = {"compression": compression, "use_dictionary": ["user"], "write_statistics": ["user", "label"]}
            with pyarrow.parquet.ParquetWriter(out, schema, **columns) as writer:
                yield writer
        else:
            with pyarrow.ipc.new_file(out, schema) as writer:
                yield writer

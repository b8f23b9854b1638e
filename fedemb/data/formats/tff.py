"""The containers of TensorFlow Federated's data sets: SQLite files packed with LZMA, and HDF5 files before 2021.

Sources: tensorflow_federated/python/simulation/datasets/{sql_client_data,hdf5_client_data,emnist}.py.
"""

from __future__ import annotations

import lzma
import sqlite3
from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fedemb.data.formats.tfrecord import Feature, parse_example
from fedemb.data.spool import Spool, spooling

_SQLITE = b"SQLite format 3\0"
_PIECE = 1 << 20  # bytes unpacked at once
_METADATA = "SELECT split_name, client_id, num_examples FROM client_metadata"
_OWNERS = "SELECT split_name, client_id, rowid FROM examples"
_EXAMPLE = "SELECT serialized_example_proto FROM examples WHERE rowid = ?"
_AGAIN = "copy or download the file again"


@contextmanager
def unpacked(path: Path, folder: Path) -> Iterator[Path]:
    """`with unpacked(file, folder) as sqlite:` the SQLite file, unpacked into `folder` for the time being.

    path: NAME.sqlite.lzma (.lzma or .xz inside), or a plain SQLite file, which is given back as it is.
    folder: for the temporary file, which is removed at the end, also after an error; made if need be.
    Raises: ValueError in one line if the file is neither, or is cut or damaged, the folder cannot be written to, or
        another process unpacks the same file there.
    """
    with path.open("rb") as file:
        plain = file.read(len(_SQLITE)) == _SQLITE
    if plain:
        yield path
        return
    with spooling(folder, path) as spool:
        _unpack(path, spool)
        yield spool.path


class ClientTable:
    """Clients and their Examples in one of TFF's SQLite files, which is only ever read.

    Tables examples(split_name, client_id, serialized_example_proto) and
    client_metadata(client_id, split_name, num_examples).
    The first call of `examples` lists which row belongs to whom, 8 bytes a row: from the index, as the published files
    have one, else by one pass over the file; so a file without an index need not be changed. Each call opens the file
    for itself: an instance can be pickled, forked, and used by several threads.
    """

    def __init__(self, path: Path) -> None:
        """Raises ValueError in one line if the file has no such tables."""
        self._path = path
        self._sizes: dict[str, dict[str, int]] = {}  # split -> client -> examples
        with self._database() as database:
            for split, client, size in database.execute(_METADATA):
                if not isinstance(split, str) or not isinstance(client, str) or not isinstance(size, int) or size < 0:
                    raise ValueError(f"{path}: client_metadata holds {(split, client, size)}; {_AGAIN}")
                if self._sizes.setdefault(split, {}).setdefault(client, size) != size:
                    raise ValueError(f"{path}: client_metadata has client {client!r} of {split} twice; {_AGAIN}")

    def splits(self) -> list[str]:
        """Sorted."""
        return sorted(self._sizes)

    def clients(self, split: str) -> list[str]:
        """Sorted. Raises ValueError if there is no such split."""
        if split not in self._sizes:
            raise ValueError(f"{self._path} has no split {split!r}; it has {', '.join(self.splits())}")
        return sorted(self._sizes[split])

    def num_examples(self, client: str, split: str) -> int:
        """As client_metadata says; `examples` checks it. Raises ValueError if the split has no such client."""
        size = self._sizes.get(split, {}).get(client)
        if size is None:
            raise ValueError(f"{self._path} has no client {client!r} in split {split!r}")
        return size

    def examples(self, client: str, split: str, names: Collection[str] | None = None) -> Iterator[dict[str, Feature]]:
        """One client's Examples in the order of the rows, each as `parse_example` gives it; names: the features wanted.

        Raises: ValueError in one line if the split has no such client, an Example cannot be read, or the file holds
            other numbers of examples than client_metadata says.
        """
        self.num_examples(client, split)
        with self._database() as database:
            for row in self._rows[split, client]:
                found = database.execute(_EXAMPLE, (row,)).fetchone()
                if found is None or not isinstance(found[0], bytes):
                    raise ValueError(f"{self._path}: row {row} of examples holds no bytes; {_AGAIN}")
                yield parse_example(found[0], f"{self._path}: client {client!r} of {split}, row {row}", names)

    @cached_property
    def _rows(self) -> dict[tuple[str, str], Sequence[int]]:
        """(split, client) -> row ids in ascending order."""
        sizes = {(split, client): size for split, clients in self._sizes.items() for client, size in clients.items()}
        rows = {key: array("q") for key in sizes}
        with self._database() as database:
            for split, client, row in database.execute(_OWNERS):
                if (split, client) not in rows or row is None:
                    raise ValueError(f"{self._path}: client_metadata lacks client {client!r} of {split}; {_AGAIN}")
                rows[split, client].append(row)
        for (split, client), size in sizes.items():
            if len(rows[split, client]) != size:
                raise ValueError(
                    f"{self._path}: client {client!r} of {split} has {len(rows[split, client])} examples, "
                    f"client_metadata says {size}; {_AGAIN}"
                )
        return {key: array("q", sorted(found)) for key, found in rows.items()}

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                yield database
        except sqlite3.Error as error:
            raise ValueError(f"cannot read {self._path} as a TFF data set: {error}; {_AGAIN}") from None


class H5Clients:
    """Clients and their arrays in one of TFF's HDF5 files: examples/<client>/<name>, e.g. pixels and label.

    Each call opens the file for itself: an instance can be pickled and forked.
    """

    def __init__(self, path: Path) -> None:
        """Raises ValueError in one line if h5py is missing or the file has no group "examples"."""
        self._path = path
        with _h5(path) as file:
            self._clients = sorted(file["examples"].keys())

    def clients(self) -> list[str]:
        """Sorted."""
        return list(self._clients)

    def labels(self, client: str) -> np.ndarray:
        """[n] int64, from the member "label". Raises ValueError if there is none."""
        with _h5(self._path) as file:
            labels = _read(file["examples"][client], "label", self._path)
        if labels.ndim != 1 or not np.can_cast(labels.dtype, np.int64):
            raise ValueError(f"{self._path}: labels of client {client!r} are {labels.dtype} {list(labels.shape)}")
        return labels.astype(np.int64)

    def arrays(self, client: str) -> dict[str, np.ndarray]:
        """name -> [n, ...] of the type as stored, n the same for all. Raises ValueError if that is not so."""
        with _h5(self._path) as file:
            group = file["examples"][client]
            arrays = {name: _read(group, name, self._path) for name in group}
        if len({array.shape[:1] for array in arrays.values()}) > 1:
            shapes = {name: array.shape for name, array in arrays.items()}
            raise ValueError(f"{self._path}: arrays of client {client!r} differ in length: {shapes}; {_AGAIN}")
        return arrays


@contextmanager
def _h5(path: Path) -> Iterator[Any]:
    """The open file; whatever HDF5 finds wrong names it."""
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(f"reading {path} needs h5py: pip install 'fedemb[h5]'") from None
    path.open("rb").close()  # a missing file in Python's words
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("examples"), h5py.Group):
                raise ValueError(f"{path} has no group 'examples': is it a TFF data set?")
            yield file
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"cannot read {path} as a TFF data set: {' '.join(str(error).split())}; {_AGAIN}") from None


def _read(group: Any, name: str, path: Path) -> np.ndarray:
    """One numeric member of a client's group."""
    member = group[name]
    dtype = getattr(member, "dtype", None)
    if dtype is None or dtype.kind not in "biuf":
        raise ValueError(f"{path}: {member.name} is no array of numbers")
    return np.asarray(member[()])


def _unpack(path: Path, spool: Spool) -> None:
    try:
        with lzma.open(path) as packed:
            spool.write(iter(partial(packed.read, _PIECE), b""))
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path} is no whole LZMA or SQLite file: {error}; {_AGAIN}") from None
    with spool.path.open("rb") as file:
        if file.read(len(_SQLITE)) != _SQLITE:
            raise ValueError(f"{path} holds no SQLite file: is it a TFF data set?")

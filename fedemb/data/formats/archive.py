"""Folders, zip files and tar files as one thing: members with names, read at random, never unpacked to a tree.

A compressed tar can only be read from its start, so the members that are wanted are spooled to one temporary file.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath

from fedemb.core.files import sha256
from fedemb.data.manifest import Source

MAX_MEMBER_BYTES = 1 << 28
_CHUNK = 1 << 20
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

Wanted = Callable[[str], bool]
"""Is a member of this name needed?"""


class Archive(ABC):
    """Named files in a container. May be pickled, and shared by threads; a copy opens its own files when it reads."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """Where it is."""

    @abstractmethod
    def names(self) -> Sequence[str]:
        """The wanted members, folders between slashes, sorted."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A member's content.

        Raises: ValueError in one line if it is missing, damaged or larger than MAX_MEMBER_BYTES.
        """

    @abstractmethod
    def source(self) -> Source:
        """The container's name and digest."""


@contextmanager
def open_archive(path: Path, *, scratch: Path, wanted: Wanted = bool) -> Iterator[Archive]:
    """A folder, a .zip, a .tar or a compressed tar for reading.

    Args: scratch: folder for the temporary file that a compressed tar needs; removed at the end. wanted: leaves out
        members by name.
    Raises: ValueError in one line if it is missing, damaged or no archive, or holds a name that leaves the archive.
    """
    if path.is_dir():
        yield FolderArchive(path, wanted)
    elif path.name.lower().endswith(".zip"):
        yield ZipArchive(path, wanted)
    elif path.name.lower().endswith(_TAR_SUFFIXES):
        with _opened_tar(path, scratch, wanted) as archive:
            yield archive
    elif path.exists():
        raise ValueError(f"{path} is no folder, .zip or .tar: pass the file as it was published")
    else:
        raise ValueError(f"no file {path}")


@contextmanager
def open_archives(paths: Sequence[Path], *, scratch: Path, wanted: Wanted = bool) -> Iterator[Archive]:
    """Several archives as one; a name in two of them is refused."""
    with ExitStack() as stack:
        opened = [stack.enter_context(open_archive(path, scratch=scratch, wanted=wanted)) for path in paths]
        yield opened[0] if len(opened) == 1 else JoinedArchives(opened)


class FolderArchive(Archive):
    """The files under a folder; links to folders are not followed."""

    def __init__(self, path: Path, wanted: Wanted = bool) -> None:
        found = (
            Path(folder, file).relative_to(path).as_posix() for folder, _, files in os.walk(path) for file in files
        )
        self._path, self._names = path, sorted(filter(wanted, found))

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    def names(self) -> Sequence[str]:
        """Paths below the folder."""
        return self._names

    def read(self, name: str) -> bytes:
        """A file's content."""
        file = self._path / name
        try:
            _check_size(file.stat().st_size, f"{file}")
            return file.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read {file} ({error.strerror})") from None

    def source(self) -> Source:
        """A digest over names and sizes."""
        digest = hashlib.sha256()
        for name in self._names:
            digest.update(f"{name}\0{(self._path / name).stat().st_size}\0".encode())
        return Source(file=f"{self._path.name}/", sha256=digest.hexdigest())


class ZipArchive(Archive):
    """The members of a zip file."""

    def __init__(self, path: Path, wanted: Wanted = bool) -> None:
        self._path, self._threads = path, threading.local()
        with damaged(path):
            names = [member.filename for member in self._zip.infolist() if not member.is_dir()]
        check_names(path, names)
        self._names: Sequence[str] = sorted(filter(wanted, names))
        if len(set(self._names)) < len(self._names):
            raise ValueError(f"{path} holds a member twice: {_first_double(self._names)}")

    def __getstate__(self) -> tuple[Path, Sequence[str]]:
        return self._path, self._names

    def __setstate__(self, state: tuple[Path, Sequence[str]]) -> None:
        (self._path, self._names), self._threads = state, threading.local()

    @property
    def path(self) -> Path:
        """The zip file."""
        return self._path

    def names(self) -> Sequence[str]:
        """Members that are files."""
        return self._names

    def read(self, name: str) -> bytes:
        """A member, unpacked in memory; its CRC is checked."""
        with damaged(self._path, name):
            _check_size(self._zip.getinfo(name).file_size, f"{self._path}: {name}")
            return self._zip.read(name)

    def source(self) -> Source:
        """The file's digest."""
        return Source(file=self._path.name, sha256=sha256(self._path))

    @property
    def _zip(self) -> zipfile.ZipFile:
        """The calling thread's own handle; a fork opens its own."""
        if getattr(self._threads, "process", None) != os.getpid():
            self._threads.process, self._threads.zip = os.getpid(), zipfile.ZipFile(self._path)
        opened: zipfile.ZipFile = self._threads.zip
        return opened


class SliceArchive(Archive):
    """Members that lie in one file, uncompressed, each at its own place: a tar, or what was spooled from one."""

    def __init__(self, path: Path, file: Path, places: Mapping[str, tuple[int, int]]) -> None:
        """path: the archive. file: where the bytes are. places: name -> (first byte, length)."""
        self._path, self._file, self._places = path, file, dict(places)

    @property
    def path(self) -> Path:
        """The archive."""
        return self._path

    def names(self) -> Sequence[str]:
        """Members that are files."""
        return sorted(self._places)

    def read(self, name: str) -> bytes:
        """A member's bytes."""
        if name not in self._places:
            raise ValueError(f"{self._path} holds no {name}")
        first, length = self._places[name]
        _check_size(length, f"{self._path}: {name}")
        with damaged(self._path, name), self._file.open("rb") as file:
            file.seek(first)
            data = file.read(length)
            if len(data) < length:
                raise EOFError("the archive ends before the member does")
            return data

    def source(self) -> Source:
        """The archive's digest."""
        return Source(file=self._path.name, sha256=sha256(self._path))


class JoinedArchives(Archive):
    """Several archives with different members."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        """Raises ValueError if a name is in two of them."""
        self._archives = list(archives)
        self._holder: dict[str, int] = {}
        for number, archive in enumerate(archives):
            for name in archive.names():
                if (other := self._holder.setdefault(name, number)) != number:
                    raise ValueError(
                        f"{name} is in {self._archives[other].path} and in {archive.path}: pass one of them"
                    )

    @property
    def path(self) -> Path:
        """The folder of the first."""
        return self._archives[0].path.parent

    def names(self) -> Sequence[str]:
        """All members."""
        return sorted(self._holder)

    def read(self, name: str) -> bytes:
        """A member of whichever archive holds it."""
        if name not in self._holder:
            raise ValueError(f"{self.path} holds no {name}")
        return self._archives[self._holder[name]].read(name)

    def source(self) -> Source:
        """A digest over the archives' digests."""
        parts = [archive.source() for archive in self._archives]
        joined = "".join(f"{part.file}\0{part.sha256}\0" for part in parts)
        return Source(file=" + ".join(part.file for part in parts), sha256=hashlib.sha256(joined.encode()).hexdigest())


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise ValueError for a name that would leave the archive's own folder."""
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or (parts and parts[0].endswith(":")):
            raise ValueError(
                f"{path} holds {name!r}, a name that leaves the archive: do not use this file, get another"
            )


@contextmanager
def damaged(path: Path, member: str = "") -> Iterator[None]:
    """What readers of archives raise on broken files, in one line."""
    broken = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, KeyError, NotImplementedError)
    try:
        yield
    except (*broken, RuntimeError, UnicodeDecodeError) as error:
        what = f" {member} in" if member else ""
        raise ValueError(f"cannot read{what} {path} ({error}): get the file again") from None


@contextmanager
def _opened_tar(path: Path, scratch: Path, wanted: Wanted) -> Iterator[Archive]:
    if path.name.lower().endswith(".tar"):
        yield _indexed(path, wanted)
        return
    spool = scratch / f".{path.name}.spool.partial"
    try:
        yield _spooled(path, spool, wanted)
    finally:
        spool.unlink(missing_ok=True)


def _indexed(path: Path, wanted: Wanted) -> Archive:
    """A plain tar is its own spool."""
    with damaged(path), tarfile.open(path, "r:") as tar:
        return SliceArchive(path, path, {m.name: (m.offset_data, m.size) for m in _members(path, tar, wanted)})


def _spooled(path: Path, spool: Path, wanted: Wanted) -> Archive:
    """One pass over a compressed tar."""
    places: dict[str, tuple[int, int]] = {}
    spool.parent.mkdir(parents=True, exist_ok=True)
    with damaged(path), tarfile.open(path, "r|*") as tar, spool.open("wb") as out:
        for member in _members(path, tar, wanted):
            content = tar.extractfile(member)
            assert content is not None
            places[member.name] = out.tell(), member.size
            while chunk := content.read(_CHUNK):
                out.write(chunk)
            if out.tell() != sum(places[member.name]):
                raise EOFError(f"{member.name} is cut off")
    return SliceArchive(path, spool, places)


def _members(path: Path, tar: tarfile.TarFile, wanted: Wanted) -> Iterator[tarfile.TarInfo]:
    """The wanted regular files, in the order of the tar, without keeping them all."""
    seen: set[str] = set()
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]
        member.name = member.name.removeprefix("./")
        if not member.isfile() or not wanted(member.name):
            continue
        check_names(path, [member.name])
        if member.name in seen:
            raise ValueError(f"{path} holds a member twice: {member.name}")
        seen.add(member.name)
        yield member


def _check_size(size: int, where: str) -> None:
    if size > MAX_MEMBER_BYTES:
        raise ValueError(f"{where} has {size} bytes, more than the {MAX_MEMBER_BYTES} that an image may have")


def _first_double(names: Sequence[str]) -> str:
    return next(name for name, other in pairwise(names) if name == other)

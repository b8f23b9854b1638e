"""Folders, zip files and tar files as one thing: members with names, read at random, never unpacked to a tree."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from fedemb.core.files import sha256
from fedemb.core.workers import Workers
from fedemb.data.formats import tar
from fedemb.data.formats.members import MAX_MEMBER_BYTES as MAX_MEMBER_BYTES
from fedemb.data.formats.members import Wanted, check_names, check_once, check_size, check_text, damaged
from fedemb.data.manifest import Source

_ENCRYPTED = 1  # bit of a zip member's flags
_FILES_AT_ONCE = 256  # whose digests a thread makes


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
    def size(self, name: str) -> int:
        """How many bytes `read` gives. Raises: ValueError in one line if there is no such member."""

    @abstractmethod
    def source(self) -> Source:
        """The container's name and a digest of all its bytes, or of all that is read from it."""


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
    elif path.name.lower().endswith(tar.SUFFIXES):
        if not path.exists():
            raise ValueError(f"no file {path}: pass a folder, .zip or .tar that is there")
        with tar.opened_tar(path, scratch, wanted) as (file, places):
            yield SliceArchive(path, file, places)
    elif path.exists():
        raise ValueError(f"{path} is no folder, .zip or .tar: pass the file as it was published")
    else:
        raise ValueError(f"no file {path}: pass a folder, .zip or .tar that is there")


@contextmanager
def open_archives(paths: Sequence[Path], *, scratch: Path, wanted: Wanted = bool) -> Iterator[Archive]:
    """Several archives as one; a name in two of them is refused."""
    with ExitStack() as stack:
        opened = [stack.enter_context(open_archive(path, scratch=scratch, wanted=wanted)) for path in paths]
        yield opened[0] if len(opened) == 1 else JoinedArchives(opened)


class FolderArchive(Archive):
    """The files under a folder; links to files are followed, links to folders are not."""

    def __init__(self, path: Path, wanted: Wanted = bool) -> None:
        found = (
            Path(folder, file).relative_to(path).as_posix()
            for folder, _, files in os.walk(path, onerror=_raise)
            for file in files
        )
        self._path, self._names = path, sorted(filter(wanted, found))
        for name in self._names:
            check_text(path, name)

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
        check_size(self.size(name), f"{file}")
        try:
            return file.read_bytes()
        except OSError as error:
            _raise(error)

    def size(self, name: str) -> int:
        """A file's size."""
        try:
            return (self._path / name).stat().st_size
        except OSError as error:
            _raise(error)

    def source(self) -> Source:
        """A digest over the wanted files' names and contents; reads each of them once, by a thread on each core."""
        digest = hashlib.sha256()
        some = [self._names[first : first + _FILES_AT_ONCE] for first in range(0, len(self._names), _FILES_AT_ONCE)]
        with Workers.threads(self._digests, os.cpu_count() or 1) as workers:
            for told in workers.map(some):
                digest.update(told)
        return Source(file=f"{self._path.name}/", sha256=digest.hexdigest())

    def _digests(self, names: Sequence[str]) -> bytes:
        """Names and digests of some files."""
        return "".join(f"{name}\0{hashlib.sha256(self.read(name)).hexdigest()}\0" for name in names).encode()


class ZipArchive(Archive):
    """The members of a zip file."""

    def __init__(self, path: Path, wanted: Wanted = bool) -> None:
        self._path, self._threads = path, threading.local()
        with damaged(path):
            files = {member.filename: member for member in self._zip.infolist() if _is_file(member)}
            names = [member.filename for member in self._zip.infolist() if _is_file(member)]
        check_names(path, names)
        self._names: Sequence[str] = sorted(filter(wanted, names))
        check_once(path, self._names)
        for name in self._names:
            if files[name].flag_bits & _ENCRYPTED:
                raise ValueError(f"{path}: {name} is encrypted: unpack it with its password and pass the folder")

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
            check_size(self.size(name), f"{self._path}: {name}")
            return self._zip.read(name)

    def size(self, name: str) -> int:
        """A member's size, unpacked."""
        with damaged(self._path, name):
            return self._zip.getinfo(name).file_size

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
        self._path, self._file, self._places, self._names = path, file, dict(places), sorted(places)

    @property
    def path(self) -> Path:
        """The archive."""
        return self._path

    def names(self) -> Sequence[str]:
        """Members that are files."""
        return self._names

    def read(self, name: str) -> bytes:
        """A member's bytes."""
        first, length = self._place(name)
        check_size(length, f"{self._path}: {name}")
        with damaged(self._path, name), self._file.open("rb") as file:
            file.seek(first)
            data = file.read(length)
            if len(data) < length:
                raise EOFError(f"{self._file} ends before the member does")
            return data

    def size(self, name: str) -> int:
        """A member's length."""
        return self._place(name)[1]

    def source(self) -> Source:
        """The archive's digest."""
        return Source(file=self._path.name, sha256=sha256(self._path))

    def _place(self, name: str) -> tuple[int, int]:
        """(first byte, length)."""
        if name not in self._places:
            raise ValueError(f"{self._path} holds no {name}")
        return self._places[name]


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
        self._names = sorted(self._holder)

    @property
    def path(self) -> Path:
        """The folder of the first."""
        return self._archives[0].path.parent

    def names(self) -> Sequence[str]:
        """All members."""
        return self._names

    def read(self, name: str) -> bytes:
        """A member of whichever archive holds it."""
        return self._holding(name).read(name)

    def size(self, name: str) -> int:
        """As whichever archive holds it says."""
        return self._holding(name).size(name)

    def source(self) -> Source:
        """A digest over the archives' digests."""
        parts = [archive.source() for archive in self._archives]
        joined = "".join(f"{part.file}\0{part.sha256}\0" for part in parts)
        return Source(file=" + ".join(part.file for part in parts), sha256=hashlib.sha256(joined.encode()).hexdigest())

    def _holding(self, name: str) -> Archive:
        if name not in self._holder:
            raise ValueError(f"{self.path} holds no {name}")
        return self._archives[self._holder[name]]


def _is_file(member: zipfile.ZipInfo) -> bool:
    """Neither a folder nor a symbolic link."""
    return not member.is_dir() and not stat.S_ISLNK(member.external_attr >> 16)


def _raise(error: OSError) -> NoReturn:
    raise ValueError(f"cannot read {error.filename} ({error.strerror})") from None

"""Archives of all kinds give the same names and bytes; what is unsafe, damaged or too large is refused in one line."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fedemb.data.formats import members
from fedemb.data.formats.archive import open_archive, open_archives

NOISE = np.random.default_rng(0).bytes(30_000)
FILES = {
    "a/1.png": b"one",
    "a/10.png": NOISE[:512],
    "a/2, with a comma.png": b"",
    "b c/ünïcode – ж.png": NOISE[:10_000],
    "b c/deep/er/x.jpg": NOISE,
    "readme.txt": b"read me",
}
KINDS = ["folder", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]
MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def pack(path, kind, files, **options):
    """An archive of a kind at path + kind, with its members in reverse order, and folders between."""
    if kind == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path
    packed = path.with_name(path.name + kind)
    if kind == ".zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("a/", b"")
            for name in reversed(files):
                opened.writestr(name, files[name])
    else:
        with tarfile.open(packed, MODES[kind], **options) as opened:
            add(opened, "./a", type=tarfile.DIRTYPE)
            for name in reversed(files):
                add(opened, f"./{name}", files[name])
    return packed


def add(opened, name, content=b"", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    opened.addfile(member, io.BytesIO(content))


def refusal(path, tmp_path, read=None, **options):
    def read_all():
        with open_archive(path, scratch=tmp_path / "scratch", **options) as archive:
            for name in [read] if read else archive.names():
                archive.read(name)

    with pytest.raises(ValueError) as caught:
        read_all()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("scratch/.*"))
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_names_and_bytes(tmp_path, kind):
    path, scratch = pack(tmp_path / "published", kind, FILES), tmp_path / "scratch"
    with open_archive(path, scratch=scratch) as archive:
        assert archive.path == path
        assert list(archive.names()) == sorted(FILES)
        assert {name: archive.read(name) for name in archive.names()} == FILES
        with pytest.raises(ValueError, match=r"missing\.png") as caught:
            archive.read("missing.png")
        assert "\n" not in str(caught.value)
    assert not scratch.exists() or not list(scratch.iterdir())
    assert sorted(file.name for file in tmp_path.iterdir() if file != scratch) == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_wanted_is_there(tmp_path, kind):
    path = pack(tmp_path / "published", kind, FILES)
    with open_archive(path, scratch=tmp_path, wanted=lambda name: name.endswith(".jpg")) as archive:
        assert list(archive.names()) == ["b c/deep/er/x.jpg"]
        assert archive.read("b c/deep/er/x.jpg") == NOISE


@pytest.mark.parametrize("kind", ["folder", ".zip", ".tar", ".tar.gz"])
def test_a_pickle_and_many_threads_read_the_same(tmp_path, kind):
    with open_archive(pack(tmp_path / "published", kind, FILES), scratch=tmp_path) as archive:
        for name in FILES:
            archive.read(name)
        again = pickle.loads(pickle.dumps(archive))
        assert again.source() == archive.source()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(again.read, [*FILES] * 20)) == [*FILES.values()] * 20


@pytest.mark.parametrize("kind", ["folder", ".zip", ".tar", ".tar.gz"])
def test_sizes_are_told_without_reading(tmp_path, kind):
    with open_archive(pack(tmp_path / "published", kind, FILES), scratch=tmp_path) as archive:
        assert {name: archive.size(name) for name in archive.names()} == {name: len(FILES[name]) for name in FILES}
        with pytest.raises(ValueError, match=r"published.*none.png|none.png.*published"):
            archive.size("none.png")


def test_the_digest_is_of_the_file_and_of_a_folders_names_and_contents(tmp_path):
    path = pack(tmp_path / "published", ".tar.gz", FILES)
    told = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    with open_archive(path, scratch=tmp_path) as archive:
        assert (archive.source().file, archive.source().sha256) == ("published.tar.gz", told)
    folders = [pack(tmp_path / name, "folder", FILES) for name in ("one/set", "two/set")]
    os.utime(folders[1] / "readme.txt", (0, 0))  # a copy
    sources = [open_archive(folder, scratch=tmp_path).__enter__().source() for folder in folders]
    assert sources[0] == sources[1]
    assert sources[0].file == "set/"
    (folders[1] / "readme.txt").write_bytes(b"READ ME")  # as many bytes
    assert open_archive(folders[1], scratch=tmp_path).__enter__().source() != sources[0]
    (folders[1] / "readme.txt").write_bytes(FILES["readme.txt"])
    (folders[1] / "readme.txt").rename(folders[1] / "README.txt")
    assert open_archive(folders[1], scratch=tmp_path).__enter__().source() != sources[0]
    (folders[1] / "README.txt").unlink()
    (folders[1] / "README.txt").symlink_to(tmp_path / "none")
    with pytest.raises(ValueError, match=r"cannot read .*README.txt \(No such file or directory\)"):
        open_archive(folders[1], scratch=tmp_path).__enter__().source()


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/x.png", "..\\x.png", "\\x.png", "C:/x.png", "c:x.png", "a\\..\\x.png"]
)
def test_names_that_leave_the_archive_are_refused(tmp_path, kind, name):
    """Whether they are wanted or not: such a file is not the published one."""
    told = refusal(
        pack(tmp_path / "bad", kind, {"a.png": b"", name: b"x"}), tmp_path, wanted=lambda name: name == "a.png"
    )
    assert "a name that leaves the archive: do not use this file" in told
    assert repr(name) in told


@pytest.mark.parametrize("kind", [".tar", ".tar.gz"])
def test_a_name_that_is_no_text_is_refused(tmp_path, kind):
    path = pack(tmp_path / "bad", kind, {"a\udce9.png": b""}, errors="surrogateescape", format=tarfile.GNU_FORMAT)
    assert r"'a\udce9.png', a name that is not UTF-8" in refusal(path, tmp_path)


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
def test_a_member_that_is_there_twice_is_refused(tmp_path, kind):
    path = tmp_path / f"twice{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr("a.png", b"1")
            with pytest.warns(UserWarning, match="Duplicate"):
                opened.writestr("a.png", b"2")
    else:
        with tarfile.open(path, MODES[kind]) as opened:
            add(opened, "a.png", b"1")
            add(opened, "./a.png", b"2")
    assert refusal(path, tmp_path) == f"{path} holds a member twice: a.png; pack it again with each file once"


@pytest.mark.parametrize("kind", [".tar", ".tar.gz"])
def test_links_and_devices_in_a_tar_are_no_members(tmp_path, kind):
    path = tmp_path / f"links{kind}"
    with tarfile.open(path, MODES[kind]) as opened:
        add(opened, "a.png", b"1")
        add(opened, "soft.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(opened, "hard.png", type=tarfile.LNKTYPE, linkname="a.png")
        add(opened, "pipe.png", type=tarfile.FIFOTYPE)
    with open_archive(path, scratch=tmp_path) as archive:
        assert list(archive.names()) == ["a.png"]


def test_links_in_a_zip_are_no_members(tmp_path):
    link = zipfile.ZipInfo("soft.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as opened:
        opened.writestr("a.png", b"1")
        opened.writestr(link, "/etc/passwd")
    with open_archive(tmp_path / "links.zip", scratch=tmp_path) as archive:
        assert list(archive.names()) == ["a.png"]


def test_a_folder_follows_links_to_files_alone(tmp_path):
    folder = pack(tmp_path / "set", "folder", {"a.png": b"1"})
    os.symlink(folder / "a.png", folder / "b.png")
    os.symlink(tmp_path, folder / "round")
    with open_archive(folder, scratch=tmp_path) as archive:
        assert list(archive.names()) == ["a.png", "b.png"]
        assert archive.read("b.png") == b"1"


def test_a_folder_may_have_any_name_that_is_text(tmp_path):
    """What would leave an archive that is unpacked elsewhere stays where it is."""
    names = ["C:x/1.png", "\\a/1.png", "a\\..\\b/1.png"]
    folder = pack(tmp_path / "set", "folder", {name: name.encode() for name in names})
    with open_archive(folder, scratch=tmp_path) as archive:
        assert [archive.read(name) for name in archive.names()] == [name.encode() for name in sorted(names)]


def test_a_folder_that_changes_is_noticed_when_it_matters(tmp_path):
    folder = pack(tmp_path / "set", "folder", FILES)
    with open_archive(folder, scratch=tmp_path) as archive:
        (folder / "a" / "1.png").unlink()
        (folder / "new.png").touch()
        assert "new.png" not in archive.names()
        for read in (lambda: archive.read("a/1.png"), archive.source):
            with pytest.raises(ValueError, match=rf"^cannot read {folder}/a/1.png \(No such file or directory\)$"):
                read()


@pytest.mark.parametrize("kind", [".zip", *MODES])
@pytest.mark.parametrize("keep", [0, 1, 3, 100, 0.5, 0.9, -1])
def test_what_is_cut_off_is_refused(tmp_path, kind, keep):
    """At any place: in a header, in a member, in the checksum of the compression; only a tar's padding may miss."""
    path = pack(tmp_path / "cut", kind, FILES)
    size = (
        path.stat().st_size
        if kind != ".tar"
        else 512 * (5 + 2 * 6) + sum(-(-len(c) // 512) * 512 for c in FILES.values())
    )
    os.truncate(path, int(keep * size) if 0 < keep < 1 else size + keep if keep < 0 else keep)
    if kind == ".tar" and keep == -1:
        return
    assert str(path) in refusal(path, tmp_path)


def test_a_tar_that_ends_between_two_members_is_refused(tmp_path):
    """tarfile takes that for the end of the archive."""
    path = pack(tmp_path / "cut", ".tar", {"a.png": b"1", "b.png": b"2"})
    os.truncate(path, 3 * 512)
    assert "cut off or damaged" in refusal(path, tmp_path)


@pytest.mark.parametrize("kind", [".tar", ".tar.gz"])
def test_a_damaged_header_is_no_end_of_the_archive(tmp_path, kind):
    plain = pack(tmp_path / "cut", ".tar", {"a.png": b"1", "b.png": b"2"})
    content = bytearray(plain.read_bytes())
    content[3 * 512 + 1] ^= 1  # in the name of the third member
    path = tmp_path / f"bad{kind}"
    if kind == ".tar":
        path.write_bytes(content)
    else:
        path.write_bytes(gzip.compress(bytes(content)))
    assert "cut off or damaged" in refusal(path, tmp_path)


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_changed_byte_is_noticed(tmp_path, kind):
    path = pack(tmp_path / "bad", kind, {"a.png": NOISE})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert str(path) in refusal(path, tmp_path)


def test_a_gzip_whose_last_checksum_is_wrong_is_noticed(tmp_path):
    path = pack(tmp_path / "bad", ".tar.gz", {"a.png": NOISE})
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    assert "CRC" in refusal(path, tmp_path)


def test_an_encrypted_zip_says_what_to_do(tmp_path):
    """The bit of encryption is set by hand, in both of the member's headers."""
    path = pack(tmp_path / "secret", ".zip", {"a.png": b"x"})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x03\x04") + 6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert refusal(path, tmp_path) == f"{path}: a.png is encrypted: unpack it with its password and pass the folder"


@pytest.mark.parametrize("kind", ["folder", ".zip", ".tar", ".tar.gz"])
def test_a_member_larger_than_an_image_may_be_is_refused_before_it_is_read(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(members, "MAX_MEMBER_BYTES", 20_000)
    path = pack(tmp_path / "bomb", kind, {"bomb.png": NOISE, "ok.png": NOISE[:20_000]})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "read", None)
        patched.setattr("pathlib.Path.read_bytes", None)
        assert "bomb.png has 30000 bytes, more than the 20000 that an image may have: make it smaller" in refusal(
            path, tmp_path, "bomb.png"
        )


def test_a_zip_that_lies_about_a_size_is_noticed(tmp_path):
    """10 MB of zeros that say they are 100 bytes: no more than these are unpacked, and the CRC does not match."""
    path = pack(tmp_path / "lie", ".zip", {"a.png": bytes(10_000_000)})
    content = path.read_bytes().replace(struct.pack("<I", 10_000_000), struct.pack("<I", 100))
    path.write_bytes(content)
    assert "Bad CRC-32" in refusal(path, tmp_path)


def test_a_sparse_member_is_refused(tmp_path):
    path = tmp_path / "sparse.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as opened:
        add(opened, "a.png", b"1", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000"})
    assert "a.png is a sparse file" in refusal(path, tmp_path)


def test_two_names_for_one_archive_and_no_archive_at_all(tmp_path):
    (tmp_path / "x.rar").touch()
    assert "is no folder, .zip or .tar" in refusal(tmp_path / "x.rar", tmp_path)
    for name in ("x", "x.zip", "x.tar", "x.tar.gz"):
        assert f"{tmp_path}/{name}" in refusal(tmp_path / name, tmp_path)
    (tmp_path / "html.zip").write_text("<html>")
    (tmp_path / "html.tar.gz").write_text("<html>" * 200)
    assert "get the file again" in refusal(tmp_path / "html.zip", tmp_path)
    assert "get the file again" in refusal(tmp_path / "html.tar.gz", tmp_path)


def test_a_misnamed_tar_is_read_by_what_it_is(tmp_path):
    path = pack(tmp_path / "set", ".tar.gz", FILES)
    with open_archive(path.rename(tmp_path / "set.tar"), scratch=tmp_path) as archive:
        assert archive.read("a/1.png") == b"one"


def test_the_spool_goes_also_after_a_failure_and_that_of_a_killed_run_is_overwritten(tmp_path):
    path, scratch = pack(tmp_path / "set", ".tar.gz", FILES), tmp_path / "scratch"
    spools = []

    def fail():
        with open_archive(path, scratch=scratch):
            spools.extend(scratch.iterdir())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not scratch.exists()
    scratch.mkdir()
    spools[0].write_bytes(bytes(10**6))
    with open_archive(path, scratch=scratch) as archive:
        assert {name: archive.read(name) for name in FILES} == FILES
    assert not list(scratch.iterdir())


def test_two_processes_do_not_share_a_spool(tmp_path):
    path, scratch = pack(tmp_path / "set", ".tar.gz", FILES), tmp_path / "scratch"
    with open_archive(path, scratch=scratch) as archive:
        with pytest.raises(ValueError, match=r"another fedemb prepare is unpacking .*set.tar.gz in .*: wait for it"):
            open_archive(path, scratch=scratch).__enter__()
        assert archive.read("a/1.png") == b"one"
    with open_archive(path, scratch=scratch):
        pass


def test_archives_of_one_name_do_not_share_a_spool(tmp_path):
    paths = [tmp_path / name / "images" for name in ("train", "test")]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        pack(path, ".tar.gz", {f"{number}.png": bytes([number])})
    with open_archives([path.with_name("images.tar.gz") for path in paths], scratch=tmp_path / "scratch") as archive:
        assert [archive.read(name) for name in archive.names()] == [b"\0", b"\1"]


FULL = """
import resource, signal, sys
from pathlib import Path
from fedemb.data.formats.archive import open_archive
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    open_archive(Path(sys.argv[1]), scratch=Path(sys.argv[2])).__enter__()
except ValueError as error:
    print(error)
"""


def test_a_disk_too_full_to_unpack_says_so(tmp_path):
    path = pack(tmp_path / "set", ".tar.gz", FILES)
    words = [sys.executable, "-c", FULL, str(path), str(tmp_path / "scratch")]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"cannot write {tmp_path}/scratch/.fedemb-")
    assert "(File too large): make room there, or pass another out=" in told
    assert not (tmp_path / "scratch").exists()


def test_several_archives_are_one(tmp_path):
    parts = [pack(tmp_path / "one", ".zip", {"a.png": b"1"}), pack(tmp_path / "two", ".tar.gz", {"b.png": b"2"})]
    with open_archives(parts, scratch=tmp_path) as archive:
        again = pickle.loads(pickle.dumps(archive))
        assert [again.size(name) for name in again.names()] == [1, 1]
        assert list(again.names()) == ["a.png", "b.png"]
        assert [again.read(name) for name in again.names()] == [b"1", b"2"]
        assert again.source().file == "one.zip + two.tar.gz"
        with pytest.raises(ValueError, match=f"{tmp_path} holds no c.png"):
            again.read("c.png")
    with (
        pytest.raises(ValueError, match=r"a.png is in .*one.zip and in .*three.zip: pass one of them"),
        open_archives([parts[0], pack(tmp_path / "three", ".zip", {"a.png": b"1"})], scratch=tmp_path),
    ):
        pass

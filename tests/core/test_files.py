"""Files that are whole or not there, digests, and locks that go with their process."""

import subprocess
import sys

import pytest

from fedemb.core.files import held, locked, sha256, write_atomically


def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a.json", "old")
    monkeypatch.setattr("fedemb.core.files.sync", lambda path: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"
    monkeypatch.undo()
    write_atomically(tmp_path / "a.json", "näw")
    assert (tmp_path / "a.json").read_bytes() == "näw".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_the_digest_is_sha_256(tmp_path):
    """FIPS 180-2, appendix B.1: the message "abc"."""
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_is_held_once_and_let_go_after_an_error(tmp_path):
    folder = tmp_path / "a" / "b"
    with locked(folder, "in use"), pytest.raises(ValueError, match=r"^in use$"), locked(folder, "in use"):
        pass
    with pytest.raises(KeyError), locked(folder, "in use"):
        raise KeyError
    with locked(folder, "in use"):
        (folder / "file").touch()
    assert [file.name for file in folder.iterdir()] == ["file"]


def test_a_folder_that_was_made_and_stays_empty_goes(tmp_path):
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "new" / "folder"):
        with pytest.raises(KeyError), locked(folder, "in use"):
            raise KeyError
    assert [file.name for file in tmp_path.rglob("*")] == ["there"]


def test_a_file_that_its_holder_removes_is_not_held_by_who_opened_it_before(tmp_path, monkeypatch):
    """Else a third one would make the file anew and hold it too."""
    monkeypatch.setattr("fcntl.flock", lambda handle, how: (tmp_path / "a").unlink())
    with pytest.raises(ValueError, match=r"^in use$"), held(tmp_path / "a", "in use"):
        pass
    monkeypatch.setattr("fcntl.flock", lambda handle, how: (tmp_path / "a").unlink() or (tmp_path / "a").touch())
    with pytest.raises(ValueError, match=r"^in use$"), held(tmp_path / "a", "in use"):
        pass


def test_a_lock_goes_with_its_process_and_the_file_keeps_its_content(tmp_path):
    (tmp_path / "a").write_text("content")
    hold = (
        "import sys, time; from pathlib import Path; from fedemb.core.files import held\n"
        "with held(Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="taken"), held(tmp_path / "a", "taken"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with held(tmp_path / "a", "taken"):
        assert (tmp_path / "a").read_text() == "content"


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), locked(tmp_path / "file" / "a", "in use"):
        pass

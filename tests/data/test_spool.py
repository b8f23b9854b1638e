"""Temporary files: theirs alone while they are used, gone afterwards, and messages that blame the right folder."""

import pytest
from full_disk import files_end_at

from fedemb.data.spool import clear_spools, read_spool, spooling


def test_pieces_are_read_where_they_were_written(tmp_path):
    scratch = tmp_path / "a" / "b"
    with spooling(scratch, tmp_path / "set.json") as spool:
        places = [spool.write(pieces) for pieces in ([b"one", b"", b"two"], [], iter([b"three"]))]
        assert places == [(0, 6), (6, 0), (6, 5)]
        assert [read_spool(spool.path, *place) for place in places] == [b"onetwo", b"", b"three"]
        assert [file.name for file in scratch.iterdir()] == [spool.path.name]
        assert spool.path.name.startswith(".fedemb-")
    assert not (tmp_path / "a").exists()


def test_a_folder_that_was_there_stays_and_so_does_one_with_something_in_it(tmp_path):
    for scratch in (tmp_path / "there", tmp_path / "new"):
        (tmp_path / "there").mkdir(exist_ok=True)
        with pytest.raises(KeyError), spooling(scratch, tmp_path / "set"):  # noqa: PT012
            (scratch / "train").mkdir(exist_ok=True)
            raise KeyError
        assert [file.name for file in scratch.iterdir()] == ["train"]
    (tmp_path / "there" / "train").rmdir()
    with spooling(tmp_path / "there", tmp_path / "set"):
        pass
    assert (tmp_path / "there").is_dir()


def test_a_spool_is_for_one_and_other_sources_and_parts_have_their_own(tmp_path):
    source, told = tmp_path / "set", "another fedemb prepare is unpacking {} in {}: wait for it, or pass another out="
    with spooling(tmp_path, source) as first, spooling(tmp_path, source, "test") as second:
        with spooling(tmp_path, tmp_path / "other" / "set") as third:
            assert len({first.path, second.path, third.path}) == 3
        first.write([b"first"])
        with pytest.raises(ValueError) as caught, spooling(tmp_path, source):
            pass
        assert str(caught.value) == told.format(source, tmp_path)
        assert first.path.read_bytes() == b"first"
        assert second.path.exists()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_goes_and_what_is_anyone_elses_stays(tmp_path):
    with spooling(tmp_path, tmp_path / "set") as spool:
        left = [tmp_path / ".fedemb-0123.spool.partial", tmp_path / ".fedemb-4567.spool.partial"]
        kept = [tmp_path / name for name in (".mine.partial", "fedemb-0.spool.partial", ".fedemb-0.spool.partial.bak")]
        for file in (*left, *kept):
            file.write_bytes(b"left")
        clear_spools(tmp_path)
        assert set(tmp_path.iterdir()) == {spool.path, *kept}
        left[0].touch()
        with spooling(tmp_path, tmp_path / "other"):
            assert not left[0].exists()
    clear_spools(tmp_path / "none")
    assert set(tmp_path.iterdir()) == set(kept)


def test_a_full_disk_is_the_folders_matter_and_not_the_sources(tmp_path):
    with (
        files_end_at(1000),
        pytest.raises(ValueError, match=rf"^cannot write {tmp_path}/out/.fedemb-.* \(File too large\): make") as caught,
        spooling(tmp_path / "out", tmp_path / "set") as spool,
    ):
        spool.write([bytes(600)] * 3)
    assert "pass another out= where you may write, and run the same command again" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_source_is_no_matter_of_the_folder(tmp_path):
    def pieces():
        yield b"one"
        raise OSError(5, "Input/output error", "set.zip")

    with pytest.raises(OSError, match=r"Input/output error: 'set.zip'"), spooling(tmp_path, tmp_path / "set") as spool:
        spool.write(pieces())


def test_a_place_that_is_no_folder_or_may_not_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ValueError, match=r"^cannot write .*/file/out \(Not a directory\): .*pass another out="),
        spooling(tmp_path / "file" / "out", tmp_path / "set"),
    ):
        pass

    def read_only(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", read_only)
    with (
        pytest.raises(ValueError, match=r"^cannot write .*/out \(Read-only file system\): .*pass another out="),
        spooling(tmp_path / "out", tmp_path / "set"),
    ):
        pass


def test_a_spool_that_ends_too_early_is_told(tmp_path):
    with spooling(tmp_path, tmp_path / "set") as spool:
        spool.write([bytes(10)])
        assert read_spool(spool.path, 4, 6) == bytes(6)
        with pytest.raises(ValueError) as caught:
            read_spool(spool.path, 4, 7)
    told = f"{spool.path} ends at byte 10, before 11: something cut this temporary file; run the same command again"
    assert str(caught.value) == told

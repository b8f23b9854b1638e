"""Images in Arrow and Parquet files: read where they lie, or spooled where they are packed."""

import pyarrow
import pyarrow.parquet
import pytest
from full_disk import files_end_at

from fedemb.data.formats.arrow_images import Columns, open_image_rows

COLUMNS = Columns(image="image", user="user", label="label")
IMAGES = [b"first", b"", b"the third", b"4"]


def write(file, **options):
    rows = pyarrow.table({"image": IMAGES, "user": ["a", "b", "a", "c"], "label": [3, 1, 3, 0]})
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(rows, file, row_group_size=3)
    else:
        with pyarrow.ipc.new_file(str(file), rows.schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as writer:
            writer.write_table(rows, max_chunksize=3)
    return file


@pytest.mark.parametrize(
    ("name", "options", "spooled"),
    [("a.arrow", {}, False), ("a.arrow", {"compression": "zstd"}, True), ("a.parquet", {}, True)],
)
def test_rows_and_their_images(tmp_path, name, options, spooled):
    scratch = tmp_path / "scratch"
    with open_image_rows(write(tmp_path / name, **options), COLUMNS, name="train/" + name, scratch=scratch) as rows:
        assert [rows.archive.read(image) for image in rows.names] == IMAGES
        assert (rows.users, rows.labels) == (["a", "b", "a", "c"], ["3", "1", "3", "0"])
        assert (rows.numbers, rows.order) == (True, None)
        assert rows.names[2] == f"train/{name}:000000002"
        assert scratch.exists() == spooled
    assert not scratch.exists() or not list(scratch.iterdir())


def test_the_temporary_file_goes_with_an_error_too(tmp_path):
    with pytest.raises(KeyError), open_image_rows(write(tmp_path / "a.parquet"), COLUMNS, name="a", scratch=tmp_path):  # noqa: PT012
        assert len(list(tmp_path.iterdir())) == 2
        raise KeyError
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["train-a.parquet", "a.parquet"])
def test_two_at_once_do_not_share_a_spool(tmp_path, name):
    file, scratch = write(tmp_path / "a.parquet"), tmp_path / "scratch"
    with open_image_rows(file, COLUMNS, name=name, scratch=scratch) as rows:
        with pytest.raises(ValueError, match=r"^another fedemb prepare is unpacking .*a.parquet in .*scratch: wait"):
            open_image_rows(file, COLUMNS, name="a.parquet", scratch=scratch).__enter__()
        assert [rows.archive.read(image) for image in rows.names] == IMAGES
        (tmp_path / "b").mkdir()
        with open_image_rows(write(tmp_path / "b" / "a.parquet"), COLUMNS, name=name, scratch=scratch) as others:
            assert others.archive.read(others.names[0]) == IMAGES[0]  # of another file's own


def test_a_full_disk_is_not_the_files_fault(tmp_path):
    rows = {"image": [bytes(5000)] * 3, "user": ["a"] * 3, "label": [0] * 3}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet", use_dictionary=False)
    told = r"^cannot write .*/scratch/.* \(File too large\): make room there, or pass another out="
    with files_end_at(9000), pytest.raises(ValueError, match=told):
        open_image_rows(tmp_path / "a.parquet", COLUMNS, name="a", scratch=tmp_path / "scratch").__enter__()


def test_offsets_that_lead_out_of_the_file_are_refused(tmp_path):
    """pyarrow does not look at them by itself."""
    file = write(tmp_path / "a.arrow")
    content = file.read_bytes()
    offsets = b"".join(end.to_bytes(4, "little") for end in (0, 5, 5, 14))
    assert content.count(offsets) == 1
    file.write_bytes(content.replace(offsets, b"".join(end.to_bytes(4, "little") for end in (0, 5, 5, 1 << 30))))
    with (
        pytest.raises(ValueError, match=r"cannot read .*a.arrow, copy or download it again") as caught,
        open_image_rows(file, COLUMNS, name="a", scratch=tmp_path),
    ):
        pass
    assert "\n" not in str(caught.value)

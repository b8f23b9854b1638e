"""CSV tables: strings as they were published, line numbers that a person can go to, and one line for what is wrong."""

import hashlib
import zipfile

import pytest

from fedemb.data.formats.tables import Table, open_table, read_rows, table_names
from fedemb.data.manifest import Source


def rows(content, *columns):
    table = Table(content=content, where="t.csv", source=Source(file="t.csv", sha256=""))
    return list(read_rows(table, columns or ("user_id", "class")))


def test_values_are_the_strings_of_the_named_columns_in_the_order_asked_for():
    content = b"user_id,image_id,class\n007,a1,05\n 8 ,b2,\n"
    assert rows(content, "class", "user_id") == [(2, ("05", "007")), (3, ("", " 8 "))]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_any_line_end_with_or_without_a_mark_of_byte_order(newline, start):
    text = start + newline.join(["user_id,class", '"Müller, Jörg ""J.""",3', "山田,4"])
    assert rows(text.encode()) == [(2, ('Müller, Jörg "J."', "3")), (3, ("山田", "4"))]


def test_lines_are_counted_as_an_editor_does():
    """A row is named by the line it begins in, past blank lines and line breaks inside quotes."""
    content = b'user_id,class\n\n"two\r\nlines",1\n\nx,2\n'
    assert rows(content) == [(3, ("two\r\nlines", "1")), (6, ("x", "2"))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"t.csv, line 1: no column user_id, it is empty: get"),
        (b"user,class\nx,1\n", r"t.csv, line 1: no column user_id, its columns are user, class: get the table as"),
        (b"user_id,class,class\nx,1,1\n", r"t.csv, line 1: 2 columns class"),
        (b"user_id,class\nx,1\ny,2,3\n", r"t.csv, line 3: 3 values under 2 column names: mend the line"),
        (b"user_id,class\nx\n", r"t.csv, line 2: 1 values under 2"),
        (b"user_id,class\nx,1\nJ\xf6rg,2\n", r"t.csv, line 3: byte 0xf6 is no UTF-8: save the table as UTF-8"),
        (b'user_id,class\nx,1\n"y,2\nz,3\n', r"t.csv, line 3: no CSV \(unexpected end of data\): mend the line"),
        (b'user_id,class\n"x"y,1\n', r"t.csv, line 2: no CSV"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(content, message):
    with pytest.raises(ValueError, match=message) as error:
        rows(content)
    assert "\n" not in str(error.value)


def test_a_table_of_a_folder(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"user_id,class\nx,1\n")
    (tmp_path / "._a.csv").write_bytes(b"\0")
    table = open_table(tmp_path, "a.csv")
    assert list(read_rows(table, ["class"])) == [(2, ("1",))]
    assert (table.where, table.source.file) == (str(tmp_path / "a.csv"), "a.csv")
    assert table.source.sha256 == hashlib.sha256(b"user_id,class\nx,1\n").hexdigest()
    assert table_names(tmp_path) == ["a.csv"]
    with pytest.raises(ValueError, match=r"cannot read .*b.csv \(No such file or directory\): put b.csv there"):
        open_table(tmp_path, "b.csv")


def test_a_table_of_a_zip_in_whatever_folder(tmp_path):
    path = tmp_path / "split.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("split/a.csv", "class\n1\n")
        file.writestr("__MACOSX/split/._a.csv", "\0")
        file.writestr("x/b.csv", "class\n1\n")
        file.writestr("y/b.csv", "class\n2\n")
    table = open_table(path, "a.csv")
    assert list(read_rows(table, ["class"])) == [(2, ("1",))]
    assert table.where == f"{path}: split/a.csv"
    assert table.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert table_names(path) == ["a.csv", "b.csv"]
    for name, count in (("b.csv", 2), ("c.csv", 0)):
        with pytest.raises(ValueError, match=rf"split.zip holds {count} files {name}, expected one"):
            open_table(path, name)

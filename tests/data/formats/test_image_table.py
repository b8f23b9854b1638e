"""Tables of images: what is read, and one line for each mistake."""

import pyarrow
import pyarrow.parquet
import pytest

from fedemb.data.formats import arrow
from fedemb.data.formats.image_table import read_image_table

ROWS = [("zoë, 2", "a/b.png", "dog"), ("李", "c.png", "a, b")]


def csv(tmp_path, text, encoding="utf-8"):
    file = tmp_path / "table.csv"
    file.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return file


def parquet(tmp_path, columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_csv(tmp_path, encoding, newline):
    text = newline.join(["class,n,user,path", 'dog,1,"zoë, 2",a/b.png', "", '"a, b",2,李,./c.png', ""])
    assert read_image_table(csv(tmp_path, text, encoding)) == ROWS


def test_parquet(tmp_path):
    users, paths, classes = zip(*ROWS, strict=True)
    file = parquet(tmp_path, {"path": paths, "n": [1, 2], "class": classes, "user": users})
    assert read_image_table(file) == ROWS
    file = parquet(tmp_path, {"path": ["a", "b"], "id": [7, 8]})
    assert read_image_table(file, {"user": "id"}) == [("7", "a", None), ("8", "b", None)]


def test_a_csv_and_a_parquet_file_give_the_same(tmp_path):
    file = csv(tmp_path, "user,path\n01,a\n")
    assert read_image_table(file) == read_image_table(parquet(tmp_path, {"user": ["01"], "path": ["a"]}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who,path\na,b\n", r"table.csv has no column 'user', it has who, path: say which it is, columns.user="),
        (
            "user;path;class\na;b;c\n",
            r"table.csv has one column, 'user;path;class': ';' separates its values, save it with com",
        ),
        ("user\tpath\na\tb\n", r": '\\t' separates its values, save it with commas"),
        ("", r"table.csv is empty: it must begin with a line of column names"),
        ("user,path\n", r"table.csv has no row"),
        ("user,path\na,b\n,c\n", r"table.csv, line 3: the user is empty: fill the cell or remove the row"),
        ("user,path\na,\n", r"line 2: the path is empty"),
        ("user,path\n ,b\n", r"line 2: the user is empty"),
        ("user,path,class\na,b,\n", r"line 2: the class is empty"),
        ("user,path\na,b,c\n", r"table.csv, line 2: 3 values under 2 column names"),
        ("user,path\na,../b\n", r"line 2: '../b' leaves the images' folder: write it relative"),
        ("user,path\na,b/../../c\n", r"line 2: 'b/../../c' leaves"),
        ("user,path\na,/etc/passwd\n", r"line 2: '/etc/passwd' leaves"),
        ('user,path\na,"b\n', r"table.csv, line 2: no CSV"),
        (f"{'x' * 200_000},user,path\n1,a,b\n", r"table.csv, line 1: no CSV \(field larger .*\): mend the line"),
        ("user,path\na,b\n".encode("utf-16"), r"table.csv, line 1: byte 0xff is no UTF-8: save the table as UTF-8"),
        ("user,path\n1,a\nnan,b\n", r"line 3: the user is nan, as programs write .* gaps: write ids as whole numbers"),
        ("user,path\n1.0,a\n", r"line 2: the user is 1.0, as programs write an id"),
        ("user,path\nä,b\n".encode("latin-1"), r"table.csv, line 2: byte 0xe4 is no UTF-8"),
    ],
)
def test_a_mistake_in_a_csv_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_image_table(csv(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_mistakes_in_a_parquet_file(tmp_path):
    with pytest.raises(ValueError, match=r"table.parquet has no column 'path', it has user"):
        read_image_table(parquet(tmp_path, {"user": ["a"]}))
    with pytest.raises(ValueError, match=r"table.parquet, row 2: the user is empty"):
        read_image_table(parquet(tmp_path, {"user": ["a", None], "path": ["b", "c"]}))
    with pytest.raises(ValueError, match=r"table.parquet, row 1: the user is 1.0, as programs write an id"):
        read_image_table(parquet(tmp_path, {"user": [1.0, 2.0], "path": ["b", "c"]}))
    with pytest.raises(ValueError, match=r"table.parquet, row 1: the user is empty"):
        read_image_table(parquet(tmp_path, {"user": [float("nan"), 2.0], "path": ["b", "c"]}))
    (tmp_path / "table.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"cannot read .*table.parquet, save or copy it again \(") as caught:
        read_image_table(tmp_path / "table.parquet")
    assert "\n" not in str(caught.value)


def test_a_class_that_is_asked_for_by_name_must_be_there(tmp_path):
    file = csv(tmp_path, "user,path\na,b\n")
    assert read_image_table(file) == [("a", "b", None)]
    with pytest.raises(ValueError, match="no column 'kind'"):
        read_image_table(file, {"class": "kind"})
    with pytest.raises(ValueError, match="names columns for user, path and class, not for 'label'"):
        read_image_table(file, {"label": "kind"})


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*none.csv: pass a table"):
        read_image_table(tmp_path / "none.csv")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"table.xlsx is no .csv or .parquet file"):
        read_image_table(tmp_path / "table.xlsx")


def test_without_pyarrow_the_remedy_is_told(tmp_path, monkeypatch):
    def gone(name):
        raise ImportError(name)

    monkeypatch.setattr(arrow, "import_module", gone)
    with pytest.raises(ValueError, match=r"table.parquet needs pyarrow: pip install 'fedemb\[parquet\]'"):
        read_image_table(parquet(tmp_path, {"user": ["a"], "path": ["b"]}))

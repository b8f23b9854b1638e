"""Tables of images to stores."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from fedemb.data.export import export_store
from fedemb.data.formats.arrow_images import Columns
from fedemb.data.image_list import SplitRule
from fedemb.data.own_images import OwnImages
from fedemb.data.preparation import Request
from fedemb.data.store import StoreUsers
from fedemb.data_prep import huggingface, table

ROWS = (("zoë, 2", "a/0.png", "dog"), ("bob", "b.jpg", "cat"), ("zoë, 2", "a/1.png", "cat"), ("bob", "a/0.png", "dog"))


def image(name):
    stream = np.random.default_rng(list(name.encode()))
    file = io.BytesIO()
    Image.fromarray(stream.integers(256, size=(4, 3, 3), dtype=np.uint8)).save(file, "JPEG" if "jpg" in name else "PNG")
    return file.getvalue()


@pytest.fixture
def tree(tmp_path):
    for name in ("a/0.png", "a/1.png", "b.jpg", "unused.png"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(image(name))
    return tmp_path / "tree"


def write(file, header="user,path,class", rows=ROWS):
    file.write_text("\n".join([header, *(",".join(f'"{cell}"' for cell in row) for row in rows)]))
    return file


def prepare(source, out, *, rule=None, columns=None, tree=None):
    request = Request(source=source, out=out)
    images = OwnImages(name="mine")
    return table.prepare(request, images=images, rule=rule or SplitRule(), columns=columns, tree=tree)


def contents(out, split="train"):
    users = StoreUsers(path=out, split=split, size=(4, 3))
    return {
        users.user_id(user): list(zip(users.labels(user).tolist(), users.stored(user), strict=True))
        for user in range(users.num_users)
    }


EXPECTED = {
    "bob": [(1, image("a/0.png")), (0, image("b.jpg"))],
    "zoë, 2": [(1, image("a/0.png")), (0, image("a/1.png"))],
}


def test_a_table_beside_its_images(tree, tmp_path):
    prepare(write(tree / "table.csv"), tmp_path / "out")
    assert contents(tmp_path / "out") == EXPECTED
    info = StoreUsers(path=tmp_path / "out", size=(4, 3)).manifest.info
    assert [source.file for source in info.sources] == ["table.csv", "tree/", "users and their files"]
    assert info.command == "fedemb prepare table source=<table> name=mine"
    assert info.user == 'one value of the column "user"'


def test_a_table_elsewhere_and_images_in_a_zip(tree, tmp_path):
    with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
        for name in ("a/0.png", "a/1.png", "b.jpg"):
            archive.writestr(name, image(name))
    source = write(tmp_path / "t.csv", header="who,file,kind")
    columns = {"user": "who", "path": "file", "class": "kind"}
    prepare(source, tmp_path / "out", columns=columns, tree=str(tmp_path / "tree.zip"))
    assert contents(tmp_path / "out") == EXPECTED


def test_splits_by_a_file(tree, tmp_path):
    (tmp_path / "splits.txt").write_text("train bob\ntest zoë, 2\n")
    prepare(write(tree / "table.csv"), tmp_path / "out", rule=SplitRule(split_file=tmp_path / "splits.txt"))
    assert contents(tmp_path / "out") == {"bob": EXPECTED["bob"]}
    assert contents(tmp_path / "out", "test") == {"zoë, 2": EXPECTED["zoë, 2"]}


def test_what_was_exported_is_prepared_to_the_same_users(tree, tmp_path):
    prepare(write(tree / "table.csv"), tmp_path / "first")
    export_store(tmp_path / "first", "train", tmp_path / "t.parquet")
    huggingface.prepare(
        Request(source=tmp_path / "t.parquet", out=tmp_path / "again"),
        images=OwnImages(name="mine"),
        rule=SplitRule(),
        columns=Columns(image="image", user="user", label="label"),
    )
    assert contents(tmp_path / "again") == EXPECTED


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, ("bob", "c.png", "cat")], r"tree lacks c.png of the 4 files that .*table.csv lists: put"),
        ([*ROWS, ("bob", "c.png", "cat"), ("bob", "d.png", "cat")], r"lacks c.png and 1 others of .* or pass images=<"),
        ([*ROWS, ("bob", "../c.png", "cat")], r"table.csv, line 6: '../c.png' leaves the images' folder"),
        ([*ROWS, ROWS[0]], r"table.csv: user 'zoë, 2' has the image a/0.png twice"),
        ([("bob", "table.csv", "cat")], r"table.csv: cannot be read as an image .*: replace the file or leave it out"),
    ],
)
def test_mistakes_are_one_line(tree, tmp_path, rows, message):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(write(tree / "table.csv", rows=rows), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_the_command(fedemb, tree, tmp_path):
    source = write(tmp_path / "t.csv", header="user,path,kind")
    words = ("prepare", "table", f"source={source}", f"images={tree}", f"out={tmp_path}/out", "name=pets", "workers=0")
    code, out, err = fedemb(*words, "columns.class=kind")
    assert code == 0, err
    assert "train: 2 users, 4 images" in out
    assert contents(tmp_path / "out") == EXPECTED


def test_other_columns_are_another_store(tmp_path, fedemb):
    """Else the unit of privacy would silently stay that of the store that is there."""
    for number in range(4):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    rows = [f"p{number},c{number % 2},{number}.png" for number in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["person,country,path", *rows]) + "\n")
    words = ["prepare", "table", f"source={tmp_path}/t.csv", "name=mine", f"out={tmp_path}/out", "workers=0"]
    assert fedemb(*words, "columns.user=person")[0] == 0
    code, _, err = fedemb(*words, "columns.user=country")
    assert code == 2
    assert "holds another store" in err

"""TFF's containers against small ones made here with sqlite3, lzma and h5py."""

import lzma
import pickle
import sqlite3
import sys
import tracemalloc
from contextlib import closing, suppress
from threading import Thread

import h5py
import numpy as np
import pytest
from full_disk import files_end_at
from hypothesis import given
from hypothesis import strategies as st
from tfrecords import example

from fedemb.data.formats.tff import ClientTable, H5Clients, unpacked

TABLES = """
CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, serialized_example_proto BLOB NOT NULL);
CREATE TABLE client_metadata (client_id TEXT NOT NULL, split_name TEXT NOT NULL, num_examples INTEGER NOT NULL);
"""
INDEX = "CREATE INDEX by_client ON examples (split_name, client_id)"
ROWS = [  # clients interleaved, as nothing in the format forbids; label = number of the row
    ("train", "b"),
    ("train", "a"),
    ("test", "a"),
    ("train", "b"),
    ("train", "a"),
    ("train", "b"),
]
SIZES = [("b", "train", 3), ("a", "train", 2), ("a", "test", 1), ("c", "test", 0)]


def write(path, *, rows=ROWS, sizes=SIZES, more=""):
    with closing(sqlite3.connect(path)) as database:
        database.executescript(TABLES + more)
        blobs = [(*row, example(pixels=[number / 8] * 4, label=[number])) for number, row in enumerate(rows)]
        database.executemany("INSERT INTO examples VALUES (?, ?, ?)", blobs)
        database.executemany("INSERT INTO client_metadata VALUES (?, ?, ?)", sizes)
        database.commit()
    return path


@pytest.fixture
def sqlite(tmp_path):
    return write(tmp_path / "some.sqlite")


def labels(table, client, split):
    return [one["label"].tolist() for one in table.examples(client, split)]


@pytest.mark.parametrize("more", ["", INDEX])
def test_clients_and_their_examples_in_the_order_of_the_rows(tmp_path, more):
    table = ClientTable(write(tmp_path / "some.sqlite", more=more))
    assert table.splits() == ["test", "train"]
    assert table.clients("train") == ["a", "b"]
    assert table.clients("test") == ["a", "c"]
    assert [table.num_examples(client, split) for client, split, _ in SIZES] == [3, 2, 1, 0]
    assert labels(table, "b", "train") == [[0], [3], [5]]
    assert labels(table, "a", "train") == [[1], [4]]
    assert labels(table, "a", "test") == [[2]]
    assert labels(table, "c", "test") == []
    assert next(table.examples("b", "train"))["pixels"].tolist() == [0, 0, 0, 0]


def test_only_wanted_features(sqlite):
    assert [set(one) for one in ClientTable(sqlite).examples("a", "train", ("label",))] == [{"label"}, {"label"}]


def test_the_file_is_not_changed(sqlite):
    """A user's own file: no index is put into it, no journal beside it."""
    before = sqlite.read_bytes()
    sqlite.chmod(0o400)
    assert labels(ClientTable(sqlite), "a", "train") == [[1], [4]]
    assert sqlite.read_bytes() == before
    assert [path.name for path in sqlite.parent.iterdir()] == [sqlite.name]


def test_rows_are_read_by_number_and_not_by_a_scan_for_each_client(sqlite, monkeypatch):
    """Without an index, a search by client would read the whole file again for each of thousands of clients."""
    asked, connect = [], sqlite3.connect

    def traced(*args, **kwargs):
        database = connect(*args, **kwargs)
        database.set_trace_callback(asked.append)
        return database

    monkeypatch.setattr(sqlite3, "connect", traced)
    table = ClientTable(sqlite)
    for client, split, _ in SIZES:
        labels(table, client, split)
    scans = [text for text in asked if "FROM examples" in text and "WHERE rowid" not in text]
    assert len(scans) == 1
    assert len([text for text in asked if "WHERE rowid" in text]) == len(ROWS)


@pytest.mark.parametrize("used", [False, True])
def test_a_table_can_be_pickled_before_and_after_its_use(sqlite, used):
    table = ClientTable(sqlite)
    if used:
        labels(table, "a", "train")
    assert labels(pickle.loads(pickle.dumps(table)), "b", "train") == [[0], [3], [5]]


def test_a_table_serves_several_threads_and_readers_at_once(sqlite):
    table, found = ClientTable(sqlite), []
    one, other = table.examples("b", "train"), table.examples("b", "train")
    assert [(x["label"][0], y["label"][0]) for x, y in zip(one, other, strict=True)] == [(0, 0), (3, 3), (5, 5)]
    thread = Thread(target=lambda: found.extend(labels(table, "a", "train")))
    thread.start()
    thread.join()
    assert found == [[1], [4]]


@pytest.mark.parametrize("name", ["some file #1?.sqlite", "100%25.sqlite"])
def test_names_that_mean_something_in_an_address(tmp_path, name):
    assert ClientTable(write(tmp_path / name)).splits() == ["test", "train"]


@pytest.mark.parametrize(
    ("rows", "sizes", "words"),
    [
        (ROWS[:-1], SIZES, "client 'b' of train has 2 examples, client_metadata says 3"),
        (ROWS, SIZES[1:], "lacks client 'b' of train"),
        (ROWS, [*SIZES, ("b", "train", 4)], "client 'b' of train twice"),
        (ROWS, [*SIZES, ("d", "train", -1)], r"holds \('train', 'd', -1\)"),
        (ROWS, [*SIZES, ("d", "train", "many")], r"holds \('train', 'd', 'many'\)"),
    ],
)
def test_numbers_that_disagree_are_refused(tmp_path, rows, sizes, words):
    path = write(tmp_path / "some.sqlite", rows=rows, sizes=sizes)
    with pytest.raises(ValueError, match=words) as raised:
        labels(ClientTable(path), "a", "train")
    assert str(raised.value).startswith(f"{path}: ")


def test_unknown_names_are_refused(sqlite):
    table = ClientTable(sqlite)
    with pytest.raises(ValueError, match="no split 'valid'; it has test, train"):
        table.clients("valid")
    with pytest.raises(ValueError, match="no client 'b' in split 'test'"):
        table.num_examples("b", "test")
    with pytest.raises(ValueError, match="no client 'a' in split 'valid'"):
        next(table.examples("a", "valid"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE examples SET serialized_example_proto = x'0aff' WHERE rowid = 2", "client 'a' of train, row 2: no tf"),
        ("UPDATE examples SET serialized_example_proto = 'text' WHERE rowid = 2", "row 2 of examples holds no bytes"),
        ("ALTER TABLE examples RENAME TO e; CREATE VIEW examples AS SELECT * FROM e", "rowid|client_metadata lacks"),
        ("DROP TABLE examples", "no such table: examples"),
        ("DROP TABLE client_metadata", "no such table: client_metadata"),
    ],
)
def test_damaged_tables_are_refused_in_one_line(sqlite, damage, words):
    with closing(sqlite3.connect(sqlite)) as database:
        database.executescript(damage)
        database.commit()
    with pytest.raises(ValueError, match=words) as raised:
        labels(ClientTable(sqlite), "a", "train")
    assert "some.sqlite" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("form", [lzma.FORMAT_XZ, lzma.FORMAT_ALONE])
def test_a_packed_file_is_unpacked_for_the_time_being(sqlite, tmp_path, form):
    packed, folder = tmp_path / "some.sqlite.lzma", tmp_path / "work"
    packed.write_bytes(lzma.compress(sqlite.read_bytes(), format=form))
    folder.mkdir()
    (folder / ".fedemb-0.spool.partial").write_text("left by a killed run")
    with unpacked(packed, folder) as path:
        assert list(folder.iterdir()) == [path]
        assert labels(ClientTable(path), "a", "train") == [[1], [4]]
        with pytest.raises(ValueError, match=r"another fedemb prepare is unpacking .*lzma in .*wait for it"):
            unpacked(packed, folder).__enter__()
        assert labels(ClientTable(path), "a", "train") == [[1], [4]]  # the second one has cut nothing
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_not_the_files_fault(sqlite, tmp_path):
    packed = tmp_path / "some.sqlite.lzma"
    packed.write_bytes(lzma.compress(sqlite.read_bytes()))

    told = r"^cannot write .*/spooled/.* \(File too large\): make room there, or pass another out="
    with files_end_at(5000), pytest.raises(ValueError, match=told):
        unpacked(packed, tmp_path / "spooled").__enter__()
    assert not (tmp_path / "spooled").exists()


def test_a_plain_file_is_taken_as_it_is(sqlite, tmp_path):
    with unpacked(sqlite, tmp_path / "none") as path:
        assert path == sqlite
    assert sqlite.is_file()


def test_nothing_is_left_after_an_error(sqlite, tmp_path):
    packed, folder = tmp_path / "some.sqlite.lzma", tmp_path / "work"
    packed.write_bytes(lzma.compress(sqlite.read_bytes()))
    folder.mkdir()
    with suppress(KeyboardInterrupt), unpacked(packed, folder) as path:
        assert path.is_file()
        raise KeyboardInterrupt
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-20], "no whole LZMA or SQLite file"),
        (lambda data: data[:40], "no whole LZMA or SQLite file"),
        (lambda data: b"", "no whole LZMA or SQLite file"),
        (lambda data: b"PK\3\4 and so on", "no whole LZMA or SQLite file"),
        (lambda data: lzma.compress(b"text"), "holds no SQLite file"),
    ],
)
def test_what_cannot_be_unpacked_is_refused_in_one_line(sqlite, tmp_path, damage, words):
    packed, folder = tmp_path / "some.sqlite.lzma", tmp_path / "work"
    packed.write_bytes(damage(lzma.compress(sqlite.read_bytes())))
    folder.mkdir()
    with pytest.raises(ValueError, match=words) as raised, unpacked(packed, folder):
        pass
    assert "some.sqlite.lzma" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(folder.iterdir()) == []


def test_unpacking_goes_piece_by_piece(tmp_path):
    """64 MiB of zeros from 10 KB: a reader that unpacks at once would hold them all."""
    packed, folder = tmp_path / "zeros.lzma", tmp_path / "work"
    packed.write_bytes(lzma.compress(b"SQLite format 3\0" + bytes(64 << 20), preset=0))
    folder.mkdir()
    tracemalloc.start()
    try:
        with unpacked(packed, folder) as path:
            assert path.stat().st_size == (64 << 20) + 16
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@given(st.data())
def test_damaged_sqlite_files_raise_nothing_but_value_errors(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    if not (folder / "whole.sqlite").exists():
        write(folder / "whole.sqlite", more=INDEX)
    content = bytearray((folder / "whole.sqlite").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) // 4096 - 1)) * 4096 + data.draw(st.integers(0, 200))
        content[place] = data.draw(st.integers(0, 255))
    (folder / "damaged.sqlite").write_bytes(content)
    with suppress(ValueError):
        table = ClientTable(folder / "damaged.sqlite")
        for split in table.splits():
            for client in table.clients(split):
                labels(table, client, split)


@given(st.binary(max_size=100), st.sampled_from([b"", b"\xfd7zXZ\0", b"\x5d\0\0", b"SQLite format 3\0"]))
def test_random_bytes_raise_nothing_but_value_errors(tmp_path_factory, data, head):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "random.bin"
    path.write_bytes(head + data)
    with suppress(ValueError), unpacked(path, folder) as sqlite:
        ClientTable(sqlite)
    with suppress(ValueError):
        H5Clients(path)


@pytest.fixture
def h5(tmp_path):
    path = tmp_path / "some.h5"
    with h5py.File(path, "w") as file:
        for number, client in enumerate(["f2_00", "f1_01", "f1_00"], start=1):
            file[f"examples/{client}/pixels"] = np.full((number, 2, 2), number / 4, np.float32)
            file[f"examples/{client}/label"] = np.arange(number, dtype=np.int32) + 10
    return path


def test_h5_clients(h5):
    table = H5Clients(h5)
    assert table.clients() == ["f1_00", "f1_01", "f2_00"]
    assert table.labels("f1_00").tolist() == [10, 11, 12]
    assert table.labels("f1_00").dtype == np.int64
    arrays = table.arrays("f1_01")
    assert set(arrays) == {"pixels", "label"}
    assert arrays["pixels"].tolist() == [[[0.5, 0.5], [0.5, 0.5]]] * 2
    assert arrays["pixels"].dtype == np.float32
    assert pickle.loads(pickle.dumps(table)).labels("f2_00").tolist() == [10]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.pop("examples"), "no group 'examples'"),
        (lambda file: file.pop("examples/f1_00/label"), "'label'"),
        (lambda file: file["examples/f1_00/label"].resize((2,)), "differ in length"),
        (lambda file: file["examples/f1_00"].create_group("more"), "/examples/f1_00/more is no array of numbers"),
        (lambda file: file["examples/f1_00"].create_dataset("id", data=["a"] * 3), "id is no array of numbers"),
        (lambda file: file.pop("examples/f1_00"), "f1_00"),
    ],
)
def test_h5_files_of_another_kind_are_refused_in_one_line(tmp_path, change, words):
    path = tmp_path / "some.h5"
    with h5py.File(path, "w") as file:
        file["examples/f1_00/pixels"] = np.zeros((3, 2), np.float32)
        file.create_dataset("examples/f1_00/label", data=np.zeros(3, np.int32), maxshape=(None,))
        change(file)
    with pytest.raises(ValueError, match=words) as raised:
        read_all(path)
    assert "some.h5" in str(raised.value)
    assert "\n" not in str(raised.value)


def read_all(path):
    table = H5Clients(path)
    return table.arrays("f1_00"), table.labels("f1_00")


@pytest.mark.parametrize("values", [np.zeros((3, 1), np.int32), np.zeros(3, np.float32), np.zeros(3, np.uint64)])
def test_h5_labels_are_a_row_of_whole_numbers(tmp_path, values):
    path = tmp_path / "some.h5"
    with h5py.File(path, "w") as file:
        file["examples/u/label"] = values
    with pytest.raises(ValueError, match="labels of client 'u' are"):
        H5Clients(path).labels("u")


def test_a_cut_h5_file_is_refused(h5):
    h5.write_bytes(h5.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cannot read .*some\.h5") as raised:
        H5Clients(h5)
    assert "\n" not in str(raised.value)


def test_a_missing_h5py_says_what_to_install(h5, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"^reading .*some\.h5 needs h5py: pip install 'fedemb\[h5\]'$"):
        H5Clients(h5)


def test_missing_files_stay_so(tmp_path):
    for read in (H5Clients, lambda path: unpacked(path, tmp_path).__enter__()):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")
    with pytest.raises(ValueError, match=r"none.*unable to open"):
        ClientTable(tmp_path / "none")

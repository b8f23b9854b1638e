"""Image files on disk as users: folders and tables, against images made here; every mistake is one line."""

import os
import pickle
import threading
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fedemb.data.files import folder_users, table_users
from fedemb.data.pictures import Picture
from fedemb.data.users import Described, LoadsExamples
from fedemb.testing import check_user_dataset

PEOPLE = ("Ada, Lady", "Li 李", "zoë")  # in the order of their ids


def pixels(*key, size=(6, 4)):
    """[H, W, 3] that no other key has."""
    return np.random.default_rng(list(map(hash_of, key))).integers(256, size=(*size, 3), dtype=np.uint8)


def hash_of(word):
    return int.from_bytes(str(word).encode(), "big")


def put(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def faces(tmp_path):
    """root/<user>/<file>: 1, 2 and 3 images, written in an order that is not that of their names."""
    for number, user in reversed(list(enumerate(PEOPLE))):
        for image in reversed(range(number + 1)):
            put(tmp_path / "faces" / user / f"photo {image}.png", pixels(user, image))
    (tmp_path / "faces" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "faces" / "zoë" / "note.txt").write_text("no image")
    return tmp_path / "faces"


@pytest.fixture
def classes(tmp_path):
    """root/<user>/<class>/<file>: ann has a cat and two dogs, bob an emu."""
    for user, name, image in (("ann", "dog", 1), ("ann", "dog", 0), ("ann", "cat", 0), ("bob", "emu", 0)):
        put(tmp_path / "pets" / user / name / f"{image}.png", pixels(user, name, image))
    return tmp_path / "pets"


def told(call, *words):
    """The one line that a mistake is told in."""
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def test_folders_are_users_and_identities(faces):
    users = folder_users(faces)
    assert [users.user_id(user) for user in range(users.num_users)] == list(PEOPLE)
    assert [users.num_examples(user) for user in range(3)] == [1, 2, 3]
    batch = users.load([2, 0])
    wanted = [("zoë", 0), ("zoë", 1), ("zoë", 2), ("Ada, Lady", 0)]
    torch.testing.assert_close(batch["image"], torch.from_numpy(np.stack([pixels(*w) for w in wanted])).movedim(3, 1))
    assert batch["label"].tolist() == [2, 2, 2, 0]
    assert (users.name, users.num_examples_total, users.class_names) == ("faces", 6, list(PEOPLE))
    assert users.left_out == {"files whose names are no images'": 1}
    assert isinstance(users, Described)


def test_folders_in_folders_are_classes(classes):
    users = folder_users(classes)
    batch = users.load([0, 1])
    assert batch["label"].tolist() == [0, 1, 1, 2]  # cat, dog, emu
    assert np.array_equal(batch["image"][2].numpy(), pixels("ann", "dog", 1).transpose(2, 0, 1))
    assert users.class_names == ["cat", "dog", "emu"]


def test_some_classes_train_and_users_without_them_are_no_users(classes):
    users = folder_users(classes, classes=["emu", "dog"])
    assert users.load([0, 1])["label"].tolist() == [0, 0, 1]
    assert users.left_out == {"images of other classes": 1}
    users = folder_users(classes, classes=["dog"])
    assert (users.num_users, users.num_examples_total) == (1, 2)
    assert users.left_out == {"images of other classes": 2, "users without training classes": 1}
    told(lambda: folder_users(classes, classes=["cow"]), "no class 'cow'", "cat, dog, emu")
    told(lambda: folder_users(classes, classes=[]), "names no class", "cat, dog, emu")


def test_identities_have_no_classes_to_choose_from(faces):
    told(lambda: folder_users(faces, classes=["zoë"]), "faces has no classes, as users are the classes")


def test_the_interface_pickled_and_by_place(faces):
    users = folder_users(faces)
    check_user_dataset(users)
    check_user_dataset(folder_users(faces, size=(8, 8), channels=1))
    assert isinstance(users, LoadsExamples)
    some = users.load_examples([2, 1], [np.array([2, 0]), np.array([1])])
    whole = users.load([2, 1])
    assert torch.equal(some["image"], whole["image"][[2, 0, 4]])
    assert some["label"].tolist() == [2, 2, 1]
    copy = pickle.loads(pickle.dumps(users))
    assert torch.equal(copy.load([1])["image"], users.load([1])["image"])
    assert copy.checksum == users.checksum


def test_many_threads_get_what_one_gets(faces):
    users = folder_users(faces)
    alone, wrong = users.load([0, 1, 2])["image"], []

    def read():
        for _ in range(20):
            if not torch.equal(users.load([0, 1, 2])["image"], alone):
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_size_and_channels(faces):
    assert folder_users(faces).load([0])["image"].shape == (1, 3, 6, 4)
    assert folder_users(faces, channels=1, size=[5, 7]).load([0])["image"].shape == (1, 1, 5, 7)
    put(faces / "zoë" / "photo 3.png", pixels("large", size=(9, 4)))
    told(lambda: folder_users(faces), "(6, 4)", "zoë/photo 3.png is (9, 4)", "users.size=[224,224]")
    assert folder_users(faces, size=(6, 4)).load([2])["image"].shape == (4, 3, 6, 4)
    told(lambda: folder_users(faces, size=[6]), "size must be [height, width]")
    told(lambda: folder_users(faces, channels=4), "channels must be 1 (grey) or 3 (RGB)")


def test_a_photo_taken_on_its_side_has_the_size_that_it_is_shown_in(tmp_path):
    """Else 4 x 6 and 6 x 4 would be said to be different sizes, or of the same."""
    turned = Image.Exif()
    turned[0x0112] = 6
    put(tmp_path / "faces" / "a" / "0.jpg", pixels("lying", size=(4, 6)), exif=turned)
    put(tmp_path / "faces" / "b" / "0.png", pixels("upright", size=(6, 4)))
    assert folder_users(tmp_path / "faces").load([0, 1])["image"].shape == (2, 3, 6, 4)


def test_the_checksum_changes_with_names_sizes_labels_and_shape(faces):
    before = {folder_users(faces).checksum, folder_users(faces, channels=1).checksum}
    (faces / "zoë" / "photo 0.png").rename(faces / "zoë" / "photo 9.png")
    before.add(folder_users(faces).checksum)
    with (faces / "zoë" / "photo 9.png").open("ab") as file:
        file.write(b"\0")
    before.add(folder_users(faces).checksum)
    (faces / "zoë").rename(faces / "zoe")
    before.add(folder_users(faces).checksum)
    assert len(before) == 5
    assert folder_users(faces).checksum in before


def test_the_checksum_changes_with_the_labels_alone(faces):
    sums = set()
    for classes in ("ab", "ba"):
        rows = [f"zoë,zoë/photo {image}.png,{name}" for image, name in enumerate(classes)]
        (faces / "table.csv").write_text("\n".join(["user,path,class", *rows]))
        sums.add(table_users(faces / "table.csv").checksum)
    assert len(sums) == 2


def test_splits_by_fractions_and_by_file(faces, tmp_path):
    rule = {"fractions": {"train": 0.5, "test": 0.5}, "split_seed": 4}
    parts = {split: folder_users(faces, split=split, **rule) for split in ("train", "test")}
    ids = {split: {users.user_id(user) for user in range(users.num_users)} for split, users in parts.items()}
    assert ids["train"] | ids["test"] == set(PEOPLE)
    assert not ids["train"] & ids["test"]
    lines = tmp_path / "splits.txt"
    lines.write_text("train zoë\ntest Ada, Lady\n")
    train = folder_users(faces, split="train", split_file=lines)
    assert [train.user_id(user) for user in range(train.num_users)] == ["zoë"]
    assert train.load([0])["label"].tolist() == [0, 0, 0]
    assert train.left_out["users in no split"] == 1
    told(
        lambda: folder_users(faces, split="validation", split_file=lines), "no user in split validation", "test, train"
    )
    told(
        lambda: folder_users(faces, split="train"),
        "split='train' needs a rule",
        "split_file=FILE",
        "test_users.split=null",
    )
    told(lambda: folder_users(faces, split_file=lines), "a rule needs split=", "fractions=null and split_file=null")
    told(lambda: folder_users(faces, split="test", split_file=lines, fractions={"test": 1}), "pass one of them")
    told(lambda: folder_users(faces, split="test", fractions={"test": 1}), "split_seed=0")
    lines.write_text("train zoë\ntest zoë\n")
    told(lambda: folder_users(faces, split="train", split_file=lines), "'zoë' is in train and in test")


def test_classes_have_the_same_numbers_in_every_split(classes, tmp_path):
    (tmp_path / "splits.txt").write_text("train ann\ntest bob\n")
    assert folder_users(classes, split="test", split_file=tmp_path / "splits.txt").load([0])["label"].tolist() == [2]


def bomb(path):
    """A PNG of 60,000 x 60,000 pixels in a few bytes: a true header and nothing else."""
    content = bytearray(put(path, pixels("bomb")).read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


UNREADABLE = ["zoë/photo 1.png", "cannot be read as an image", "replace the file or leave it out"]


def flipped(content):
    """A PNG whose first compressed byte is another: its header stays true."""
    place = content.index(b"IDAT") + 4
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(pickle.dumps([1, 2])), [*UNREADABLE, "a pickle, which is never opened"]),
        (lambda p: p.write_text("<!DOCTYPE html><p>404"), UNREADABLE),
        (lambda p: p.write_bytes(b""), UNREADABLE),
        (lambda p: p.write_bytes(p.read_bytes()[:20]), UNREADABLE),
        (lambda p: p.write_bytes(p.read_bytes()[:-40]), UNREADABLE),
        (lambda p: p.write_bytes(flipped(p.read_bytes())), UNREADABLE),
        (bomb, ["photo 1.png", "60000 x 60000 pixels, not 1 to 64000000"]),
        (lambda p: (p.unlink(), p.symlink_to("nowhere")), ["photo 1.png", "No such file"]),
    ],
    ids=["pickle", "html", "empty", "cut in the header", "cut in the pixels", "damaged pixels", "bomb", "dead link"],
)
def test_a_file_that_cannot_be_decoded_is_found_at_the_start(faces, spoil, words):
    """An error in the middle of a round would tell who was drawn."""
    spoil(faces / "zoë" / "photo 1.png")
    told(lambda: folder_users(faces), *words)
    told(lambda: folder_users(faces, size=(6, 4)), *words)


def test_a_photograph_that_was_cut_off_is_found_though_it_is_read_at_a_fraction_of_its_size(tmp_path):
    for user in "ab":
        put(tmp_path / "faces" / user / "0.jpg", pixels(user, size=(64, 64)))
    assert folder_users(tmp_path / "faces", size=(8, 8)).verified is True
    cut = tmp_path / "faces" / "b" / "0.jpg"
    cut.write_bytes(cut.read_bytes()[:-500])
    told(lambda: folder_users(tmp_path / "faces", size=(8, 8)), "b/0.jpg", "truncated", "replace the file")


def test_all_images_are_decoded_once_and_only_when_the_data_set_is_made(faces, monkeypatch):
    decoded, real = [], Picture.pixels

    def pixels_of(self, data, where):
        decoded.append(where)
        return real(self, data, where)

    monkeypatch.setattr(Picture, "pixels", pixels_of)
    users = folder_users(faces)
    assert sorted(decoded) == sorted(map(str, faces.glob("*/*.png")))
    copy = pickle.loads(pickle.dumps(users))
    assert (users.verified, copy.verified, len(decoded)) == (True, True, 6)
    decoded.clear()
    assert folder_users(faces, verify=False, size=(6, 4)).verified is False
    assert decoded == []


def test_without_verification_only_that_files_are_there(faces):
    (faces / "zoë" / "photo 1.png").write_text("<html>")
    told(lambda: folder_users(faces, verify=False), "users.size=[224,224]")
    users = folder_users(faces, verify=False, size=(6, 4))
    assert users.load([0])["image"].shape == (1, 3, 6, 4)
    told(lambda: users.load([2]), "zoë/photo 1.png", "cannot be read as an image")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "empty").mkdir(), ["faces/empty holds no image", "remove the folder"]),
        (lambda root: put(root / "a.png", pixels(1)), ["faces/a.png is in no user's folder", "<user>/<file>"]),
        (lambda root: put(root / "zoë" / "dog" / "a.png", pixels(1)), ["another layout", "zoë/dog/a.png"]),
        (lambda root: put(root / "zoë" / "a" / "b" / "c.png", pixels(1)), ["zoë/a/b is one folder too deep"]),
        (lambda root: (root / os.fsdecode(b"\xff")).mkdir(), ["not UTF-8", "rename"]),
    ],
    ids=["empty user", "loose image", "two layouts", "too deep", "no text"],
)
def test_another_layout_is_refused(faces, spoil, words):
    spoil(faces)
    told(lambda: folder_users(faces), *words)


def test_no_folder_no_users_or_splits_in_place_of_users(tmp_path):
    told(lambda: folder_users(tmp_path / "none"), "cannot list", "none", "No such file")
    told(lambda: folder_users(tmp_path), "has no folder in it", "<user>/<file>")
    told(lambda: folder_users(None), "users.root=FOLDER")
    put(tmp_path / "train" / "dog" / "a.png", pixels(1))
    put(tmp_path / "test" / "dog" / "a.png", pixels(1))
    told(lambda: folder_users(tmp_path), "test, train", "look like splits", "pass one as the root")


def test_a_table_lists_users_files_and_classes(faces, tmp_path):
    """Paths from the table's folder or from images=; rows in any order; a user's images by name."""
    rows = [
        "who,file,kind",
        "zoë,zoë/photo 2.png,b",
        '"Ada, Lady","Ada, Lady/photo 0.png",a',
        "zoë,./zoë//photo 0.png,a",
    ]
    (faces / "table.csv").write_text("\n".join(rows))
    columns = {"user": "who", "path": "file", "class": "kind"}
    users = table_users(faces / "table.csv", columns=columns)
    assert [users.user_id(user) for user in range(users.num_users)] == ["Ada, Lady", "zoë"]
    batch = users.load([1])
    wanted = np.stack([pixels("zoë", 0), pixels("zoë", 2)]).transpose(0, 3, 1, 2)
    assert np.array_equal(batch["image"].numpy(), wanted)
    assert batch["label"].tolist() == [0, 1]
    assert users.name == "table"
    (tmp_path / "elsewhere.csv").write_text((faces / "table.csv").read_text())
    moved = table_users(tmp_path / "elsewhere.csv", columns=columns, images=faces)
    assert torch.equal(moved.load([1])["image"], batch["image"])
    identities = table_users(faces / "table.csv", columns={**columns, "class": None})
    assert identities.load([0, 1])["label"].tolist() == [0, 1, 1]


def test_a_table_without_classes_and_a_missing_file(faces):
    table = faces / "table.csv"
    table.write_text("user,path\nzoë,zoë/photo 0.png\n")
    assert table_users(table).load([0])["label"].tolist() == [0]
    table.write_text("user,path\nzoë,zoë/photo 7.png\n")
    told(lambda: table_users(table), "photo 7.png", "No such file")
    told(lambda: table_users(table, verify=False, size=(6, 4)), "photo 7.png", "No such file")
    told(lambda: table_users(None), "users.path=FILE")


@pytest.mark.parametrize("data", ["folder", "table"])
def test_they_train(fedemb, faces, tmp_path, data):
    """Split train of users= and, as test users, split test of the same."""
    for user in range(12):
        put(faces / f"u{user}" / "a.png", pixels(user))
    lines = ["user,path", *(f'"{p.parent.name}",{p.parent.name}/{p.name}' for p in sorted(faces.glob("u*/*.png")))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    where = f"users.root={faces}" if data == "folder" else f"users.path={tmp_path}/table.csv"
    code, _, err = fedemb(
        "train", f"users={data}", where, *([f"users.images={faces}"] if data == "table" else []),
        "users.split=train", "users.fractions={train: 0.7, test: 0.3}", "users.size=[8,8]", f"test_users={data}",
        "model.channels=3", "model.size=8", "embedding_width=8", "users_per_round=4", "users_per_client=2", "rounds=2",
        f"run={tmp_path}/run",
    )  # fmt: skip
    assert code == 0, err
    assert '"name": "faces"' in (tmp_path / "run/report.json").read_text() or data == "table"


def test_an_unknown_size_is_one_line_on_the_command_line(fedemb, faces, tmp_path):
    put(faces / "zoë" / "photo 3.png", pixels("large", size=(9, 4)))
    code, _, err = fedemb("train", "users=folder", f"users.root={faces}", "test_users=none", f"run={tmp_path}/run")
    assert code == 2
    assert err.count("\n") == 1
    assert "users.size=[224,224]" in err


def test_a_size_of_nothing_is_refused(faces):
    told(lambda: folder_users(faces, size=(0, 4)), "size must be an integer of at least 1")

"""Lists of images to users with labels, by hand."""

import re

import pytest

from fedemb.data.image_list import ListedImage, SplitRule, user_splits

ROWS = [
    ListedImage("u2", "b", "cat"),
    ListedImage("u1", "z", "dog"),
    ListedImage("u2", "a", "dog"),
    ListedImage("u3", "c", "emu"),
]
IN = {"u1": "train", "u2": "train", "u3": "test"}.get


def by_hand(users):
    return [(user.id, user.images) for user in users]


def test_users_and_images_are_sorted_and_classes_numbered_over_all_splits():
    found = user_splits(ROWS, "here", split_of=IN)
    assert list(found) == ["test", "train"]
    assert by_hand(found["train"].users) == [("u1", [("z", 1)]), ("u2", [("a", 1), ("b", 0)])]
    assert by_hand(found["test"].users) == [("u3", [("c", 2)])]
    assert found["train"].class_names == found["test"].class_names == ["cat", "dog", "emu"]
    assert found["train"].label == "class"
    assert found["train"].left_out == {}


def test_identities_are_numbered_within_a_split():
    found = user_splits([row._replace(class_name=None) for row in ROWS], "here", split_of=IN)
    assert by_hand(found["train"].users) == [("u1", [("z", 0)]), ("u2", [("a", 1), ("b", 1)])]
    assert by_hand(found["test"].users) == [("u3", [("c", 0)])]
    assert (found["train"].label, found["train"].class_names) == ("identity", ["u1", "u2"])


def test_what_is_left_out_is_counted_where_it_belongs():
    found = user_splits(ROWS, "here", split_of={"u1": "train", "u2": "train"}.get, classes=["cat"])
    assert by_hand(found["train"].users) == [("u2", [("b", 0)])]
    assert found["train"].left_out == {
        "users in no split": 1, "users without training classes": 1, "images of other classes": 2
    }  # fmt: skip


def test_numbers_name_classes_too():
    """classes=[7] on a command line is a number."""
    rows = [ListedImage("a", "x", "7"), ListedImage("a", "y", "8")]
    assert by_hand(user_splits(rows, "here", split_of=lambda user: "all", classes=[7])["all"].users) == [
        ("a", [("x", 0)])
    ]


def test_an_image_twice_is_refused_and_of_two_users_is_not():
    assert (
        len(user_splits([ListedImage("a", "x", None), ListedImage("b", "x", None)], "t", split_of=lambda u: "s")) == 1
    )
    with pytest.raises(ValueError, match=r"table.csv: user 'a' has the image x twice: remove one"):
        user_splits([ListedImage("a", "x", "c"), ListedImage("a", "x", "d")], "table.csv", split_of=lambda u: "s")


def test_no_rule_is_none():
    assert SplitRule(split_seed=0).split_of({"ann"}, "table.csv") is None


def test_each_line_of_a_split_file_names_a_user(tmp_path):
    """A misspelt user would be in no split without a word."""
    file = tmp_path / "splits.txt"
    rule, users = SplitRule(split_file=file), {"ann", "bob", "7", "12"}
    file.write_text("train ann\ntest bob\ntrain 5-9\ntrain 12\n")
    split_of = rule.split_of(users, "faces")
    assert split_of is not None
    assert {user: split_of(user) for user in users} == {"ann": "train", "bob": "test", "7": "train", "12": "train"}
    for text, told in (
        ("train ann\ntest Bob\n", f"{file}: 'Bob' is no user in faces: write the user"),
        ("train ann\ntest eve\ntest 8-9\n", f"{file}: 'eve' is no user in faces, nor are 1 others"),
        ("train ann\ntest 13-99\n", f"{file}: '13-99' is no user in faces: write"),
        ("train eve\n", f"{file} names none of the users in faces; a line is '<split> <user>'"),
        ("# nobody\n", f"{file} names none of the users in faces; a line is '<split> <user>'"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=re.escape(told)):
            rule.split_of(users, "faces")


def test_a_rule_says_how_it_is_typed():
    assert SplitRule(fractions={"train": 0.8, "test": 0.2}, split_seed=3).words() == (
        " 'fractions={train: 0.8, test: 0.2}' split_seed=3"
    )
    assert SplitRule(split_file="/home/me/splits.txt").words() == " split_file=<file>"
    assert SplitRule().words() == ""


def test_classes_may_have_numbers_of_their_own():
    found = user_splits(ROWS, "here", split_of=lambda user: "all", order=["none", "emu", "dog", "cat"])
    assert by_hand(found["all"].users) == [("u1", [("z", 2)]), ("u2", [("a", 2), ("b", 3)]), ("u3", [("c", 1)])]
    assert found["all"].class_names == ["none", "emu", "dog", "cat"]


@pytest.mark.parametrize("other", [" zo\xeb", "zo\xeb ", "zoe\u0308", "zo\u200b\xeb"])
def test_a_name_in_two_spellings_is_refused(other):
    """Half of a person's images in another user would halve what is protected."""
    rows = [ListedImage(user, "x", None) for user in ("zo\xeb", other)]
    with pytest.raises(ValueError, match=r"table.csv: users 'zo\\xeb' and .* look the same .*: write .* in one way"):
        user_splits(rows, "table.csv", split_of=lambda user: "all")

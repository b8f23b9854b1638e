"""The LEAF reader against JSON that is written here."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedemb.data.formats.leaf import leaf_users


def content(**users):
    """user -> (x, y), as LEAF's file."""
    data = {user: {"x": x, "y": y} for user, (x, y) in users.items()}
    return {"users": list(users), "num_samples": [len(y) for _, y in users.values()], "user_data": data}


def write(folder, name, what):
    path = folder / name
    path.write_text(what if isinstance(what, str) else json.dumps(what))
    return path


GOOD = content(f0=([[0.0, 1.0], [0.25, 0.5]], [3, 61]), f1=([[1, 0.125]], [7]))


def test_users_of_one_file(tmp_path):
    found = list(leaf_users(write(tmp_path, "a.json", GOOD)))
    assert [user for user, _, _ in found] == ["f0", "f1"]
    assert found[0][1].tolist() == [[0.0, 1.0], [0.25, 0.5]]
    assert found[1][1].tolist() == [[1.0, 0.125]]
    assert [y.tolist() for _, _, y in found] == [[3, 61], [7]]
    assert {(x.dtype, y.dtype) for _, x, y in found} == {(np.dtype(np.float32), np.dtype(np.int64))}


def test_a_folder_in_the_order_of_names_and_a_user_of_two_files_twice(tmp_path):
    write(tmp_path, "b.json", content(f1=([[2.0]], [2]), f3=([[3.0]], [3])))
    write(tmp_path, "a.json", content(f1=([[1.0]], [1])))
    write(tmp_path, "notes.txt", "not read")
    assert [(user, int(y[0])) for user, _, y in leaf_users(tmp_path)] == [("f1", 1), ("f1", 2), ("f3", 3)]


def test_the_second_file_is_not_touched_before_its_turn(tmp_path):
    """Memory is bounded by one file."""
    write(tmp_path, "a.json", GOOD)
    write(tmp_path, "b.json", "no JSON")
    users = leaf_users(tmp_path)
    assert [next(users)[0], next(users)[0]] == ["f0", "f1"]
    with pytest.raises(ValueError, match=r"b\.json is no JSON"):
        next(users)


def test_a_user_without_examples(tmp_path):
    ((user, x, y),) = leaf_users(write(tmp_path, "a.json", content(f0=([], []))))
    assert (user, len(x), len(y), y.dtype) == ("f0", 0, 0, np.int64)


def test_the_order_of_the_keys_is_free(tmp_path):
    path = write(tmp_path, "a.json", {key: GOOD[key] for key in ("user_data", "num_samples", "users")})
    assert [user for user, _, _ in leaf_users(path)] == ["f0", "f1"]


@pytest.mark.parametrize(
    "what",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        {**GOOD, "users": "f0"},
        {**GOOD, "user_data": [1, 2]},
        {**GOOD, "users": ["f0"], "num_samples": [2]},
        {**GOOD, "users": ["f0", "f0"]},
        {**GOOD, "users": ["f0", ["f1"]]},
        {**GOOD, "num_samples": [2]},
    ],
)
def test_what_is_not_leafs_is_refused_in_one_line_with_the_files_name(tmp_path, what):
    path = write(tmp_path, "a.json", what)
    with pytest.raises(ValueError, match=r"a\.json") as raised:
        list(leaf_users(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        ({"x": [[1.0]], "y": [1, 2]}, "1 images and 2 labels, num_samples says 2"),
        ({"x": [[1.0]], "y": [1]}, "1 images and 1 labels, num_samples says 2"),
        ({"x": [], "y": []}, "0 images and 0 labels, num_samples says 2"),
        ({"x": [[1.0], [2.0]]}, "has no x and y"),
        ([1, 2], "has no x and y"),
        ({"x": [[1.0], [1.0, 2.0]], "y": [1, 2]}, "x is no list of rows"),
        ({"x": [1.0, 2.0], "y": [1, 2]}, "x is no list of rows"),
        ({"x": [["1.0"], ["2.0"]], "y": [1, 2]}, "x is no list of rows"),
        ({"x": [[None], [2.0]], "y": [1, 2]}, "x is no list of rows"),
        ({"x": "img.jpg", "y": [1, 2]}, "x is no list of rows"),
        ({"x": [[1.0], [2.0]], "y": [1.0, 2.0]}, "y is no list of"),
        ({"x": [[1.0], [2.0]], "y": [[1], [2]]}, "y is no list of"),
        ({"x": [[1.0], [2.0]], "y": [1, 10**30]}, "y is no list of"),
        ({"x": [[1.0], [float("nan")]], "y": [1, 2]}, "not finite"),
        ({"x": [[1.0], [1e300]], "y": [1, 2]}, "not finite"),
    ],
)
def test_a_user_whose_data_is_wrong_is_named(tmp_path, one, words):
    path = write(tmp_path, "a.json", {"users": ["f0"], "num_samples": [2], "user_data": {"f0": one}})
    with pytest.raises(ValueError, match=rf"a\.json: user 'f0'.*{words}") as raised:
        list(leaf_users(path))
    assert "\n" not in str(raised.value)


def test_labels_beyond_63_bits_are_not_folded(tmp_path):
    """2^64 - 1 fits numpy's uint64 and would come out as -1."""
    path = write(tmp_path, "a.json", content(f0=([[1.0]], [2**64 - 1])))
    with pytest.raises(ValueError, match="y is no list of"):
        list(leaf_users(path))


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no \*\.json in "):
        list(leaf_users(tmp_path))
    with pytest.raises(FileNotFoundError):
        list(leaf_users(tmp_path / "none.json"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xya"), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, JSON, JSON, st.binary(max_size=4))
def test_any_json_raises_nothing_but_value_errors(tmp_path_factory, users, sizes, one, tail):
    path = tmp_path_factory.getbasetemp() / "random.json"
    mixed = {"users": users, "num_samples": [1], "user_data": one}
    for what in (one, mixed, {"users": ["u"], "num_samples": [sizes], "user_data": {"u": one}}):
        path.write_bytes(json.dumps(what).encode() + tail.strip())
        with suppress(ValueError):
            list(leaf_users(path))

"""Who is in which split: by a file that is read to the letter, or by a rule that other ids do not move."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedemb.data.splits import read_split_file, seeded_split


def split_file(path, text):
    (path / "splits.txt").write_text(text, encoding="utf-8")
    return read_split_file(path / "splits.txt")


def test_ids_and_ranges(tmp_path):
    """With comments, spaces, other alphabets; both ends of a range belong to it."""
    split_of = split_file(
        tmp_path,
        "# a note\n\ntrain 0-7999\n  test   8000-8999  # the next\ntest Ada Lovelace\nvalidation Жанна д'Арк\n"
        "test 9500-9500\ntest 0012\ntrain n000002-7\ntest 20-x\n",
    )
    assert [split_of(id) for id in ("0", "7999", "8000", "8999", "9500")] == ["train", "train", "test", "test", "test"]
    assert [split_of(id) for id in ("9000", "9499", "9501", "-1", "", "1.5")] == [None] * 6
    assert (split_of("Ada Lovelace"), split_of("Жанна д'Арк")) == ("test", "validation")
    assert (split_of("Ada"), split_of("ada lovelace"), split_of("train")) == (None, None, None)
    assert (split_of("0012"), split_of("012"), split_of("12"), split_of("00")) == ("test", None, "train", None)
    assert (split_of("n000002-7"), split_of("20-x"), split_of("n000003")) == ("train", "test", None)
    assert split_of("²") is None  # a digit to some, no decimal number


def test_the_same_line_twice_is_no_contradiction(tmp_path):
    assert split_file(tmp_path, "train a\ntrain a\n")("a") == "train"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train a\ntest a\n", r"splits.txt, line 2: 'a' is in train and in test: one user, one split"),
        ("train 0-10\ntest 10-20\n", "10 is in train and again in test: one user, one split"),
        ("test 5-6\ntrain 0-10\n", "5 is in train and again in test"),
        ("train 0-10\ntest 7\n", "7 is in test and in a range of train: one user, one split"),
        ("train 10-5\n", "the range 10-5 of train ends before it starts"),
        ("train\n", "line 1: expected '<split> <id>' or '<split> <first>-<last>', got 'train'"),
        ("train a\n\ntest # b\n", "line 3: expected"),
    ],
)
def test_bad_lines_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        split_file(tmp_path, text)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"cannot read the split file .*none.txt \(No such file or directory\): pass a text"
    ):
        read_split_file(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("train Zoë\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"cannot read the split file .*latin.txt \(byte 8 is no UTF-8\): pass"):
        read_split_file(tmp_path / "latin.txt")


@given(st.dictionaries(st.integers(0, 300), st.sampled_from(["a", "b", "c"]), max_size=40), st.randoms())
def test_ranges_say_the_same_as_single_lines(tmp_path_factory, split_by_number, draw):
    lines = []
    for number, split in split_by_number.items():
        if draw.random() < 0.5:
            lines.append(f"{split} {number}-{number}")
        else:
            lines.append(f"{split} {number}")
    split_of = split_file(tmp_path_factory.mktemp("splits"), "\n".join(lines))
    assert {n: split_of(str(n)) for n in range(301)} == {n: split_by_number.get(n) for n in range(301)}


FRACTIONS = {"train": 0.8, "validation": 0.05, "test": 0.15}


def test_fractions_are_met_as_by_independent_draws():
    """n = 1e5: five standard deviations of a binomial; a rule that is 2 % off fails."""
    split_of, n = seeded_split(fractions=FRACTIONS, seed=0), 100_000
    drawn = [split_of(f"user {number}") for number in range(n)]
    for split, fraction in FRACTIONS.items():
        assert abs(drawn.count(split) - n * fraction) < 5 * np.sqrt(n * fraction * (1 - fraction))
    assert 5 * np.sqrt(n * 0.15 * 0.85) < 0.04 * 0.15 * n


def test_the_rule_depends_on_the_seed_and_the_id_alone():
    """Half of the ids: those whose SHA-256 of "0/<id>" starts with a byte below 128."""
    ids = [f"n{number:06d}" for number in range(500)] + ["Ada Lovelace", "Жанна д'Арк"]
    first, other = (seeded_split(fractions={"train": 0.5, "test": 0.5}, seed=seed) for seed in (0, 1))
    expected = {id: "train" if hashlib.sha256(f"0/{id}".encode()).digest()[0] < 128 else "test" for id in ids}
    assert {id: first(id) for id in reversed(ids)} == expected
    agree = sum(first(id) == other(id) for id in ids)
    assert 180 < agree < 320


def test_all_goes_to_the_only_split_and_none_to_one_of_no_share():
    assert {seeded_split(fractions={"all": 1.0}, seed=0)(str(n)) for n in range(100)} == {"all"}
    assert "no" not in {seeded_split(fractions={"no": 0.0, "all": 1.0}, seed=0)(str(n)) for n in range(1000)}


@pytest.mark.parametrize(
    "fractions", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 0.6, "b": 0.6}, {"a": 0.5, "b": math.nan}]
)
def test_fractions_that_are_none_are_refused(fractions):
    with pytest.raises(ValueError, match="must be 0 or above and sum to 1"):
        seeded_split(fractions=fractions, seed=0)

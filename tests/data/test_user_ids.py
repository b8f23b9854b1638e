"""Ids in two spellings, and ids that come twice, by hand."""

import hashlib

import pytest

from fedemb.data.formats.tables import Table
from fedemb.data.manifest import Source
from fedemb.data.user_ids import IdsOnce, check_apart, plain_id
from fedemb.data.user_tables import read_listing

ONE_PERSON = [
    ("zo\xeb", "zoe\u0308"),  # composed and not
    ("ann", " ann\t"),
    ("Ada Lovelace", "Ada  Lovelace"),
    ("Ada Lovelace", "Ada\u00a0Lovelace"),  # a space that does not break
    ("Ada Lovelace", "Ada\u3000Lovelace"),  # an ideographic one
    ("ann", "a\u200bnn"),  # a space of no width
    ("ann", "\ufeffann"),  # a byte order mark
    ("ann", "a\u00adnn"),  # a soft hyphen
    ("ann", "\u202aann\u202c"),  # marks of direction
    ("17", "\uff11\uff17"),  # full-width digits
    ("office", "o\ufb03ce"),  # a ligature
    ("zo\xeb", "zoe\u200d\u0308"),  # a letter and its accent, with a joiner between them
]
TWO_PEOPLE = [("ann", "Ann"), ("7", "007"), ("ann", "an n"), ("ann", "anna"), ("zoe", "zo\xeb"), ("a-b", "ab")]


@pytest.mark.parametrize("pair", ONE_PERSON, ids=ascii)
def test_one_person_in_two_spellings_is_refused_with_both_ids(pair):
    assert plain_id(pair[0]) == plain_id(pair[1]) == pair[0]
    with pytest.raises(ValueError, match=r"^table.csv: users .* look the same .*: write a user's name in") as caught:
        check_apart(["bob", *pair], "table.csv")
    assert f"users {pair[0]!a} and {pair[1]!a} look" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("user", ["a\nb", "a\tb", "\x1b[2Jann", "ann\x00", "a\u2028b"], ids=ascii)
def test_an_id_that_breaks_a_line_is_refused(user):
    with pytest.raises(ValueError, match=r"^faces: user .* has control characters or line ends .*: write it") as caught:
        check_apart(["bob", user], "faces")
    assert f"user {user!a} has" in str(caught.value)
    assert str(caught.value).isprintable()


def test_capitals_and_leading_zeros_are_left_alone():
    for pair in TWO_PEOPLE:
        check_apart(pair, "table.csv")


@pytest.mark.parametrize("pair", ONE_PERSON, ids=ascii)
def test_a_listing_refuses_them_too(pair):
    """Landmarks and iNaturalist are read by this."""
    text = f"user_id,image_id,class\n{pair[0]},a,0\nbob,a,0\n{pair[1]},b,0\n"
    table = Table(content=text.encode(), where="here.csv", source=Source(file="here.csv", sha256="0" * 64))
    with pytest.raises(ValueError, match=r"^here.csv: users .* and .* look the same"):
        read_listing(table, user="user_id", classes=1)


def noted(ids):
    once = IdsOnce()
    for user in ids:
        once.add(user)
    return once


@pytest.mark.parametrize(
    ("ids", "repeated"),
    [
        ([], None),
        (["a"], None),
        (["a", "b", "ab", "ba", "", "1", "11"], None),
        (["a", "b", "c", "b"], ("b", 1, 3)),
        (["a", "a", "a"], ("a", 0, 1)),
        ([*map(str, range(2_000)), "77"], ("77", 77, 2_000)),
    ],
)
def test_an_id_that_comes_twice_is_found(ids, repeated):
    assert noted(ids).repeated(ids.__getitem__) == repeated


def collide(monkeypatch, same):
    """Let some ids share a hash."""
    real = hashlib.blake2b

    def hashed(data, digest_size):
        return real(b"x" if data.decode() in same else data, digest_size=digest_size)

    monkeypatch.setattr("fedemb.data.user_ids.hashlib.blake2b", hashed)


def test_ids_that_share_a_hash_are_read_and_told_apart(monkeypatch):
    """And the others are not read."""
    collide(monkeypatch, {"a", "c"})
    asked = []

    def read(ids):
        return lambda position: asked.append(position) or ids[position]

    for ids, repeated, positions in (
        (["a", "b", "c", "d"], None, [0, 2]),
        (["a", "b", "c", "a", "b2"], ("a", 0, 3), [0, 2, 3]),
    ):
        asked.clear()
        assert noted(ids).repeated(read(ids)) == repeated
        assert asked == positions

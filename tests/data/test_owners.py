"""Owners of images, counted by hand and against sets."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from fedemb.data.owners import Owners
from fedemb.data.record import digest


def counted(owned):
    owners = Owners()
    for user, letters in enumerate(owned):
        owners.add(user, b"".join(digest(letter.encode()) for letter in letters))
    return owners.shared()


def test_an_image_that_one_user_has_twice_is_not_shared():
    assert counted([]) == counted(["", ""]) == counted(["aab", "c"]) == (0, 1)
    assert counted(["abcc", "bdc", "", "b"]) == (2, 3)


@given(st.lists(st.text("abcdef", max_size=6), max_size=8))
def test_as_sets_count_them(owned):
    users = defaultdict(set)
    for user, letters in enumerate(owned):
        for letter in letters:
            users[letter].add(user)
    sizes = [len(each) for each in users.values()]
    assert counted(owned) == (sum(size > 1 for size in sizes), max(sizes, default=1))

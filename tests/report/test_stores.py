"""What a description says of a store whose content is known."""

from collections import Counter

import numpy as np
import pytest

from fedemb.data.manifest import StoreInfo
from fedemb.data.record import UserRecord
from fedemb.data.store import StoreUsers
from fedemb.data.store_writer import write_store
from fedemb.report.stores import Spread, contact_sheet, describe


def store(folder, users, polarity="grey"):
    """users: per user (pixel value, labels)."""
    info = StoreInfo(
        name="toy",
        split="train",
        user="a writer",
        image_shape=(1, 4, 4),
        classes=10,
        polarity=polarity,
        description="",
        licence="MIT",
        notice="",
        sources=(),
        command="",
    )
    records = (
        UserRecord.from_pixels(
            id=f"user {number}", images=np.full((len(labels), 1, 4, 4), value, np.uint8), labels=np.array(labels, int)
        )
        for number, (value, labels) in enumerate(users)
    )
    write_store(folder / "train", info=info, records=records)
    return StoreUsers(path=folder)


def test_images_and_classes_are_counted_by_user(tmp_path):
    found = describe(store(tmp_path, [(0, [1, 1, 2]), (0, []), (0, [5]), (0, [5, 5, 5])]))
    assert found.images.counts == {0: 1, 1: 1, 3: 2}
    assert found.classes.counts == {0: 1, 1: 2, 2: 1}


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 2), (0.51, 5), (0.75, 5), (0.76, 9), (1, 9)])
def test_a_quantile_is_the_smallest_value_that_enough_users_do_not_exceed(share, value):
    assert Spread(counts=Counter([9, 5, 2, 1])).quantile(share) == value


def test_the_histogram_has_every_user_once_and_bars_in_proportion():
    rows = Spread(counts={10: 1, 11: 3, 30: 8}).histogram()
    assert [row.split(" ")[0] for row in rows] == ["10-12", "13-15", "16-18", "19-21", "22-24", "25-27", "28-30"]
    assert [row.split()[1] for row in rows] == ["4", "0", "0", "0", "0", "0", "8"]
    assert [row.count("█") for row in rows] == [20, 0, 0, 0, 0, 0, 40]


def test_one_value_is_one_row():
    assert Spread(counts={7: 2}).histogram() == ["7 2 " + "█" * 40]


def test_hardly_anybody_still_shows():
    rows = Spread(counts={1: 1, 2: 100_000}).histogram()
    assert rows[0].endswith("▏")
    assert rows[1] == "2 100,000 " + "█" * 40


def test_the_sheet_shows_the_first_and_the_last_user(tmp_path):
    users = store(tmp_path, [(10 * number, [number] * 2) for number in range(10)])
    sheet = np.asarray(contact_sheet(users, users=3, images=2))
    tiles = sheet[4 + 28 :: 60, 210 + 28 :: 60, 0]  # the middles of the tiles
    assert tiles.tolist() == [[0, 0], [40, 40], [90, 90]]  # positions 0, 4 (4.5 rounds to even), 9


def test_ink_is_dark_on_the_sheet(tmp_path):
    """Stored as 255 on 0, shown as on paper."""
    sheet = np.asarray(contact_sheet(store(tmp_path, [(255, [0])], polarity="ink 255 on 0"), images=1))
    assert sheet[4 + 28, 210 + 28].tolist() == [0, 0, 0]

"""LEAF's writers from their spool: one file at a time, and whole or not at all."""

import json

import numpy as np
import pytest

from fedemb.data.formats.writers_leaf import leaf_writers


@pytest.fixture
def source(tmp_path):
    """Two writers, f1 with images in both files; ink is 255 (1 - paper)."""
    (tmp_path / "leaf").mkdir()
    for number, shares in enumerate(({"f1": [0.0], "f0": [1.0, 0.0]}, {"f1": [0.4]})):
        data = {
            user: {"x": [[paper] * 784 for paper in papers], "y": [number] * len(papers)}
            for user, papers in shares.items()
        }
        sizes = [len(own["y"]) for own in data.values()]
        content = {"users": list(data), "num_samples": sizes, "user_data": data}
        (tmp_path / "leaf" / f"{number}.json").write_text(json.dumps(content))
    return tmp_path / "leaf"


def test_a_writers_rows_of_all_files_are_joined(source, tmp_path):
    with leaf_writers(source, tmp_path / "out") as writers:
        read = {id: writers.read(unit) for id, unit in writers.units.items()}
        assert {id: own.images[:, 0, 0].tolist() for id, own in read.items()} == {"f0": [0, 255], "f1": [255, 153]}
        assert {id: own.labels.tolist() for id, own in read.items()} == {"f0": [0, 0], "f1": [0, 1]}
        assert all(own.images.shape[1:] == (28, 28) and own.images.dtype == np.uint8 for own in read.values())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bytes_left", [0, 784, 3 * 784, 4 * 784 - 1])
def test_a_spool_that_was_cut_is_an_error_and_no_shorter_user(source, tmp_path, bytes_left):
    """A cut at an image's end would else give a user with fewer images than labels, or none."""
    with leaf_writers(source, tmp_path) as writers:
        (spool,) = tmp_path.glob(".fedemb-*")
        with spool.open("r+b") as file:
            file.truncate(bytes_left)
        with pytest.raises(ValueError, match=rf"^{spool} ends at byte {bytes_left}, .*run the same command again$"):
            writers.read(writers.units["f1"])


def test_two_at_once_do_not_share_a_spool(source, tmp_path):
    with leaf_writers(source, tmp_path) as writers:
        with pytest.raises(ValueError, match=r"^another fedemb prepare is unpacking .*leaf in .*: wait for it"):
            leaf_writers(source, tmp_path).__enter__()
        assert writers.read(writers.units["f0"]).images[:, 0, 0].tolist() == [0, 255]

"""Pair files: what is read, what is refused, and the scores of folds."""

from __future__ import annotations

import pytest
import torch

from fedemb.evaluation.embedded import Embedded
from fedemb.evaluation.folds import PairFile, best_threshold, fold_accuracies, fold_tars
from fedemb.evaluation.pair_files import Pair, read_pairs

GOOD = "2\t1\nAnn Lee\t1\t2\nAnn Lee\t1\tBob\t2\nBob\t1\t2\nBob\t3\tAnn Lee\t2\n"


def test_a_file_is_read(tmp_path):
    (tmp_path / "pairs.txt").write_text(GOOD)
    read = read_pairs(tmp_path / "pairs.txt")
    assert [len(fold) for fold in read.folds] == [2, 2]
    assert read.folds[0][0] == Pair(first=("Ann Lee", 1), second=("Ann Lee", 2), same=True, line=2)
    assert read.folds[1][1] == Pair(first=("Bob", 3), second=("Ann Lee", 2), same=False, line=5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: expected the folds"),
        ("1100\n", "line 1: one fold only"),
        ("2 x\n", "line 1: expected the folds"),
        ("1\t300\n", "line 1: expected the folds"),
        (GOOD + "Bob\t1\t2\n", "line 1: 2 folds of 1 and 1 pairs are 4 lines, the file has 5"),
        (GOOD.replace("Ann Lee\t1\t2", "Ann Lee\t1"), "line 2: expected name i j"),
        (GOOD.replace("Ann Lee\t1\t2", "Ann Lee\t0\t2"), "line 2: expected name i j"),
        (GOOD.replace("Bob\t1\t2", "Bob\t1\tAnn Lee\t3"), "line 4: expected name i j"),
        (GOOD.replace("Bob\t3\tAnn Lee\t2", "Bob\t3\tBob\t2"), "line 5: expected two persons"),
        (GOOD.replace("Bob\t3\tAnn Lee\t2", "Bob\t3"), "line 5: expected name1 i name2 j"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, words):
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        read_pairs(tmp_path / "pairs.txt")
    assert str(caught.value).startswith(str(tmp_path / "pairs.txt"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\x80\x04\x95", b"\xff\xfe2\x00"])
def test_a_pickle_or_another_encoding_is_refused(tmp_path, content):
    (tmp_path / "pairs.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"pairs\.bin is no UTF-8 text"):
        read_pairs(tmp_path / "pairs.bin")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*No such file"):
        read_pairs(tmp_path / "none.txt")


def test_the_best_threshold_by_hand():
    # 0.9 same, 0.7 different, 0.6 same, 0.2 different: above 0.2 or above 0.7 3 are right; the lowest is taken.
    assert best_threshold(torch.tensor([0.9, 0.6, 0.7, 0.2]), torch.tensor([True, True, False, False])) == (
        pytest.approx(0.4)
    )
    # Equal similarities cannot be divided: all accepted or all refused is the best.
    assert best_threshold(torch.tensor([0.5, 0.5]), torch.tensor([True, False])) == pytest.approx(-0.0)


def test_folds_are_scored_by_the_thresholds_of_the_others():
    # Fold 0 is divided at 0.5, fold 1 at 0.75 (between 0.7 and 0.8).
    similarity = torch.tensor([[0.6, 0.4], [0.8, 0.7]])
    same = torch.tensor([[True, False], [True, False]])
    # Fold 0 with 0.75: the same pair is refused, 1/2. Fold 1 with 0.5: the different pair is accepted, 1/2.
    assert fold_accuracies(similarity, same).tolist() == [0.5, 0.5]
    # FAR 0: above 0.7 in fold 0: 0 of 1; above 0.4 in fold 1: 1 of 1.
    assert fold_tars(similarity, same, 0.0).tolist() == [0.0, 1.0]


def users(count: int, each: int) -> Embedded:
    owners = torch.arange(count).repeat_interleave(each)
    return Embedded(
        embeddings=torch.eye(count)[owners], labels=owners, owners=owners, user_name=["Ann Lee", "Bob"].__getitem__
    )


def test_names_are_found_among_the_test_users(tmp_path):
    (tmp_path / "pairs.txt").write_text(GOOD)
    found = PairFile(path=str(tmp_path / "pairs.txt"), fars=(0.1,)).metrics(users(2, 3))
    assert found == {
        "pairs:accuracy": 1.0,
        "pairs:accuracy:std": 0.0,
        "pairs:tar@far=0.1": 1.0,
        "pairs:tar@far=0.1:std": 0.0,
    }
    with pytest.raises(ValueError, match="line 5: 'Bob' has 2 images, not 3"):
        PairFile(path=str(tmp_path / "pairs.txt"), fars=()).metrics(users(2, 2))
    with pytest.raises(ValueError, match="line 3: there is no test user 'Bob'"):
        PairFile(path=str(tmp_path / "pairs.txt"), fars=()).metrics(users(1, 3))
    with pytest.raises(ValueError, match="these test users have no names"):
        PairFile(path=str(tmp_path / "pairs.txt"), fars=()).metrics(
            Embedded.of_identities(torch.eye(2), torch.arange(2))
        )

"""Queries and an index: the score by hand, the table, and images from folders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fedemb.evaluation import landmarks
from fedemb.evaluation.embedded import Embedded, Model
from fedemb.evaluation.landmarks import QueryIndex, mean_average_precision, most_similar, read_solution


def test_the_score_by_hand():
    # q: relevant a, b, c. Ranked a x b: P@1 = 1, P@3 = 2/3: (1 + 2/3) / 3. r: no ranking: 0.
    relevant = {"q": frozenset("abc"), "r": frozenset("a")}
    assert mean_average_precision({"q": ["a", "x", "b"]}, relevant, depth=100) == pytest.approx((1 + 2 / 3) / 3 / 2)
    # Depth 2: only a counts, and at most 2 could have been found: 1/2.
    assert mean_average_precision({"q": ["a", "x", "b"]}, relevant, depth=2) == pytest.approx(1 / 2 / 2)
    # a again is no second hit and keeps its place: b is third.
    again = mean_average_precision({"q": ["a", "a", "b"]}, relevant, depth=100)
    assert again == pytest.approx((1 + 2 / 3) / 3 / 2)
    assert mean_average_precision({}, {}, depth=100) is None


def test_rankings_equal_a_stable_sort_across_chunks(monkeypatch):
    monkeypatch.setattr(landmarks, "_CHUNK", 7)
    monkeypatch.setattr(landmarks, "_QUERIES", 4)
    stream = torch.Generator().manual_seed(0)
    queries, index = (torch.randint(-1, 2, (n, 3), generator=stream).float() for n in (10, 40))  # with many draws
    expected = np.argsort(-(queries @ index.T).numpy(), axis=1, kind="stable")[:, :12]
    assert most_similar(queries, index, depth=12).tolist() == expected.tolist()
    assert most_similar(queries, index[:5], depth=12).shape == (10, 5)


HEAD = "id,images,Usage\n"


def test_ignored_rows_are_left_out(tmp_path):
    (tmp_path / "solution.csv").write_text(HEAD + "q1,a b,Public\nq2,,Ignored\nq3,c,Private\n")
    read = read_solution(tmp_path / "solution.csv")
    assert read.usage == {"Public": {"q1": frozenset("ab")}, "Private": {"q3": frozenset("c")}}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("q,a,public", "line 2: Usage must be one of Public, Private, Ignored, got 'public'"),
        ("q,a,Public\nq,b,Private", "line 3: the query q again"),
        ("q, ,Public", "line 2: the query q has no image"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, rows, words):
    (tmp_path / "solution.csv").write_text(HEAD + rows + "\n")
    with pytest.raises(ValueError, match=words):
        read_solution(tmp_path / "solution.csv")


def paint(folder, **columns: int) -> None:
    """Images of one white column each."""
    folder.mkdir()
    for name, column in columns.items():
        pixels = np.zeros((8, 8), np.uint8)
        pixels[:, column] = 255
        Image.fromarray(pixels).save(folder / f"{name}.png")


def test_images_are_embedded_and_searched(tmp_path):
    paint(tmp_path / "queries", q1=0, q2=1, unused=2)
    paint(tmp_path / "index", a=0, b=1, c=2)
    (tmp_path / "solution.csv").write_text(HEAD + "q1,a,Public\nq2,c,Private\n")
    model = Model(forward=lambda images: images.flatten(1).float(), image_shape=(1, 8, 8), device=torch.device("cpu"))
    test = Embedded(embeddings=torch.eye(2), labels=torch.arange(2), owners=torch.arange(2), model=model)
    settings = {key: str(tmp_path / key) for key in ("queries", "index")} | {"solution": str(tmp_path / "solution.csv")}
    # q2 resembles b, then a and c are equal and come by their ids: c is third.
    assert QueryIndex(**settings).metrics(test) == {"map@100:public": 1.0, "map@100:private": pytest.approx(1 / 3)}
    assert QueryIndex(**settings, depth=2).metrics(test)["map@2:private"] == 0.0
    (tmp_path / "index" / "c.png").unlink()
    with pytest.raises(ValueError, match=r"index lacks 1 images of .*solution\.csv, the first is c"):
        QueryIndex(**settings).metrics(test)

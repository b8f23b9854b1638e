"""Omniglot's one-shot runs: the published file, and files that are not."""

from __future__ import annotations

import zipfile

import pytest
import torch

from fedemb.data.formats.archive import ZipArchive
from fedemb.evaluation.embedded import Embedded, Model
from fedemb.evaluation.trials import OneShotTrials, read_runs, wrong_answers


def test_a_draw_is_wrong():
    similarity = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.7, 0.2]])
    assert wrong_answers(similarity, torch.tensor([0, 1, 1])) == 2


def seen_by(forward, shape=(1, 28, 28)) -> Embedded:
    model = Model(forward=forward, image_shape=shape, device=torch.device("cpu"))
    return Embedded(embeddings=torch.eye(2), labels=torch.arange(2), owners=torch.arange(2), model=model)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 14, 14)])
def test_the_published_runs_are_measured(shape):
    """Pixels know more than a constant and less than people, whose error is 4.5 %."""
    pixels = OneShotTrials().metrics(seen_by(lambda images: images.flatten(1).float(), shape))
    assert 0.3 < pixels["one_shot_error"] < 0.9
    assert OneShotTrials().metrics(seen_by(lambda images: torch.ones(len(images), 4)))["one_shot_error"] == 1.0


def test_embeddings_alone_have_no_model():
    with pytest.raises(ValueError, match="one_shot_error embeds images of its own"):
        OneShotTrials().metrics(Embedded.of_identities(torch.eye(2), torch.arange(2)))


def packed(folder, labels: str, root: str = "") -> str:
    path = folder / "runs.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{root}run01/class_labels.txt", labels)
        for kind, name in (("test", "item"), ("training", "class")):
            for number in ("01", "02"):
                file.writestr(f"{root}run01/{kind}/{name}{number}.png", b"")
    return path


LINES = "run01/test/item01.png run01/training/class02.png\nrun01/test/item02.png run01/training/class01.png\n"


@pytest.mark.parametrize("root", ["", "all_runs/"])
def test_answers_are_read_wherever_the_runs_lie(tmp_path, root):
    (run,) = read_runs(ZipArchive(packed(tmp_path, LINES, root)))
    assert run == {
        f"{root}run01/test/item01.png": f"{root}run01/training/class02.png",
        f"{root}run01/test/item02.png": f"{root}run01/training/class01.png",
    }


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("run01/test/item01.png", "line 1: expected an item"),
        (LINES + "run01/test/item03.png run01/training/class01.png", "line 3: expected an item"),
        ("run01/test/item01.png ../../class01.png", "line 1: expected an item"),
        (LINES.replace("class02", "class01"), "of different classes"),
    ],
)
def test_wrong_answers_are_one_line(tmp_path, labels, words):
    with pytest.raises(ValueError, match=words) as caught:
        read_runs(ZipArchive(packed(tmp_path, labels)))
    assert "\n" not in str(caught.value)


def test_another_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("a.txt", b"")
    with pytest.raises(ValueError, match="has no run01/class_labels"):
        OneShotTrials(path=str(tmp_path / "other.zip")).metrics(seen_by(lambda images: images.flatten(1).float()))
    with pytest.raises(ValueError, match=r"^no file .*none\.zip"):
        OneShotTrials(path=str(tmp_path / "none.zip")).metrics(seen_by(lambda images: images))

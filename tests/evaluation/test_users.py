"""Embedding all images of a data set in bounded batches."""

import torch
from small import make_users

from fedemb.evaluation import users as module
from fedemb.evaluation.users import embed_users

CPU = torch.device("cpu")
COUNTS = (5, 0, 3, 11, 1, 8, 0, 2)


def test_every_image_once_in_order_and_never_too_many(monkeypatch):
    """Large users are cut, small ones joined, users without images skipped."""
    monkeypatch.setattr(module, "_IMAGES_AT_ONCE", 4)
    users, seen = make_users(COUNTS), []

    def forward(images):
        seen.append(len(images))
        return images.flatten(1).float()

    embeddings, labels = embed_users(forward, users, CPU)
    everything = users.load(range(len(COUNTS)))
    pixels = everything["image"].flatten(1).double()
    wanted = pixels / pixels.norm(dim=1, keepdim=True)
    torch.testing.assert_close(embeddings.double(), wanted, atol=1e-6, rtol=0)
    assert labels.tolist() == everything["label"].tolist()
    assert max(seen) == 4
    assert sum(seen) == sum(COUNTS)


def test_no_more_users_are_in_memory_than_fit(monkeypatch):
    monkeypatch.setattr(module, "_IMAGES_AT_ONCE", 8)
    assert list(module._groups(make_users(COUNTS))) == [[0, 1, 2], [3], [4], [5, 6], [7]]

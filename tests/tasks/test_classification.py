"""Classification with a shared last layer."""

import math

import pytest
import torch
from torch import nn

from fedemb.models.cnn import TinyCNN
from fedemb.tasks.classification import ClassificationTask
from fedemb.testing import check_task

BATCH = {
    "image": torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
    "label": torch.tensor([0, 9, 4]),
    "mask": torch.tensor([1.0, 1.0, 0.0]),
}


def test_keeps_the_contract():
    check_task(ClassificationTask(model=TinyCNN()), BATCH)


def test_everything_is_shared_and_nothing_local():
    task = ClassificationTask(model=TinyCNN())
    assert all(task.is_shared(name) for name in task.init(0))
    assert task.init_local(1) == {}


def test_loss_by_hand():
    """All logits equal: log 10 for every example; padding counts for nothing."""
    task = ClassificationTask(model=TinyCNN())
    zeros = {name: torch.zeros_like(value) for name, value in task.init(0).items()}
    assert float(task.loss(zeros, BATCH)) == pytest.approx(math.log(10))


def test_running_statistics_are_refused():
    with pytest.raises(ValueError, match="running_mean"):
        ClassificationTask(model=nn.Sequential(nn.BatchNorm2d(3)))

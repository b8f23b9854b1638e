"""The workloads, one line each."""

from __future__ import annotations

from functools import partial

from torch import nn

from fedemb.bench.workload import Workload
from fedemb.data.transforms import LocalLabels, ScalePixels
from fedemb.models.cnn import FedAvgCNN, TinyCNN
from fedemb.models.lenet import LeNet
from fedemb.models.mobilenet import MobileNetV2
from fedemb.models.resnet import ResNet
from fedemb.models.vit import ViT
from fedemb.tasks.classification import ClassificationTask
from fedemb.tasks.embedding import EmbeddingTask
from fedemb.tasks.heads import SoftmaxHead

_CLASSES = 36  # of DP-FedEmb's clients


def _classification(model: nn.Module) -> ClassificationTask:
    return ClassificationTask(model=model)


def _embedding(model: nn.Module) -> EmbeddingTask:
    return EmbeddingTask(backbone=model, head=SoftmaxHead(), embedding_width=128, local_classes=_CLASSES)


_cifar = partial(  # the shape of CIFAR-10 as in Granqvist et al. 2024, arXiv:2404.06430, without its images
    Workload,
    task=_classification,
    transforms=(ScalePixels(),),
    users=1_000,
    images=50,
    shape=(3, 32, 32),
    classes=10,
    clients=50,
    batch_size=10,
    learning_rate=0.1,
    clip_norm=0.4,
    noise_multiplier=0.0025,
)
_dp_fedemb = partial(  # the clients' settings as in conf/recipe/emnist.yaml: Xu et al. 2023, arXiv:2211.10844
    Workload,
    task=_embedding,
    transforms=(LocalLabels(max_classes=_CLASSES), ScalePixels()),
    classes=_CLASSES,
    batch_size=32,
    learning_rate=0.005,
    momentum=0.9,
    head_lr_scale=100.0,
    clip_norm=1.0,
    noise_multiplier=0.62,
)

PEERS = {"tiny": _cifar(model=TinyCNN), "cnn": _cifar(model=FedAvgCNN)}
"""What simulators are compared on."""

_photographs = partial(_dp_fedemb, users=16, images=8, shape=(3, 224, 224), clients=4, users_per_client=2)

RECIPES = {
    "lenet": _dp_fedemb(model=LeNet, users=512, images=20, shape=(1, 28, 28), clients=32, users_per_client=8),
    "mobilenet": _photographs(model=MobileNetV2),
    "resnet50": _photographs(model=ResNet),
    "vit": _photographs(model=ViT),
}
"""DP-FedEmb's own: few users, as their number does not change a round."""

WORKLOADS = {**PEERS, **RECIPES}

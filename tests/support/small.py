"""What tests share: 8x8 grey images, embedding width 4, at most 3 identities a client; a step takes milliseconds."""

from functools import partial
from itertools import product

import torch
from torch import nn

from fedemb.client.finetune import FineTune, HeadFirst, Joint
from fedemb.core.optim import SGD, Adam
from fedemb.core.types import Cohort, VirtualClient
from fedemb.data.batching import Batcher
from fedemb.data.transforms import Compose, LocalLabels, ScalePixels
from fedemb.data.users import InMemoryUsers
from fedemb.tasks.embedding import EmbeddingTask
from fedemb.tasks.heads import CosineHead, SoftmaxHead
from fedemb.tasks.task import Task

WIDTH, SIZE, CLASSES = 4, 8, 3
COUNTS = (5, 0, 3, 11, 1, 8, 0, 2, 6, 4, 9, 7)  # images of users 0 .. 11


class Conv(nn.Module):
    """conv, GroupNorm, ReLU, max pool, linear."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.embedding = nn.Linear(4 * (SIZE // 2) ** 2, WIDTH)

    def forward(self, images):
        hidden = nn.functional.max_pool2d(self.norm(self.conv(images)).relu(), 2)
        return self.embedding(hidden.flatten(1))


class Line(nn.Module):
    """pixels -> embedding, linear with bias."""

    def __init__(self, inputs=SIZE * SIZE, width=WIDTH):
        super().__init__()
        self.embedding = nn.Linear(inputs, width)

    def forward(self, images):
        return self.embedding(images.flatten(1))


class Drift(Task):
    """loss = -strength * masked sum of (w . pixels): an SGD step moves w by rate * strength * (sum of all pixels)."""

    def __init__(self, strength=1.0, pixels=SIZE * SIZE):
        self.strength, self.pixels = strength, pixels

    def init(self, seed):
        return {"w": torch.zeros(self.pixels)}

    def is_shared(self, name):
        return True

    def init_local(self, seed):
        return {}

    def loss(self, params, batch):
        return -self.strength * ((batch["image"].flatten(1) @ params["w"]) * batch["mask"]).sum()


def make_users(counts=COUNTS, seed=0, shape=(1, SIZE, SIZE)):
    """One identity a user; the images of user u are random."""
    stream = torch.Generator().manual_seed(seed)
    return InMemoryUsers(
        [
            {
                "image": torch.randint(256, (n, *shape), generator=stream, dtype=torch.uint8),
                "label": torch.full((n,), user),
            }
            for user, n in enumerate(counts)
        ]
    )


def make_load(users=None, *, batch_size=8, epochs=1, dtype=torch.float32):
    """A function from a virtual client to its batches."""

    transform = Compose(transforms=[LocalLabels(max_classes=CLASSES), ScalePixels(), partial(_cast, dtype)])
    users = make_users() if users is None else users
    return Batcher(users=users, batch_size=batch_size, epochs=epochs, transform=transform).load


def _cast(dtype, batch, rng):
    return {**batch, "image": batch["image"].to(dtype), "mask": batch["mask"].to(dtype)}


def make_stream(users=None, **settings):
    """The same for one client after the other, as executors ask for it."""
    return partial(map, make_load(users, **settings))


def make_cohort(*groups, round=0):
    """Virtual clients of the given users; seeds 100, 101, ..."""
    clients = (VirtualClient(round=round, seed=100 + i, users=tuple(users)) for i, users in enumerate(groups))
    return Cohort(round=round, clients=tuple(clients))


RAGGED = make_cohort((3, 10), (1, 6), (4,), (5, 2, 0), (9, 11))  # 20, 0, 1, 16 and 11 examples


def make_task(*, backbone=None, head=None, frozen=()):
    return EmbeddingTask(
        backbone=backbone or Conv(),
        head=head or SoftmaxHead(),
        embedding_width=WIDTH,
        local_classes=CLASSES,
        frozen=frozen,
    )


def make_work(*, task=None, optimizer=None, learning_rate=0.05, **others):
    task, optimizer = task or make_task(), optimizer or SGD(momentum=0.9)
    return FineTune(task=task, optimizer=optimizer, learning_rate=learning_rate, **others)


def work_variants():
    """name -> FineTune, for every combination of optimizer, phases, head and frozen layers."""
    optimizers = {"sgd": (SGD(), 0.1), "momentum": (SGD(momentum=0.9), 0.05), "adam": (Adam(), 0.02)}
    phases = {"joint": Joint(), "headfirst": HeadFirst(head_only_steps=1)}
    heads = {"softmax": SoftmaxHead(), "cosine": CosineHead(initial_scale=4.0)}
    frozen = {"all": (), "frozen": ("conv.*", "norm.?ias")}
    return {
        "-".join(names): make_work(
            task=make_task(head=heads[names[2]], frozen=frozen[names[3]]),
            optimizer=optimizers[names[0]][0],
            learning_rate=optimizers[names[0]][1],
            phases=phases[names[1]],
            head_lr_scale=3.0,
        )
        for names in product(optimizers, phases, heads, frozen)
    }

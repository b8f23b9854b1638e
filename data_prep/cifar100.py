"""CIFAR-100 to stores: natural colour images of 100 classes, and users who are made up.

Nobody took these images as a collection, so users are dealt from them: by Pachinko allocation over the 20 x 5 classes,
by a Dirichlet over the 100, or as TensorFlow Federated did (500 users, Pachinko as well). Labels are classes. The test
store holds the test images of the same classes. Nobody real stands behind such a user.
Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedemb.core.files import sha256
from fedemb.data.formats.cifar100 import FROM, SHAPE, Dealt, Form, Hierarchy, ReadRecords, open_cifar100, spooled
from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.partition import Population, dirichlet, pachinko
from fedemb.data.preparation import Prepared, Request, Split, prepare_splits
from fedemb.data.splits import read_split_file

COARSE = Path(__file__).parent / "splits" / "cifar100_coarse.txt"

_PUBLISHED = {"train": 50_000, "test": 10_000}
_TFF_CLIENTS = {"train": 500, "test": 100}
_EACH = 100  # images a user, as in Reddi et al. 2021

NOTICE = """\
CIFAR-100, A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; https://www.cs.toronto.edu/~kriz/
The authors state no licence and ask that the report be cited. The images were collected from the web as part of the 80
Million Tiny Images, which its authors have withdrawn: use them for research, and do not pass them on.
"""
_MADE_UP = "nobody real stands behind a user, so an epsilon over them protects nobody"
_CELL = "a made-up partition cell (no person)"


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A way to make users up. usual: its concentration where none is asked for.

    deal: (fine labels, coarse labels, population, concentration) -> places of each user's images.
    """

    told: str
    usual: Sequence[float]
    deal: Callable[[np.ndarray, np.ndarray, Population, Sequence[float]], list[np.ndarray]]


def _by_pachinko(fine: np.ndarray, coarse: np.ndarray, who: Population, by: Sequence[float]) -> list[np.ndarray]:
    return pachinko(fine, coarse, who, alpha=by[0], beta=by[1])


def _by_dirichlet(fine: np.ndarray, coarse: np.ndarray, who: Population, by: Sequence[float]) -> list[np.ndarray]:
    return dirichlet(fine, who, alpha=by[0])


_PARTITIONS: Mapping[str, Partition] = {
    "pachinko": Partition(told="Pachinko allocation, Reddi et al. 2021", usual=(0.1, 10.0), deal=_by_pachinko),
    "dirichlet": Partition(told="Dirichlet, Hsu et al. 2019", usual=(0.5,), deal=_by_dirichlet),
}
_TFF = "tff"


@dataclass(frozen=True, kw_only=True)
class Users:
    """Who is in the stores.

    name: of the data set. dealt, told: split -> users, and how they came to be. options: of the command that made them.
    user: split -> what one is. trainable: the splits to train on.
    """

    name: str
    dealt: Mapping[str, Sequence[Dealt]]
    told: Mapping[str, str]
    user: Mapping[str, str]
    trainable: Sequence[str]
    options: str


def prepare(
    request: Request,
    *,
    partition: str = "pachinko",
    num_users: int | None = None,
    examples_per_user: int | None = None,
    concentration: Sequence[float] | None = None,
    partition_seed: int = 0,
) -> Prepared:
    """Make the stores `out`/train and `out`/test.

    Args: request: source is cifar-100-binary.tar.gz, a zip or folder {train,test}/CLASS/*.png, TFF's
            cifar100.sqlite.lzma, or a folder that holds one of them.
        partition: "pachinko", "dirichlet", or "tff" for the users in TFF's file.
        num_users: None for as many as there are images for. examples_per_user: None for 100.
        concentration: [alpha over coarse, beta over fine classes] for pachinko, None for [0.1, 10]; [alpha] for
            dirichlet, None for [0.5], which is no paper's. partition_seed: of the drawing.
    Raises: ValueError in one line if the source is missing, damaged or a pickle, the counts are not the published
        ones, or the users need more images than there are.
    """
    if partition not in (*_PARTITIONS, _TFF):
        raise ValueError(f"partition must be one of {', '.join((*_PARTITIONS, _TFF))}, got partition={partition}")
    hierarchy = Hierarchy.of(read_split_file(COARSE).ids)
    source = request.existing_source(FROM)
    with (
        open_cifar100(source, hierarchy, request.out) as form,
        spooled(form, "train", hierarchy, request.out) as train,
        spooled(form, "test", hierarchy, request.out) as test,
    ):
        readers = {"train": train, "test": test}
        missing = {split: _missing(request, form, split, reader) for split, reader in readers.items()}
        if partition == _TFF:
            users = _natural(request, form, (num_users, examples_per_user, concentration))
        else:
            population = _population(train, num_users, examples_per_user, partition_seed)
            users = _made_up(readers, hierarchy, partition, population, concentration)
        splits = [_split(form, hierarchy, users, split, readers[split], missing[split]) for split in readers]
        return prepare_splits(request, splits)


def _missing(request: Request, form: Form, split: str, reader: ReadRecords) -> dict[str, int]:
    found = {"images": len(reader.labels()[0])}
    return request.missing(f"{form.path} ({split})", found=found, published={"images": _PUBLISHED[split]})


def _population(reader: ReadRecords, num_users: int | None, examples_per_user: int | None, seed: int) -> Population:
    each = _EACH if examples_per_user is None else examples_per_user
    images = len(reader.labels()[0])
    enough = max(1, images // max(1, each))
    return Population(num_users=enough if num_users is None else num_users, examples_per_user=each, seed=seed)


def _made_up(
    readers: Mapping[str, ReadRecords],
    hierarchy: Hierarchy,
    partition: str,
    population: Population,
    concentration: Sequence[float] | None,
) -> Users:
    """Training users dealt from the images; for testing, a class is a user."""
    made = _PARTITIONS[partition]
    by = list(made.usual if concentration is None else concentration)
    if len(by) != len(made.usual):
        raise ValueError(f"partition={partition} has {len(made.usual)} numbers as concentration, got {by}")
    train = made.deal(*readers["train"].labels(), population, by)
    labels, _ = readers["test"].labels()
    return Users(
        dealt={
            "train": [Dealt(id=f"user{number:05d}", places=places) for number, places in enumerate(train)],
            "test": [Dealt(id=hierarchy.fine[one], places=np.flatnonzero(labels == one)) for one in np.unique(labels)],
        },
        name=f"cifar100_{partition}",
        told={
            "train": f"users made up by {made.told}, concentration {by}, seed {population.seed}; {_MADE_UP}",
            "test": "a class is a user",
        },
        user={"train": _CELL, "test": "a class of the test images (no person)"},
        trainable=("train",),
        options=(
            f"partition={partition} num_users={population.num_users} examples_per_user={population.examples_per_user} "
            f"concentration={json.dumps(by, separators=(',', ':'))} partition_seed={population.seed}"
        ),
    )


def _natural(request: Request, form: Form, asked: Sequence[object]) -> Users:
    """The users of TFF's file, of the training and of the test images. asked: options that do not go with them."""
    if any(option is not None for option in asked):
        raise ValueError("partition=tff takes the users of TFF's file: leave out how to make users up")
    if not form.clients:
        raise ValueError(f"{form.path} has no users; partition=tff needs TFF's cifar100.sqlite.lzma: take pachinko")
    for split, clients in form.clients.items():
        request.missing(
            f"{form.path} ({split})", found={"users": len(clients)}, published={"users": _TFF_CLIENTS[split]}
        )
    dealt = {split: _clients(clients) for split, clients in form.clients.items()}
    told = dict.fromkeys(dealt, f"users made up by TensorFlow Federated; {_MADE_UP}")
    return Users(
        dealt=dealt,
        name="cifar100_tff",
        told=told,
        user=dict.fromkeys(dealt, _CELL),
        trainable=tuple(dealt),
        options=f"partition={_TFF}",
    )


def _clients(clients: Sequence[tuple[str, int]]) -> list[Dealt]:
    ends = np.cumsum([size for _, size in clients])
    return [
        Dealt(id=client, places=np.arange(end - size, end)) for (client, size), end in zip(clients, ends, strict=True)
    ]


def _split(
    form: Form, hierarchy: Hierarchy, users: Users, split: str, reader: ReadRecords, missing: Mapping[str, int]
) -> Split:
    dealt = users.dealt[split]
    unused = len(reader.labels()[0]) - sum(len(user.places) for user in dealt)
    return Split(
        info=StoreInfo(
            name=users.name,
            split=split,
            user=users.user[split],
            trainable=split in users.trainable,
            image_shape=SHAPE,
            classes=len(hierarchy.fine),
            label="class",
            polarity="RGB",
            description=f"32 x 32 pixels as published; {users.told[split]}",
            licence="none stated; customary for research, cite Krizhevsky 2009",
            notice=NOTICE,
            redistributable=False,
            presentable=False,
            sources=(form.source, Source(file=f"splits/{COARSE.name}", sha256=sha256(COARSE))),
            command=f"fedemb prepare cifar100 {users.options} source=<folder>",
        ),
        users=len(dealt),
        units=dealt,
        records=reader,
        class_names=hierarchy.fine,
        left_out={**missing, **({"images without a user": unused} if unused else {})},
    )

"""iNaturalist 2017, divided among its observers (user-120k) or among places (geo), to stores.

partition=user_120k: a user is an observer. partition=geo_100 to geo_30k: a "user" is a cell of the map with so many
images at most, so that the unit of privacy is a place and no person. Labels are 1,203 species; the test table has
images of the same species and no users: a metric on them says nothing about unseen species, and as nothing keeps an
observer's images out of them, the privacy guarantee, which is for the training images, is not for it.
Sources: Van Horn et al., CVPR 2018, arXiv:1707.06642; Hsu, Qi, Brown, ECCV 2020, arXiv:2003.08082; the counts are those
of tensorflow_federated/python/simulation/datasets/inaturalist.py and of google-research/federated_vision_datasets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fedemb.data.formats.tables import Table, open_table, table_names
from fedemb.data.formats.tff_cache import find_cache
from fedemb.data.manifest import StoreInfo
from fedemb.data.photographs import Counts, Photographs, cached_splits, listed_splits
from fedemb.data.pictures import Picture
from fedemb.data.preparation import Prepared, Request, prepare_splits
from fedemb.data.user_tables import Listing, open_images, read_listing

CLASSES = 1_203
TEST_IMAGES = 35_641
PARTITIONS: Mapping[str, Counts] = {
    "user_120k": {"users": [9_275], "classes": [CLASSES], "images": [120_300]},
    # TFF's numbers, and one fewer, as the table's "NA" is no place and google-research has 11 to 3,606
    "geo_100": {"users": [3_607, 3_606]},
    "geo_300": {"users": [1_209, 1_208]},
    "geo_1k": {"users": [369, 368]},
    "geo_3k": {"users": [136, 135]},
    "geo_10k": {"users": [39, 38]},
    "geo_30k": {"users": [12, 11]},
}

_URL = "https://github.com/visipedia/inat_comp/tree/master/2017"
_LICENCE = "non-commercial research and education only; the images may not be passed on"
_NOTICE = (
    "The terms of the iNaturalist 2017 competition allow use of the images for non-commercial research and education, "
    "and forbid to redistribute them; each image belongs to its observer, under the licence that the annotation files "
    f"name ({_URL}). Cite Van Horn et al., CVPR 2018 (the data set), and Hsu, Qi, Brown, ECCV 2020 (the divisions)."
)
_TRAIN, _TEST = "iNaturalist_train.csv", "iNaturalist_test.csv"
_NOBODY = "NA"
_TAR_NAMES = ("train_val_images", "train_val2017", "test2017")
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def prepare(request: Request, *, partition: str = "user_120k", short_side: int | None = None) -> Prepared:
    """Make the stores `out`/train and `out`/test from the tables and images below `source`, or from TFF's cache.

    Args: request: source is the folder with the tables and, anywhere below, <image id>.jpg, or train_val_images.tar.gz
        and test2017.tar.gz; or one with the cache of tff.simulation.datasets.inaturalist, which is taken where there
        is no table. Tables: iNaturalist_train.csv and iNaturalist_test.csv, or inaturalist-user-120k and
        inaturalist-geo as folder or zip.
        partition: one of PARTITIONS. short_side: in pixels; larger images are made smaller once and for all.
    Raises: ValueError in one line if a file is missing or damaged, or the counts are not the published ones.
    """
    if partition not in PARTITIONS:
        raise ValueError(f"partition must be one of {', '.join(PARTITIONS)}, got partition={partition}")
    source = request.existing_source(f"{_TRAIN}, {_TEST} and the images ({_URL})")
    photographs = _photographs(partition, short_side)
    listings = _listings(source, partition)
    if listings is None:
        if (cache := find_cache(source, (partition, partition.upper()))) is None:
            raise ValueError(
                f"no {_TRAIN}, no {_bundle(partition)}.zip and no TFF cache {partition} in {source}: "
                "get one of them and pass its folder"
            )
        return prepare_splits(request, cached_splits(request, photographs, cache))
    train, test = listings
    with open_images(request, source, tars=_tars(source), ids=train.ids | test.ids) as images:
        return prepare_splits(request, listed_splits(request, photographs, train=train, test=test, images=images))


def _listings(source: Path, partition: str) -> tuple[Listing, Listing] | None:
    """The tables to train and to test on, of either family."""
    for folder in (source, source / "datasets"):
        if (folder / _TRAIN).is_file():
            train, test = open_table(folder, _TRAIN), open_table(folder, _TEST)
            return _listed(train, test, partition, nobody=_NOBODY)
    bundle = _bundle(partition)
    for container in (source / bundle, source / f"{bundle}.zip", source):
        is_there = container.is_dir() or (container.suffix == ".zip" and container.is_file())
        if is_there and (name := _train_name(container, partition)) is not None:
            return _listed(open_table(container, name), open_table(container, "test.csv"), "user_id")
    return None


def _listed(train: Table, test: Table, user: str, *, nobody: str | None = None) -> tuple[Listing, Listing]:
    return (
        read_listing(train, user=user, classes=CLASSES, nobody=nobody),
        read_listing(test, user=None, classes=CLASSES),
    )


def _bundle(partition: str) -> str:
    return "inaturalist-user-120k" if partition.startswith("user") else "inaturalist-geo"


def _train_name(container: Path, partition: str) -> str | None:
    """The federated_train*.csv that is this partition's: the only one there, or the one with its size in its name."""
    names = [name for name in table_names(container) if name.startswith("federated_train")]
    if len(names) <= 1:
        return _of_its_kind(container, names[0], partition) if names else None
    size = partition.rpartition("_")[2]
    fitting = [name for name in names if re.search(rf"(?<!\d){size}(?![\da-z])", name.lower())]
    if len(fitting) != 1:
        raise ValueError(
            f"{container} holds {', '.join(names)}, and no single one is named after {partition}: "
            f"leave only this partition's table in a folder {_bundle(partition)}"
        )
    return fitting[0]


def _of_its_kind(container: Path, name: str, partition: str) -> str:
    """The table's name, unless it, or else the folder's, says that its users are of the other kind."""
    wanted = partition.partition("_")[0]
    names = f"{name} {container.resolve().name}".lower()
    kind = re.search(r"(?<![a-z])(user|geo)(?![a-z])", names)
    if kind is not None and kind[0] != wanted:
        raise ValueError(
            f"{container}: by its name or its folder's, {name} is the table of a {kind[0]} partition and not of "
            f"{partition}: pass the partition that it is of, or the folder that holds {_bundle(partition)}"
        )
    return name


def _tars(source: Path) -> list[Path]:
    files = (source / f"{name}{suffix}" for name in _TAR_NAMES for suffix in _TAR_SUFFIXES)
    return [file for file in files if file.is_file()]


def _photographs(partition: str, short_side: int | None) -> Photographs:
    smaller = "" if short_side is None else f" short_side={short_side}"
    kept = (
        "JPEG files as published" if short_side is None else f"JPEG files, the short side at most {short_side} pixels"
    )
    observers = partition.startswith("user")
    apart = "observers" if observers else "places"
    return Photographs(
        info=StoreInfo(
            name="inaturalist" if partition == "user_120k" else f"inaturalist_{partition}",
            split="train",
            user="an iNaturalist observer" if observers else "a geographic cell (not a person)",
            image_shape=(3, None, None),
            codec="jpeg",
            classes=CLASSES,
            label="class",
            polarity="RGB",
            description=f"{kept}; train and test have the same species, nothing keeps {apart} apart",
            licence=_LICENCE,
            notice=_NOTICE,
            redistributable=False,
            presentable=False,
            sources=(),
            command=f"fedemb prepare inaturalist source=<folder> partition={partition}{smaller}",
        ),
        published={"train": PARTITIONS[partition], "test": {"images": [TEST_IMAGES]}},
        picture=Picture(channels=3, short_side=short_side),
    )

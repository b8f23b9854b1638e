"""Google Landmarks v2, divided among the photographers: gld160k (Landmarks-User-160k) and gld23k, to stores.

Users are authors, as the published tables name them; labels are landmarks. The test tables have images of the same
landmarks and no users. A metric on them says nothing about unseen landmarks, and as nothing keeps an author's images
out of them, the privacy guarantee, which is for the training images, is not for it.
Sources: Weyand et al., CVPR 2020, arXiv:2004.01804; Hsu, Qi, Brown, ECCV 2020, arXiv:2003.08082; the class and user
counts are those of tensorflow_federated/python/simulation/datasets/gldv2.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedemb.data.formats.tables import Table, open_table
from fedemb.data.formats.tff_cache import find_cache
from fedemb.data.manifest import StoreInfo
from fedemb.data.photographs import Photographs, cached_splits, listed_splits
from fedemb.data.pictures import Picture
from fedemb.data.preparation import Prepared, Request, prepare_splits
from fedemb.data.user_tables import open_images, read_listing

_URL = "https://github.com/cvdfoundation/google-landmark"
_LICENCE = "a Creative Commons BY licence per image, not one for all; the stores do not keep the attributions"
_NOTICE = (
    f"The photographs belong to their authors, who put them under licences of the CC BY family; author, licence and "
    f"title of each are in train_attribution.csv of {_URL}. Whoever shows or passes on an image has to name them. "
    "Cite Weyand et al., CVPR 2020 (the data set), and Hsu, Qi, Brown, ECCV 2020 (the division among users)."
)
_BUNDLE = ("landmarks-user-160k", "datasets/landmarks-user-160k", "landmarks-user-160k.zip", ".")
_LOOSE = (".", "datasets", "data_user_dict")


@dataclass(frozen=True, kw_only=True)
class Published:
    """How much there is of one division, and which tables hold it.

    tables: (folders or zip files below the source, table to train on, table to test on), the first found counts.
    """

    users: int
    classes: int
    images: int
    tables: Sequence[tuple[Sequence[str], str, str]]


PUBLISHED = {
    "gld23k": Published(
        users=233,
        classes=203,
        images=23_080,
        tables=(
            (_LOOSE, "mini_gld_train_split.csv", "mini_gld_test.csv"),
            (_LOOSE, "gld23k_user_dict_train.csv", "gld23k_user_dict_test.csv"),
        ),
    ),
    "gld160k": Published(
        users=1_262,
        classes=2_028,
        images=164_172,
        tables=(
            (_BUNDLE, "federated_train.csv", "test.csv"),
            (_LOOSE, "gld160k_user_dict_train.csv", "gld160k_user_dict_test.csv"),
        ),
    ),
}


def prepare(request: Request, *, name: str, short_side: int | None = None) -> Prepared:
    """Make the stores `out`/train and `out`/test from the tables and images below `source`, or from TFF's cache.

    Args: request: source is the folder with the tables and, anywhere below, <image id>.jpg or images_NNN.tar; or one
        with the cache of tff.simulation.datasets.gldv2, which is taken where there is no table.
        name: "gld23k" or "gld160k". short_side: in pixels; larger images are made smaller once and for all.
    Raises: ValueError in one line if a file is missing or damaged, or the counts are not the published ones.
    """
    if name not in PUBLISHED:
        raise ValueError(f"name must be one of {', '.join(PUBLISHED)}, got name={name}")
    published = PUBLISHED[name]
    needed = f"{published.tables[0][1]}, {published.tables[0][2]} and the images"
    source = request.existing_source(f"{needed} ({_URL})")
    photographs = _photographs(name, published, short_side)
    tables = _tables(source, published)
    if tables is None:
        if (cache := find_cache(source, (name,))) is None:
            raise ValueError(f"no {needed}, and no TFF cache {name}, in {source}: get them and pass their folder")
        return prepare_splits(request, cached_splits(request, photographs, cache))
    train = read_listing(tables[0], user="user_id", classes=published.classes)
    test = read_listing(tables[1], user=None, classes=published.classes)
    with open_images(request, source, tars=_tars(source), ids=train.ids | test.ids) as images:
        return prepare_splits(request, listed_splits(request, photographs, train=train, test=test, images=images))


def _tables(source: Path, published: Published) -> tuple[Table, Table] | None:
    """The tables to train and to test on."""
    for containers, train, test in published.tables:
        for container in containers:
            path = source / container
            if (path / train).is_file() or (path.suffix == ".zip" and path.is_file()):
                return open_table(path, train), open_table(path, test)
    return None


def _tars(source: Path) -> list[Path]:
    """images_000.tar, … in the source or one folder below."""
    return sorted([*source.glob("images_*.tar"), *source.glob("*/images_*.tar")])


def _photographs(name: str, published: Published, short_side: int | None) -> Photographs:
    smaller = "" if short_side is None else f" short_side={short_side}"
    counts = {"users": [published.users], "classes": [published.classes], "images": [published.images]}
    kept = (
        "JPEG files as published" if short_side is None else f"JPEG files, the short side at most {short_side} pixels"
    )
    return Photographs(
        info=StoreInfo(
            name=name,
            split="train",
            user="an author of photographs",
            image_shape=(3, None, None),
            codec="jpeg",
            classes=published.classes,
            label="class",
            polarity="RGB",
            description=f"{kept}; train and test have the same landmarks, nothing keeps authors apart",
            licence=_LICENCE,
            notice=_NOTICE,
            redistributable=False,
            presentable=False,
            sources=(),
            command=f"fedemb prepare {name} source=<folder>{smaller}",
        ),
        published={"train": counts, "test": {}},
        picture=Picture(channels=3, short_side=short_side),
    )

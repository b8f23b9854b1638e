"""iNaturalist in every published form to stores; the archives are tiny and made here."""

import re
import zipfile

import pytest
from photo_archives import content, photo, request, table, tar_bytes, tar_gz_bytes, write
from tfrecords import example, records

from fedemb.data.manifest import read_manifest
from fedemb.data.store import StoreUsers
from fedemb.data_prep import inaturalist

IDS = [f"{number:04x}bcfg" for number in range(14)]  # a reader that strips the letters of ".jpg" loses the last one
PHOTOS = {id: photo(number, size=(20 + number, 12)) for number, id in enumerate(IDS)}
FOLDERS = ("Aves/Turdus merula", "Plantae/Bellis perennis", "Mollusca/Helix pomatia")
TRAIN = [  # image, class, observer, cell of geo_30k
    (1, 0, "17", "c1"),
    (0, 1202, "17", "NA"),
    (3, 5, "9", "c2"),
    (2, 5, "NA", "c2"),
    (4, 7, "NA", "c1"),
]
TEST = [(number, 5) for number in range(5, 14)]


def trees(numbers=range(14)):
    """Image number n below its species, the last four in the 2017 test folder."""
    return {
        (
            f"train_val_images/{FOLDERS[number % 3]}/{IDS[number]}.jpg"
            if number < 10
            else f"test2017/{IDS[number]}.jpg"
        ): PHOTOS[IDS[number]]
        for number in numbers
    }


def wide_tables():
    """One table with a column for each division."""
    header = "user_120k,geo_100,geo_300,geo_1k,geo_3k,geo_10k,geo_30k,image_id,class"
    rows = [(user, *["NA"] * 5, cell, IDS[number], label) for number, label, user, cell in TRAIN]
    return {
        "iNaturalist_train.csv": table(header, rows),
        "iNaturalist_test.csv": table("image_id,class", [(IDS[number], label) for number, label in TEST]),
    }


def long_tables(column, name="federated_train.csv"):
    """A table for one division, with the category of the competition in the last column."""
    rows = [(row[column], IDS[row[0]], row[1], 4000 + row[1]) for row in TRAIN if row[column] != "NA"]
    test = [(IDS[number], label, 4000 + label) for number, label in TEST]
    return {name: table("user_id,image_id,class,label", rows), "test.csv": table("image_id,class,label", test)}


def published(folder, tables, images=None):
    for name, text in {**tables, **(trees() if images is None else images)}.items():
        write(folder / name, text)
    return folder


def prepare(source, out, **options):
    asked = {name: options.pop(name) for name in ("partition", "short_side") if name in options}
    return inaturalist.prepare(request(source, out, **options), **asked)


def stored(out):
    return content(StoreUsers(path=out, size=(8, 8))), content(StoreUsers(path=out, split="test", size=(8, 8)))


def labelled(*pairs):
    return [(PHOTOS[IDS[number]], label) for number, label in pairs]


OBSERVERS = {"17": labelled((0, 1202), (1, 0)), "9": labelled((3, 5))}
CELLS = {"c1": labelled((1, 0), (4, 7)), "c2": labelled((2, 5), (3, 5))}
BLOCKS = {"test-00000": labelled(*TEST[:8]), "test-00001": labelled(*TEST[8:])}


@pytest.mark.parametrize(
    ("partition", "users", "nobody"), [("user_120k", OBSERVERS, 2), ("geo_30k", CELLS, 1)], ids=str
)
def test_a_column_of_the_wide_table_gives_the_users(tmp_path, partition, users, nobody):
    prepared = prepare(published(tmp_path / "inat", wide_tables()), tmp_path / "out", partition=partition)
    assert stored(tmp_path / "out") == (users, BLOCKS)
    assert prepared.manifests[0].left_out["rows without a user"] == nobody
    assert prepared.manifests[1].left_out == {"images missing": 35_641 - 9}


def test_what_the_store_says_of_itself(tmp_path):
    source = published(tmp_path / "inat", wide_tables())
    info = prepare(source, tmp_path / "out").manifests[0].info
    assert (info.name, info.codec, info.classes, info.label) == ("inaturalist", "jpeg", 1203, "class")
    assert (info.redistributable, info.presentable) == (False, False)
    assert "non-commercial" in info.licence
    assert info.command == "fedemb prepare inaturalist source=<folder> partition=user_120k allow_partial=true"
    geo = prepare(source, tmp_path / "geo", partition="geo_30k", short_side=6).manifests[0].info
    assert (info.user, geo.user) == ("an iNaturalist observer", "a geographic cell (not a person)")
    assert read_manifest(tmp_path / "geo" / "test").info.user.startswith("a block of 8 test images")
    assert geo.name == "inaturalist_geo_30k"
    assert geo.command.endswith("partition=geo_30k short_side=6 allow_partial=true")
    with pytest.raises(ValueError, match=r"holds another store \(name 'inaturalist' and not 'inaturalist_geo_30k'\)"):
        prepare(source, tmp_path / "out", partition="geo_30k")


def test_a_source_that_is_one_of_the_tables_is_told_what_is_expected(tmp_path):
    source = published(tmp_path / "inat", wide_tables()) / "iNaturalist_train.csv"
    with pytest.raises(ValueError, match=r"^no iNaturalist_train.csv, .* in .*get one of them and pass its folder$"):
        prepare(source, tmp_path / "out")


@pytest.mark.parametrize("form", ["folder", "zip", "loose"])
def test_a_table_for_one_division(tmp_path, form):
    tables = long_tables(2)
    if form == "zip":
        published(tmp_path, {})
        with zipfile.ZipFile(tmp_path / "inaturalist-user-120k.zip", "w") as file:
            for name, text in tables.items():
                file.writestr(f"inaturalist-user-120k/{name}", text)
    else:
        under = "inaturalist-user-120k/" if form == "folder" else ""
        published(tmp_path, {under + name: text for name, text in tables.items()})
    prepare(tmp_path, tmp_path / "out")
    assert stored(tmp_path / "out") == (OBSERVERS, BLOCKS)


@pytest.mark.parametrize(
    ("folder", "name", "partition", "kind"),
    [
        (".", "federated_train_geo_30k.csv", "user_120k", "geo"),
        (".", "federated_train_User120k.csv", "geo_30k", "user"),
        ("inaturalist-geo", "federated_train.csv", "user_120k", "geo"),
        ("inaturalist-user-120k", "federated_train.csv", "geo_100", "user"),
        ("my geo tables", "federated_train_user.csv", "geo_100", "user"),
    ],
)
def test_the_only_table_is_not_taken_for_a_partition_of_the_other_kind(tmp_path, folder, name, partition, kind):
    """Observers would be taken for places: the guarantee would be for another unit than the store says."""
    published(tmp_path / folder, long_tables(2, name))
    told = rf"by its name or its folder's, {name} is the table of a {kind} partition and not of {partition}: pass the"
    with pytest.raises(ValueError, match=told) as caught:
        prepare(tmp_path / folder, tmp_path / "out", partition=partition)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["George", "users and geology", "my user tables"])
def test_other_words_in_a_folders_name_say_nothing(tmp_path, name):
    published(tmp_path / name, long_tables(2))
    prepare(tmp_path / name, tmp_path / "out")
    assert stored(tmp_path / "out") == (OBSERVERS, BLOCKS)


@pytest.mark.parametrize(
    ("partition", "right", "wrong"),
    [
        ("geo_30k", "geo_30k", "geo_3k"),
        ("geo_30k", "geo30k", "geo300"),
        ("geo_30k", "30K", "3K"),
        ("geo_100", "geo_100", "geo_1000"),
    ],
)
def test_the_table_of_a_size_is_found_among_others(tmp_path, partition, right, wrong):
    long = long_tables(3, f"federated_train_{right}.csv")
    long[f"federated_train_{wrong}.csv"] = "user_id,image_id,class,label\r\n"
    published(tmp_path, {f"inaturalist-geo/{name}": text for name, text in long.items()})
    prepare(tmp_path, tmp_path / "out", partition=partition)
    assert stored(tmp_path / "out") == (CELLS, BLOCKS)
    with pytest.raises(ValueError, match=r"and no single one is named after geo_10k: leave only this partition's"):
        prepare(tmp_path, tmp_path / "out", partition="geo_10k")


def test_images_are_read_from_the_tar_files(tmp_path):
    """Both tars as published; what lies unpacked beside them comes first."""
    published(tmp_path, wide_tables(), trees(range(3)))
    write(tmp_path / "train_val_images.tar.gz", tar_gz_bytes({**trees(range(3, 10)), "train_val_images/x.jpg": b"?"}))
    write(tmp_path / "test2017.tar.gz", tar_gz_bytes(trees(range(10, 14))))
    prepare(tmp_path, tmp_path / "out")
    assert stored(tmp_path / "out") == (OBSERVERS, BLOCKS)
    assert not list((tmp_path / "out").glob(".*"))  # nothing is left of what was unpacked
    (source,) = {source for source in read_manifest(tmp_path / "out" / "train").info.sources if "/" in source.file}
    assert source.file == f"{tmp_path.name}/"


def test_a_damaged_tar_is_told(tmp_path):
    published(tmp_path, wide_tables(), {})
    packed = tar_gz_bytes(trees())
    write(tmp_path / "train_val_images.tar.gz", packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"cannot read .*train_val_images.tar.gz .*: get the file again"):
        prepare(tmp_path, tmp_path / "out")
    (tmp_path / "train_val_images.tar.gz").unlink()
    write(tmp_path / "test2017.tar", tar_bytes({f"/etc/{IDS[0]}.jpg": b"?"}))
    with pytest.raises(ValueError, match=r"a name that leaves the archive"):
        prepare(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("spelling", ["user_120k", "USER_120K"])
def test_the_cache_of_tff(tmp_path, spelling):
    folder = tmp_path / "inat" / "cache" / spelling
    for user, images in OBSERVERS.items():
        write(folder / "train" / user, examples(images))
    write(folder / "test.tfRecord", examples([pair for block in BLOCKS.values() for pair in block]))
    prepared = prepare(tmp_path / "inat", tmp_path / "out")
    assert stored(tmp_path / "out") == (OBSERVERS, BLOCKS)
    assert prepared.manifests[0].left_out == {"users missing": 9_273, "images missing": 120_297}


def examples(images):
    return records([example(**{"image/encoded_jpeg": [image], "class": [label]}) for image, label in images])


@pytest.mark.parametrize(("counts", "complete"), [([3, 2], True), ([2, 1], True), ([4, 3], False)])
def test_places_may_be_one_fewer_than_tff_says(tmp_path, monkeypatch, counts, complete):
    """TFF's numbers and google-research's differ by one; the tables decide."""
    monkeypatch.setitem(inaturalist.PARTITIONS, "geo_30k", {"users": counts})
    monkeypatch.setattr(inaturalist, "TEST_IMAGES", 9)
    source = published(tmp_path / "inat", wide_tables())
    options = {"partition": "geo_30k", "allow_partial": False}
    if complete:
        prepared = prepare(source, tmp_path / "out", **options)
        assert [manifest.left_out for manifest in prepared.manifests] == [{"rows without a user": 1}, {}]
    else:
        with pytest.raises(ValueError, match=r"iNaturalist_train.csv holds 2 users, published are 4 users: get the"):
            prepare(source, tmp_path / "out", **options)


def test_published_counts():
    assert inaturalist.PARTITIONS["user_120k"] == {"users": [9275], "classes": [1203], "images": [120_300]}
    first = [counts["users"][0] for name, counts in inaturalist.PARTITIONS.items() if name != "user_120k"]
    assert first == [3607, 1209, 369, 136, 39, 12]


def test_bad_sources_are_told(tmp_path):
    source = published(tmp_path / "inat", wide_tables())
    with pytest.raises(ValueError, match=r"partition must be one of user_120k, geo_100, .*, got partition=user"):
        prepare(source, tmp_path / "out", partition="user")
    with pytest.raises(ValueError, match=r"holds 2 users, 3 classes, 3 images, published are 9275 users, 1203 classes"):
        prepare(source, tmp_path / "out", allow_partial=False)
    with pytest.raises(ValueError, match=r"inaturalist_geo_100 train has no user: is this the right source"):
        prepare(source, tmp_path / "out", partition="geo_100")
    write(source / "iNaturalist_train.csv", "user_120k,image_id,class\r\n1,a,1203\r\n")
    with pytest.raises(
        ValueError, match=r"iNaturalist_train.csv, line 2: class '1203' is no whole number from 0 to 1202"
    ):
        prepare(source, tmp_path / "out")
    with pytest.raises(ValueError, match=r"iNaturalist_train.csv, line 1: no column geo_1k, its columns are user_120k"):
        prepare(source, tmp_path / "out", partition="geo_1k")
    (source / "iNaturalist_train.csv").unlink()
    message = r"no iNaturalist_train.csv, no inaturalist-geo.zip and no TFF cache geo_1k in .*: get one of them"
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "out", partition="geo_1k")


def test_a_bad_image_is_told_with_its_name(tmp_path):
    (name,) = trees([3])
    source = published(tmp_path / "inat", wide_tables(), trees() | {name: PHOTOS[IDS[3]][:-50]})
    with pytest.raises(ValueError, match=re.escape(f"{source}: {name}: cannot be read as an image")):
        prepare(source, tmp_path / "out")


def test_the_command_prepares_and_the_recipe_trains_on_it(fedemb, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "data"))
    source = published(tmp_path / "inat", wide_tables())
    code, out, err = fedemb("prepare", "inaturalist", f"source={source}", "workers=0", "allow_partial=true")
    assert code == 0, err
    assert "train: 2 users, 3 images of 3 channels, kept in their own sizes" in out
    assert "; 2 rows without a user" in out
    assert "licence: non-commercial research and education only; the images may not be passed on" in out
    small = ["users.size=[32,32]", "test_users.size=[32,32]", "users_per_round=2", "users_per_client=2", "rounds=2"]
    code, _, err = fedemb(
        "train", "recipe=inaturalist", *small, "batching.max_examples=4", "evaluate_every=2", f"run={tmp_path}/run"
    )
    assert code == 0, err

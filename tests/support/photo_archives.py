"""Tiny photographs, tables and archives in the layouts that landmarks and iNaturalist were published in."""

import csv
import gzip
import io
import tarfile

from PIL import Image

from fedemb.data.preparation import Request


def photo(number, size=(24, 16)):
    """A JPEG file of one colour that depends on the number, (width, height) pixels."""
    file = io.BytesIO()
    Image.new("RGB", size, (10 * number % 256, 255 - 7 * number % 256, 40)).save(file, "JPEG", quality=95)
    return file.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(header, rows):
    """CSV text as Python's csv module writes it: CRLF, quotes where needed."""
    text = io.StringIO()
    csv.writer(text).writerows([header.split(","), *rows])
    return text.getvalue()


def tar_bytes(members):
    """name -> content, as the bytes of a plain tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return file.getvalue()


def tar_gz_bytes(members):
    return gzip.compress(tar_bytes(members), mtime=0)


def request(source, out, **options):
    return Request(source=source, out=out, **{"allow_partial": True, **options})


def content(store):
    """user id -> [(bytes of the image as stored, label)]."""
    return {
        store.user_id(user): list(zip(store.stored(user), store.labels(user).tolist(), strict=True))
        for user in range(store.num_users)
    }

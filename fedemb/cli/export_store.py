"""`fedemb prepare NAME export to=FOLDER`: a prepared store as Parquet or Arrow files."""

from __future__ import annotations

from omegaconf import DictConfig

from fedemb.cli.settings import path
from fedemb.cli.splits import prepared_splits, terms
from fedemb.data.export import export_store
from fedemb.data.manifest import read_manifest

_FORMATS = ("parquet", "arrow")


def run(cfg: DictConfig) -> None:
    """Write <split>.<format> for every split under `cfg.out`."""
    if cfg.to is None:
        raise ValueError("export where? pass to=FOLDER for one file a split")
    if cfg.format not in _FORMATS:
        raise ValueError(f"format must be one of {', '.join(_FORMATS)}, got format={cfg.format}")
    out, folder = path(cfg, "out"), path(cfg, "to")
    splits = prepared_splits(out, cfg.name)
    for split in splits:
        done = export_store(out, split, folder / f"{split}.{cfg.format}")
        empty = f"; {done.users_without_images} users without images have no row" if done.users_without_images else ""
        print(f"{done.file}: {done.images} images of {done.users} users{empty}")
    manifest = read_manifest(out / splits[0])
    assert manifest is not None
    for name, told in terms(manifest):
        print(f"  {name}{': ' if name else ''}{told}")

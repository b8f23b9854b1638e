"""What training is worth on users=procedural: raw pixels and an untrained backbone beside finished runs.

python scripts/procedural_baseline.py [RUN_FOLDER ...]
Prints a Markdown table of metrics of conf/test_users/procedural.yaml.
"""

import argparse
from functools import partial

import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from fedemb.evaluation.users import embed_users
from fedemb.models.exported import embed, load_model
from fedemb.models.functional import fresh_params

METRICS = ("recall@far=0.001", "recall@1", "map@r", "auc")


def pixels(images):
    """[n, Ch, H, W] uint8 -> [n, Ch * H * W] floats."""
    return images.flatten(1).float()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="run folders")
    runs = parser.parse_args().runs
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        cfg = compose("train", ["recipe=procedural"])
    users, evaluation, backbone = instantiate(cfg.test_users), instantiate(cfg.evaluation), instantiate(cfg.model)
    mean = pixels(users.load(range(users.num_users))["image"]).mean(0)
    ways = {
        "raw pixels": pixels,
        "raw pixels, centred": lambda images: pixels(images) - mean,
        "untrained backbone": partial(embed, backbone, fresh_params(backbone, cfg.seed)),
        **{run: load_model(run) for run in runs},
    }
    print("| " + " | ".join(["embedding", *METRICS]) + " |")
    print("|" + "---|" * (len(METRICS) + 1))
    for name, way in ways.items():
        measured = evaluation.measure(*embed_users(way, users, torch.device("cpu")))
        print("| " + " | ".join([name, *(f"{measured[metric]:.3f}" for metric in METRICS)]) + " |")


if __name__ == "__main__":
    main()

"""The non-private centralised baseline: the same backbone, data, augmentation and number of images, one softmax head.

python scripts/central.py [--epochs 14] [recipe=omniglot key=value ...]
Plain minibatch SGD with momentum over all users' images at once, cosine decay; prints metrics of the test users.
"""

import argparse
import json
import time
from functools import partial

import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from fedemb.core.pixels import scale_pixels
from fedemb.core.rng import generator
from fedemb.evaluation.users import embed_users
from fedemb.models.exported import embed
from fedemb.models.functional import fresh_params


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        cfg = compose("train", arguments.overrides)
    data = instantiate(cfg.users).load(range(instantiate(cfg.users).num_users))
    images, labels = data["image"], data["label"]
    augment, evaluation, test = instantiate(cfg.augment), instantiate(cfg.evaluation), instantiate(cfg.test_users)
    stream = generator(cfg.seed, "central")
    torch.manual_seed(cfg.seed)

    backbone = instantiate(cfg.model)
    backbone.load_state_dict(fresh_params(backbone, cfg.seed))
    head = torch.nn.Linear(cfg.embedding_width, int(labels.max()) + 1, bias=False)
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=arguments.learning_rate, momentum=0.9)
    steps = arguments.epochs * -(-len(labels) // arguments.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    started = time.perf_counter()
    for epoch in range(arguments.epochs):
        for chosen in torch.from_numpy(stream.permutation(len(labels))).split(arguments.batch_size):
            batch = augment({"image": scale_pixels(images[chosen])}, stream)
            loss = torch.nn.functional.cross_entropy(head(backbone(batch["image"])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{arguments.epochs} loss {loss.item():.3f}", flush=True)
    seconds = time.perf_counter() - started
    params = {name: value.detach() for name, value in backbone.named_parameters()}
    metrics = evaluation.measure(*embed_users(partial(embed, backbone, params), test, torch.device("cpu")))
    print(json.dumps({"seconds": seconds, "epochs": arguments.epochs, "metrics": metrics}, indent=2))


if __name__ == "__main__":
    main()

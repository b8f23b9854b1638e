"""DP-FedEmb in bare loops: LeNet, softmax head, momentum on both sides. Imports nothing from fedemb.

Xu et al. 2023, arXiv:2211.10844. Shapes: B images a batch, K identities a client, D = 128.
"""

import math

import torch
import torch.nn.functional as F


def lenet(theta, images):
    """[B, 1, 28, 28] -> [B, D]."""
    hidden = F.max_pool2d(torch.relu(F.conv2d(images, theta["conv1.weight"], theta["conv1.bias"], padding=2)), 2)
    hidden = F.max_pool2d(torch.relu(F.conv2d(hidden, theta["conv2.weight"], theta["conv2.bias"], padding=2)), 2)
    return F.linear(hidden.flatten(1), theta["embedding.weight"], theta["embedding.bias"])


def local_update(theta, head, batches, *, lr, head_lr_scale, momentum):
    """Local SGD from theta and a fresh head [K, D]; batches: list of (images, labels). Returns phi - theta."""
    phi = {name: value.clone().requires_grad_() for name, value in theta.items()}
    weights = {**phi, "head": head.clone().requires_grad_()}
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}
    for images, labels in batches:
        loss = F.cross_entropy(lenet(weights, images) @ weights["head"].T, labels)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(weights.items(), gradients, strict=True):
                velocity[name].mul_(momentum).add_(gradient)
                value.sub_(velocity[name], alpha=lr * (head_lr_scale if name == "head" else 1.0))
    return {name: weights[name].detach() - theta[name] for name in theta}


def clip(update, clip_norm):
    """Scale to l2 norm <= clip_norm; a non-finite update becomes zero."""
    norm = math.sqrt(sum(float(value.double().square().sum()) for value in update.values()))
    if not math.isfinite(norm):
        return {name: torch.zeros_like(value) for name, value in update.items()}
    return {name: value * min(1.0, clip_norm / norm) if norm else value for name, value in update.items()}


def one_round(theta, velocity, clients, noise, *, clip_norm, noise_multiplier, server_lr, server_momentum, **local):
    """One round. clients: list of (head, batches). noise: standard normals shaped like theta.

    Returns: (next theta, next server velocity).
    """
    total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in theta.items()}
    for head, batches in clients:
        clipped = clip(local_update(theta, head, batches, **local), clip_norm)
        for name in total:
            total[name] += clipped[name]
    new_theta, new_velocity = {}, {}
    for name, value in theta.items():
        mean = (total[name] + noise_multiplier * clip_norm * noise[name]) / len(clients)
        new_velocity[name] = server_momentum * velocity[name] + mean
        new_theta[name] = (value + server_lr * new_velocity[name]).to(value.dtype)
    return new_theta, new_velocity

"""A node of Flower's simulation is a user; the actor that plays it keeps images and model from message to message."""

import functools
import json

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from images import draw
from model_file import model_of
from torch.utils.data import DataLoader, TensorDataset

app = ClientApp()


@functools.cache
def _images(text):
    settings = json.loads(text)
    torch.set_num_threads(settings["threads"])
    pixels, labels = draw(settings["users"], settings["images"], settings["shape"], settings["classes"])
    return torch.from_numpy(pixels), torch.from_numpy(labels), model_of(settings), settings


@app.train()
def train(message, context):
    """One epoch of SGD from the global model."""
    images, labels, model, settings = _images(message.content["config"]["settings"])
    user = int(context.node_config["partition-id"])
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    data = TensorDataset(images[user].float() / 128 - 1, labels[user])
    optimizer = torch.optim.SGD(model.parameters(), lr=settings["learning_rate"])
    loss = torch.nn.CrossEntropyLoss()
    for inputs, targets in DataLoader(data, batch_size=settings["batch_size"], shuffle=True):
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(data)})}
    return Message(content=RecordDict(content), reply_to=message)

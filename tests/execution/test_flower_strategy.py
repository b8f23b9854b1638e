"""The Strategy for Flower users against bare arithmetic: clip, sum, noise, planned denominator, price."""

import logging

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent, SampledWithoutReplacementDpEvent
from flower_grid import FakeGrid
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedemb.core.optim import SGD
from fedemb.core.rng import SeededNoise, generator
from fedemb.data.sampling import FixedSizeSampler
from fedemb.execution.flower_strategy import UserLevelDP
from fedemb.privacy.accounting import spend
from fedemb.privacy.ledger import Ledger

START = {"w": torch.tensor([1.0, -2.0]), "b": torch.tensor([0.5])}
UPDATES = {100: [3.0, 4.0, 0.0], 101: [0.1, 0.0, 0.2], 102: [np.nan, 0.0, 0.0], 103: [0.0, 0.0, -7.0]}
CLIPPED = {100: [0.6, 0.8, 0.0], 101: [0.1, 0.0, 0.2], 102: [0.0, 0.0, 0.0], 103: [0.0, 0.0, -1.0]}
SETTINGS = {"num_users": 4, "users_per_round": 2, "clip_norm": 1.0, "noise_multiplier": 0.5, "seed": 3}


def quickstart_app(update):
    """As in Flower's own examples: the model comes, a model and metrics go."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        model = message.content["arrays"].to_torch_state_dict()
        assert message.content["config"]["server-round"] >= 1
        moved = {"w": model["w"] + torch.tensor(update[:2]), "b": model["b"] + torch.tensor(update[2:])}
        content = {"arrays": ArrayRecord(moved), "metrics": MetricRecord({"num-examples": 7, "train_loss": 0.1})}
        return Message(RecordDict(content), reply_to=message)

    return app


def grid(tamper=lambda message, reply: [reply], updates=UPDATES):
    return FakeGrid({node: quickstart_app(update) for node, update in updates.items()}, tamper)


def vector(arrays):
    state = arrays.to_torch_state_dict()
    return torch.cat([state["w"], state["b"]]).double().numpy()


def drawn(round):
    """Who takes part, by the sampler itself."""
    cohort = FixedSizeSampler(num_users=4, users_per_round=2, seed=3).cohort(round)
    return [sorted(UPDATES)[user] for client in cohort.clients for user in client.users]


def noise(round, std=0.5):
    source = SeededNoise(generator(3, "noise", round))
    b, w = source.normal((1,)), source.normal((2,))  # in the order of the names
    return std * torch.cat([w, b]).numpy()


def by_hand(rounds, silent=()):
    model = np.array([1.0, -2.0, 0.5])
    for round in range(rounds):
        total = np.sum([CLIPPED[node] for node in drawn(round) if node not in silent], axis=0)
        model = model + (total + noise(round)) / 2
    return model


def run(strategy, over, rounds=4):
    return strategy.start(over, ArrayRecord(START), num_rounds=rounds, timeout=1.0)


def test_rounds_equal_bare_arithmetic():
    assert {node for round in range(4) for node in drawn(round)} == set(UPDATES)
    result = run(UserLevelDP(**SETTINGS), grid())
    np.testing.assert_allclose(vector(result.arrays), by_hand(4), rtol=0, atol=1e-6)


def test_a_node_without_an_answer_keeps_its_slot():
    """The denominator is the planned one: a mean over those who answered would tell who did."""
    silent = drawn(1)[0]
    over = grid(lambda message, reply: [] if message.metadata.dst_node_id == silent else [reply])
    result = run(UserLevelDP(**SETTINGS), over)
    np.testing.assert_allclose(vector(result.arrays), by_hand(4, [silent]), rtol=0, atol=1e-6)


def test_a_failing_node_is_named_and_keeps_its_slot(caplog, monkeypatch):
    log = logging.Logger("its own: other tests configure those of the program")
    log.addHandler(caplog.handler)
    monkeypatch.setattr("fedemb.execution.flower_strategy._LOG", log)
    broken = drawn(1)[0]
    updates = {**UPDATES, broken: None}
    result = run(UserLevelDP(**SETTINGS), grid(updates=updates))
    np.testing.assert_allclose(vector(result.arrays), by_hand(4, [broken]), rtol=0, atol=1e-6)
    assert f"node {broken} adds nothing to this round" in caplog.text


def test_answers_that_come_twice_or_late_count_once():
    assert drawn(1)[0] in drawn(3)
    kept = []

    def again(message, reply):
        if message.metadata.dst_node_id == drawn(1)[0]:
            kept.append(reply)
        return [*kept[:1], reply, reply]

    result = run(UserLevelDP(**SETTINGS), grid(again))
    np.testing.assert_allclose(vector(result.arrays), by_hand(4), rtol=0, atol=1e-6)


def test_the_price_is_for_a_sensitivity_of_twice_the_clip_norm(tmp_path):
    """2 of 4 users without replacement, noise 0.5 C over a sensitivity of 2 C."""
    strategy = UserLevelDP(**SETTINGS, ledger=tmp_path / "ledger.jsonl", delta=1e-3)
    result = run(strategy, grid(), rounds=3)
    event = SampledWithoutReplacementDpEvent(4, 2, GaussianDpEvent(0.25))
    assert strategy.event == event
    assert strategy.privacy() == spend([(event, 3)], 1e-3)
    metrics = result.train_metrics_clientapp[3]
    assert dict(metrics) == {"epsilon": strategy.privacy().epsilon, "delta": 1e-3}
    assert Ledger.read(tmp_path / "ledger.jsonl").events == [(event, 3)]


def test_a_round_is_charged_before_its_messages_exist(tmp_path):
    path, charged = tmp_path / "ledger.jsonl", []

    def look(message, reply):
        charged.append(Ledger.read(path).entries)
        return [reply]

    run(UserLevelDP(**SETTINGS, ledger=path), grid(look), rounds=2)
    assert charged == [1, 1, 2, 2]
    run(UserLevelDP(**SETTINGS, ledger=path), grid(look), rounds=1)  # after a crash: it goes on, with other streams
    assert charged[4:] == [3, 3]


def test_no_noise_is_drawn_twice(tmp_path):
    """The second process goes on from the ledger: cohort and noise are those of round 2."""
    path = tmp_path / "ledger.jsonl"
    first = run(UserLevelDP(**SETTINGS, ledger=path), grid(), rounds=2)
    second = UserLevelDP(**SETTINGS, ledger=path).start(grid(), first.arrays, num_rounds=2, timeout=1.0)
    np.testing.assert_allclose(vector(second.arrays), by_hand(4), rtol=0, atol=1e-6)


def test_without_a_seed_two_runs_differ():
    settings = {**SETTINGS, "seed": None}
    models = [vector(run(UserLevelDP(**settings), grid(), rounds=1).arrays) for _ in range(2)]
    assert not np.allclose(*models)


def test_server_momentum():
    settings = {**SETTINGS, "learning_rate": 0.5, "optimizer": SGD(momentum=0.9)}
    model, velocity = np.array([1.0, -2.0, 0.5]), np.zeros(3)
    for round in range(3):
        velocity = 0.9 * velocity + (np.sum([CLIPPED[node] for node in drawn(round)], axis=0) + noise(round)) / 2
        model = model + 0.5 * velocity
    np.testing.assert_allclose(vector(run(UserLevelDP(**settings), grid(), rounds=3).arrays), model, rtol=0, atol=1e-6)


def test_nodes_are_not_asked_to_measure_themselves():
    strategy = UserLevelDP(**SETTINGS)
    assert list(strategy.configure_evaluate(1, ArrayRecord(START), ConfigRecord(), grid())) == []
    assert run(strategy, grid(), rounds=1).evaluate_metrics_clientapp == {}


def test_another_model_is_refused_by_node():
    content = RecordDict({"arrays": ArrayRecord({"w": torch.zeros(3)})})
    over = grid(lambda message, reply: [Message(content, reply_to=message)])
    with pytest.raises(ValueError, match=rf"node {drawn(0)[0]} did not answer with one model of the global shapes"):
        run(UserLevelDP(**SETTINGS), over, rounds=1)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"users_per_round": 5}, "users_per_round must be at most the number of users"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be 0 or above"),
        ({"num_users": 3}, "4 nodes are connected, but num_users=3"),
        ({"num_users": 5, "timeout_seconds": 0.05}, "4 of num_users=5 nodes connected within 0.05 s"),
    ],
)
def test_mistakes_are_one_line(settings, told):
    with pytest.raises((ValueError, TimeoutError), match=told):
        run(UserLevelDP(**{**SETTINGS, **settings}), grid(), rounds=1)


def test_counters_of_batchnorm_are_refused():
    model = ArrayRecord({**START, "norm.num_batches_tracked": torch.tensor(3)})
    with pytest.raises(ValueError, match=r"norm.num_batches_tracked is no parameter: .* take GroupNorm"):
        UserLevelDP(**SETTINGS).start(grid(), model, num_rounds=1)

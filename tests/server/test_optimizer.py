"""FedOpt by hand: one parameter, numbers that fit on a line."""

import pytest
import torch

from fedemb.core.optim import SGD, Adam
from fedemb.core.schedule import WarmupCosine
from fedemb.server.optimizer import FedOpt


def run(server, releases, start=10.0):
    """The states after each release of the one trained parameter w; "ice" is frozen."""
    params = {"w": torch.tensor([start]), "ice": torch.tensor([3.0])}
    state, states = server.init(params, {"w": params["w"]}), []
    for release in releases:
        state = server.update(state, {"w": torch.tensor([release], dtype=torch.float64)})
        states.append(state)
    return states


def values(states):
    return [float(state.params["w"]) for state in states]


def test_divides_by_the_planned_number_of_clients():
    """10 + 0.5 * 8 / 4 = 11, whatever the number of clients that took part."""
    assert values(run(FedOpt(optimizer=SGD(), learning_rate=0.5, planned_clients=4), [8.0])) == [11.0]


def test_denominator_may_be_no_whole_number():
    assert values(run(FedOpt(optimizer=SGD(), learning_rate=1.0, planned_clients=2.5), [5.0])) == [12.0]


def test_heavy_ball_momentum():
    """v = 2, 0.5 * 2 + 4 = 5, 0.5 * 5 + 0 = 2.5; rate 1."""
    server = FedOpt(optimizer=SGD(momentum=0.5), learning_rate=1.0, planned_clients=2)
    assert values(run(server, [4.0, 8.0, 0.0])) == [12.0, 17.0, 19.5]


def test_adam_takes_a_first_step_of_the_learning_rate():
    """Bias correction makes the first direction the sign, up to epsilon, however small the update."""
    server = FedOpt(optimizer=Adam(), learning_rate=0.25, planned_clients=100)
    assert values(run(server, [-1.0])) == pytest.approx([9.75], abs=1e-5)


def test_schedule_follows_the_number_of_releases():
    """Warm-up over 2 rounds: factors 1/2, 1; then half a cosine over 2 rounds: 1, 1/2."""
    server = FedOpt(
        optimizer=SGD(),
        learning_rate=1.0,
        planned_clients=1,
        schedule=WarmupCosine(rounds=4, warmup_rounds=2),
    )
    assert values(run(server, [2.0, 2.0, 2.0, 2.0])) == pytest.approx([11.0, 13.0, 15.0, 16.0])


def test_average_warms_up_and_follows():
    """Decays 1/10, 2/11, ..., but never above ema_decay = 0.15: the second one is cut to it."""
    states = run(FedOpt(optimizer=SGD(), learning_rate=1.0, planned_clients=1, ema_decay=0.15), [10.0, 10.0])
    first = 0.1 * 10 + 0.9 * 20
    second = 0.15 * first + 0.85 * 30
    assert [float(state.average["w"]) for state in states] == pytest.approx([first, second])
    assert float(states[1].averaged()["w"]) == pytest.approx(second)
    assert float(states[1].averaged()["ice"]) == 3.0
    assert values(states) == [20.0, 30.0]  # the average is evaluated beside the model and never trains it


def test_no_average_is_kept_unless_asked_for():
    state = run(FedOpt(optimizer=SGD(), learning_rate=1.0, planned_clients=1), [1.0])[0]
    assert state.average == {}
    assert float(state.averaged()["w"]) == 11.0


@pytest.mark.parametrize("optimizer", [SGD(), SGD(momentum=0.9), Adam()])
def test_frozen_parameters_stay_bit_for_bit(optimizer):
    states = run(FedOpt(optimizer=optimizer, learning_rate=1.0, planned_clients=1, ema_decay=0.9), [1.0, 2.0])
    assert all(state.params["ice"].tolist() == [3.0] for state in states)
    assert all("ice" not in state.average for state in states)
    assert all("ice" not in slot for state in states for slot in state.slots.values())


def test_states_are_not_changed_by_later_updates():
    """In-place arithmetic would change a checkpoint that is still being written."""
    states = run(FedOpt(optimizer=SGD(momentum=0.9), learning_rate=1.0, planned_clients=1, ema_decay=0.9), [1.0, 1.0])
    assert values(states)[0] == 11.0
    assert float(states[0].slots["velocity"]["w"]) == 1.0
    assert [state.updates for state in states] == [1, 2]


def test_parameters_keep_their_type():
    assert (
        run(FedOpt(optimizer=SGD(), learning_rate=1.0, planned_clients=3), [1.0])[0].params["w"].dtype == torch.float32
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", float("nan")), ("learning_rate", 0.0), ("planned_clients", 0), ("ema_decay", 1.0)],
)
def test_bad_numbers_are_named(name, value):
    good = {"learning_rate": 1.0, "planned_clients": 1, "ema_decay": 0.0}
    with pytest.raises(ValueError, match=name):
        FedOpt(optimizer=SGD(), **{**good, name: value})

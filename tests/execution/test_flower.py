"""Flower nodes as workers, in memory: nothing is counted twice, and an error names its node."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from flower_grid import FakeGrid, OverFlower
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from small import RAGGED, make_cohort, make_stream, make_work

from fedemb.core.params import flatten, scale
from fedemb.execution.executor import Sequential
from fedemb.execution.flower import FlowerNodes, Worker, node_app
from fedemb.execution.flower_messages import PartialSum, Share
from fedemb.execution.flower_simulation import Flower, serving
from fedemb.privacy.clipping import FlatClipping, PerLayerClipping
from fedemb.privacy.discrete import GridClipping

WORK = make_work()
SHARED = WORK.task.init(1)
CLIPPING = FlatClipping(clip_norm=0.1)


def ask(executor, clipping=CLIPPING, cohort=RAGGED):
    return executor.clipped_sum(WORK, clipping, SHARED, cohort, make_stream())


def wanted(clipping=CLIPPING):
    return ask(Sequential(), clipping)


@pytest.mark.parametrize("nodes", [1, 2, 3, 5, 9])
def test_any_number_of_nodes_gives_the_sum_and_the_diagnostics_of_one_process(nodes):
    total, found = ask(OverFlower(nodes=nodes))
    exact, diagnostics = wanted()
    torch.testing.assert_close(flatten(total), flatten(exact), rtol=0, atol=1e-12)
    for name, value in vars(diagnostics).items():
        torch.testing.assert_close(getattr(found, name), value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "clipping",
    [PerLayerClipping(clip_norm=0.1, weights={"conv": 2.0}), GridClipping(clip_norm=0.1, grid=2.0**-30)],
)
def test_every_clipping_travels(clipping):
    """Sums of integers are exact: equal to the last bit, and integers still."""
    total, _ = ask(OverFlower(), clipping)
    exact, _ = wanted(clipping)
    assert {name: value.dtype for name, value in total.items()} == {name: v.dtype for name, v in exact.items()}
    torch.testing.assert_close(flatten(total), flatten(exact), rtol=0, atol=1e-12)


def test_a_node_gets_one_message_and_sends_one_sum():
    executor = OverFlower(nodes=2)
    ask(executor)
    assert len(executor.grid.sent) == 2
    one = next(iter(SHARED))
    answer = node_app(lambda context: Worker(work=WORK, load=make_stream()))(executor.grid.sent[0], None)
    assert answer.content["sum"][one].numpy().shape == tuple(SHARED[one].shape)
    assert answer.content["sum"][one].numpy().dtype == "float64"


def test_an_answer_that_comes_twice_counts_once():
    total, _ = ask(OverFlower(tamper=lambda message, reply: [reply, copy.deepcopy(reply), reply]))
    torch.testing.assert_close(flatten(total), flatten(wanted()[0]), rtol=0, atol=1e-12)


def test_an_answer_of_an_earlier_round_is_dropped():
    kept = []

    def late(message, reply):
        """The first round's answers arrive again, before those of the second."""
        kept.append(reply)
        return [kept[0], reply]

    app = node_app(lambda context: Worker(work=WORK, load=make_stream()))
    nodes = FlowerNodes(grid=FakeGrid({1: app, 2: app}, late), nodes=2, timeout_seconds=30)
    ask(nodes)
    total, _ = ask(nodes, cohort=make_cohort((3, 10), (4,), round=1))
    exact, _ = ask(Sequential(), cohort=make_cohort((3, 10), (4,), round=1))
    torch.testing.assert_close(flatten(total), flatten(exact), rtol=0, atol=1e-12)


def refusal(tamper, timeout_seconds=30.0):
    with pytest.raises((ValueError, TimeoutError)) as told:
        ask(OverFlower(nodes=2, timeout_seconds=timeout_seconds, tamper=tamper))
    assert "\n" not in str(told.value)
    return str(told.value)


def of_node(number, change):
    """Changes what one node answers."""
    return lambda message, reply: [change(message, reply) if message.metadata.dst_node_id == number else reply]


def test_a_silent_node_is_named():
    told = refusal(lambda message, reply: [reply] if message.metadata.dst_node_id == 7 else [], timeout_seconds=0.2)
    assert told.startswith("Flower nodes 8 did not answer within 0.2 s")


def test_a_failing_node_is_named():
    def fail(context):
        raise OSError("no such store")

    good = node_app(lambda context: Worker(work=WORK, load=make_stream()))
    nodes = FlowerNodes(grid=FakeGrid({4: good, 5: node_app(fail)}), nodes=2, timeout_seconds=30)
    with pytest.raises(ValueError, match="Flower node 5 failed: no such store"):
        ask(nodes)


def test_a_node_with_other_users_is_named():
    app = node_app(lambda context: Worker(work=WORK, load=make_stream(), data="a"))
    nodes = FlowerNodes(grid=FakeGrid({4: app}), nodes=1, timeout_seconds=30, data="b")
    with pytest.raises(ValueError, match="Flower node 4 failed: this node has other users than the loop"):
        ask(nodes)


def test_a_sum_that_is_too_large_is_refused():
    """A node whose clip does nothing would void the guarantee."""

    def enlarge(message, reply):
        answer = PartialSum.unpacked(reply.content)
        larger = PartialSum(total=scale(answer.total, 1e6), diagnostics=answer.diagnostics)
        return Message(larger.packed(), reply_to=message)

    assert refusal(of_node(8, enlarge)) == ("Flower node 8 answered with more than 2 clipped updates can add up to")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (RecordDict(), "Flower node 7 answered without a sum"),
        (RecordDict({"sum": ArrayRecord(), "diagnostics": ArrayRecord()}), "Flower node 7 answered without a sum"),
        (
            PartialSum(total={}, diagnostics=wanted()[1]).packed(),
            "Flower node 7 answered for another model",
        ),
        (PartialSum(total=wanted()[0], diagnostics=wanted()[1]).packed(), "Flower node 7 did not answer for its 3"),
    ],
)
def test_a_strange_answer_is_named(content, told):
    assert refusal(of_node(7, lambda message, reply: Message(content, reply_to=message))).startswith(told)


def test_too_few_nodes_are_told():
    nodes = FlowerNodes(grid=FakeGrid({}), nodes=2, timeout_seconds=0.1)
    with pytest.raises(TimeoutError, match=r"0 of 2 Flower nodes connected within 0\.1 s"):
        ask(nodes)


def test_nodes_build_nothing_but_clippings():
    """What a message names is not called for its name alone."""
    order = {"round": 0, "clients": [], "clipping": ["subprocess:Popen", {"args": "true"}], "data": ""}
    content = RecordDict({"shared": ArrayRecord(), "order": ConfigRecord({"json": json.dumps(order)})})
    with pytest.raises(ValueError, match="subprocess:Popen is no Clipping"):
        Share.unpacked(content)


def test_within_a_server_app_the_executor_asks_its_nodes():
    app = node_app(lambda context: Worker(work=WORK, load=make_stream()))
    with serving(FakeGrid({1: app, 2: app})):
        total, _ = ask(Flower(nodes=2))
    torch.testing.assert_close(flatten(total), flatten(wanted()[0]), rtol=0, atol=1e-12)


def test_without_ray_there_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="simulates nodes with Ray, which is not installed: run pip install"):
        Flower()


def test_release_mode_refuses_what_flower_may_keep(fedemb, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    words = ("recipe=synthetic", "executor=flower", "mode=release", "test_users=none", f"run={tmp_path / 'r'}")
    code, _, err = fedemb("train", *words)
    assert code == 2
    assert "mode=release: this executor may keep who was drawn" in err
    assert not (tmp_path / "r").exists()


def test_a_version_that_does_not_fit_is_one_line(tmp_path):
    """As `fedemb train executor=flower` tells it, beside a Flower from before the Message API."""
    (tmp_path / "flwr").mkdir()
    (tmp_path / "flwr" / "__init__.py").write_text("")
    (tmp_path / "flwr-1.5.0.dist-info").mkdir()
    (tmp_path / "flwr-1.5.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: flwr\nVersion: 1.5.0\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; from fedemb.cli.main import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "recipe=synthetic", "executor=flower"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "flwr 1.5.0 is installed, which does not fit: run pip install 'flwr>=" in line
    assert not (tmp_path / "runs").exists()

"""`fedemb account curve, compare, explain, rdp` and its ledgers, as a user calls them."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from omegaconf import OmegaConf

from fedemb.cli import account
from fedemb.cli.account_curve import rounds_shown
from fedemb.cli.main import overrides
from fedemb.privacy.accounting import spend
from fedemb.privacy.event_types import PersonDpEvent
from fedemb.privacy.events import fixed_size_round, poisson_round
from fedemb.privacy.ledger import Ledger

SETTINGS = {"users": 10_000, "users_per_round": 256, "rounds": 200, "noise_multiplier": 2, "delta": 1e-5}
NOISY = {"users": 1000, "users_per_round": 50}


def call(action: str, **keys) -> None:
    path = Path(account.CONFIG_PATH) / f"{account.CONFIG}.yaml"
    stored = OmegaConf.masked_copy(OmegaConf.load(path), [key for key in OmegaConf.load(path) if key != "hydra"])
    OmegaConf.set_struct(stored, True)
    account.run(OmegaConf.merge(stored, {"action": action, **keys}))


def answer(capsys, action: str, **keys) -> dict:
    call(action, format="json", **keys)
    return json.loads(capsys.readouterr().out)


def ledger(folder: Path, *noises: float) -> Path:
    """A run folder whose rounds have these noise multipliers."""
    folder.mkdir(exist_ok=True)
    found = Ledger.create(folder / "ledger.jsonl")
    for noise in noises:
        found = found.charge(fixed_size_round(**NOISY, noise_multiplier=noise))
    return folder


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_bare_words_are_actions():
    assert overrides("account", ["curve", "users=10"]) == ["action=curve", "users=10"]
    assert overrides("account", ["users=10"]) == ["users=10"]
    assert overrides("prepare", ["emnist", "describe", "out=x"]) == ["dataset=emnist", "action=describe", "out=x"]


def test_price_says_what_an_attacker_can_find_out(capsys):
    found = answer(capsys, "price", **{**SETTINGS, "users_per_round": 10_000, "rounds": 50, "noise_multiplier": 20})
    mu = 2 * math.sqrt(50) / 20
    assert found["gaussian_dp_fit"] == pytest.approx(mu, rel=1e-6)
    assert 0.00866 <= found["attacker_tpr"]["0.001"] <= 0.01  # Phi(Phi^-1(0.001) + mu) = 0.00866
    assert 0.0525 <= found["attacker_tpr"]["0.01"] <= 0.06  # 0.0526
    call("price", **SETTINGS)
    out = capsys.readouterr().out
    assert re.search(r"attacker's TPR +≤ 0\.0066\d at FPR 0\.001, ≤ 0\.042\d at FPR 0\.01", out)
    assert "a fit at this δ, not a bound" in out
    assert max(map(len, out.splitlines()[1:])) <= 80


def test_without_noise_every_action_says_infinity(capsys):
    for action, words in [
        ("price", "ε = ∞: no privacy guarantee"),
        ("curve", "∞"),
        ("compare", "ε = ∞ by every accountant"),
        ("explain", "none: ε is infinite"),
        ("rdp", "ε = ∞"),
    ]:
        call(action, **{**SETTINGS, "noise_multiplier": 0})
        assert words in capsys.readouterr().out


def test_the_curve_ends_at_the_price_and_rises(capsys, tmp_path):
    found = answer(capsys, "curve", **{**SETTINGS, "rounds": 1000}, out=str(tmp_path))
    price = spend([(fixed_size_round(users=10_000, users_per_round=256, noise_multiplier=2.0), 1000)], 1e-5)
    assert found["curve"][-1] == {
        "round": 1000,
        "epsilon": price.epsilon,
        "epsilon_attack": price.epsilon_attack,
        "delta": 1e-5,
    }
    for name in ("epsilon", "epsilon_attack", "round"):
        values = [point[name] for point in found["curve"]]
        assert values == sorted(values)
    rows = table(tmp_path / "curve.csv")
    assert [float(row["epsilon"]) for row in rows] == [point["epsilon"] for point in found["curve"]]
    figure = (tmp_path / "curve.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(figure).tag == "{http://www.w3.org/2000/svg}svg"
    assert figure.count('class="band"') == figure.count("<polyline") == 1
    assert "http" not in figure.replace('xmlns="http://www.w3.org/2000/svg"', "")


@pytest.mark.parametrize("rounds", [1, 2, 7, 20, 21, 1000, 100_000])
def test_a_curve_has_its_first_and_its_last_round(rounds):
    shown = rounds_shown(rounds, 20)
    assert (shown[0], shown[-1]) == (1, rounds)
    assert len(shown) <= 35
    assert shown == sorted(set(shown))


def test_a_ledgers_curve_follows_the_order_of_its_charges(capsys, tmp_path):
    """Would catch charges that are added up by kind: the loud rounds are the later ones."""
    noises = [8.0] * 4 + [1.0] * 2 + [8.0]
    found = answer(capsys, "curve", run=str(ledger(tmp_path / "run", *noises)), delta=1e-4)
    assert [point["round"] for point in found["curve"]] == [1, 2, 3, 4, 5, 6, 7]
    for point in found["curve"]:
        events = [(fixed_size_round(**NOISY, noise_multiplier=noise), 1) for noise in noises[: point["round"]]]
        assert point["epsilon"] == pytest.approx(spend(events, 1e-4).epsilon, rel=1e-6)


def test_compare_marks_what_holds(capsys, tmp_path):
    found = {price["name"]: price for price in answer(capsys, "compare", **SETTINGS)["prices"]}
    assert found["fedemb, certified"]["status"] == "valid"
    assert found["add/remove, Poisson, z"]["status"] == "invalid"
    call("compare", **SETTINGS)
    out = capsys.readouterr().out
    assert re.search(r"fedemb, certified +2\.6790  valid: ", out)
    assert re.search(r"add/remove, Poisson, z +0\.75\d\d  invalid: ", out)
    by_ledger = answer(capsys, "compare", run=str(ledger(tmp_path / "run", 2.0, 3.0)))
    assert len(by_ledger["prices"]) == len(found)
    two = Ledger.resume(tmp_path / "run" / "ledger.jsonl")
    two.charge(poisson_round(sampling_rate=0.1, noise_multiplier=1.0))
    with pytest.raises(ValueError, match="all of one sampling"):
        call("compare", run=str(tmp_path / "run"))


def test_the_report_tells_a_poisson_run_how_many_users_there_are(capsys, tmp_path):
    Ledger.create(tmp_path / "ledger.jsonl").charge(poisson_round(sampling_rate=0.05, noise_multiplier=2.0))
    with pytest.raises(ValueError, match="set delta="):
        call("price", run=str(tmp_path))
    (tmp_path / "report.json").write_text(json.dumps({"privacy": {"unit": "user", "users": 1000}}))
    found = answer(capsys, "compare", run=str(tmp_path))
    assert found["delta"] == pytest.approx(1000**-1.1)
    assert found["prices"][0]["epsilon"] == found["prices"][4]["epsilon"] > 0


def test_explain_states_what_a_reviewer_asks_for(capsys, tmp_path):
    items = answer(capsys, "explain", **SETTINGS, users_per_client=8)["explanation"]
    for topic, words in {
        "guarantee": "ε = 2.679",
        "relation": "substitute-one",
        "sensitivity": "2C",
        "sampling": "q = M/N = 0.0256",
        "noise": "s = z/2 = 1",
        "must stay secret": "who is in which round, and the noise",
        "delta": "as set, below 1/N",
        "not covered": "hyper-parameters",
        "mode": "no run is known",
        "rounds": "200 charged",
    }.items():
        assert words in items[topic], topic
    assert "here 8" in items["sensitivity"]
    folder = ledger(tmp_path / "run", 2.0)
    privacy = {"unit": "user", "user": "a writer", "relation": "substitute-one", "noise_multiplier": 2.0, "users": 1000}
    (folder / "report.json").write_text(json.dumps({"privacy": privacy}))
    (folder / "config.yaml").write_text("mode: simulate\nusers_per_round: 50\nnoise_multiplier: 2.0\ndelta: null\n")
    items = answer(capsys, "explain", run=str(folder))["explanation"]
    assert "a user is a writer" in items["unit of privacy"]
    assert "by default N^-1.1" in items["delta"]
    assert items["mode"].startswith("simulation")
    call("explain", run=str(folder))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


def test_rdp_writes_a_curve_that_is_sound(capsys, tmp_path):
    found = answer(capsys, "rdp", **SETTINGS, out=str(tmp_path / "new" / "folder"))
    assert found["epsilon_from_curve"] >= found["epsilon"] == pytest.approx(2.6790, rel=0.005)
    rows = table(tmp_path / "new" / "folder" / "rdp.csv")
    assert [float(row["order"]) for row in rows] == found["orders"]
    assert json.loads((tmp_path / "new" / "folder" / "rdp.json").read_text())["renyi_epsilon"] == found["renyi_epsilon"]
    whole = answer(capsys, "rdp", **{**SETTINGS, "users_per_round": 10_000})
    assert whole["renyi_epsilon"] == pytest.approx([200 * order / 2 for order in whole["orders"]], rel=1e-12)


def test_a_torn_last_line_is_said_and_left_out(fedemb, tmp_path):
    folder = ledger(tmp_path / "run", 2.0, 2.0)
    path = folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes() + b'{"entry": 2, "ev')
    before = path.read_bytes()
    code, out, err = fedemb("account", f"run={folder}", "format=json")
    assert code == 0
    assert json.loads(out)["rounds"] == 2
    assert "last line" in err
    assert "cut off" in err
    assert len(err.splitlines()) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("report", "config", "words"),
    [
        ({"users": 2000}, None, "users=1000, the run has users=2000"),
        ({"noise_multiplier": 3.0}, None, "noise_multiplier=2, the run has noise_multiplier=3"),
        ({"epsilon": 1.0, "rounds_charged": 5}, None, "holds 2 charges, the run reports 5 rounds"),
        (None, "users_per_round: 40\n", "users_per_round=50, the run has users_per_round=40"),
        (None, "noise_multiplier: 1.0\n", "noise_multiplier=2, the run has noise_multiplier=1"),
        ({"relation": "add-remove"}, None, "is about add-remove"),
    ],
)
def test_the_ledger_of_another_run_is_refused(tmp_path, report, config, words):
    folder = ledger(tmp_path / "run", 2.0, 2.0)
    if report is not None:
        (folder / "report.json").write_text(json.dumps({"privacy": {"unit": "user", **report}}))
    if config is not None:
        (folder / "config.yaml").write_text(config)
    with pytest.raises(ValueError, match=re.escape(words)):
        call("price", run=str(folder))
    shutil.copy(folder / "ledger.jsonl", tmp_path / "alone.jsonl")
    call("price", run=str(tmp_path / "alone.jsonl"))


def test_a_persons_ids_are_told(tmp_path, capsys):
    """Rounds that are priced for a person of two ids are those of the configuration."""
    folder = tmp_path / "run"
    folder.mkdir()
    round_ = PersonDpEvent(fixed_size_round(**NOISY, noise_multiplier=2.0), 2)
    Ledger.create(folder / "ledger.jsonl").charge(round_)
    (folder / "config.yaml").write_text(
        f"noise_multiplier: 2.0\nids_per_user: 2\nusers_per_round: {NOISY['users_per_round']}\n"
    )
    call("price", run=str(folder))
    assert "ids_per_user" in capsys.readouterr().out
    call("explain", run=str(folder))
    assert "2jC with j = 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["delta=1e-3"], "not below 1/users"),
        (["users_per_round=20000"], "users_per_round must be at most users"),
        (["rounds=-3"], "rounds must be"),
        (["users=-1"], "users must be"),
        (["noise_multiplier=-1"], "noise_multiplier must be"),
        (["relation=add-remove"], "relation must be substitute-one"),
        (["profile"], "action must be one of price, curve, compare, explain, rdp"),
        (["compare", "out=x"], "out= is for the files of curve and rdp"),
        (["curve", "format=xml"], "format must be one of table, json"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(fedemb, words, line):
    settings = [f"{key}={value}" for key, value in SETTINGS.items() if key not in {w.split("=")[0] for w in words}]
    action = [word for word in words if "=" not in word]
    code, out, err = fedemb("account", *action, *settings, *(word for word in words if "=" in word))
    assert (code, out) == (2, "")
    assert line in err
    assert len(err.splitlines()) == 1


def test_a_charge_under_another_relation_is_refused(tmp_path):
    folder = ledger(tmp_path / "run", 2.0)
    path = folder / "ledger.jsonl"
    path.write_text(path.read_text().replace('{"entry"', '{"relation": "add-remove", "entry"'))
    with pytest.raises(ValueError, match="line 1 is charged under add-remove; fedemb adds up substitute-one"):
        call("price", run=str(folder))
    path.write_text(path.read_text().replace("add-remove", "substitute-one"))
    call("price", run=str(folder))

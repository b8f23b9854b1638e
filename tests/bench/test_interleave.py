"""Ways in turn: who is asked when, what is counted, and what becomes of those that fail and of what they started."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fedemb.bench import lines
from fedemb.bench.interleave import Way, measure
from fedemb.bench.usage import family

SECONDS = 60.0
HELLO = """
    import json, os, subprocess, sys, time
    def say(answer): print(json.dumps(answer), flush=True)
    settings = json.loads(sys.stdin.readline())
    """
GOOD = """
    say({"ready": {"fake": "1.0"}})
    for turn, line in enumerate(sys.stdin):
        with open(settings["log"], "a") as log: log.write(settings["name"])
        time.sleep(0.05)
        say({"done": True})
    """


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    """Who does not end by itself is not waited for."""
    monkeypatch.setattr("fedemb.bench.interleave._SECONDS_TO_END", 0.5)


def way(folder, name, body, needs=""):
    """A way by a script that knows nothing of fedemb."""
    script = folder / f"{name}.py"
    script.write_text(textwrap.dedent(HELLO) + textwrap.dedent(body))
    return Way(
        name=name,
        label=name,
        command=[sys.executable, str(script)],
        settings={"name": name, "log": str(folder / "log"), "folder": str(folder)},
        environment=dict(os.environ),
        needs=needs,
    )


def ended(pid):
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(") ")[2].startswith("Z"):
            return True
        time.sleep(0.1)
    return False


def test_ways_take_turns_and_the_first_two_rounds_do_not_count(tmp_path):
    found = measure([way(tmp_path, "a", GOOD), way(tmp_path, "b", GOOD)], range(5), SECONDS)
    assert (tmp_path / "log").read_text() == "ab" * 5
    assert {name: len(served.rounds) for name, served in found.items()} == {"a": 3, "b": 3}
    assert found["a"].versions == {"fake": "1.0"}
    assert found["a"].failure is None
    assert all(0.05 <= round.wall < SECONDS for round in found["a"].rounds)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_processor_time_and_memory_of_children_count(tmp_path):
    child = "bytes = bytearray(2**26); import time; end = time.process_time() + 0.1\nwhile time.process_time() < end: 0"
    body = f"""
    say({{"ready": {{}}}})
    for line in sys.stdin:
        subprocess.run([sys.executable, "-c", {child!r}])
        say({{"done": True}})
    """
    alive = f"""
    other = subprocess.Popen([sys.executable, "-c", "bytes = bytearray(2**26); print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdout.readline()
    {body.strip()}
    """
    found = measure([way(tmp_path, "a", body), way(tmp_path, "b", alive)], range(3), SECONDS)
    assert found["a"].rounds[0].processor >= 0.09
    assert found["b"].rounds[0].peak_megabytes > found["a"].rounds[0].peak_megabytes + 50


DYING = """
    say({"ready": {}})
    for turn, line in enumerate(sys.stdin):
        if turn == 3: sys.exit("out of luck")
        say({"done": True})
    """
LATE = """
    say({"ready": {}})
    for turn, line in enumerate(sys.stdin):
        time.sleep(60 if turn == 2 else 0)
        say({"done": True})
    """
TALKATIVE = """
    say({"ready": {}})
    print("Welcome!", flush=True)
    time.sleep(60)
    """
STILLBORN = """
    raise RuntimeError("no camera")
    """


@pytest.mark.parametrize(
    ("body", "counted", "words"),
    [
        (DYING, 1, "died in a round: out of luck"),
        (LATE, 0, "took more than 3 s in a round"),
        (TALKATIVE, 0, "answered with something else than a line of JSON in a round"),
        (STILLBORN, 0, "died before its first round: RuntimeError: no camera"),
    ],
)
def test_who_fails_is_left_out_and_the_others_go_on(tmp_path, body, counted, words):
    found = measure([way(tmp_path, "bad", body), way(tmp_path, "good", GOOD)], range(5), 3.0)
    assert (found["bad"].failure, len(found["bad"].rounds)) == (words, counted)
    assert (found["good"].failure, len(found["good"].rounds)) == (None, 3)


def test_what_cannot_be_imported_or_started_is_one_line(tmp_path):
    lacking = way(tmp_path, "lacking", 'say({"missing": "No module named \'pfl\'"})', needs="install pfl there")
    with pytest.raises(ValueError, match=r"No module named 'pfl'; install pfl there$"):
        measure([way(tmp_path, "good", GOOD), lacking], range(3), SECONDS)
    nowhere = Way(name="x", label="x", command=["/nowhere"], settings={}, environment={}, needs="pass another")
    with pytest.raises(ValueError, match=r"/nowhere cannot be started: No such file or directory; pass another$"):
        measure([nowhere], range(3), SECONDS)


FAMILY = """
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    open(settings["folder"] + "/pids", "w").write(f"{os.getpid()} {other.pid}")
    say({"ready": {}})
    for line in sys.stdin: say({"done": True})
    time.sleep(600)
    """


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_nothing_is_left_of_a_way_that_does_not_end_by_itself(tmp_path):
    measure([way(tmp_path, "a", FAMILY)], range(3), SECONDS)
    assert all(ended(pid) for pid in (tmp_path / "pids").read_text().split())


SERVED = """
import sys, time
sys.path.append(sys.argv[1])
from lines import Rounds
rounds = Rounds()
print("what libraries print is no answer")
rounds.ready()
for _ in rounds.each():
    time.sleep(rounds.settings["seconds"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_served_way_ends_with_who_asked_even_in_a_round(tmp_path):
    (tmp_path / "served.py").write_text(SERVED)
    command = [sys.executable, str(tmp_path / "served.py"), str(Path(lines.__file__).parent)]
    asking = f"""
import os
from fedemb.bench.interleave import Way, measure
way = Way(name="a", label="a", command={command!r}, settings={{"seconds": 60}}, environment=os.environ)
measure([way], range(3), 60.0)
"""
    asker = subprocess.Popen([sys.executable, "-c", asking])
    try:
        while len(members := family(asker.pid)) < 2:
            time.sleep(0.05)
    finally:
        asker.kill()
        asker.wait()
    assert all(ended(pid) for pid in members)


def test_a_served_way_answers_by_lines_alone(tmp_path):
    (tmp_path / "served.py").write_text(SERVED)
    command = [sys.executable, str(tmp_path / "served.py"), str(Path(lines.__file__).parent)]
    quick = Way(name="a", label="a", command=command, settings={"seconds": 0}, environment=dict(os.environ))
    found = measure([quick], range(4), SECONDS)["a"]
    assert (len(found.rounds), found.failure) == (2, None)

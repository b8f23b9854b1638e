"""Functions for worker processes, which import them: what a test module defines, they cannot find."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from fedemb.core.workers import Workers


class OddError(ValueError):
    """Cannot be unpickled: its constructor takes something else than its words."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def after_a_while(item):
    """The item and the process, after a random delay that has nothing to do with the order of items."""
    time.sleep(random.random() * 0.02)
    return item, os.getpid()


def failing(item):
    if item == 3:
        raise FileNotFoundError(2, "No such file or directory", "third.bin")
    if item == 4:
        raise OddError("this", "that")
    if item == 5:
        return lambda: item  # cannot be pickled
    if item == 6:
        raise ValueError("six") from KeyError("the cause")
    return item


def dying(item):
    """What the item says: to be killed, to leave, or to be killed while a large result is on its way."""
    if item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "exit":
        os._exit(3)
    if item == "kill while sending":
        os.write = write_some_and_die
        return array(10**5)
    return item


def write_some_and_die(file, content, write=os.write):
    write(file, content[:1000])
    os.kill(os.getpid(), signal.SIGKILL)


def array(count):
    """`count` float64, most of them beyond what a pipe holds."""
    return {"values": np.arange(count, dtype=np.float64)}


def long_work(path):
    """Leaves its process's number in a file, then takes a minute."""
    Path(path, f"{os.getpid()}.pid").touch()
    time.sleep(60)


class Unbuildable:
    """Pickles here, and cannot be built in a worker."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ImportError("no module named mything")


def main():
    """A parent with two busy workers, for tests that kill it or press Ctrl-C."""
    workers = Workers.processes(long_work, 2)
    try:
        list(workers.map([sys.argv[1]] * 4))
    except KeyboardInterrupt:
        workers.close()
        sys.exit(130)


if __name__ == "__main__":
    main()

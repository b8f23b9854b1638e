"""The side of a served way: a line of settings, then a line for each round. Standard library only.

Scripts that run in another interpreter import this file from where it lies.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

_SECONDS_TO_END = 3.0


class Rounds:
    """Takes over stdin and stdout: what libraries print goes to stderr. Whoever asks gone, the process ends.

    settings: the first line. A round that has begun when stdin closes has a few seconds.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.settings: dict[str, Any] = json.loads(sys.stdin.readline() or "{}")
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def ready(self, **versions: str) -> None:
        """Everything is loaded; name -> version of what will work."""
        self._say({"ready": versions})

    def missing(self, error: ImportError) -> None:
        """This interpreter lacks what it takes."""
        self._say({"missing": str(error)})

    def wait(self) -> bool:
        """Wait for the next round; False if there is none."""
        return self._asked.get()

    def done(self) -> None:
        """The round is over."""
        self._say({"done": True})

    def each(self) -> Iterator[None]:
        """One turn of a loop for each round."""
        while self.wait():
            yield
            self.done()

    def _say(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    def _listen(self) -> None:
        for _ in sys.stdin:
            self._asked.put(True)
        self._asked.put(False)
        time.sleep(_SECONDS_TO_END)
        os._exit(0)

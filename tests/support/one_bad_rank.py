"""Made-up users of whom rank 1 has others, or whose images it cannot read later on: it dies, once, or says so."""

import os
import signal
from pathlib import Path

from fedemb.data.synthetic import SyntheticUsers


class Unlucky(SyntheticUsers):
    def load(self, users):
        run = Path(os.environ["FEDEMB_TEST_RUN"])
        ledger, died = run / "ledger.jsonl", run.with_suffix(".died")
        if os.environ.get("RANK") == "1" and ledger.exists() and ledger.read_text().count("\n") == 3:
            if os.environ["FEDEMB_TEST_HOW"] == "says so":
                raise FileNotFoundError(2, "No such file or directory", "user7.png")
            if not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().load(users)


class Others(SyntheticUsers):
    """As many, with other images on rank 1."""

    def __init__(self, seed, **settings):
        super().__init__(seed=seed + (os.environ.get("RANK") == "1"), **settings)

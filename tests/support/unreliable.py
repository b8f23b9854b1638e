"""Data sets that fail where they are read; worker processes import them from here."""

import os
import signal
import threading

import torch
from small import make_users

from fedemb.data.users import UserDataset

PARENT = os.environ.setdefault("FEDEMB_TEST_PARENT", str(os.getpid()))  # worker processes inherit it


class Users(UserDataset):
    """24 users; reading one of them goes wrong."""

    def __init__(self, victim=-1, how="damaged", until=None):
        self._base, self._victim, self._how, self._until = make_users((6,) * 24), victim, how, until

    @property
    def num_users(self):
        return self._base.num_users

    def num_examples(self, user):
        return self._base.num_examples(user)

    def load(self, users):
        mended = self._until is not None and os.path.exists(self._until)
        if self._victim in users and not mended:
            if self._how == "killed" and os.getpid() != int(PARENT):
                os.kill(os.getpid(), signal.SIGKILL)
            if self._how == "damaged" and len(users) > 1:
                raise ValueError(f"the record of user {self._victim} is damaged")
        return self._base.load(users)


def unpicklable():
    """Users with something that no other process can have."""
    users = Users()
    users.lock = threading.Lock()
    return users


def odd_values(client):
    """Values of many types and shapes, some of them empty, and the number of PyTorch's threads and of the process."""
    return {
        "half": torch.arange(6).reshape(2, 3).to(torch.bfloat16),
        "flag": torch.tensor([True, False]),
        "none": torch.zeros(0, 4, 3),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "one": torch.tensor(3),
        "threads": torch.tensor(torch.get_num_threads()),
        "process": torch.tensor(os.getpid()),
    }

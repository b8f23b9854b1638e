"""A recorder for the CPU that is as strict as a GPU's."""

import torch

from fedemb.execution.recorder import Recorder


class Playback(Recorder):
    """Runs again instead of replaying. Results stay where they were at first, and are spoilt when the next run starts.

    All recordings work in one memory: a replay may write over the results of those made after it as well, as their
    memory may be what this one's values in between have given back.
    devices: what was checked. recorded: how many recordings were made.
    """

    def __init__(self):
        self.devices, self.recorded, self._spoils = [], 0, []

    def check(self, device):
        self.devices.append(device)

    def record(self, run):
        self.recorded += 1
        results, again = run(), run()
        # Results in memory of the inputs' come back to the same place; the others are made anew.
        own = [first.data_ptr() != second.data_ptr() for first, second in zip(results, again, strict=True)]

        def spoil():
            for result, mine in zip(results, own, strict=True):
                if mine and result.is_floating_point():
                    result.fill_(torch.nan)

        self._spoils.append(spoil)
        number = len(self._spoils) - 1

        def replay():
            for each in self._spoils[number:]:
                each()
            for result, value in zip(results, run(), strict=True):
                if result.data_ptr() != value.data_ptr():
                    result.copy_(value)

        spoil()
        return results, replay

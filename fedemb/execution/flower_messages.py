"""What travels between the loop and a Flower node: a share of a cohort there, one partial sum back.

Plain arrays and JSON, no pickle: neither side runs code that the other one sends.
Shapes: m virtual clients of a share.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch

from fedemb.core.params import to
from fedemb.core.types import Cohort, Diagnostics, Params, VirtualClient
from fedemb.execution.flower_api import ArrayRecord, ConfigRecord, RecordDict
from fedemb.privacy.clipping import Clipping

_SHARED, _ORDER, _SUM, _DIAGNOSTICS = "shared", "order", "sum", "diagnostics"


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one node works through.

    shared: the global parameters, on the CPU. cohort: its virtual clients, a part of the round's.
    data: digest of the users that the cohort is drawn from; "" for any.
    """

    shared: Params
    cohort: Cohort
    clipping: Clipping
    data: str = ""

    def packed(self) -> RecordDict:
        """As records."""
        kind = type(self.clipping)
        order = {
            "round": self.cohort.round,
            "clients": [[client.round, client.seed, *client.users] for client in self.cohort.clients],
            "clipping": [f"{kind.__module__}:{kind.__qualname__}", asdict(self.clipping)],  # type: ignore[call-overload]
            "data": self.data,
        }
        return RecordDict({_SHARED: _arrays(self.shared), _ORDER: ConfigRecord({"json": json.dumps(order)})})

    @classmethod
    def unpacked(cls, content: RecordDict) -> Share:
        """From records. Raises: ValueError for a clipping that is none."""
        order = json.loads(str(content[_ORDER]["json"]))
        clients = tuple(
            VirtualClient(round=round, seed=seed, users=tuple(users)) for round, seed, *users in order["clients"]
        )
        return cls(
            shared=_params(content[_SHARED]),
            cohort=Cohort(round=order["round"], clients=clients),
            clipping=_clipping(*order["clipping"]),
            data=order["data"],
        )


@dataclass(frozen=True, kw_only=True)
class PartialSum:
    """What one node answers: the sum of its clients' clipped updates, and their exact diagnostics [m]."""

    total: Params
    diagnostics: Diagnostics

    def packed(self) -> RecordDict:
        """As records."""
        return RecordDict({_SUM: _arrays(self.total), _DIAGNOSTICS: _arrays(vars(self.diagnostics))})

    @classmethod
    def unpacked(cls, content: RecordDict) -> PartialSum:
        """From records. Raises: KeyError, TypeError or ValueError for other records."""
        return cls(total=_params(content[_SUM]), diagnostics=Diagnostics(**_params(content[_DIAGNOSTICS])))


def _arrays(params: Params) -> ArrayRecord:
    return ArrayRecord({name: value.contiguous() for name, value in to(params, "cpu").items()})


def _params(record: Any) -> Params:
    return {name: torch.as_tensor(value) for name, value in record.to_torch_state_dict().items()}


def _clipping(name: str, settings: dict[str, Any]) -> Clipping:
    """A dataclass by name, if it is a Clipping."""
    module, _, kind = name.partition(":")
    found = getattr(importlib.import_module(module), kind, None)
    if not (isinstance(found, type) and issubclass(found, Clipping)):
        raise ValueError(f"{name} is no Clipping: loop and nodes need the same version of fedemb")
    return found(**settings)

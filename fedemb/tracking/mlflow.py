"""MLflow: a run in a tracking server, or in a local database."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedemb.tracking.tracker import Track, TrackedRun, Tracker, require

_LOCAL = re.compile(r"sqlite:|file:|[^:]*$")
_ONCE = 100  # parameters that MLflow takes at once
_LONGEST = 500  # characters of a parameter that any of its servers takes


@dataclass(frozen=True, kw_only=True)
class MLflow(Tracker):
    """uri: a server's, or e.g. sqlite:///mlflow.db. experiment: null is the run's group."""

    uri: str
    experiment: str | None

    def __post_init__(self) -> None:
        require("mlflow", "MLflow", "mlflow")

    @property
    def keeps_times(self) -> bool:
        """A server sees when it is told; a local store keeps the times that it is given."""
        return _LOCAL.match(self.uri) is None

    def open(self, run: TrackedRun) -> Track:
        """A new run, or the one of an earlier process."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # or training waits minutes for a lost server
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient(tracking_uri=self.uri)
        if run.known is not None:
            client.update_run(run.known, status="RUNNING")
            return _Run(client=client, identity=run.known, secret=run.secret)
        track = _Run(client=client, identity="", secret=run.secret)
        name = self.experiment or run.group
        found = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if found is None else found.experiment_id
        track.identity = client.create_run(experiment, start_time=track.now(), run_name=str(run.folder)).info.run_id
        settings = [Param(_name(key), str(value)[:_LONGEST]) for key, value in run.settings.items()]
        for first in range(0, len(settings), _ONCE):
            client.log_batch(track.identity, params=settings[first : first + _ONCE])
        return track


@dataclass(kw_only=True)
class _Run(Track):
    client: Any
    identity: str
    secret: bool

    def now(self) -> int:
        """Milliseconds since 1970; in a release, always the same."""
        return 1 if self.secret else int(time.time() * 1000)

    def write(self, round: int, numbers: Mapping[str, float]) -> None:
        """One request."""
        from mlflow.entities import Metric

        now = self.now()
        self.client.log_batch(
            self.identity, metrics=[Metric(_name(name), value, now, round) for name, value in numbers.items()]
        )

    def close(self, facts: Mapping[str, str], *, finished: bool) -> None:
        """Facts are tags."""
        for name, fact in facts.items():
            self.client.set_tag(self.identity, _name(name), fact)
        self.client.set_terminated(self.identity, status="FINISHED" if finished else "KILLED", end_time=self.now())


def _name(name: str) -> str:
    """MLflow knows letters, digits and _-./: only. recall@far=0.001 -> recall_at_far_0.001"""
    return re.sub(r"[^\w\-./ ]", "_", name.replace("@", "_at_"))

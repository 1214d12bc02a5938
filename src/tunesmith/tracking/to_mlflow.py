"""MLflow: a run in the store that MLFLOW_TRACKING_URI names, or in one beside the run's files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tunesmith.tracking.numbers import Numbers
from tunesmith.tracking.tracker import TrackedRun

LONGEST_PARAMETER = 500


@dataclass(frozen=True, eq=False)
class MlflowRun:
    """A run in MLflow, told through its client."""

    client: Any
    run_id: str
    uri: str

    def log(self, numbers: Numbers) -> None:
        """Log all numbers in one call."""
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]

        at_ms = int(numbers.at * 1000)
        metrics = [Metric(name, it, at_ms, numbers.step) for name, it in numbers.values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def end(self, *, succeeded: bool) -> str:
        """End the run."""
        self.client.set_terminated(self.run_id, status="FINISHED" if succeeded else "FAILED")
        return f"see it with: mlflow ui --backend-store-uri {self.uri}"


def begin(run: TrackedRun) -> MlflowRun:
    """Begin a run in the experiment with the project's name."""
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]
    from mlflow.entities import Param  # pyright: ignore[reportMissingImports]

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        run.folder.mkdir(parents=True, exist_ok=True)
        uri = run.folder.as_uri()
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(run.project)
    known = experiment.experiment_id if experiment else client.create_experiment(run.project)
    run_id = client.create_run(known, run_name=run.name).info.run_id
    params = [Param(name, it[:LONGEST_PARAMETER]) for name, it in run.settings.items()]
    for first in range(0, len(params), 100):  # the most that one call takes
        client.log_batch(run_id, params=params[first : first + 100])
    return MlflowRun(client, run_id, uri)

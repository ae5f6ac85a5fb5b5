"""MLflow: options as parameters, and the numbers of each epoch as metrics."""

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from avpea.trackers._base import About, Outcome, Tracker, flat
from avpea.version import __version__

__all__ = ["MLflow"]

_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# MLflow would count its users, and retry for minutes while a server is not there. The user's own values hold.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_MOST = 100  # parameters in one request


class MLflow(Tracker):
    """A run in the store `MLFLOW_TRACKING_URI` (else MLflow's own, `mlflow.db` in this folder).

    The identifier of the run is kept with avpea's run, but not the store: a run folder of somebody else could name a
    server of theirs.
    """

    title: ClassVar[str] = "MLflow"
    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"

    def start(self, about: About, known: str, epochs: int) -> tuple[str, int, str]:
        """Begin a run in the experiment `MLFLOW_EXPERIMENT_NAME` (`avpea`), or go on with the known one."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import mlflow

        self._client: Any = mlflow.MlflowClient()
        where = f"MLflow: {mlflow.get_tracking_uri()}"
        if known and self._goes_on(known):
            return known, epochs, f"{where}, run {known}."
        lost = f" It does not have run {known}, so all epochs go to a new one." if known else ""
        self._identifier = self._new(about)
        return self._identifier, 0, f"{where}, run {self._identifier}.{lost}"

    def _goes_on(self, known: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_run(known)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        if found.info.lifecycle_stage != "active":  # it was deleted
            return False
        self._client.update_run(known, status="RUNNING")
        self._identifier = known
        return True

    def _new(self, about: About) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "avpea")
        found = self._client.get_experiment_by_name(name)
        place = found.experiment_id if found else self._client.create_experiment(name)
        made = self._client.create_run(place, run_name=about.name, tags={"avpea": __version__})
        identifier: str = made.info.run_id
        parameters = [Param(key, value) for key, value in flat(about.options).items()]
        for start in range(0, len(parameters), _MOST):
            self._client.log_batch(identifier, params=parameters[start : start + _MOST])
        return identifier

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Log an epoch, whose number is the step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(
            self._identifier, metrics=[Metric(name, value, now, epoch) for name, value in numbers.items()]
        )

    def end(self, best: Mapping[str, float], outcome: Outcome) -> None:
        """Set the run's status."""
        self.log(int(best.get("epoch", 0)), {f"best/{name}": value for name, value in best.items()})
        self._client.set_terminated(self._identifier, _STATUS[outcome])

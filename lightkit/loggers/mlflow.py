"""Metrics, hyperparameters and checkpoints for MLflow."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit.errors import ConfigError
from lightkit.loggers.directory import flatten
from lightkit.loggers.service import LogModel, SavedFile, ServiceLogger, plain_params

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from lightkit.callbacks.base import Checkpoint

__all__ = ["MLFlowLogger"]

_STATUS = {"success": "FINISHED", "finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_MOST_AT_ONCE = 100  # parameters of one request, as MLflow has it
_LONGEST_VALUE = 6000


class MLFlowLogger(ServiceLogger):
    """Writes to MLflow with the package `mlflow` (the extra `mlflow`).

    Without a `tracking_uri` it writes to a store of its own in the run directory: `mlflow.db`, an SQLite file, and
    `artifacts/`; `mlflow ui --backend-store-uri sqlite:///DIR/mlflow.db` shows it. A fit that goes on from a checkpoint
    goes on in the same MLflow run; what was logged after the checkpoint stays there, as MLflow takes nothing back.

    Args:
        experiment_name: made where it does not exist.
        run_name: what the run is called; default: MLflow finds a name.
        tracking_uri: the store or server; default: the environment's MLFLOW_TRACKING_URI, else the run directory's.
        tags: of the run.
        save_dir: the directory of the store, instead of the run directory.
        log_model: hand checkpoints on as artifacts: "all" when each is saved, True those that are kept, at the end.
        prefix: put before every name, with a `-`.
        artifact_location: where a new experiment keeps its artifacts; default: `artifacts/` beside the store.
        run_id: go on in this run.
        synchronous: False: MLflow sends in the background.

    Raises:
        MissingExtraError: mlflow is not installed.
    """

    package = extra = "mlflow"

    def __init__(
        self, experiment_name: str = "lightning_logs", run_name: str | None = None, tracking_uri: str | None = None,
        tags: dict[str, Any] | None = None, save_dir: str | Path | None = None, log_model: LogModel = False,
        prefix: str = "", artifact_location: str | None = None, run_id: str | None = None,
        synchronous: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(save_dir, prefix, log_model)
        self._experiment_name, self._run_name, self.tags = experiment_name, run_name, tags
        self._tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if self._tracking_uri is not None and self._tracking_uri.startswith("file:"):
            raise ConfigError(
                f"MLFlowLogger(tracking_uri={self._tracking_uri!r}): MLflow no longer keeps its store of files; leave "
                "it out (a store of SQLite in the run directory), or write 'sqlite:///PATH/mlflow.db'"
            )
        self._artifact_location = artifact_location
        self._has_own_run, self._run_id = run_id is not None, run_id
        self._experiment_id: str | None = None
        self._client: MlflowClient | None = None
        self._is_running = False
        self._options: dict[str, Any] = {} if synchronous is None else {"synchronous": synchronous}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None, "_is_running": False, "_saving": []}  # a copy goes on in the same run

    @property
    def has_own_place(self) -> bool:
        """Whether the user gave a directory, and no server."""
        return self._save_dir is not None and self._tracking_uri is None

    @property
    def root_dir(self) -> str | None:
        """The directory that the user gave."""
        return self._save_dir

    @property
    def name(self) -> str | None:
        """The id of the experiment; None before the first write."""
        return self._experiment_id

    @property
    def version(self) -> str | None:
        """The id of the run; None before the first write."""
        return self._run_id

    @property
    def run_id(self) -> str | None:
        """The id of the run, which is made where there is none."""
        _ = self.experiment
        return self._run_id

    @property
    def experiment_id(self) -> str | None:
        """The id of the experiment, which is made where there is none."""
        _ = self.experiment
        return self._experiment_id

    @property
    def experiment(self) -> MlflowClient:
        """The client of MLflow; the experiment and the run are made when it is first asked for."""
        if self._client is None:
            with _quiet():
                self._client = self._opened()
                self._is_running = True
        elif not self._is_running:  # a run that ended goes on
            self._client.update_run(str(self._run_id), status="RUNNING")
            self._is_running = True
        return self._client

    def _run(self) -> tuple[MlflowClient, str]:
        """The client, and the id of the run that is written to."""
        return self.experiment, str(self._run_id)

    def _opened(self) -> MlflowClient:
        from mlflow.tracking import MlflowClient
        from mlflow.tracking.context.registry import resolve_tags

        uri, artifacts = self._tracking_uri, self._artifact_location
        if uri is None:
            folder = self._folder().resolve()
            uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", artifacts or str(folder / "artifacts")
        client = MlflowClient(uri)
        if self._run_id is not None and (known := _run_of(client, self._run_id)) is not None:
            self._experiment_id = known.info.experiment_id
            client.update_run(self._run_id, status="RUNNING")
            return client
        if self._has_own_run:
            raise ConfigError(f"MLFlowLogger(run_id={self._run_id!r}): {uri} has no such run")
        found = client.get_experiment_by_name(self._experiment_name)
        if found is not None and found.lifecycle_stage != "deleted":
            self._experiment_id = found.experiment_id
        else:
            self._experiment_id = client.create_experiment(self._experiment_name, artifact_location=artifacts)
        run = client.create_run(self._experiment_id, tags=resolve_tags(self.tags), run_name=self._run_name)
        self._run_id = run.info.run_id
        return client

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics at a step; characters that MLflow does not take leave the names."""
        now_ms = int(time.time() * 1000)
        with self._guarded():
            client, run_id = self._run()
            from mlflow.entities import Metric

            found = [
                Metric(re.sub(r"[^\w/. :-]+", "", self._key(name)), float(value), now_ms, step or 0)
                for name, value in metrics.items()
                if hasattr(value, "__float__")  # text is none
            ]
            client.log_batch(run_id, metrics=found, **self._options)

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Write hyperparameters, those of nested dicts with a `/` between."""
        shown = {name: str(value)[:_LONGEST_VALUE] for name, value in flatten(plain_params(params)).items()}
        if not shown:
            return
        with self._guarded():
            client, run_id = self._run()
            from mlflow.entities import Param

            known = client.get_run(run_id).data.params  # of before a resume: MLflow takes each once
            new = [Param(name, value) for name, value in shown.items() if known.get(name) != value]
            for first in range(0, len(new), _MOST_AT_ONCE):
                client.log_batch(run_id, params=new[first : first + _MOST_AT_ONCE], **self._options)

    def log_figure(self, key: str, figure: Any, step: int | None = None) -> None:
        """Write a matplotlib figure as an artifact."""
        with self._guarded():
            client, run_id = self._run()
            client.log_figure(run_id, figure, f"{key}_{step or 0}.png")

    def log_text(self, key: str, texts: Any, step: int | None = None) -> None:
        """Write one or several texts as an artifact."""
        text = texts if isinstance(texts, str) else "\n\n".join(texts)
        with self._guarded():
            client, run_id = self._run()
            client.log_text(run_id, text, f"{key}_{step or 0}.txt")

    def _log_file(self, saved: SavedFile, callback: Checkpoint) -> None:
        (client, run_id), folder = self._run(), saved.path.stem
        client.log_artifact(run_id, str(saved.path), folder)
        about = {"score": saved.score, "original_filename": saved.path.name, "monitor": callback.monitor}
        client.log_dict(run_id, about, f"{folder}/metadata.yaml")
        client.log_text(run_id, str(["latest", "best"] if saved.is_best else ["latest"]), f"{folder}/aliases.txt")

    def finalize(self, status: str = "success") -> None:
        """Hand on the checkpoints that are kept, where asked for, and end the run; writing again reopens it."""
        self._hand_on_kept(status)
        if self._client is not None and self._is_running:
            with self._guarded():
                self._client.set_terminated(str(self._run_id), _STATUS.get(status, status))
            self._is_running = False
        self._say_what_is_missing()

    def state_dict(self) -> dict[str, Any]:
        """Return the id of the run, so that a resumed fit goes on in it."""
        return {} if self._client is None else {"run_id": self._run_id, "experiment_name": self._experiment_name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the same run, unless the user gave another; where the store has it no more, in a new one."""
        from lightkit.schema import TEXT, Record

        Record({}, {"run_id": TEXT, "experiment_name": TEXT}).check(state_dict)
        is_mine = state_dict.get("experiment_name") == self._experiment_name
        if self._client is None and not self._has_own_run and is_mine:
            self._run_id = state_dict.get("run_id")


def _run_of(client: MlflowClient, run_id: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException:
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """What MLflow's own use of its packages is warned of is none of the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

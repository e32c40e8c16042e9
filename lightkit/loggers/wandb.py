"""Metrics, hyperparameters, media and checkpoints for Weights & Biases."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightkit.errors import ConfigError
from lightkit.loggers.service import LogModel, SavedFile, ServiceLogger, plain_params

if TYPE_CHECKING:
    from torch import nn

    from lightkit.callbacks.base import Checkpoint

__all__ = ["WandbLogger"]

_STEP = "trainer/global_step"


class WandbLogger(ServiceLogger):
    """Writes to Weights & Biases with the package `wandb` (the extra `wandb`); `offline=True` needs no network.

    Its files are in `wandb/` of the run directory. The x-axis is the metric `trainer/global_step`. A fit that goes on
    from a checkpoint goes on in the same wandb run; what was logged after the checkpoint stays there, as wandb takes
    nothing back. The wandb run stays open when a fit ends; `wandb.finish()`, or the end of the process, closes it.

    Args:
        name: what the run is called; default: wandb finds a name.
        save_dir, dir: where the files go, instead of the run directory.
        version, id: the id of the run; default: a new one.
        offline: write files alone; `wandb sync DIR` uploads them.
        project: default: the environment's WANDB_PROJECT, else "lightning_logs".
        log_model: hand checkpoints on as artifacts: "all" when each is saved, True those that are kept, at the end.
        experiment: a run that `wandb.init` gave, to log to.
        prefix: put before every name, with a `-`.
        checkpoint_name: what the artifact is called; default: `model-ID`.
        add_file_policy: of the artifacts' files; "immutable" leaves out a copy.
        **kwargs: passed on to `wandb.init`, such as `entity`, `group`, `tags`.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    package = extra = "wandb"

    def __init__(
        self, name: str | None = None, save_dir: str | Path | None = None, version: str | None = None,
        offline: bool = False, dir: str | Path | None = None, id: str | None = None, anonymous: bool | None = None,
        project: str | None = None, log_model: LogModel = False, experiment: Any = None, prefix: str = "",
        checkpoint_name: str | None = None, add_file_policy: Literal["mutable", "immutable"] = "mutable", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(save_dir if save_dir is not None else dir, prefix, log_model)
        if offline and log_model:
            raise ConfigError(
                f"WandbLogger(offline=True, log_model={log_model!r}): checkpoints cannot be uploaded offline; leave "
                "one of them out"
            )
        self._offline, self._run_name = offline, name
        self._has_own_id = version is not None or id is not None
        self._id = version or id
        self._project = project or os.environ.get("WANDB_PROJECT", "lightning_logs")
        self._experiment = experiment
        self._checkpoint_name, self.add_file_policy = checkpoint_name, add_file_policy
        self._init_args: dict[str, Any] = {**({"anonymous": "allow"} if anonymous else {}), **kwargs}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_experiment": None, "_saving": []}  # a copy goes on in the same run

    @property
    def name(self) -> str:
        """The project; the run's own name is `logger.experiment.name`."""
        return self._project

    @property
    def version(self) -> str:
        """The id of the run."""
        if self._experiment is not None:
            return str(self._experiment.id)
        if self._id is None:
            self._id = secrets.token_hex(4)  # not of a generator that trainings draw from
        return self._id

    @property
    def has_own_version(self) -> bool:
        """Whether the user gave an id."""
        return self._has_own_id

    @property
    def experiment(self) -> Any:
        """The run of wandb; opened when first asked for."""
        if self._experiment is None:
            import wandb

            if wandb.run is not None and wandb.run.id != self._id:
                warnings.warn(
                    f"WandbLogger: the wandb run {wandb.run.id} is open and is logged to; call wandb.finish() before "
                    "for a run of its own",
                    stacklevel=2,
                )
            if wandb.run is not None:
                self._experiment = wandb.run
                return self._experiment
            options: dict[str, Any] = {
                "name": self._run_name, "project": self._project, "dir": str(self._folder()), "id": self.version,
                "resume": "allow", **({"mode": "offline"} if self._offline else {}), **self._init_args,
            }  # fmt: skip
            self._experiment = wandb.init(**options)
            if not self._init_args.get("sync_tensorboard"):
                self._experiment.define_metric(_STEP)
                self._experiment.define_metric("*", step_metric=_STEP, step_sync=True)
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write metrics, media among them, at a step."""
        row = {self._key(name): value for name, value in metrics.items()}
        if step is not None and not self._init_args.get("sync_tensorboard"):
            row[_STEP] = step
        with self._guarded():
            self.experiment.log(row)

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Add hyperparameters to the run's config."""
        found = plain_params(params)
        if found:
            with self._guarded():
                self.experiment.config.update(found, allow_val_change=True)

    def watch(
        self, model: nn.Module, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True
    ) -> None:
        """Have wandb log gradients ("gradients", "parameters", "all") of the module every `log_freq` steps."""
        self.experiment.watch(model, log=log, log_freq=log_freq, log_graph=log_graph)

    def log_table(
        self, key: str, columns: list[Any] | None = None, data: list[list[Any]] | None = None, dataframe: Any = None,
        step: int | None = None,
    ) -> None:  # fmt: skip
        """Write a table: columns and rows, or a data frame."""
        import wandb

        self.log_metrics({key: wandb.Table(columns=columns, data=data, dataframe=dataframe)}, step)

    def log_text(  # type: ignore[override]
        self, key: str, columns: list[str] | str | None = None, data: list[list[str]] | None = None,
        dataframe: Any = None, step: int | None = None, *, texts: Sequence[str] | str | None = None,
    ) -> None:  # fmt: skip
        """Write texts as a table: columns and rows, or a data frame; or texts alone, as the other loggers take them."""
        if isinstance(columns, str):
            texts, columns = columns, None
        if texts is not None or (columns is not None and data is None and dataframe is None):
            rows = [texts] if isinstance(texts, str) else list(texts if texts is not None else columns or ())
            columns, data = ["text"], [[text] for text in rows]
        self.log_table(key, columns, data, dataframe, step)

    def log_image(self, key: str, images: Sequence[Any], step: int | None = None, **kwargs: Any) -> None:
        """Write images: tensors, arrays, PIL images or paths. kwargs: lists, one item an image, such as `caption`."""
        self._log_media("Image", key, images, step, kwargs)

    def log_audio(self, key: str, audios: Sequence[Any], step: int | None = None, **kwargs: Any) -> None:
        """Write sounds: arrays or paths. kwargs: lists, one item a sound, such as `sample_rate`."""
        self._log_media("Audio", key, audios, step, kwargs)

    def log_video(self, key: str, videos: Sequence[Any], step: int | None = None, **kwargs: Any) -> None:
        """Write videos: arrays or paths. kwargs: lists, one item a video, such as `fps`."""
        self._log_media("Video", key, videos, step, kwargs)

    def log_figure(self, key: str, figure: Any, step: int | None = None) -> None:
        """Write a matplotlib figure as an image."""
        self._log_media("Image", key, [figure], step, {})

    def _log_media(
        self, kind: str, key: str, items: Sequence[Any], step: int | None, options: Mapping[str, Sequence[Any]]
    ) -> None:
        import wandb

        where = f"WandbLogger.log_{kind.lower()}({key!r})"
        if not isinstance(items, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {type(items).__name__}.")
        for name, values in options.items():
            if len(values) != len(items):
                problem = f"expected {name} to have one item for each of {len(items)}, got {len(values)}."
                raise ConfigError(f"{where}: {problem}")
        made = [
            getattr(wandb, kind)(item, **{name: values[i] for name, values in options.items()})
            for i, item in enumerate(items)
        ]
        self.log_metrics({key: made}, step)

    @staticmethod
    def download_artifact(
        artifact: str, save_dir: str | Path | None = None, artifact_type: str | None = None,
        use_artifact: bool | None = True,
    ) -> str:  # fmt: skip
        """Download an artifact; -> the directory. use_artifact: note that the open run uses it."""
        import wandb

        if wandb.run is not None and use_artifact:
            found: Any = wandb.run.use_artifact(artifact)
        else:
            found = wandb.Api().artifact(artifact, type=artifact_type)
        return str(found.download(root=None if save_dir is None else os.fspath(save_dir)))

    def use_artifact(self, artifact: str, artifact_type: str | None = None) -> Any:
        """Note that the run uses an artifact; -> it."""
        return self.experiment.use_artifact(artifact, type=artifact_type)

    def _log_file(self, saved: SavedFile, callback: Checkpoint) -> None:
        import wandb

        about = {"score": saved.score, "original_filename": saved.path.name, "monitor": callback.monitor}
        artifact = wandb.Artifact(self._checkpoint_name or f"model-{self.version}", type="model", metadata=about)
        artifact.add_file(str(saved.path), name="model.ckpt", policy=self.add_file_policy)
        self.experiment.log_artifact(artifact, aliases=["latest", "best"] if saved.is_best else ["latest"])

    def finalize(self, status: str) -> None:
        """Hand on the checkpoints that are kept, where that was asked for; the wandb run stays open."""
        self._hand_on_kept(status)
        self._say_what_is_missing()

    def state_dict(self) -> dict[str, Any]:
        """Return the id of the run, so that a resumed fit goes on in it."""
        return {"id": self.version, "project": self._project} if self._experiment is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the same run, unless the user gave another id."""
        from lightkit.schema import TEXT, Record

        Record({}, {"id": TEXT, "project": TEXT}).check(state_dict)
        if self._experiment is None and not self._has_own_id and state_dict.get("project") == self._project:
            self._id = state_dict.get("id", self._id)

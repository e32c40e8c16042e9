"""The callback that keeps the resolved configuration with the run."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import BinaryIO

from jsonargparse import ArgumentParser, Namespace

from lightkit.callbacks.base import Callback
from lightkit.checkpoint import atomic
from lightkit.cli.config import as_yaml, without_command
from lightkit.errors import ConfigError
from lightkit.module import LightModule
from lightkit.trainer import Trainer


class SaveConfigCallback(Callback):
    """Writes the resolved config into the run directory when a run begins.

    A config that differs from the one already there, as when a run is resumed with other options, is written
    beside it as `config_2.yaml` and so on, several files in a folder `config_2`; nothing is overwritten. A subclass may
    keep it elsewhere too: `save_config`.

    Args:
        parser: what has read the configuration.
        config: the configuration, nothing in it built.
        config_filename: name of the file.
        overwrite: replace the file that is there.
        multifile: files that the configuration names in its values are written beside it.
        save_to_log_dir: False: only `save_config` is called.

    Raises:
        ConfigError: nothing would be saved at all.
    """

    def __init__(
        self, parser: ArgumentParser, config: Namespace, config_filename: str = "config.yaml", overwrite: bool = False,
        multifile: bool = False, save_to_log_dir: bool = True,
    ) -> None:  # fmt: skip
        if not save_to_log_dir and type(self).save_config is SaveConfigCallback.save_config:
            raise ConfigError(
                f"{type(self).__name__}(save_to_log_dir=False): it saves nothing then; define save_config(trainer, "
                "pl_module, stage), or give LightkitCLI(save_config_callback=None)"
            )
        self.parser, self.config, self.config_filename = parser, config, config_filename
        self.overwrite, self.multifile, self.save_to_log_dir = overwrite, multifile, save_to_log_dir
        self.already_saved = False

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        if self.already_saved or trainer.fast_dev_run or not trainer.is_global_zero:
            return
        self.already_saved = True
        if self.save_to_log_dir:
            self._write(trainer.run_dir)
        self.save_config(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Override to keep the config in another place, too; called once, on the first process.

        For example `trainer.logger.log_hyperparams({"config": self.parser.dump(self.config)})`.
        """

    def _write(self, folder: Path) -> None:
        if self.multifile:
            self._write_several(folder)
            return
        text = as_yaml(self.parser, self.config)
        path, number = folder / self.config_filename, 1
        while not self.overwrite and path.exists() and path.read_text(encoding="utf-8") != text:
            number += 1
            path = folder / f"{Path(self.config_filename).stem}_{number}{Path(self.config_filename).suffix}"
        if self.overwrite or not path.exists():
            atomic.replace(path, lambda file: file.write(text.encode()))

    def _write_several(self, folder: Path) -> None:
        """The file and those that it names; all of them stand in a folder `config_2` where one here says otherwise."""
        with tempfile.TemporaryDirectory() as scratch:
            first = Path(scratch, self.config_filename)
            kept = without_command(self.config)
            self.parser.save(kept, str(first), skip_validation=True, skip_unset=False, overwrite=True, multifile=True)
            made = {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
        target, number = folder, 1
        while not self.overwrite and any(
            (target / name).exists() and (target / name).read_bytes() != content for name, content in made.items()
        ):
            number += 1
            target = folder / f"{Path(self.config_filename).stem}_{number}"
        for name, content in made.items():
            if self.overwrite or not (target / name).exists():
                atomic.replace(target / name, partial(_put, content))


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)

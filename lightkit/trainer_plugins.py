"""What `Trainer(plugins=...)` brings: a precision, a format of checkpoints; imported where there are any."""

from __future__ import annotations

from collections.abc import Sequence

from lightkit.checkpoint.io_plugins import CheckpointIO, writer_for
from lightkit.checkpoint.writer import Writer
from lightkit.devices.precision import Precision
from lightkit.errors import ConfigError
from lightkit.settings import Settings, as_list


def given_by_plugins(settings: Settings, precision: Precision, writer: Writer) -> tuple[Precision, Writer]:
    """The precision and the writer that the plugins ask for, where they do, else those given.

    Raises ConfigError for two of a kind, one that another argument contradicts, or anything else.
    """
    given = settings.plugins
    plugins: Sequence[object] = as_list(given)
    formats = [plugin for plugin in plugins if isinstance(plugin, CheckpointIO)]
    precisions = [plugin for plugin in plugins if isinstance(plugin, Precision)]
    for plugin in plugins:
        if not isinstance(plugin, (CheckpointIO, Precision)):
            raise ConfigError(
                f"Trainer(plugins={given!r}): expected objects of lightkit.plugins, a CheckpointIO or a Precision, got "
                f"{plugin!r}"
            )
    for kind, found in (("CheckpointIO", formats), ("Precision", precisions)):
        if len(found) > 1:
            raise ConfigError(f"Trainer(plugins={given!r}): {len(found)} of the kind {kind}; give one")
    if precisions and settings.precision is not None:
        raise ConfigError(
            f"Trainer(precision={settings.precision!r}, plugins={given!r}): both say the precision; give one of them"
        )
    if formats and settings.async_checkpoint:
        raise ConfigError(
            f"Trainer(async_checkpoint=True, plugins={given!r}): both say who writes checkpoints; write "
            f"plugins=[AsyncCheckpointIO({type(formats[0]).__name__}(...))]"
        )
    return precisions[0] if precisions else precision, writer_for(formats[0]) if formats else writer

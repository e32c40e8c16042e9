"""`lightkit copy CONFIG FOLDER`: a shipped job as YAML and Python of one's own, to run and to change."""

from __future__ import annotations

from pathlib import Path

from lightkit.cli.copying import Copy, plan_copy, write_copy
from lightkit.errors import ConfigError


def prepare(arguments: list[str]) -> Copy:
    """Read the config and its recipe, write the copies; nothing is ever overwritten."""
    if len(arguments) != 2 or any(argument.startswith("-") for argument in arguments):
        raise ConfigError(
            f"lightkit copy takes CONFIG and FOLDER, such as lightkit copy vision/digits my_project, "
            f"got {' '.join(arguments)!r}"
        )
    copy = plan_copy(arguments[0], Path(arguments[1]).expanduser())
    write_copy(copy)
    return copy


def run(copy: Copy) -> None:
    """Say what is there and how to start it."""
    for name in copy.files:
        print(copy.folder / name)
    print(f"start it: cd {copy.folder} && lightkit fit {copy.config}")

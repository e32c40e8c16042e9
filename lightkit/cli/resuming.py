"""`lightkit fit CONFIG --resume` and `lightkit fit --resume RUN_DIR`."""

from __future__ import annotations

from typing import Any

from lightkit.checkpoint.places import local_copy, place
from lightkit.errors import ConfigError

OPTION, AUTO, CONFIG = "--resume", "auto", "config.yaml"


def with_config_of_run(arguments: list[str]) -> list[str]:
    """The arguments of a fit, with the config of the run directory that is to be gone on in where they name none.

    Raises ConfigError where there is neither.
    """
    has_config = any(a.partition("=")[0] in ("--config", "-c") for a in arguments)
    if has_config or not arguments or not arguments[0].startswith("-"):
        return arguments
    found = _run_dir(arguments)
    if found is None:
        return arguments
    if not found:
        raise ConfigError(f"lightkit fit {OPTION}: give a CONFIG before it, or the run directory behind it")
    config = place(found) / CONFIG
    if not config.is_file():
        raise ConfigError(
            f"lightkit fit {OPTION} {found}: there is no {config}, which `lightkit fit` writes into a run directory; "
            f"give the config too: lightkit fit CONFIG {OPTION} {found}"
        )
    with local_copy(config) as local:  # of a store, which is kept until another file is read, long after this one
        return ["--config", str(local), *arguments]


def _run_dir(arguments: list[str]) -> str | None:
    """What stands behind the option, "" where nothing does; None without it."""
    for index, argument in enumerate(arguments):
        name, equals, text = argument.partition("=")
        if name == OPTION:
            following = "".join(arguments[index + 1 : index + 2])
            return text if equals else "" if following.startswith("-") else following
    return None


def changes(asked: str | None) -> dict[str, Any]:
    """What the option means for the Trainer; asked: its value."""
    if asked is None:
        return {}
    return {"resume": AUTO} if asked == AUTO else {"resume": AUTO, "run_dir": str(place(asked))}

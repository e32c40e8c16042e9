"""`lightkit list`: the shipped configs, one line each."""

from __future__ import annotations

from lightkit.cli.shipped import describe, shipped_configs
from lightkit.errors import ConfigError


def prepare(arguments: list[str]) -> list[tuple[str, str]]:
    """Return name and description of every shipped config, sorted by name."""
    if arguments:
        raise ConfigError(f"lightkit list takes no arguments, got {' '.join(arguments)!r}")
    return [(name, describe(path)) for name, path in shipped_configs().items()]


def run(configs: list[tuple[str, str]]) -> None:
    """Print them as two columns."""
    width = max((len(name) for name, _ in configs), default=0)
    for name, description in configs:
        print(f"{name:<{width}}  {description}".rstrip())

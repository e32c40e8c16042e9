"""The attribute that a search is about: of the module, its hyperparameters, the data module, or its hyperparameters."""

from __future__ import annotations

from typing import Any

from lightkit.datamodule import LightDataModule
from lightkit.errors import ConfigError, did_you_mean
from lightkit.module import LightModule


class Attribute:
    """Every place that has an attribute of this name; read from the last of them, set in all, as in Lightning."""

    def __init__(self, name: str, module: LightModule, datamodule: LightDataModule | None):
        self.name = name
        self.holders: list[object] = []
        for owner in (module, datamodule):
            if owner is None:
                continue
            self.holders += [owner] if hasattr(owner, name) else []
            self.holders += [owner.hparams] if name in owner.hparams else []

    def __bool__(self) -> bool:
        return bool(self.holders)

    def get(self) -> Any:
        """The value."""
        holder = self.holders[-1]
        return holder[self.name] if isinstance(holder, dict) else getattr(holder, self.name)

    def set(self, value: object) -> None:
        """Set it everywhere.

        Raises:
            ConfigError: a place where it cannot be set, such as a property without a setter.
        """
        for holder in self.holders:
            if isinstance(holder, dict):
                holder[self.name] = value
                continue
            try:
                setattr(holder, self.name, value)
            except AttributeError as error:
                raise ConfigError(f"{type(holder).__name__}.{self.name} cannot be set to {value!r}: {error}") from error


def chosen(who: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """The choice that is meant, in any case; raises ConfigError where it is none. who: begins the message."""
    if isinstance(value, str) and value.lower() in choices:
        return value.lower()
    listed = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
    raise ConfigError(f"{who}({name}={value!r}): expected {listed}{did_you_mean(str(value), choices)}")


def counted(who: str, name: str, value: object, least: int = 1) -> None:
    """Raise ConfigError where a count is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{who}({name}={value!r}): expected a whole number of at least {least}")


def find(
    who: str, names: tuple[str, ...], given: str, module: LightModule, datamodule: LightDataModule | None, argument: str
) -> Attribute:
    """The attribute `given`, else the first of `names` that there is. argument: that would name another.

    Raises:
        ConfigError: there is none. who: begins the message.
    """
    for name in (given,) if given else names:
        if found := Attribute(name, module, datamodule):
            return found
    owners = [type(owner).__name__ for owner in (module, datamodule) if owner is not None]
    places = " or ".join(place for owner in owners for place in (owner, f"{owner}.hparams"))
    known = [n for o in (module, datamodule) if o is not None for n in (*vars(o), *o.hparams) if n[:1] != "_"]
    if given:
        raise ConfigError(f"{who}({argument}={given!r}): no such attribute in {places}{did_you_mean(given, known)}")
    raise ConfigError(
        f"{who}: no attribute {' or '.join(map(repr, names))} in {places}{did_you_mean(names[0], known)}; set it in "
        f"__init__ and use it where it counts, or name another: {argument}=..."
    )

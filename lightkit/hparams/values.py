"""What a module or a data module holds as its hyperparameters; in `module.hparams` items are attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightkit.errors import did_you_mean


class AttributeDict(dict[str, Any]):
    """A dict whose items are attributes too: `hparams.lr` is `hparams["lr"]`."""

    __module__ = "lightkit.hparams"  # checkpoints name it so, wherever it stands

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            hint = "" if name.startswith("__") else did_you_mean(name, map(str, self))
            raise AttributeError(f"no hyperparameter {name!r}{hint}", name=name, obj=self) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"no hyperparameter {name!r}")
        del self[name]

    def __str__(self) -> str:
        """Return one line a value, aligned."""
        width = max((len(str(key)) for key in self), default=0)
        return "\n".join(f"{key!s:<{width}}  {value}" for key, value in self.items())


@dataclass(frozen=True)
class Hyperparameters:
    """What one object keeps, in its attribute `_hyperparameters`.

    initial: a copy, as they were when they were saved. argument: the one that they came in where that was one dict,
    Namespace or dataclass, "kwargs" where they were arguments themselves. kind: of that one; entries: their names.
    left_out: the kinds of those that have no plain form and are not what they are by default. live: all that have no
    plain form, which are among `values` and in no checkpoint.
    """

    values: AttributeDict = field(default_factory=AttributeDict)
    initial: AttributeDict = field(default_factory=AttributeDict)
    argument: str | None = None
    is_logged: bool = False
    kind: str = ""
    entries: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    live: Mapping[str, object] = field(default_factory=dict)


def of(obj: object) -> Hyperparameters:
    """What the object keeps; nothing where it has saved none."""
    found = vars(obj).get("_hyperparameters")
    return found if isinstance(found, Hyperparameters) else Hyperparameters()

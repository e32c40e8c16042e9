"""What calls of earlier Lightnings' Trainers have beside those of today; what it means stands in `legacy/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightkit.settings import Settings
from lightkit.trainer.facts import TrainerFacts

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Self


class EarlierCalls(TrainerFacts):
    """The methods that Lightning's Trainer had until 1.9, and attributes that it no longer has."""

    if not TYPE_CHECKING:  # for whom every name would be there

        def __getattr__(self, name: str) -> Any:
            """What an earlier Trainer had under this name."""
            if name.startswith("_"):
                raise AttributeError(f"'Trainer' object has no attribute {name!r}")
            from lightkit.legacy.calls import attribute

            return attribute(self, name)

    @classmethod
    def add_argparse_args(cls, parent_parser: ArgumentParser, **kwargs: Any) -> ArgumentParser:
        """Give the parser an option for every argument of the Trainer."""
        from lightkit.legacy.command_line import add_arguments

        return add_arguments(parent_parser)

    @classmethod
    def from_argparse_args(cls, args: Namespace | ArgumentParser, **kwargs: Any) -> Self:
        """Make a Trainer of parsed arguments; keyword arguments win."""
        from lightkit.legacy.command_line import arguments_of

        return cls(**arguments_of(args, kwargs))

    @classmethod
    def parse_argparser(cls, arg_parser: ArgumentParser | Namespace) -> Namespace:
        """The arguments of a command line, words read as what they mean."""
        from lightkit.legacy.command_line import parsed

        return parsed(arg_parser)

    @classmethod
    def default_attributes(cls) -> dict[str, Any]:
        """Every argument with its default, earlier ones among them."""
        from lightkit.legacy.command_line import defaults

        return defaults()


def with_old_ones(asked: Settings, old: Mapping[str, object]) -> tuple[Settings, str | None]:
    """The settings with what earlier arguments ask for; and the checkpoint that fits are resumed from."""
    if not old:
        return asked, None
    from lightkit.legacy.trainer_arguments import translated
    from lightkit.trainer_parts import make_callback

    found = translated(asked, old, Settings.names(), make_callback)
    return found.settings, found.resume_from


def loaders_of(fn: str, weights_only: bool | None, earlier: Mapping[str, object], **given: Any) -> list[Any]:
    """The loaders of a call, those under earlier names among them.

    Raises:
        ConfigError: a name that the call does not have; weights_only=False, which asks for the code in a checkpoint.
    """
    if weights_only is False:
        from lightkit.hparams.loading import refuse_code

        refuse_code(weights_only, f"trainer.{fn}")
    if not earlier:
        return list(given.values())
    from lightkit.legacy.calls import loaders

    return loaders(fn, earlier, given)

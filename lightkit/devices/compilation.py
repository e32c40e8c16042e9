"""torch.compile for a run: the forms of Trainer(compile=...), and which parts of a module are compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from lightkit.errors import ConfigError, did_you_mean

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_OPTIONS = ("fullgraph", "dynamic", "backend", "mode", "options", "disable")  # of torch.compile


def compile_options(value: object) -> dict[str, Any]:
    """torch.compile's arguments in Trainer(compile=value); ConfigError for no switch, mode or arguments of its."""
    if value is True:
        return {}
    where = f"Trainer(compile={value!r})"
    if isinstance(value, str):
        _check_mode(where, value)
        return {"mode": value}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected True, a mode ({_listed(MODES)}) or a dict of torch.compile's arguments")
    for name in value:
        if name not in _OPTIONS:
            raise ConfigError(
                f"{where}: torch.compile has no argument {name!r}; expected {_listed(_OPTIONS)}"
                f"{did_you_mean(str(name), _OPTIONS)}"
            )
    if value.get("mode") is not None:
        _check_mode(where, value["mode"])
        if value.get("options") is not None:
            raise ConfigError(f"{where}: torch.compile takes either mode or options; leave one of them out")
    return dict(value)


def _check_mode(where: str, mode: object) -> None:
    if mode not in MODES:
        raise ConfigError(f"{where}: expected one of the modes {_listed(MODES)}{did_you_mean(str(mode), MODES)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def compile_parts(module: nn.Module, options: dict[str, Any]) -> list[nn.Module]:
    """Compile the module and its networks, in place; -> those that were compiled here, and not by the user."""
    parts = dict.fromkeys((module, *_networks(module)))  # each once
    compiled = [part for part in parts if part._compiled_call_impl is None]
    for part in compiled:
        _compile(part, options)
    return compiled


def _compile(part: nn.Module, options: dict[str, Any]) -> None:
    """Compile what calling the part does, in place; names in its state_dict stay."""
    if not type(part).forward.__module__.startswith("torch."):
        part.compile(**options)
        return

    # torch.compile looks into torch's own modules (nn.Sequential) only when it comes from other code
    def call(*args: Any, **kwargs: Any) -> Any:
        return part._call_impl(*args, **kwargs)

    call.__code__ = call.__code__.replace(co_name=type(part).__name__)  # what is compiled is kept with the code object
    part._compiled_call_impl = torch.compile(call, **options)


def _networks(module: nn.Module) -> Iterator[nn.Module]:
    """The parts that a step may call: children with parameters, and those in its lists and dicts of modules."""
    for child in module.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _networks(child)
        elif next(child.parameters(), None) is not None and not isinstance(child, torch.jit.ScriptModule):
            yield child

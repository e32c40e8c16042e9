"""The earlier style as an adapter: dict returns, `*_step_end`, `*_epoch_end(outputs)`, other names of the test hooks.

A run binds it where the module defines one of these hooks, or returns such a dict. Outputs are kept only where an
`*_epoch_end(outputs)` wants them, detached, and on the CPU where the module says `outputs_on_cpu = True`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from lightkit.devices.transfer import to_cpu
from lightkit.errors import HookError
from lightkit.hooks import LEGACY_ALIASES, overrides
from lightkit.loops.outputs import detached
from lightkit.module import LightModule

if TYPE_CHECKING:
    from lightkit.results import Options, Results

# (prog_bar, logger, on_step, on_epoch, reduce_fx, add_dataloader_idx)
BAR: Options = (True, False, None, None, "mean", True)
PLAIN: Options = (False, False, None, None, "mean", True)


def take_aliases(module: LightModule) -> None:
    """Let the earlier names of the test hooks be the hooks; defining both is an error."""
    own = vars(module)
    for alias, name in LEGACY_ALIASES.items():
        hook = getattr(module, alias, None)
        if not callable(hook):
            continue
        if overrides(module, LightModule, name):
            if own.get(name) == hook:
                continue
            raise HookError(f"{type(module).__name__} defines {alias} and {name}; they are the same hook, keep one")
        module._take_hook(name, hook)


def ended_step(module: LightModule, name: str, step: Callable[..., object]) -> Callable[..., object]:
    """The step with `<name>_end` after it, where that is defined."""
    end = getattr(module, f"{name}_end", None)
    return (lambda *args: end(step(*args))) if callable(end) else step


def log_returned(results: Results, output: Mapping[str, object]) -> None:
    """Log what a step, or an epoch's end, returned under `log` and `progress_bar`."""
    logged, bar = _entries(output, "log"), _entries(output, "progress_bar")
    for name, value in logged.items():
        results.log(name, value, (name in bar, True, None, None, "mean", True), None)
    for name, value in bar.items():
        if name not in logged:
            results.log(name, value, BAR, None)


def _entries(output: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = output.get(key)
    if isinstance(found, Mapping):
        return found
    if found is None or (not isinstance(found, Tensor) and not found):
        return {}
    raise HookError(f"a step returned {key!r} as a {type(found).__name__}; expected a dict of names and values")


class KeptOutputs:
    """What the steps of an epoch returned, for an `*_epoch_end(outputs)`."""

    def __init__(self, module: LightModule, hook: str, results: Results, *, is_training: bool, loaders: int):
        self.module, self.hook, self.results, self.is_training = module, hook, results, is_training
        self.end: Callable[[object], object] = getattr(module, hook)
        self.on_cpu = bool(getattr(module, "outputs_on_cpu", False))
        self.outputs: list[list[object]] = [[] for _ in range(loaders)]

    def keep(self, output: object, loader_idx: int = 0) -> None:
        """As EpochOutputs.keep; a step that returned None leaves nothing."""
        if output is None:
            return
        if self.is_training and isinstance(output, Tensor):
            output = {"loss": output}
        self.outputs[loader_idx].append(to_cpu(output) if self.on_cpu else detached(output))

    def finish(self) -> None:
        """Hand them to the hook, and log what it returns: `log`, `progress_bar`, and scalars for callbacks."""
        self.results.enter(self.hook)
        output = self.end(self.outputs[0] if len(self.outputs) == 1 else self.outputs)
        if output is None:
            return
        if not isinstance(output, Mapping):
            kind = type(output).__name__
            raise HookError(f"{type(self.module).__name__}.{self.hook} returned a {kind}; expected a dict or None")
        log_returned(self.results, output)
        seen = {*_entries(output, "log"), *_entries(output, "progress_bar"), "log", "progress_bar"}
        for name, value in output.items():
            is_scalar = isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)
            if name not in seen and is_scalar:
                self.results.log(name, value, PLAIN, None)

    def load(self, outputs: list[list[object]]) -> None:
        """As EpochOutputs.load."""
        self.outputs = outputs

"""How the arithmetic of a run is done: memory format, optimizer kernels, TF32, torch.compile, CUDA graph, transfer.

Every switch is off by default, and off is an object that does nothing; see docs/guide/compute.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.devices.capture import CudaRecorder, Recorder
from lightkit.devices.kernels import KERNELS, choose_kernel, make_capturable
from lightkit.devices.overlap import OverlappedTransfer
from lightkit.devices.precision import Precision
from lightkit.devices.strategies import Strategy
from lightkit.devices.transfer import map_tensors, move_data_to_device
from lightkit.errors import ConfigError, did_you_mean

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_OPTIONS = ("fullgraph", "dynamic", "backend", "mode", "options", "disable")  # of torch.compile
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class Compute:
    """What a run does to modules, batches and optimizers for speed; without arguments, nothing.

    layout: what brings a batch into the memory format, or None. move: the default transfer of a batch to its device.
    recorder: records the whole training step, or None.
    """

    layout: Callable[[Any], Any] | None = None
    move: Callable[[Any, torch.device], Any] = staticmethod(move_data_to_device)
    recorder: Recorder | None = None
    kernel: str | None = None
    compile_options: dict[str, Any] | None = None

    def __init__(self) -> None:
        self.compiled: list[nn.Module] = []

    def place(self, module: nn.Module, strategy: Strategy, device: torch.device) -> None:
        """Bring the module to its device, before optimizers are configured, in its memory format; compile it."""
        strategy.setup(module, device)
        if self.layout is not None:
            _to_channels_last(module)
        if self.compile_options is None:
            return
        for part in (module, *_networks(module)):
            if part._compiled_call_impl is None:  # not what the user compiled
                _compile(part, self.compile_options)
                self.compiled.append(part)

    def prepare_optimizers(self, optimizers: Sequence[Optimizer]) -> None:
        """Choose their kernels.

        Raises:
            ConfigError: one of them has no such kernels.
        """
        for optimizer in optimizers:
            if self.kernel is not None:
                choose_kernel(optimizer, self.kernel)
            if self.recorder is not None:
                make_capturable(optimizer)

    def release(self, loop: Any) -> None:
        """The run is over: give the module back as it was, and the memory of a recorded step."""
        loop.closure_step = None
        for part in self.compiled:
            part._compiled_call_impl = None
        self.compiled = []


def choose_compute(given: dict[str, Any], device: torch.device, precision: Precision) -> Compute:
    """What the Trainer's arguments ask for; sets TF32 at once, as a switch of the process.

    Raises:
        ConfigError: a wrong value, or a CUDA graph with what cannot be in it.
    """
    for name in ("channels_last", "cuda_graph", "overlap_transfer"):
        if not isinstance(given[name], bool):
            raise ConfigError(f"Trainer({name}={given[name]!r}): expected True or False")
    compute = Compute()
    if given["channels_last"]:
        compute.layout = _batch_to_channels_last
    if given["overlap_transfer"] and device.type == "cuda":  # on the CPU a batch is where it should be
        compute.move = OverlappedTransfer()
    compute.kernel = _checked_kernel(given["optimizer_kernel"])
    compute.compile_options = compile_options(given["compile"])
    if given["cuda_graph"]:
        _check_graph(given, device, precision, compute.compile_options or {})
        compute.recorder = CudaRecorder(device)
    _switch_tf32(given["tf32"])
    return compute


def _checked_kernel(kernel: Any) -> str | None:
    if kernel is not None and kernel not in KERNELS:
        raise ConfigError(
            f"Trainer(optimizer_kernel={kernel!r}): expected one of {', '.join(map(repr, KERNELS))}, or None for what "
            f"configure_optimizers says{did_you_mean(str(kernel), KERNELS)}"
        )
    return kernel


def _switch_tf32(tf32: Any) -> None:
    if tf32 is None:
        return
    if not isinstance(tf32, bool):
        raise ConfigError(f"Trainer(tf32={tf32!r}): expected True, False, or None to leave torch's switches alone")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def compile_options(value: Any) -> dict[str, Any] | None:
    """torch.compile's arguments in Trainer(compile=value); None where nothing is compiled.

    Raises:
        ConfigError: neither a switch, nor a mode, nor arguments of torch.compile.
    """
    if value is None or value is False:
        return None
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


def _check_mode(where: str, mode: Any) -> None:
    if mode not in MODES:
        raise ConfigError(f"{where}: expected one of the modes {_listed(MODES)}{did_you_mean(str(mode), MODES)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _check_graph(given: dict[str, Any], device: torch.device, precision: Precision, options: dict[str, Any]) -> None:
    where = "Trainer(cuda_graph=True"
    if device.type != "cuda":
        raise ConfigError(
            f"{where}): there is no CUDA graph on {device.type}; use accelerator='gpu' on a machine with an NVIDIA "
            "GPU, or leave cuda_graph out"
        )
    problem = graph_problem(given, precision, options)
    if problem is not None:
        raise ConfigError(f"{where}, {problem}, or leave cuda_graph out")


def graph_problem(given: dict[str, Any], precision: Precision, options: dict[str, Any]) -> str | None:
    """Why a step with these arguments cannot be captured, and what to do instead; None where it can."""
    if given["accumulate_grad_batches"] != 1:
        return (
            f"accumulate_grad_batches={given['accumulate_grad_batches']}): a captured step is forward, backward and "
            "update at once; use larger batches"
        )
    if precision.uses_scaler:
        return f"precision={precision.name!r}): its gradient scaler reads the gradients in each step; use 'bf16-mixed'"
    if given["detect_anomaly"]:
        return "detect_anomaly=True): it looks at the gradients in each step; look for the anomaly without the graph"
    if given["nan_check"] == "step":
        return "nan_check='step'): it reads the loss before the update; use 'read'"
    if given["optimizer_kernel"] == "foreach":
        return "optimizer_kernel='foreach'): a captured step needs the fused kernels; use 'fused'"
    own = options.get("options") or {}
    if options.get("mode") in ("reduce-overhead", "max-autotune") or own.get("triton.cudagraphs"):
        return (
            f"compile={given['compile']!r}): this compilation makes CUDA graphs of its own; use "
            "mode='max-autotune-no-cudagraphs' or 'default'"
        )
    return None


def _to_channels_last(module: nn.Module) -> None:
    """Weights of convolutions in channels_last, in place: the parameters stay the same objects."""
    for tensor in (*module.parameters(), *module.buffers()):
        memory_format = _FORMATS.get(tensor.dim())
        if memory_format is not None and tensor.is_floating_point():
            tensor.data = tensor.data.contiguous(memory_format=memory_format)


def _batch_to_channels_last(batch: Any) -> Any:
    return map_tensors(batch, _tensor_to_channels_last)


def _tensor_to_channels_last(tensor: Tensor) -> Tensor:
    memory_format = _FORMATS.get(tensor.dim())
    if memory_format is None or not tensor.is_floating_point():
        return tensor
    return tensor.contiguous(memory_format=memory_format)


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

"""What `self.log` collects: values stay on the device, and are reduced and read when somebody wants them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lightkit.contracts import REDUCTIONS, is_metric
from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.logged_metrics import Parked

Options = tuple[bool, bool | None, bool | None, bool | None, object, bool]
"""(prog_bar, logger, on_step, on_epoch, reduce_fx, add_dataloader_idx) of `LightModule.log`"""

WINDOW = 128  # values kept one by one before they are added up: one reduction in 128 steps, memory stays flat

# hooks in which a value belongs to a step; elsewhere to the epoch
STEP_HOOKS = frozenset(
    ("training_step", "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward")
    + ("on_after_backward", "on_before_optimizer_step", "optimizer_step", "configure_gradient_clipping", "backward")
    + ("lr_scheduler_step", "optimizer_zero_grad")
)
# hooks in which a value would be lost, and what to do instead
NO_LOGGING = {f"on_{name}_end": f"log in on_{name}_epoch_end" for name in ("train", "validation", "test")}
for _hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"):
    NO_LOGGING[_hook] = "log in the step"

Key = tuple[str, int | None]  # a name, and the evaluation loader that it belongs to
ResultsState = dict[str, list[list[Any]]]  # by hook: name, loader, state of the slot, place of the metric in the module
State = dict[str, Any]  # of a slot, by its attributes


class Slot:
    """One logged name in one hook: its newest value and its running reduction.

    Tensors go into a small buffer on their device (float64 where the device has it, so that sums of float32 values are
    exact to the last bit that matters); numbers stay on the host. Nothing is read from the device before `final`.
    """

    def __init__(self, name: str, options: Options, on_step: bool, on_epoch: bool, reduce: str, suffixed: bool):
        self.name, self.options, self.reduce, self.has_suffix = name, options, reduce, suffixed
        self.on_step, self.on_epoch = on_step, on_epoch
        self.prog_bar: bool = options[0]
        self.logger: bool = options[1] is not False
        self.metric: Any = None  # a torchmetrics Metric, where one is logged
        self.rows: list[Tensor] = []
        self.buffer: Tensor | None = None
        self.latest: object = None
        self.clear()

    def suits(self, value: object, options: Options) -> bool:
        """Whether a later validation logs the name as the one did for which the slot was made."""
        return self.options == options and is_metric(value) == (self.metric is not None)

    def say(self, options: Options) -> None:
        """The same arguments, said in other words."""
        self.options = options

    def see_metric(self, metric: Any) -> None:
        """The metric was logged: its newest value is that of the batch it saw last."""
        cache = metric._forward_cache
        self.used, self.metric, self.latest = True, metric, cache.detach() if isinstance(cache, Tensor) else cache

    def clear(self) -> None:
        """Forget all values; the name and its options stay."""
        self.used = False
        self.latest = None
        self.count = 0  # rows of the buffer in use
        self.weights: list[float] = []
        self.total: Tensor | None = None  # reduction of everything that left the buffer
        self.host_total: float | None = None
        self.weight = 0.0
        self.frozen: object = None  # the metric's value when its loader was done
        self.loaders: set[int | None] = set()  # with add_dataloader_idx=False: those that logged it
        if self.metric is not None:
            self.metric.reset()

    def freeze(self) -> None:
        """The metric's loader is done: this is its value."""
        self.frozen = self.final()

    def update(self, value: Tensor | float, weight: float) -> None:
        """Take one value, a number or a tensor with one element."""
        self.used = True
        if isinstance(value, Tensor):
            if not self.rows:
                self._allocate(value)
            elif self.count == WINDOW:
                self._flush()
            row = self.rows[self.count]
            row.copy_(value.detach() if value.dim() == 0 else value.detach().reshape(()))
            self.count += 1
            self.latest = row
            if self.on_epoch:
                self.weights.append(weight)
            else:
                self.count = 0  # only the newest value is wanted
        else:
            self.latest = value
            if self.on_epoch:
                self._add_number(value, weight)

    def _allocate(self, value: Tensor) -> None:
        dtype = torch.float32 if value.device.type == "mps" else torch.float64
        with torch.inference_mode(False):  # made in validation, it may still be written to afterwards
            self.buffer = torch.zeros(WINDOW, dtype=dtype, device=value.device)
            self.rows = list(self.buffer.unbind())

    def _add_number(self, value: float, weight: float) -> None:
        total = self.host_total
        if self.reduce == "mean":
            self.host_total = value * weight if total is None else total + value * weight
            self.weight += weight
        elif self.reduce == "sum":
            self.host_total = value if total is None else total + value
        else:
            pick = max if self.reduce == "max" else min
            self.host_total = value if total is None else pick(total, value)

    def _reduced(self) -> tuple[Tensor | None, float]:
        """The reduction of everything so far, on the device, and its weight; changes nothing."""
        total, weight = self.total, self.weight
        if self.count and self.buffer is not None:
            rows = self.buffer[: self.count]
            if self.reduce == "mean":
                weights = torch.tensor(self.weights, dtype=rows.dtype)
                part = (rows * weights.to(rows.device, non_blocking=True)).sum()
                weight += sum(self.weights)
            else:
                part = rows.sum() if self.reduce == "sum" else rows.amin() if self.reduce == "min" else rows.amax()
            total = part if total is None else self._combine(total, part)
        return total, weight

    def _combine(self, a: Tensor, b: Tensor | float) -> Tensor:
        if self.reduce in ("mean", "sum"):
            return a + b
        return (torch.minimum if self.reduce == "min" else torch.maximum)(torch.as_tensor(a), torch.as_tensor(b))

    def _flush(self) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self.total, self.weight = self._reduced()
        self.count, self.weights = 0, []

    def final(self) -> object:
        """The value of the epoch: a tensor on its device, a number, or None where there is none."""
        if self.metric is not None:
            if self.frozen is not None:
                return self.frozen
            from lightkit.logged_metrics import computed

            return computed(self.name, self.metric)
        reduced, weight = self._reduced()
        total: Tensor | float | None = reduced
        if self.host_total is not None:
            total = self.host_total if reduced is None else self._combine(reduced, self.host_total)
        return total / weight if self.reduce == "mean" and total is not None else total

    def load_state_dict(self, state: State, device: torch.device) -> None:
        """Take back what of it was saved."""
        self.used, self.weights = state["used"], list(state["weights"])
        self.host_total, self.weight = state["host_total"], state["weight"]
        total, latest = state["total"], state["latest"]
        self.total = total.to(device) if isinstance(total, Tensor) else total
        self.latest = latest.to(device) if isinstance(latest, Tensor) else latest
        if state["rows"] is not None:
            rows = state["rows"].to(device)
            self._allocate(rows)
            assert self.buffer is not None
            self.buffer[: len(rows)] = rows
            self.count = len(rows)


class Entry(NamedTuple):
    """One value that is read: its name, the name with _step or _epoch where both are kept, whose it is."""

    name: str
    forked: str
    slot: Slot
    loader_idx: int | None
    value: object

    def concerns(self, loader_idx: int) -> bool:
        """Whether the value is one of this loader's, or of all."""
        if self.loader_idx is not None:
            return self.loader_idx == loader_idx
        loaders = self.slot.loaders
        return not loaders or loader_idx in loaders or None in loaders


Taken = list[tuple[Entry, float]]


class Results:
    """The values logged in one loop's run, by hook and name."""

    def __init__(
        self, is_training: bool, has_several_loaders: bool = False, size_of: Callable[[object], int] | None = None
    ):
        self.is_training, self.has_several_loaders = is_training, has_several_loaders
        self.size_of = size_of  # None: found when a size is asked for
        self.slots: dict[str, dict[Key, Slot]] = defaultdict(dict)
        self.hook = ""
        self.current: dict[Key, Slot] = {}  # of that hook
        # set by the loops: what `self.log` belongs to
        self.batch: object = None
        self.size: int | None = None  # the batch's, once it was asked for in this hook
        self.dataloader_idx: int | None = None  # None where no evaluation batch is running
        self.has_step_values = False
        self.read: dict[bool, Taken] = {}  # what was read last, of the step and of the epoch, and is still true
        self.outer: Results | None = None  # those of the pass that this one interrupts
        self.elsewhere: list[tuple[object, str, str]] = []  # metrics that passes in between log: hook and name
        self.parked: dict[int, Parked] = {}  # by the metric's id: what it held when its loader was done

    def enter(self, hook: str) -> None:
        """Say which hook is running: it decides the defaults, and names are unique inside it."""
        self.hook, self.current, self.size = hook, self.slots[hook], None

    def batch_size(self) -> int:
        """The size of the batch, which is found once a hook; 1 where there is none."""
        if self.size is None and self.batch is None:
            self.size = 1
        elif self.size is None:
            if self.size_of is None:
                from lightkit.devices.batch_size import BatchSizes

                self.size_of = BatchSizes()
            self.size = self.size_of(self.batch)
        return self.size

    def stand_in(self, outer: Results | None) -> None:
        """A pass begins that logs here; outer: where the pass that it interrupts logs."""
        self.outer = None if outer is self else outer

    def stand_out(self) -> None:
        """That pass is over."""
        outer, self.outer = self.outer, None
        if outer is not None and outer.is_training:
            outer.remember(self)

    def remember(self, inner: Results) -> None:
        """The torchmetrics objects logged there may not be logged here."""
        known = {(id(metric), hook) for metric, hook, _ in self.elsewhere}
        for hook, _, slot in inner.each():
            if slot.metric is not None and (id(slot.metric), hook) not in known:
                self.elsewhere.append((slot.metric, hook, slot.name))

    def each(self) -> Iterator[tuple[str, int | None, Slot]]:
        """Every slot with its hook and its loader."""
        for hook, slots in self.slots.items():
            for (_, index), slot in slots.items():
                yield hook, index, slot

    def log(self, name: str, value: object, options: Options, batch_size: int | None) -> None:
        """Take one value; see LightModule.log."""
        if self.read:
            self.read.clear()
        index = self.dataloader_idx if options[5] else None  # add_dataloader_idx=False: one value over all loaders
        slot = self.current.get((name, index))
        if slot is None or not (self.is_training or slot.used or slot.suits(value, options)):
            slot = self.current[name, index] = self._new_slot(name, value, options, index)
        elif slot.options != options:
            from lightkit.log_arguments import check_same

            check_same(slot, options, self.hook)
            slot.say(options)
        if not options[5]:
            slot.loaders.add(self.dataloader_idx)
        if slot.metric is not None:
            self._see_metric(slot, value)
            return
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ConfigError(f"self.log({name!r}, ...): expected a tensor with one element, got shape {tuple(value.shape)}; reduce it first, e.g. with .mean()")  # fmt: skip  # noqa: E501
        elif not isinstance(value, (int, float)):
            from lightkit.log_arguments import number_of

            value = number_of(name, value)
        weight = 1.0
        if slot.on_epoch and slot.reduce == "mean":
            if batch_size is None:
                batch_size = self.batch_size()
            weight = batch_size
        slot.update(value, weight)

    def _see_metric(self, slot: Slot, value: object) -> None:
        if value is not slot.metric and (slot.used or not is_metric(value)):
            raise ConfigError(f"self.log({slot.name!r}, ...) in {self.hook}: another Metric has this name; rename one")
        if not slot.used:
            from lightkit.logged_metrics import check_unshared

            check_unshared(self, slot, value)
        slot.see_metric(value)

    def _new_slot(self, name: str, value: object, options: Options, index: int | None) -> Slot:
        _, _, on_step, on_epoch, reduce_fx, _ = options
        if not isinstance(name, str) or not name:
            raise ConfigError(f"self.log({name!r}, ...): the name must be a string")
        instead = "a prediction collects no metrics" if "predict" in self.hook else NO_LOGGING.get(self.hook)
        if instead:
            raise ConfigError(f"self.log({name!r}, ...) in {self.hook}: not possible here; {instead}")
        by_step = self.is_training and self.hook in STEP_HOOKS
        if on_step and not by_step and self.dataloader_idx is None:
            raise ConfigError(f"self.log({name!r}, on_step=True) in {self.hook}: no step is here; leave on_step out")
        if reduce_fx in REDUCTIONS:
            reduce = str(reduce_fx)
        else:
            from lightkit.log_arguments import reduction_of

            reduce = reduction_of(name, reduce_fx)
        on_step = by_step if on_step is None else on_step
        on_epoch = (not by_step) if on_epoch is None else on_epoch
        if not (on_step or on_epoch):
            raise ConfigError(f"self.log({name!r}, on_step=False, on_epoch=False): that logs nothing; set one of them")
        self.has_step_values = self.has_step_values or bool(on_step)
        suffixed = self.has_several_loaders and index is not None
        slot = Slot(name, options, bool(on_step), bool(on_epoch), reduce, suffixed)
        slot.metric = value if is_metric(value) else None
        return slot

    # ------------------------------------------------------------ reading

    def values(self, *, of_step: bool) -> list[Entry]:
        """Everything logged for the step, or for the epoch; no device read."""
        found = []
        for _, index, slot in self.each():
            wanted = slot.on_step if of_step else slot.on_epoch
            if not (wanted and slot.used):
                continue
            value = slot.latest if of_step else slot.final()
            if value is None:
                continue
            suffix = f"/dataloader_idx_{index}" if slot.has_suffix else ""
            fork = ("_step" if of_step else "_epoch") if slot.on_step and slot.on_epoch else ""
            if slot.metric is not None:
                from lightkit.logged_metrics import check_single

                check_single(slot, value)
            found.append(Entry(slot.name + suffix, slot.name + fork + suffix, slot, index, value))
        return found

    def end_loader(self, index: int) -> None:
        """A loader is done: a torchmetrics object gave its value, and begins the next one empty."""
        ended = [slot for _, i, slot in self.each() if i == index and slot.metric is not None and slot.used]
        if ended:
            from lightkit.logged_metrics import park

            self.parked.update(park(ended))

    def end_loaders(self) -> None:
        """All loaders are done: a torchmetrics object holds again what it held after the last that logged it."""
        used = [(hook, i, slot) for hook, i, slot in self.each() if slot.metric is not None and slot.used]
        if used:
            from lightkit.logged_metrics import check_pooled, unpark

            check_pooled(used)
            unpark(self.parked.values())

    def clear(self) -> None:
        """Forget all values, and reset the logged torchmetrics objects."""
        self.read.clear()
        self.parked.clear()
        for _, _, slot in self.each():
            slot.clear()

    def forget(self) -> None:
        """Forget the names too."""
        self.slots.clear()
        self.elsewhere = []

    def state_dict(self, places: Mapping[int, str], *, warns: bool = True) -> ResultsState:
        """Plain state; a logged torchmetrics object is named by its place in the module, which `places` has by id.

        warns: where one has no place, so that what it holds is lost.
        """
        from lightkit.results_state import state_of

        return state_of(self, places, warns)

    def load_state_dict(self, state: ResultsState, device: torch.device, parts: Mapping[str, object]) -> None:
        """Take back what `state_dict` gave; parts: the torchmetrics objects of the module by place."""
        for hook, entries in state.items():
            slots = self.slots[hook]
            for name, index, saved, place in entries:
                if place is not None and place not in parts:
                    continue  # logged anew, with the metric that is there
                options: Options = tuple(saved["options"])
                slot = Slot(name, options, saved["on_step"], saved["on_epoch"], saved["reduce"], saved["has_suffix"])
                slot.load_state_dict(saved, device)
                slot.metric = None if place is None else parts[place]
                slots[name, index] = slot

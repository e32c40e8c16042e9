"""Progress bars drawn by tqdm, with the names of Lightning's: each is made by a method that users override."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TextIO

from torch import Tensor

from lightkit.callbacks.progress.progress_bar import Kind, PassProgress, ProgressBar
from lightkit.errors import HookError, require

if TYPE_CHECKING:
    from tqdm import tqdm as _tqdm

    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

    Bar = _tqdm[Any]
    _Base = _tqdm[Any]
else:
    # widgets in a notebook; without ipywidgets tqdm.auto warns there
    file = "tqdm" if find_spec("ipywidgets") is None else "tqdm.auto"
    _Base = _tqdm = require(file, "tqdm", needed_by="TQDMProgressBar").tqdm

__all__ = ["TQDMProgressBar", "Tqdm", "convert_inf"]

DIGITS = 5  # characters that a number has at least, so that the line does not move with every draw


class Tqdm(_Base):
    """tqdm's bar; numbers keep their width, and no thread watches it."""

    monitor_interval = 0

    @staticmethod
    def format_num(n: float | str) -> str:
        """Return the number as text of at least 5 characters, where it is no whole number."""
        text = n if isinstance(n, str) else str(_tqdm.format_num(n))
        if not isinstance(n, float) or "e" in text or not math.isfinite(n):
            return text
        return (text if "." in text or len(text) >= DIGITS else f"{text}.").ljust(DIGITS, "0")


def convert_inf(x: float | None) -> float | None:
    """Return None, tqdm's word for a length that is not known, for inf and NaN; else the number."""
    return x if x is not None and math.isfinite(x) else None


class TQDMProgressBar(ProgressBar):
    """Shows a training, the validations under it, a test or a prediction by bars of tqdm, on stdout.

    Names, arguments and the order of calls are Lightning's. Two things differ: it is drawn at most 10 times a second,
    and what anybody prints while a bar is shown appears above it. The time of a validation is not the epoch's.

    Args:
        refresh_rate: it is drawn at every so many batches, at most; 0 shows nothing. TQDM_MINITERS raises it.
        process_position: how many bars of other programs stand above; two lines each.
        leave: keep the bar of each epoch on the screen.

    Raises:
        MissingExtraError: tqdm is not installed.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"

    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        super().__init__(every_s=0.1)
        least = int(os.environ.get("TQDM_MINITERS", "0"))
        self._refresh_rate = max(refresh_rate, least) if refresh_rate > 0 else refresh_rate
        self._every_batches = max(self._refresh_rate, 1)
        self._process_position = process_position
        self._leave = leave
        self._made: dict[Kind, Bar] = {}  # the newest of each kind; a sanity check's is a validation's
        self._before_loader = 0  # batches of the loaders before the one that is read
        self._guard = _Streams()

    # ------------------------------------------------------------ the bars

    @property
    def process_position(self) -> int:
        """How many bars of other programs stand above."""
        return self._process_position

    @property
    def train_progress_bar(self) -> Bar:
        """The bar of the training."""
        return self._bar_of("train")

    @train_progress_bar.setter
    def train_progress_bar(self, bar: Bar) -> None:
        self._made["train"] = bar

    @property
    def main_progress_bar(self) -> Bar:
        """The bar of the training, as it was called until Lightning 1.9."""
        return self._bar_of("train")

    @property
    def val_progress_bar(self) -> Bar:
        """The bar of the validation, or of the sanity check."""
        return self._bar_of("validate")

    @val_progress_bar.setter
    def val_progress_bar(self, bar: Bar) -> None:
        self._made["validate"] = bar

    @property
    def test_progress_bar(self) -> Bar:
        """The bar of the test."""
        return self._bar_of("test")

    @test_progress_bar.setter
    def test_progress_bar(self, bar: Bar) -> None:
        self._made["test"] = bar

    @property
    def predict_progress_bar(self) -> Bar:
        """The bar of the prediction."""
        return self._bar_of("predict")

    @predict_progress_bar.setter
    def predict_progress_bar(self, bar: Bar) -> None:
        self._made["predict"] = bar

    def _bar_of(self, kind: Kind) -> Bar:
        if kind not in self._made:
            raise HookError(f"{type(self).__name__}: there is no bar of kind {kind!r} yet; it is made when that begins")
        return self._made[kind]

    def init_sanity_tqdm(self) -> Bar:
        """Make the bar of the sanity check; override it to have another one."""
        return self._new(self.sanity_check_description, leave=False)

    def init_train_tqdm(self) -> Bar:
        """Make the bar of the training; override it to have another one."""
        return self._new(self.train_description, smoothing=0)

    def init_predict_tqdm(self) -> Bar:
        """Make the bar of a prediction; override it to have another one."""
        return self._new(self.predict_description, smoothing=0)

    def init_validation_tqdm(self) -> Bar:
        """Make the bar of a validation, under that of the training; override it to have another one."""
        is_alone = self.trainer.state.fn == "validate"
        return self._new(self.validation_description, below=not is_alone, leave=is_alone)

    def init_test_tqdm(self) -> Bar:
        """Make the bar of a test; override it to have another one."""
        return self._new(self.test_description)

    def _new(self, desc: str, *, below: int = 0, leave: bool = True, smoothing: float = 0.3) -> Bar:
        return Tqdm(
            desc=desc, position=2 * self.process_position + below, disable=self.is_disabled, leave=leave,
            dynamic_ncols=True, file=sys.stdout, smoothing=smoothing, bar_format=self.BAR_FORMAT,
        )  # fmt: skip

    def _make(self, kind: Kind, init: Callable[[], Bar]) -> None:
        """Make a bar; inside of another run's it stands below that, and does not stay."""
        with self._guard.lifted():
            bar = self._made[kind] = init()
        num_above = len(self._bars) if kind != "train" else 0
        if len(self._runs) > 1 and num_above and not bar.disable:
            bar.clear()
            bar.pos, bar.leave = -(2 * self.process_position + num_above), False
        if not bar.disable:
            self._guard.put_up()

    # ------------------------------------------------------------ what the base asks for

    def open_bar(self, bar: PassProgress) -> None:
        """Begin a pass on the bar that was made for it."""
        self._before_loader = 0
        if bar.is_training:
            shown = self.train_progress_bar
            shown.reset()
            shown.total = convert_inf(bar.total)
            shown.initial = shown.n = bar.done
            shown.set_description(bar.label)
        for below in self._bars[:-1]:  # the epoch that a validation interrupts
            self.draw_bar(below, {})

    def draw_bar(self, bar: PassProgress, metrics: Mapping[str, Any]) -> None:
        """Draw the bar as it is now."""
        shown = self._made[_kind_shown(bar)]
        if shown.disable:
            return
        shown.n = bar.done if bar.is_training else bar.done - self._before_loader
        if metrics:
            shown.set_postfix({name: _plain(value) for name, value in metrics.items()}, refresh=False)
        shown.refresh()

    def close_bar(self, bar: PassProgress, metrics: Mapping[str, Any]) -> None:
        """Show the end of a pass. The training's bar goes on with the next epoch, unless it is to stay."""
        shown = self._made[_kind_shown(bar)]
        self.draw_bar(bar, metrics)
        if not bar.is_training:
            shown.close()
            for below in self._bars:  # the time is not that of the epoch
                self._leave_out(self._made[_kind_shown(below)], bar.elapsed_s)
        elif self._leave:
            shown.close()

    def _leave_out(self, shown: Bar, seconds: float) -> None:
        if not shown.disable:
            shown.start_t += seconds
            shown.last_print_t += seconds  # one that was last drawn before its start is not left on the screen

    def stop(self) -> None:
        """Close all bars, and give the streams back."""
        for bar in self._made.values():
            bar.close()
        self._guard.take_down()

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print above the bars; takes `file` and `end` as Python's does."""
        if any(not bar.disable for bar in self._made.values()):
            kwargs.pop("flush", None)
            with self._guard.lifted():
                Tqdm.write(sep.join(map(str, args)), **kwargs)
        else:
            print(*args, sep=sep, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_made": {}, "_guard": _Streams()}

    # ------------------------------------------------------------ hooks: also a bar that is off has its object

    def on_sanity_check_start(self, *_: Any) -> None:
        """Make the bar of the sanity check."""
        self._make("validate", self.init_sanity_tqdm)
        self.train_progress_bar = Tqdm(disable=True)

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Make the bar of the training; go on with the epoch of a resumed run."""
        self._make("train", self.init_train_tqdm)
        super().on_train_start(trainer, trainer.fit_loop.run.module)

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Begin an epoch, with a bar of its own where that of the last one stays."""
        if self.train_progress_bar.disable and (self._leave or self.is_enabled):  # closed, or off until now
            self._make("train", self.init_train_tqdm)
        super().on_train_epoch_start(trainer, trainer.fit_loop.run.module)

    def on_train_end(self, *_: Any) -> None:
        """Close the bar of the training."""
        self._end()

    def on_validation_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Make the bar of a validation."""
        if not trainer.sanity_checking:
            self._make("validate", self.init_validation_tqdm)
        super().on_validation_start(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Make the bar of a test."""
        self._make("test", self.init_test_tqdm)
        super().on_test_start(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Make the bar of a prediction."""
        self._make("predict", self.init_predict_tqdm)
        super().on_predict_start(trainer, pl_module)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin with another loader."""
        if self.has_dataloader_changed(dataloader_idx):
            desc = self.sanity_check_description if trainer.sanity_checking else self.validation_description
            self._begin_loader("validate", self.total_val_batches_current_dataloader, desc)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin with another loader."""
        if self.has_dataloader_changed(dataloader_idx):
            self._begin_loader("test", self.total_test_batches_current_dataloader, self.test_description)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin with another loader."""
        if self.has_dataloader_changed(dataloader_idx):
            self._begin_loader("predict", self.total_predict_batches_current_dataloader, self.predict_description)

    def _begin_loader(self, kind: Kind, total: float, desc: str) -> None:
        self._before_loader = self._bar.done
        shown = self._made[kind]
        shown.reset()
        shown.total, shown.initial = convert_inf(total), 0
        shown.set_description(f"{desc} DataLoader {self._current_eval_dataloader_idx}")

    def _label_of_epoch(self, trainer: Trainer) -> str:
        return f"Epoch {trainer.current_epoch}"


class _Streams:
    """While bars are shown, what is printed is written above them."""

    def __init__(self) -> None:
        self._before: tuple[TextIO, TextIO] | None = None  # the streams that were there
        self._ours: tuple[_Above, _Above] | None = None

    def put_up(self) -> None:
        """From now on."""
        if self._ours is None:
            self._before = sys.stdout, sys.stderr
            self._ours = _Above(sys.stdout, self), _Above(sys.stderr, self, passes_on="\r\n\x1b")
            self._set(*self._ours)

    def take_down(self) -> None:
        """No longer."""
        if self._ours is not None and self._before is not None:
            self._unset()
            for stream in self._ours:
                stream.finish()
            self._before = self._ours = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Inside, the streams are those from before: bars are drawn on them."""
        ours = self._ours if self._ours is not None and sys.stdout is self._ours[0] else None
        if ours is not None:
            self._unset()
        try:
            yield
        finally:
            if ours is not None:
                self._set(*ours)

    def _set(self, out: Any, err: Any) -> None:
        sys.stdout, sys.stderr = out, err

    def _unset(self) -> None:
        """The streams from before; where somebody else has replaced one since, that stays."""
        assert self._ours is not None and self._before is not None
        if sys.stdout is self._ours[0]:
            sys.stdout = self._before[0]
        if sys.stderr is self._ours[1]:
            sys.stderr = self._before[1]


class _Above:
    """A stream whose lines appear above the bars, each when it is whole.

    passes_on: text that begins with one of these goes straight on: other bars of tqdm move the cursor by it.
    """

    def __init__(self, stream: TextIO, streams: _Streams, passes_on: str = "") -> None:
        self._stream, self._streams, self._passes_on = stream, streams, tuple(passes_on)
        self._line = ""

    def write(self, text: str) -> int:
        """Write the lines that are whole now; keep the rest."""
        if self._line == "" and text.startswith(self._passes_on):
            return self._stream.write(text)
        whole, end, rest = (self._line + text).rpartition("\n")
        self._line = rest
        if end:
            self._write(whole + end)
        return len(text)

    def finish(self) -> None:
        """Write the line that was not finished."""
        if self._line:
            self._write(self._line)
            self._line = ""

    def _write(self, text: str) -> None:
        with self._streams.lifted():
            Tqdm.write(text, file=self._stream, end="")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _kind_shown(bar: PassProgress) -> Kind:
    return "validate" if bar.kind == "sanity_check" else bar.kind


def _plain(value: object) -> object:
    """A tensor as the number that it holds: tqdm writes numbers, and words, as they are."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value

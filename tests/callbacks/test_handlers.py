"""Handlers: functions called at the events of a run, as often as was asked for, without a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.callbacks.handlers import event_names
from lightkit.errors import ConfigError


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layer(batch[0]).pow(2).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("v", self.layer(batch[0]).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(8, 2)), batch_size=2)


def trainer(**asked: Any) -> lk.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return lk.Trainer(**{"max_epochs": 6, "enable_checkpointing": False, **quiet, **asked})


def test_a_handler_runs_at_its_event_and_takes_what_it_is_written_with() -> None:
    its, module, calls = trainer(max_epochs=1), Net(), []

    @its.on("train_epoch_end")
    def alone(trainer: lk.Trainer) -> None:
        calls.append((trainer,))

    @its.on("on_train_epoch_end")
    def with_module(trainer: lk.Trainer, module: lk.LightModule) -> None:
        calls.append((trainer, module))

    @its.on("train_batch_end", once=True)
    def with_all(trainer: lk.Trainer, module: lk.LightModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        calls.append((trainer, module, len(batch), batch_idx))

    @its.on("validation_batch_end", once=True)
    def with_loader(*args: Any) -> None:
        calls.append(args[-1])

    @its.on("validation_batch_start", once=True)
    def with_default(trainer: lk.Trainer, module: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        calls.append(("loader", dataloader_idx))

    its.on("setup")(lambda trainer, module, stage, kept=calls: kept.append(stage))
    its.fit(module, loader(), loader())
    assert calls == ["fit", ("loader", 0), 0, (its, module, 1, 0), (its,), (its, module)]


@pytest.mark.parametrize("asked, expected", [
    ({}, [0, 1, 2, 3, 4, 5]),
    ({"every": 2}, [1, 3, 5]),
    ({"every": "2epoch"}, [1, 3, 5]),
    ({"every": "8 steps"}, [1, 3, 5]),
    ({"every": "0.0001s"}, [0, 1, 2, 3, 4, 5]),
    ({"every": "10h"}, []),
    ({"once": True}, [0]),
    ({"once": 3}, [2]),
    ({"after": 4}, [4, 5]),
    ({"after": 2, "every": 2}, [3, 5]),
    ({"after": 2, "once": True}, [2]),
    ({"filter": lambda trainer: trainer.current_epoch % 3 == 0}, [0, 3]),
    ({"filter": lambda trainer, count: count in (2, 5)}, [1, 4]),
])  # fmt: skip
def test_a_handler_runs_as_often_as_asked(asked: dict[str, Any], expected: list[int]) -> None:
    its, epochs = trainer(), []
    its.on("train_epoch_end", **asked)(lambda trainer: epochs.append(trainer.current_epoch))
    its.fit(Net(), loader())
    assert epochs == expected


def test_a_handle_ends_its_handler_and_stays_the_function() -> None:
    its, epochs = trainer(), []

    @its.on("train_epoch_start")
    def note(trainer: lk.Trainer) -> None:
        epochs.append(trainer.current_epoch)
        if trainer.current_epoch == 2:
            note.remove()

    its.fit(Net(), loader())
    assert epochs == [0, 1, 2]
    assert note.is_removed and note.event == "train_epoch_start"
    note.remove()
    note(its)
    assert epochs == [0, 1, 2, its.current_epoch]


def test_one_function_takes_several_events_and_handlers_keep_their_order() -> None:
    its, calls = trainer(max_epochs=1), []

    @its.on("fit_end")
    @its.on("fit_start")
    def note(trainer: lk.Trainer) -> None:
        calls.append(1)

    its.on("fit_start")(lambda trainer: calls.append(2))
    its.fit(Net(), loader())
    assert calls == [1, 2, 1]


def test_handlers_come_after_callbacks_and_a_batch_can_be_skipped() -> None:
    calls: list[Any] = []

    class Notes(lk.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            calls.append(batch_idx)

    its = trainer(max_epochs=1, callbacks=[Notes()])
    its.on("train_batch_start")(lambda trainer, module, batch, batch_idx: -1 if batch_idx == 2 else calls.append("h"))
    its.fit(Net(), loader())
    assert calls == [0, "h", 1, "h", 2]
    assert its.global_step == 2


def test_a_handler_that_is_registered_in_a_hook_takes_part_in_this_fit() -> None:
    epochs: list[int] = []

    class Late(lk.Callback):
        def on_train_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            trainer.on("train_batch_end", once=3)(lambda trainer: epochs.append(trainer.current_epoch))

    trainer(max_epochs=2, callbacks=[Late()]).fit(Net(), loader())
    assert epochs == [0]


def test_every_event_of_the_table_takes_a_handler() -> None:
    names = event_names()
    assert len(names) == 37 and {"setup", "exception", "save_checkpoint", "predict_batch_end"} <= set(names)
    seen: list[str] = []
    its = trainer(max_epochs=1, enable_checkpointing=True, num_sanity_val_steps=1)
    for name in names:
        its.on(name)(lambda trainer, kept=name: seen.append(kept))
    module = Net()
    module.test_step = module.predict_step = module.validation_step  # type: ignore[method-assign, assignment]
    module.validation_step = lambda batch, batch_idx: None  # type: ignore[method-assign]
    its.fit(module, loader(), loader())
    assert its.checkpoint_callback is not None
    module.test_step = module.predict_step = lambda batch, batch_idx: batch[0]  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="logged nothing"):
        its.test(module, loader(), verbose=False)
    its.predict(module, loader())
    again = trainer(max_epochs=2, enable_checkpointing=True)
    again.on("load_checkpoint")(lambda trainer: seen.append("load_checkpoint"))
    again.on("exception")(lambda trainer, module, error: seen.append(f"{error}"))
    again.on("train_batch_end")(lambda trainer: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        again.fit(module, loader(), loader(), ckpt_path=str(its.checkpoint_callback.best_model_path))
    assert set(names) - set(seen) == {"exception"}
    assert "division by zero" in seen


def test_nothing_is_bound_where_no_handler_is() -> None:
    its, bound = trainer(max_epochs=2), []
    handle = its.on("train_batch_end")(lambda trainer: None)
    its.on("train_batch_start")(lambda trainer: bound.append(len(trainer.fit_loop.parts.on_batch_end)))
    its.on("train_epoch_end", once=True)(lambda trainer: handle.remove())
    its.fit(Net(), loader())
    assert bound == [1] * 4 + [1] * 4
    assert len(its.fit_loop.run.dispatcher.bind("on_after_backward", "CSM")) == 0


def test_counts_go_on_after_a_resume(tmp_path: Path) -> None:
    def run(epochs: int, ckpt_path: str | None) -> list[Any]:
        calls: list[Any] = []
        saves = ModelCheckpoint(tmp_path, filename="{epoch}", every_n_epochs=1, save_top_k=-1)
        its = trainer(max_epochs=epochs, callbacks=[saves], enable_checkpointing=True)
        its.on("train_epoch_end", every=2)(lambda trainer: calls.append(("every", trainer.current_epoch)))
        its.on("train_epoch_end", once=True)(lambda trainer: calls.append(("once", trainer.current_epoch)))
        its.on("train_batch_end", every="6step")(lambda trainer: calls.append(("steps", trainer.global_step)))
        its.fit(Net(), loader(), ckpt_path=ckpt_path)
        return calls

    whole = run(6, None)
    assert [c for c in whole if c[0] == "every"] == [("every", 1), ("every", 3), ("every", 5)]
    assert [c for c in whole if c[0] == "steps"] == [("steps", 6), ("steps", 12), ("steps", 18), ("steps", 24)]
    resumed = run(6, str(tmp_path / "epoch=2.ckpt"))
    assert resumed == [c for c in whole if c[1] not in (6, 12) and c not in (("once", 0), ("every", 1))]


@pytest.mark.parametrize("call, message", [
    (lambda t: t.on("train_epoch_ended")(print),
     "trainer.on('train_epoch_ended'): no such event; did you mean 'train_epoch_end' or "
     "'train_batch_end' or 'test_epoch_end'?"),
    (lambda t: t.on("training_step")(print),
     "trainer.on('training_step'): this hook is the module's alone; define training_step in the LightModule"),
    (lambda t: t.on("fit_end")(3), "trainer.on('fit_end')(3): expected a function"),
    (lambda t: t.on("fit_end")(lambda trainer, module, batch: None),
     "trainer.on('fit_end'): <lambda> takes 3 arguments; a handler of this event takes (trainer) or (trainer, module)"),
    (lambda t: t.on("setup")(lambda: None),
     "trainer.on('setup'): <lambda> takes 0 arguments; a handler of this event takes (trainer) or (trainer, module) or "
     "(trainer, module, stage)"),
    (lambda t: t.on("fit_end", every=0)(print),
     "trainer.on('fit_end', every=0): expected a count of at least 1, or a text with a unit: '100step', '2epoch', "
     "'10min'"),
    (lambda t: t.on("fit_end", every=2, once=True)(print),
     "trainer.on('fit_end', every=2, once=True): both at once mean nothing; leave one of them out"),
    (lambda t: t.on("fit_end", after=-1)(print),
     "trainer.on('fit_end', after=-1): expected a whole number of at least 0"),
    (lambda t: t.on("fit_end", filter=3)(print),
     "trainer.on('fit_end', filter=3): expected a function of the trainer, or of it and the count"),
])  # fmt: skip
def test_what_is_no_handler_is_said(call: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        call(trainer())
    assert str(error.value) == message


def test_an_event_like_none_lists_them_all() -> None:
    with pytest.raises(ConfigError) as error:
        trainer().on("zzz")
    assert str(error.value).startswith("trainer.on('zzz'): no such event; the events are setup, fit_start, ")

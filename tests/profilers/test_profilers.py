"""Profilers: what they count is what ran, the shares add up, and off leaves everything as it is."""

from __future__ import annotations

import json
import pstats
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping
from lightkit.errors import ConfigError
from lightkit.profilers import AdvancedProfiler, PassThroughProfiler, PyTorchProfiler, SimpleProfiler

BATCHES, EPOCHS = 6, 2
STEPS = BATCHES * EPOCHS
LISTED = "data transfer forward backward optimizer schedulers logging hooks loop".split() + ["step total"]


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.layer(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", nn.functional.cross_entropy(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def data(batches: int = BATCHES) -> DataLoader[Any]:
    x = torch.randn(4 * batches, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=4)


def trainer_with(profiler: Any, folder: Path, **arguments: Any) -> lk.Trainer:
    given = {"max_epochs": EPOCHS, "logger": False, "num_sanity_val_steps": 0, **arguments}
    return lk.Trainer(
        accelerator="cpu", run_dir=folder / "run", profiler=profiler, enable_progress_bar=False,
        enable_model_summary=False, **given,
    )  # fmt: skip


def calls(profiler: SimpleProfiler) -> dict[str, int]:
    return {name: section.calls for name, section in profiler.sections.items() if section.calls}


def rows(text: str) -> dict[str, list[str]]:
    """The table's rows by their section."""
    found = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()[2:] if not line.startswith("-")]
    return {name: cells for name, *cells in found}


def test_every_section_is_counted_as_often_as_it_ran(tmp_path: Path) -> None:
    trainer = trainer_with("simple", tmp_path, logger=True, log_every_n_steps=3, num_sanity_val_steps=1)
    trainer.fit(Net(), data(), data(2))
    found = calls(trainer.profiler)
    hooks = {name: found.pop(name) for name in list(found) if name.startswith("hooks:")}
    assert found == {
        "set-up": 1, "sanity check": 1, "open data": EPOCHS, "loop": EPOCHS, "data": STEPS, "forward": STEPS,
        "zero_grad": STEPS, "backward": STEPS, "optimizer": STEPS, "validation": EPOCHS,
        "schedulers": STEPS + EPOCHS,  # those that wait for a metric are asked again after a validation
        "checkpoint": EPOCHS, "logging": STEPS // 3 + EPOCHS + EPOCHS,  # steps, epochs' means, validations
    }  # fmt: skip
    assert hooks["hooks: ModelCheckpoint.on_train_epoch_end"] == EPOCHS


def test_each_kind_of_step_is_counted(tmp_path: Path) -> None:
    class Moved(Net):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch

        def on_before_zero_grad(self, optimizer: Any) -> None:
            pass

        def backward(self, loss: torch.Tensor) -> None:
            loss.backward()

    trainer = trainer_with("simple", tmp_path, accumulate_grad_batches=2, gradient_clip_val=1.0)
    trainer.fit(Moved(), data())
    found = calls(trainer.profiler)
    expected = {"transfer": STEPS, "forward": STEPS, "backward": STEPS, "zero_grad": STEPS // 2, "clipping": STEPS // 2}
    assert {name: found[name] for name in expected} == expected
    assert found["optimizer"] == found["schedulers"] == found["hooks: Moved.on_before_zero_grad"] == STEPS // 2


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "64-true"])
def test_the_step_with_a_closure_is_counted(tmp_path: Path, precision: str) -> None:
    class Own(Net):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            optimizer.step(closure=optimizer_closure)

    trainer = trainer_with("simple", tmp_path, precision=precision)
    trainer.fit(Own(), data())
    found = calls(trainer.profiler)
    assert {name: found[name] for name in ("data", "forward", "backward", "optimizer")} == {
        "data": STEPS, "forward": STEPS, "backward": STEPS, "optimizer": STEPS,
    }  # fmt: skip


def test_the_table_is_printed_and_written_and_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = time.perf_counter()
    trainer = trainer_with("simple", tmp_path)
    trainer.fit(Net(), data(), data(2))
    wall_s = time.perf_counter() - before
    text = (tmp_path / "run" / "fit-profile.txt").read_text()
    assert capsys.readouterr().out == f"{text}written to {tmp_path}/run/fit-profile.txt\n"
    assert text.startswith("fit: where the time went\nsection")
    found = rows(text)
    inside = {"zero_grad", "validation", "checkpoint", "set-up", "open data", "other", "total"}
    top = [name for name in found if "." not in name]
    assert [name for name in top if name not in inside] == LISTED and inside < set(top)
    assert found["forward"][0] == found["step total"][0] == str(STEPS) and found["transfer"] == ["0", "-", "0 s", "0.0"]
    profiler = trainer.profiler
    assert isinstance(profiler, SimpleProfiler)
    seconds = sum(section.seconds for section in profiler.sections.values())
    assert seconds == pytest.approx(profiler.wall_s) and 0 < profiler.wall_s <= wall_s
    assert profiler.step_s <= profiler.wall_s and found["total"][-1] == "100.0"
    shares = sum(float(found[name][-1]) for name in top if name not in ("step total", "total"))
    assert shares == pytest.approx(100, abs=0.05 * len(top))


def test_an_evaluation_on_its_own_has_a_table_of_its_own(tmp_path: Path) -> None:
    trainer = trainer_with("simple", tmp_path)
    trainer.fit(Net(), data())
    for name, run in (("validate", trainer.validate), ("test", trainer.test)):
        run(dataloaders=data(3), verbose=False)
        found = calls(trainer.profiler)
        assert (found["data"], found["forward"], "backward" in found, "loop" in found) == (3, 3, False, False)
        listed = [row for row in rows((tmp_path / "run" / f"{name}-profile.txt").read_text()) if "." not in row]
        assert listed == ["data", "transfer", "forward", "logging", "hooks", "set-up", "open data", "other", "total"]
    assert (tmp_path / "run" / "fit-profile.txt").is_file()


def test_a_section_of_the_user_s_is_taken_out_of_the_one_around_it(tmp_path: Path) -> None:
    class Augmented(Net):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            with self.trainer.profiler.profile("augment"):
                batch[0] = batch[0] * 2
            return super().training_step(batch, batch_idx)

    trainer = trainer_with("simple", tmp_path)
    trainer.fit(Augmented(), data())
    assert calls(trainer.profiler)["augment"] == STEPS
    assert "augment" in rows(trainer.profiler.summary())
    trainer_with(None, tmp_path).fit(Augmented(), data())  # the same code without a profiler


def test_the_same_numbers_come_out_and_nothing_stays_wrapped(tmp_path: Path) -> None:
    ends = []
    for profiler in (None, "simple", "advanced", "pytorch"):
        torch.manual_seed(0)
        module = Net()
        trainer = trainer_with(profiler, tmp_path)
        trainer.fit(module, data(), data(2))
        trainer.validate(dataloaders=data(2), verbose=False)
        ends.append(module.state_dict())
        run = trainer.fit_loop.run
        for owner in (trainer, run, run.data):  # loops have slots
            replaced = [n for n, v in vars(owner).items() if callable(v) and n in dir(type(owner)) and n != "trainer"]
            assert replaced == [], f"{profiler}: {owner}"
        assert not module._forward_hooks and not module.layer._forward_hooks
    assert all(torch.equal(end[name], ends[0][name]) for end in ends for name in end)


def test_off_leaves_the_loop_s_callables_as_they_are(tmp_path: Path) -> None:
    trainer = trainer_with(None, tmp_path)
    assert type(trainer.profiler) is PassThroughProfiler
    seen: dict[str, Any] = {}

    class Look(lk.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            loop = trainer.fit_loop
            parts = loop.parts
            seen.update(step=parts.training_step, backward=parts.backward, prepare=parts.prepare)
            seen["hooks"] = parts.on_batch_end
            seen["own"] = (parts.write_step, parts.zero_grad, loop.run.write)

    trainer.callbacks.insert(0, Look())
    trainer.fit(Net(), data())
    assert seen["step"].__func__ is Net.training_step and seen["backward"] == trainer.precision.backward
    loop = trainer.fit_loop
    assert seen["prepare"] is None and seen["own"] == (loop.write_step, loop.zero_grad, loop.run._write)
    assert [hook.func.__name__ for hook in seen["hooks"]] == ["on_train_batch_end"]
    assert list((tmp_path / "run").glob("*profile*")) == []


def test_memory_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    def size(batches: int) -> int:
        trainer = trainer_with("simple", tmp_path)
        trainer.fit(Net(), data(batches))
        assert calls(trainer.profiler)["forward"] == EPOCHS * batches
        return len(trainer.profiler.sections)

    assert size(2) == size(40)


def test_a_run_that_fails_is_left_unwrapped_and_unreported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            raise ZeroDivisionError

    trainer = trainer_with("simple", tmp_path)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(Failing(), data())
    assert capsys.readouterr().out == ""
    trainer.fit(Net(), data())
    assert calls(trainer.profiler)["forward"] == STEPS


def test_a_dev_run_writes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for profiler in ("simple", "advanced", "pytorch"):
        trainer_with(profiler, tmp_path, fast_dev_run=3).fit(Net(), data())
        assert capsys.readouterr().out.startswith("fit: ")
    assert not (tmp_path / "run").exists()


def test_overlapping_and_nested_sections_share_the_time_between_them() -> None:
    profiler = SimpleProfiler()
    profiler.start("a")
    profiler.start("b")
    profiler.stop("a")
    profiler.start("b")
    profiler.stop("b")
    profiler.stop("b")
    beside = threading.Thread(target=lambda: (profiler.start("c"), profiler.stop("c")))
    beside.start()
    beside.join()
    assert calls(profiler) == {"a": 1, "b": 1}
    assert sum(s.seconds for s in profiler.sections.values()) == pytest.approx(profiler.wall_s)


@pytest.mark.parametrize("kind", [SimpleProfiler, AdvancedProfiler, PyTorchProfiler])
def test_stopping_what_was_not_started_is_an_error(kind: Any) -> None:
    profiler = kind()
    profiler.start("a")
    with pytest.raises(ConfigError) as caught:
        profiler.stop("b")
    profiler.stop("a")
    assert str(caught.value) == "profiler.stop('b'): no such section was started; those that run: 'a'"


def test_a_table_goes_where_the_user_wants_it(tmp_path: Path) -> None:
    profiler = SimpleProfiler(tmp_path / "mine", "times", extended=False)
    trainer_with(profiler, tmp_path).fit(Net(), data())
    lines = (tmp_path / "mine" / "fit-times.txt").read_text().splitlines()
    assert lines[1].split() == ["section", "mean", "total"]


def test_the_functions_of_each_section_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_with(AdvancedProfiler(dump_stats=True), tmp_path)
    trainer.fit(Net(), data())
    text = (tmp_path / "run" / "fit-profile.txt").read_text()
    sections = re.findall(r"^fit: (.+?): \d+ function calls", text, re.MULTILINE)
    assert {"data", "forward", "backward", "optimizer", "loop", "checkpoint"} < set(sections)
    assert sections[-1] == "set-up"
    stats = pstats.Stats(str(tmp_path / "run" / "fit-profile-forward.prof")).stats  # type: ignore[attr-defined]
    (step,) = [value for (file, _, name), value in stats.items() if name == "training_step"]
    assert step[1] == STEPS
    assert len(capsys.readouterr().out) < len(text)


def test_the_operators_of_three_batches_are_traced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_with("pytorch", tmp_path)
    trainer.fit(Net(), data())
    trace = tmp_path / "run" / "fit-profile.pt.trace.json"
    events = json.loads(trace.read_text())["traceEvents"]
    count = {name: sum(event.get("name") == name for event in events) for name in ("forward", "backward", "optimizer")}
    assert count == {"forward": 3, "backward": 3, "optimizer": 3}
    assert sum(event.get("name") == "[module] Linear: layer" for event in events) == 3
    text = (tmp_path / "run" / "fit-profile.txt").read_text()
    assert "aten::addmm" in text and f"perfetto.dev or chrome://tracing: {trace}" in text
    assert capsys.readouterr().out == f"{text}written to {tmp_path}/run/fit-profile.txt\n"


def test_a_run_too_short_to_trace_says_so(tmp_path: Path) -> None:
    trainer = trainer_with("pytorch", tmp_path, max_steps=2, max_epochs=None)
    trainer.fit(Net(), data())
    assert trainer.profiler.summary() == (
        "fit: nothing was recorded: the run had 2 batches, and recording begins after 2; give "
        "PyTorchProfiler(schedule=...) or more batches"
    )


def test_several_loaders_and_hooks_with_an_index_work_under_a_profiler(tmp_path: Path) -> None:
    class Several(Net):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            super().validation_step(batch, batch_idx)

    stopping = EarlyStopping("val_loss/dataloader_idx_1", patience=9)
    trainer = trainer_with("simple", tmp_path, callbacks=[stopping])
    trainer.fit(Several(), data(), [data(2), data(3)])
    trainer.validate(dataloaders=[data(2), data(3)], verbose=False)
    assert calls(trainer.profiler)["forward"] == 5


def test_hook_names_in_errors_are_those_of_their_owner(tmp_path: Path) -> None:
    class Watching(lk.Callback):
        def on_validation_batch_end(  # type: ignore[override]
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            pass

    class Several(Net):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            super().validation_step(batch, batch_idx)

    told = []
    for profiler in (None, "simple"):
        trainer = trainer_with(profiler, tmp_path, callbacks=[Watching()])
        with pytest.raises(lk.errors.HookError) as caught:
            trainer.validate(Several(), [data(2), data(3)])
        told.append(str(caught.value))
    assert told[0] == told[1] and told[0].startswith("Watching.on_validation_batch_end has no dataloader_idx argument")

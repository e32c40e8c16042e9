"""The calls of a real run are those of the documented table, in that order."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit import hooks

BASES = {"M": lk.LightModule, "D": lk.LightDataModule, "C": lk.Callback}
BATCHES = 2
COUNTS = {"sanity check": 1, "epoch": 2, "validation": 1}


def recording(base: type, owner: str, own: type, log: list[str], names: set[str]) -> type:
    """A subclass of `own` whose hooks write themselves down and then do what they would."""

    def wrap(name: str) -> Any:
        original = getattr(own, name)

        @functools.wraps(original)
        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            log.append(f"{owner}.{name}")
            return original(self, *args, **kwargs)

        return hook

    return type(own.__name__, (own,), {name: wrap(name) for name in names if hasattr(base, name)})


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0]).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch[0]).sum())

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.layer(batch[0]).sum())

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        by_step = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        waiting = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return [optimizer], [{"scheduler": by_step, "interval": "step"}, {"scheduler": waiting, "monitor": "val_loss"}]


class Data(lk.LightDataModule):
    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.randn(4 * BATCHES, 4)), batch_size=4)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


def expand(block: hooks.Block, data_has: set[str]) -> Iterator[str]:
    """The table written out as calls."""
    for step in block.steps:
        if isinstance(step, hooks.Hook):
            owners = step.owners
            if owners == "D/M":
                owners = "D" if step.name in data_has else "M"
            yield from (f"{owner}.{step.name}" for owner in owners)
        else:
            for _ in range(BATCHES if step.each.endswith("batch") else COUNTS[step.each]):
                yield from expand(step, data_has)


def record(root: Path) -> dict[str, list[str]]:
    log: list[str] = []
    always = hooks.HOOK_NAMES - {h.name for block in (hooks.ANYWHERE, hooks.LEGACY) for h in hooks.walk(block)}
    loaders = {f"{stage}_dataloader" for stage in ("train", "val", "test", "predict")}
    module = recording(BASES["M"], "M", Net, log, set(always) - loaders)()
    data = recording(BASES["D"], "D", Data, log, {"prepare_data", "setup", "teardown", *loaders})()
    callback = recording(BASES["C"], "C", lk.Callback, log, set(always))()
    trainer = lk.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=root, callbacks=[callback], num_sanity_val_steps=BATCHES,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0,
    )  # fmt: skip
    calls = {}
    for name in ("fit", "validate", "test", "predict"):
        getattr(trainer, name)(module, datamodule=data)
        calls[name] = log.copy()
        log.clear()
    return calls


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return record(tmp_path_factory.mktemp("lifecycle"))


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_a_run_calls_what_the_table_says_in_its_order(calls: dict[str, list[str]], name: str) -> None:
    loaders = {f"{stage}_dataloader" for stage in ("train", "val", "test", "predict")}
    table = list(expand(getattr(hooks, name.upper()), loaders))
    assert calls[name] == table
    assert len(table) > (150 if name == "fit" else 20)


def test_the_seven_stages_of_the_lifecycle_are_in_order(calls: dict[str, list[str]]) -> None:
    stages = ("prepare_data", "setup", "configure_model", "configure_optimizers", "train_dataloader")
    stages += ("on_sanity_check_start", "val_dataloader", "on_train_start")
    first = [min(i for i, call in enumerate(calls["fit"]) if call.endswith(f".{stage}")) for stage in stages]
    assert first == sorted(first)
    assert not any("test_dataloader" in call for call in calls["fit"])


def test_every_hook_in_the_table_exists_on_its_owner_with_its_arguments() -> None:
    import inspect

    checked = 0
    blocks = (hooks.FIT, hooks.VALIDATE, hooks.TEST, hooks.PREDICT, hooks.ANYWHERE)
    for hook in (h for block in blocks for h in hooks.walk(block)):
        for owner in hook.owners.replace("/", ""):
            fn = getattr(BASES[owner], hook.name)
            names = [p for p in inspect.signature(fn).parameters if p not in ("self", "args", "kwargs")]
            if owner == "C":
                assert names[:2] == ["trainer", "pl_module"]
                names = names[2:]
            wanted = [part.split("=")[0].strip() for part in hook.args.split(",") if part.strip()]
            assert names in (wanted, []), hook
            checked += 1
    assert checked > 100


def test_the_order_is_the_one_of_lightning_where_lightning_has_the_hook(calls: dict[str, list[str]]) -> None:
    # written down from Lightning 2.6.6: one training batch, and one validation inside fit
    batch = """M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer C.on_train_batch_start
    M.on_train_batch_start M.optimizer_step M.training_step C.on_before_zero_grad M.on_before_zero_grad
    M.optimizer_zero_grad C.on_before_backward M.on_before_backward M.backward C.on_after_backward M.on_after_backward
    C.on_before_optimizer_step M.on_before_optimizer_step M.configure_gradient_clipping M.lr_scheduler_step
    C.on_train_batch_end M.on_train_batch_end""".split()
    validation = """M.on_validation_model_zero_grad M.on_validation_model_eval C.on_validation_start
    M.on_validation_start C.on_validation_epoch_start M.on_validation_epoch_start""".split()
    ends = """C.on_validation_epoch_end M.on_validation_epoch_end C.on_validation_end M.on_validation_end
    M.on_validation_model_train C.on_train_epoch_end M.on_train_epoch_end""".split()
    fit = " ".join(calls["fit"])
    assert fit.count(" ".join(batch)) == 2 * BATCHES
    assert fit.count(" ".join(validation)) == 2
    assert fit.count(" ".join(ends)) == 2

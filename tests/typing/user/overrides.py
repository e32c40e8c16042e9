# mypy: disallow-any-generics, disallow-untyped-defs, disallow-untyped-calls, disallow-untyped-decorators
# mypy: disallow-subclassing-any, warn-return-any, no-implicit-reexport, strict-equality, extra-checks
"""A user's file: hooks with argument lists of their own and annotations narrower than the base's. No checker minds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR
from torch.utils.data import DataLoader, Dataset, TensorDataset

import lightkit as lk

Pair = tuple[Tensor, Tensor]
Loader = DataLoader[tuple[Tensor, ...]]


def loader() -> Loader:
    return DataLoader(TensorDataset(torch.zeros(8, 4), torch.zeros(8)), batch_size=4)


class Classifier(lk.LightModule):
    def __init__(self, width: int = 4, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Linear(width, 1)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x)
        return found

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("loss", loss, prog_bar=True)
        self.log_dict({"rate": self.rate})
        self.log("progress", self.trainer.global_step / 10)
        return loss

    def validation_step(self, batch: Pair, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def test_step(self, batch: Pair) -> dict[str, Tensor]:
        return {"test_loss": self(batch[0]).mean()}

    def predict_step(self, batch: Pair, batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        return [str(value) for value in self(batch[0])]

    def configure_optimizers(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.parameters(), lr=self.rate)

    def configure_callbacks(self) -> list[lk.Callback]:
        return [Watch(), lk.callbacks.LearningRateMonitor()]

    def setup(self, stage: str | None = None) -> None:
        if stage == "fit" and self.trainer.max_epochs is not None:
            print(self.trainer.max_epochs + 1)

    def teardown(self, stage: str | None = None) -> None: ...

    def train_dataloader(self) -> Loader:
        return loader()

    def val_dataloader(self) -> list[Loader]:
        return [loader(), loader()]

    def on_train_batch_start(self, batch: Pair, batch_idx: int) -> int | None:
        return -1 if batch_idx > 2 else None

    def on_train_batch_end(self, outputs: dict[str, Tensor], batch: Pair, batch_idx: int) -> None:
        print(outputs["loss"])

    def on_validation_batch_end(
        self, outputs: Tensor | None, batch: Pair, batch_idx: int, dataloader_idx: int = 0
    ) -> None: ...

    def on_train_epoch_end(self) -> None:
        if self.current_epoch == 1:
            self.trainer.should_stop = True
        best: Tensor | None = self.trainer.callback_metrics.get("val_loss")
        print(best, self.trainer.is_global_zero)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None: ...

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["rate"] = self.rate

    def transfer_batch_to_device(self, batch: Pair, device: torch.device, dataloader_idx: int) -> Pair:
        return batch[0].to(device), batch[1].to(device)

    def on_after_batch_transfer(self, batch: Pair, dataloader_idx: int) -> Pair:
        return batch


class Scheduled(Classifier):
    def backward(self, loss: Tensor) -> None:
        super().backward(loss)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        optimizer.zero_grad()

    def lr_scheduler_step(self, scheduler: StepLR, metric: float | None) -> None:
        scheduler.step()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")


class WithDictionary(lk.LightModule):
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any] | None:
        return {"loss": batch["x"].sum(), "log": {"n": 1}} if batch_idx else None

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 1), "interval": "step"}}


class WithLists(lk.LightModule):
    def training_step(self, batch: list[Tensor]) -> Tensor:
        return batch[0].sum()

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [StepLR(optimizer, 1)]

    # the earlier style
    def training_epoch_end(self, outputs: list[dict[str, Tensor]]) -> None: ...

    def validation_epoch_end(self, outputs: list[dict[str, Tensor]]) -> dict[str, Any]:
        return {"val_loss": torch.stack([output["val_loss"] for output in outputs]).mean()}


class ByHand(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Pair, batch_idx: int) -> None:
        found = self.optimizers()
        for optimizer in found if isinstance(found, list) else [found]:
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(batch[0].sum())
            optimizer.step()
            self.untoggle_optimizer(optimizer)
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, LRScheduler):
            scheduler.step()

    def configure_optimizers(self) -> list[torch.optim.SGD]:
        return [torch.optim.SGD(self.parameters(), lr=0.1)]


class Watch(lk.Callback):
    def __init__(self) -> None:
        self.seen = 0

    def setup(self, trainer: lk.Trainer, pl_module: lk.LightModule, stage: str | None = None) -> None: ...

    def on_train_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        print(trainer.current_epoch, trainer.num_training_batches, pl_module.device, trainer.optimizers[0].param_groups)

    def on_train_batch_end(
        self, trainer: lk.Trainer, pl_module: lk.LightModule, outputs: dict[str, Tensor], batch: Pair, batch_idx: int
    ) -> None:
        self.seen += 1
        self.log("seen", self.seen)

    def on_validation_batch_start(
        self, trainer: lk.Trainer, pl_module: lk.LightModule, batch: Pair, batch_idx: int, dataloader_idx: int = 0
    ) -> None: ...

    def on_validation_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        trainer.should_stop = bool(trainer.callback_metrics["val_loss"] < 0.1) and not trainer.sanity_checking

    def on_exception(self, trainer: lk.Trainer, pl_module: lk.LightModule, exception: BaseException) -> None: ...

    def on_save_checkpoint(
        self, trainer: lk.Trainer, pl_module: lk.LightModule, checkpoint: dict[str, Any]
    ) -> None: ...

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.seen = state_dict["seen"]


class Data(lk.LightDataModule):
    def __init__(self, root: str = "data") -> None:
        super().__init__()
        self.root = root
        self.train_set: Dataset[tuple[Tensor, ...]] | None = None

    def prepare_data(self) -> None:
        print(self.root)

    def setup(self, stage: str | None = None) -> None:
        self.train_set = TensorDataset(torch.zeros(8, 4), torch.zeros(8))

    def train_dataloader(self) -> Loader:
        assert self.train_set is not None
        return DataLoader(self.train_set, batch_size=4)

    def val_dataloader(self) -> list[Loader]:
        return [loader()]

    def predict_dataloader(self) -> dict[str, Loader]:
        return {"a": loader()}

    def on_before_batch_transfer(self, batch: Pair, dataloader_idx: int) -> Pair:
        return batch


def train() -> float:
    trainer = lk.Trainer(max_epochs=1, accelerator="cpu", callbacks=[Watch(), lk.callbacks.EarlyStopping("val_loss")])
    trainer.limit_val_batches = 2
    trainer.fit(Classifier(), datamodule=Data())
    metrics: list[dict[str, float]] = trainer.validate(Classifier(), loader(), verbose=False)
    return metrics[0]["val_loss"]

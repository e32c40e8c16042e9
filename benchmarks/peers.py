"""The jobs done with other frameworks, each in its own usual way; only those that are installed.

They are given what they need to be quick: no bar, logger, checkpoint or summary where the job has none.
"""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.jobs import LEARNING_RATE, LOG_EVERY, MAX_LEARNING_RATE, Job, Maker, Run, weights
from benchmarks.raw import ACCUMULATE, CLIP

PACKAGES = {
    "Lightning": "lightning", "Fabric": "lightning", "Ignite": "pytorch-ignite", "Accelerate": "accelerate",
    "skorch": "skorch", "Keras": "keras",
}  # fmt: skip


def installed() -> dict[str, Maker]:
    """The peers that this environment has, by name."""
    makers = {
        "Lightning": lightning, "Fabric": fabric, "Ignite": ignite, "Accelerate": accelerate, "skorch": skorch,
        "Keras": keras,
    }  # fmt: skip
    return {name: maker for name, maker in makers.items() if version(name)}


def version(name: str) -> str | None:
    """The version of a peer, or None where it is not installed."""
    try:
        return importlib.metadata.version(PACKAGES[name])
    except importlib.metadata.PackageNotFoundError:
        return None


def _only(job: Job, *kinds: str, counted: bool = False) -> None:
    """Leave out what the framework has no usual way for, or was not written for here."""
    if job.kind not in kinds or job.keyed or ((job.logged or job.callbacks) and not counted):
        raise NotImplementedError("not measured with this framework")


# ---------------------------------------------------------------- Lightning


def lightning(job: Job, folder: str) -> Run:
    """Trainer and LightningModule: `ours.py`, written with Lightning's classes."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = job.model()
            self.names = [f"metric_{i}" for i in range(job.logged)]

        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=LEARNING_RATE)
            if job.kind != "accumulate":
                return optimizer
            steps = int(self.trainer.estimated_stepping_batches)
            scheduler = OneCycleLR(optimizer, MAX_LEARNING_RATE, total_steps=steps)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            loss = cross_entropy(self.net(x), y)
            if job.kind == "everything":
                self.log("train_loss", loss, prog_bar=True)
            for name in self.names:
                self.log(name, loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            self.log("val_loss", cross_entropy(self.net(x), y))

    module, trainer = Module(), pl.Trainer(**_lightning_options(job, folder))
    train, val = job.data.train(), job.data.val() if job.data.val_batches else None

    def run() -> list[Tensor]:
        trainer.fit(module, train, val)
        return [*weights(module.net), *([trainer.callback_metrics["val_loss"]] if val is not None else [])]

    def validate() -> list[Tensor]:
        return [torch.tensor(trainer.validate(module, val, verbose=False)[0]["val_loss"])]

    return validate if job.kind == "validation" else run


def _lightning_options(job: Job, folder: str) -> dict[str, Any]:
    from lightning.pytorch.callbacks import Callback, TQDMProgressBar
    from lightning.pytorch.loggers import TensorBoardLogger

    class OneHook(Callback):
        calls = 0

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.calls += 1

    given: dict[str, Any] = {
        "max_epochs": job.epochs, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
        "log_every_n_steps": LOG_EVERY, "default_root_dir": folder,
    }  # fmt: skip
    if job.kind == "everything":
        given.update(logger=TensorBoardLogger(folder), enable_checkpointing=True)
        # one refresh every 20 steps: close to the ten a second that the others draw
        given.update(enable_progress_bar=True, callbacks=[TQDMProgressBar(refresh_rate=20)])
    if job.kind == "accumulate":
        given.update(accumulate_grad_batches=ACCUMULATE, gradient_clip_val=CLIP)
    if job.callbacks:
        given.update(callbacks=[OneHook() for _ in range(job.callbacks)])
    return given


def fabric(job: Job, folder: str) -> Run:
    """The hand-written loop with Fabric's wrappers."""
    _only(job, "plain", "epochs")
    from lightning.fabric import Fabric

    runner = Fabric(accelerator="cpu", devices=1)
    model = job.model()
    wrapped, optimizer = runner.setup(model, SGD(model.parameters(), lr=LEARNING_RATE))
    train = runner.setup_dataloaders(job.data.train())
    val = runner.setup_dataloaders(job.data.val()) if job.kind == "epochs" else None
    return _loop(job, model, wrapped, optimizer, train, val, runner.backward)


# ---------------------------------------------------------------- Accelerate


def accelerate(job: Job, folder: str) -> Run:
    """The hand-written loop with what `Accelerator.prepare` gives."""
    _only(job, "plain", "epochs", "everything", "accumulate")
    from accelerate import Accelerator

    is_everything, accumulates = job.kind == "everything", job.kind == "accumulate"
    accelerator = Accelerator(
        cpu=True, log_with="tensorboard" if is_everything else None, project_dir=folder,
        gradient_accumulation_steps=ACCUMULATE if accumulates else 1,
    )  # fmt: skip
    model = job.model()
    wrapped, optimizer, train = accelerator.prepare(model, SGD(model.parameters(), lr=LEARNING_RATE), job.data.train())
    if accumulates:
        scheduler = OneCycleLR(optimizer.optimizer, MAX_LEARNING_RATE, total_steps=job.count // ACCUMULATE)
        return _accelerate_accumulating(job, model, wrapped, optimizer, train, scheduler, accelerator)
    if is_everything:
        accelerator.init_trackers("bench")
        return _accelerate_everything(job, folder, model, wrapped, optimizer, train, accelerator)
    val = accelerator.prepare(job.data.val()) if job.kind == "epochs" else None
    return _loop(job, model, wrapped, optimizer, train, val, accelerator.backward)


def _accelerate_accumulating(
    job: Job, model: nn.Module, wrapped: Any, optimizer: Any, train: Any, scheduler: Any, accelerator: Any
) -> Run:
    scheduler = accelerator.prepare(scheduler)

    def run() -> list[Tensor]:
        for x, y in train:
            with accelerator.accumulate(wrapped):
                accelerator.backward(cross_entropy(wrapped(x), y))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(wrapped.parameters(), CLIP)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        return weights(model)

    return run


def _accelerate_everything(
    job: Job, folder: str, model: nn.Module, wrapped: Any, optimizer: Any, train: Any, accelerator: Any
) -> Run:
    from accelerate.utils import tqdm

    def run() -> list[Tensor]:
        step = 0
        for epoch in range(job.epochs):
            bar = tqdm(train)
            for x, y in bar:
                loss = cross_entropy(wrapped(x), y)
                optimizer.zero_grad()
                accelerator.backward(loss)
                optimizer.step()
                step += 1
                if step % LOG_EVERY == 0:
                    accelerator.log({"train_loss": loss.item()}, step=step)
                    bar.set_postfix(loss=loss.item(), refresh=False)
            accelerator.save_state(os.path.join(folder, f"epoch_{epoch}"))
        accelerator.end_training()
        return weights(model)

    return run


def _loop(
    job: Job, model: nn.Module, wrapped: Any, optimizer: Any, train: Any, val: Any, backward: Any
) -> Run:  # fmt: skip
    """The loop that users of Fabric and Accelerate write."""

    def evaluate() -> Tensor:
        wrapped.eval()
        total, count = 0.0, 0
        with torch.inference_mode():
            for x, y in val:
                total += cross_entropy(wrapped(x), y).item() * len(y)
                count += len(y)
        wrapped.train()
        return torch.tensor(total / count)

    def run() -> list[Tensor]:
        last: list[Tensor] = []
        for _ in range(job.epochs):
            for x, y in train:
                loss = cross_entropy(wrapped(x), y)
                optimizer.zero_grad()
                backward(loss)
                optimizer.step()
            if val is not None:
                last = [evaluate()]
        return [*weights(model), *last]

    return run


# ---------------------------------------------------------------- Ignite


def ignite(job: Job, folder: str) -> Run:
    """Engines with handlers."""
    _only(job, "plain", "epochs", "validation", "everything", counted=True)
    from ignite.engine import Engine, Events
    from ignite.metrics import Average, Loss

    model = job.model()
    optimizer = SGD(model.parameters(), lr=LEARNING_RATE)
    train = job.data.train()

    def step(engine: Any, batch: Any) -> Any:
        x, y = batch
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def evaluation_step(engine: Any, batch: Any) -> Any:
        with torch.inference_mode():
            return model(batch[0]), batch[1]

    trainer, evaluator = Engine(step), Engine(evaluation_step)
    Loss(cross_entropy).attach(evaluator, "val_loss")
    for index in range(job.logged):
        Average(output_transform=lambda value: value).attach(trainer, f"metric_{index}")
    for _ in range(job.callbacks):
        trainer.add_event_handler(Events.ITERATION_COMPLETED, _Counter())
    if job.kind == "everything":
        _ignite_everything(trainer, model, optimizer, folder)

    val = job.data.val() if job.data.val_batches else None
    last: list[Tensor] = []

    def evaluate() -> list[Tensor]:
        model.eval()
        last[:] = [torch.tensor(evaluator.run(val).metrics["val_loss"])]
        model.train()
        return last

    if job.kind == "validation":
        return evaluate
    if job.kind == "epochs":
        trainer.add_event_handler(Events.EPOCH_COMPLETED, evaluate)

    def run() -> list[Tensor]:
        trainer.run(train, max_epochs=job.epochs)
        return [*weights(model), *last]

    return run


class _Counter:
    calls = 0

    def __call__(self, engine: Any) -> None:
        self.calls += 1


def _ignite_everything(trainer: Any, model: nn.Module, optimizer: Any, folder: str) -> None:
    from ignite.engine import Events
    from ignite.handlers import Checkpoint, DiskSaver, ProgressBar
    from ignite.handlers.tensorboard_logger import TensorboardLogger

    writer = TensorboardLogger(log_dir=folder)
    every = Events.ITERATION_COMPLETED(every=LOG_EVERY)
    writer.attach_output_handler(trainer, every, tag="train", output_transform=lambda loss: {"loss": loss})
    ProgressBar().attach(trainer, output_transform=lambda loss: {"loss": loss})
    saved = {"model": model, "optimizer": optimizer, "trainer": trainer}
    saver = DiskSaver(folder, require_empty=False, create_dir=True)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint(saved, saver, n_saved=1))
    trainer.add_event_handler(Events.COMPLETED, lambda engine: writer.close())


# ---------------------------------------------------------------- skorch, Keras


def skorch(job: Job, folder: str) -> Run:
    """NeuralNet; its losses are averaged over each epoch, as always."""
    _only(job, "plain", "epochs", "everything", counted=True)
    if job.logged:
        raise NotImplementedError("it has no per-step log call that is averaged")
    from skorch import NeuralNet, callbacks
    from skorch.helper import predefined_split

    class OneHook(callbacks.Callback):
        calls = 0

        def on_batch_end(self, net: Any, **kwargs: Any) -> None:
            self.calls += 1

    extra: list[Any] = [(f"hook{i}", OneHook()) for i in range(job.callbacks)]
    if job.kind == "everything":
        from torch.utils.tensorboard import SummaryWriter

        extra += [("board", callbacks.TensorBoard(SummaryWriter(folder))), ("bar", callbacks.ProgressBar())]
        extra += [("save", callbacks.Checkpoint(dirname=folder, monitor=None))]
    split = predefined_split(job.data.dataset("val")) if job.kind == "epochs" else None
    net = NeuralNet(
        job.model(), nn.CrossEntropyLoss(), optimizer=SGD, lr=LEARNING_RATE, max_epochs=job.epochs,
        batch_size=job.data.batch_size, train_split=split, callbacks=extra, callbacks__print_log=None, verbose=0,
        iterator_train__shuffle=True, iterator_train__generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    dataset = job.data.dataset("train")

    def run() -> list[Tensor]:
        net.fit(dataset, y=None)
        last = [torch.tensor(net.history[-1, "valid_loss"])] if job.kind == "epochs" else []
        return [*weights(net.module_), *last]

    return run


def keras(job: Job, folder: str) -> Run:
    """Keras with torch behind it, around the same torch module."""
    _only(job, "plain", "epochs", "validation", counted=True)
    if job.logged:
        raise NotImplementedError("it has no per-step log call")
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as k

    class OneHook(k.callbacks.Callback):
        calls = 0

        def on_train_batch_end(self, batch: Any, logs: Any = None) -> None:
            self.calls += 1

    class Model(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.wrapped = k.layers.TorchModuleWrapper(net)

        def call(self, x: Any) -> Any:
            return self.wrapped(x)

    net = job.model()
    model = Model()
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=k.optimizers.SGD(LEARNING_RATE), loss=loss)
    train, val = job.data.train(), job.data.val() if job.data.val_batches else None
    hooks = [OneHook() for _ in range(job.callbacks)]

    def run() -> list[Tensor]:
        history = model.fit(train, validation_data=val, epochs=job.epochs, verbose=0, callbacks=hooks)
        last = [torch.tensor(history.history["val_loss"][-1])] if val is not None else []
        return [*weights(net), *last]

    def validate() -> list[Tensor]:
        return [torch.tensor(model.evaluate(val, verbose=0))]

    return validate if job.kind == "validation" else run

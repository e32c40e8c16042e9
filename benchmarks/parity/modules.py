"""The modules of the programs and what each is trained with; read once for each `pl`, which `programs` puts in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.parity.data import Dicts, Program, loaders, pictures, rows, sentences

pl: Any = globals()["pl"]


def _two_validations(form: str) -> tuple[Any, Any]:
    train, val = loaders(rows)(form)
    _, other = loaders(lambda count, seed: rows(count // 2, seed + 5))(form)
    return train, [val, other]


class Classifier(pl.LightningModule):  # type: ignore[misc,name-defined]
    """What most of them are: a network, cross entropy, an optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.net = self.network()

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.losses.append(float(loss.detach()))
        self.log("train_loss", loss)
        self.log("train_mean", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Linear(Classifier):
    def network(self) -> nn.Module:
        return nn.Linear(16, 3)


class Dropout(Classifier):
    def network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Convolutions(Classifier):
    def network(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.2), nn.Flatten(), nn.Linear(144, 3)
        )

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, nesterov=True)


class Recurrent(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 3)

    def network(self) -> nn.Module:
        return nn.Embedding(20, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.net(x))[0][:, -1])


class Transformer(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.lstm, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.net(x)).mean(1))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.1)
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warmup, "interval": "step"}}


class Autoencoder(Classifier):
    def network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 16))

    def loss(self, batch: Any) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=3.0)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


class Variational(Autoencoder):
    def network(self) -> nn.Module:
        return nn.ModuleList([nn.Linear(16, 8), nn.Linear(4, 16)])

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = self.net[0](x).chunk(2, -1)
        self.kl = 0.5 * (mean.square() + spread.exp() - spread - 1).mean()
        drawn = mean + torch.randn_like(mean) * (spread / 2).exp() if self.training else mean
        return self.net[1](drawn)

    def loss(self, batch: Any) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[0]) + 0.1 * self.kl

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Adversarial(Classifier):
    """Two networks against one another, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Linear(4, 16)

    def network(self) -> nn.Module:
        return nn.Linear(16, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        real, _ = batch
        first, second = self.optimizers()
        noise = torch.randn(len(real), 4)
        fooled = F.softplus(-self.net(self.generator(noise))).mean()
        first.zero_grad()
        self.manual_backward(fooled)
        first.step()
        told = F.softplus(-self.net(real)).mean() + F.softplus(self.net(self.generator(noise).detach())).mean()
        second.zero_grad()
        self.manual_backward(told)
        second.step()
        self.losses += [float(fooled.detach()), float(told.detach())]
        self.log_dict({"fooled": fooled, "told": told})

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.net(batch[0]).mean())

    def configure_optimizers(self) -> Any:
        one = torch.optim.Adam(self.generator.parameters(), lr=0.01, betas=(0.5, 0.9))
        return [one, torch.optim.Adam(self.net.parameters(), lr=0.01, betas=(0.5, 0.9))]


class OneCycle(Dropout):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        total = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=total)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class ByEpoch(Dropout):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.5)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class SecondOrder(Classifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.5, max_iter=4)


class WarmedUp(Dropout):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * min(1.0, (self.trainer.global_step + 1) / 12)


class Sparse(Recurrent):
    def network(self) -> nn.Module:
        return nn.Embedding(20, 8, sparse=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).mean(1)[:, :3]

    def configure_optimizers(self) -> Any:
        return torch.optim.SparseAdam(self.net.parameters(), lr=0.01)


class TwoValidations(Dropout):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch))


class OfDicts(Dropout):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {**batch, "x": batch["x"] * 2}

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch["x"]), batch["y"])


class Returning(Dropout):
    """A dict with more than the loss; now and then nothing at all."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 2 else {"loss": loss, "more": loss.detach()}


class WithSteps(Dropout):
    """Values of steps and means together, several at once, of validation steps too."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log_dict({"a/x": loss * 2, "a/y": loss + 1}, on_step=True, on_epoch=True)
        self.log("most", loss, on_step=False, on_epoch=True, reduce_fx="max")
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch), on_step=True, on_epoch=True)


class Contrastive(Dropout):
    """Two views of a batch, drawn in the step."""

    def loss(self, batch: Any) -> Tensor:
        x = batch[0]
        views = [x + 0.1 * torch.randn_like(x), x * (torch.rand_like(x) > 0.2)] if self.training else [x, x]
        a, b = (F.normalize(self(view), dim=-1) for view in views)
        return F.cross_entropy(a @ b.T / 0.5, torch.arange(len(x)))


def stopping() -> list[Any]:
    return [pl.callbacks.EarlyStopping("val_loss", patience=2, min_delta=0.03)]


plain = loaders(rows)
PROGRAMS: dict[str, Program] = {
    "linear": Program(Linear, plain),
    "dropout": Program(Dropout, plain),
    "convolutions, batch norm": Program(Convolutions, loaders(pictures)),
    "LSTM, clipped by norm": Program(Recurrent, loaders(sentences), {"gradient_clip_val": 0.1}),
    "transformer, warm-up by step": Program(Transformer, loaders(sentences)),
    "autoencoder, plateau": Program(Autoencoder, plain, {"max_epochs": 6}),
    "variational autoencoder": Program(Variational, plain),
    "GAN, manual optimization": Program(Adversarial, plain),
    "accumulation of 4": Program(Dropout, plain, {"accumulate_grad_batches": 4}),
    "clipped by value": Program(
        Dropout, plain, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}
    ),
    "OneCycleLR": Program(OneCycle, plain),
    "StepLR by epoch": Program(ByEpoch, plain),
    "L-BFGS": Program(SecondOrder, plain),
    "own optimizer_step": Program(WarmedUp, plain),
    "sparse embedding": Program(Sparse, loaders(sentences)),
    "two validation loaders": Program(TwoValidations, _two_validations),
    "dicts, transfer hook": Program(OfDicts, loaders(Dicts)),
    "dict or None returned": Program(
        Returning, plain, differs="a step that returned None updates nothing and is not counted"
    ),
    "values of steps and means": Program(WithSteps, plain, {"log_every_n_steps": 2}),
    "contrastive, max_steps, validation twice an epoch": Program(
        Contrastive, plain, {"max_steps": 20, "max_epochs": -1, "val_check_interval": 0.5}
    ),
    "early stopping": Program(Dropout, plain, {"max_epochs": 12}, stopping),
    "bf16-mixed": Program(Dropout, plain, {"precision": "bf16-mixed"}),
    "64-true": Program(Dropout, plain, {"precision": "64-true"}),
}  # fmt: skip

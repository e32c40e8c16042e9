"""WeightAveraging and EMAWeightAveraging: the average itself, where it is used, what is saved, exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EMAWeightAveraging, ModelCheckpoint, WeightAveraging
from lightkit.errors import ConfigError

EPOCHS, BATCHES = 3, 4
DECAY = 0.9


def data(shuffle: bool = True) -> DataLoader[Any]:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=shuffle)


class Net(lk.LightModule):
    """Notes its weights after each step, and those that validation sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))
        self.trained: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.parameters()]).clone()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def on_before_zero_grad(self, optimizer: Any) -> None:
        if self.global_step:
            self.trained.append(self.weights())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking and batch_idx == 0:
            self.validated.append(self.weights())
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class StopAt(lk.Callback):
    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def make(root: Path, *callbacks: Any, **arguments: Any) -> lk.Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": EPOCHS, "accelerator": "cpu", "run_dir": root, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "callbacks": list(callbacks),
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def fit(root: Path, *callbacks: Any, seed: int = 5, ckpt_path: Any = None, **arguments: Any) -> tuple[Net, lk.Trainer]:
    lk.seed_everything(seed, verbose=False)
    module, trainer = Net(), make(root, *callbacks, **arguments)
    lk.seed_everything(seed, verbose=False)
    trainer.fit(module, data(), data(shuffle=False), ckpt_path=ckpt_path)
    return module, trainer


def ema(steps: list[torch.Tensor], decay: float = DECAY) -> torch.Tensor:
    average = steps[0]
    for weights in steps[1:]:
        average = decay * average + (1 - decay) * weights
    return average


def test_validation_sees_the_average_and_training_goes_on_from_the_current_weights(tmp_path: Path) -> None:
    plain, _ = fit(tmp_path / "plain")
    module, trainer = fit(tmp_path / "ema", EMAWeightAveraging(decay=DECAY))
    # the training itself is untouched
    assert len(module.trained) == len(plain.trained) == EPOCHS * BATCHES - 1
    assert all(torch.equal(a, b) for a, b in zip(module.trained, plain.trained, strict=True))
    for epoch, seen in enumerate(module.validated[:-1], start=1):
        torch.testing.assert_close(seen, ema(module.trained[: epoch * BATCHES]))
    # at the end the module holds the average of all steps, the last one included
    torch.testing.assert_close(module.weights(), ema([*plain.trained, plain.weights()]))
    assert torch.equal(module.weights(), module.validated[-1])
    [tested] = trainer.test(module, data(shuffle=False), verbose=False)
    [validated] = trainer.validate(module, data(shuffle=False), verbose=False)
    assert tested["test_loss"] == validated["val_loss"]
    assert torch.equal(module.weights(), module.validated[-1])


def test_the_default_is_the_mean_of_all_steps(tmp_path: Path) -> None:
    plain, _ = fit(tmp_path / "plain")
    module, _ = fit(tmp_path / "swa", WeightAveraging())
    torch.testing.assert_close(module.weights(), torch.stack([*plain.trained, plain.weights()]).mean(0))


def test_a_subclass_says_when_to_update(tmp_path: Path) -> None:
    class LateEMA(WeightAveraging):
        def __init__(self) -> None:
            super().__init__(avg_fn=get_ema_avg_fn(DECAY))

        def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
            return step_idx is not None and step_idx >= 7

    plain, _ = fit(tmp_path / "plain")
    module, _ = fit(tmp_path / "late", LateEMA())
    torch.testing.assert_close(module.weights(), ema([*plain.trained, plain.weights()][7:]))


@pytest.mark.parametrize("arguments, chosen", [
    ({"update_every_n_steps": 5}, [0, 5, 10]),
    ({"update_starting_at_step": 9}, [9, 10, 11]),
    ({"update_every_n_steps": 0, "update_starting_at_epoch": 1}, [7, 11]),
])  # fmt: skip
def test_when_the_ema_is_updated(tmp_path: Path, arguments: dict[str, int], chosen: list[int]) -> None:
    plain, _ = fit(tmp_path / "plain")
    module, _ = fit(tmp_path / "ema", EMAWeightAveraging(decay=DECAY, **arguments))
    steps = [*plain.trained, plain.weights()]
    torch.testing.assert_close(module.weights(), ema([steps[i] for i in chosen]))


@pytest.mark.parametrize("use_buffers", [True, False])
def test_buffers_are_averaged_or_kept_current(tmp_path: Path, use_buffers: bool) -> None:
    plain, _ = fit(tmp_path / "plain")
    module, _ = fit(tmp_path / "ema", EMAWeightAveraging(decay=DECAY, use_buffers=use_buffers))
    mean, current = module.net[1].running_mean, plain.net[1].running_mean
    assert torch.equal(mean, current) is not use_buffers


def test_accumulated_batches_are_one_update(tmp_path: Path) -> None:
    class Counting(EMAWeightAveraging):
        updates: list[int] = []

        def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
            if step_idx is not None:
                self.updates.append(step_idx)
            return super().should_update(step_idx, epoch_idx)

    callback = Counting()
    fit(tmp_path, callback, accumulate_grad_batches=2)
    assert callback.updates == list(range(EPOCHS * BATCHES // 2))


# ------------------------------------------------------------------ checkpoints


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("stop", [2, 4, 6, 11])
@pytest.mark.parametrize("saves_first", [False, True])
@pytest.mark.parametrize("kind", ["ema", "swa", "late"])
def test_a_run_killed_and_resumed_ends_bit_for_bit_the_same(
    tmp_path: Path, stop: int, saves_first: bool, kind: str
) -> None:
    def average() -> WeightAveraging:
        if kind == "swa":
            return WeightAveraging()
        every = 1 if kind == "ema" else 3
        return EMAWeightAveraging(decay=DECAY, update_every_n_steps=every, update_starting_at_epoch=1)

    whole, first = fit(tmp_path / "whole", average())
    path = tmp_path / "stop.ckpt"
    # a checkpoint may be taken before or after the average's own turn in the step
    callbacks = [average(), StopAt(stop, path)]
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", *(reversed(callbacks) if saves_first else callbacks))
    parts, second = fit(tmp_path / "parts", average(), seed=99, ckpt_path=path)
    assert same(whole.state_dict(), parts.state_dict())
    assert torch.equal(whole.trained[-1], parts.trained[-1])
    assert first.callback_metrics == second.callback_metrics


def test_the_best_checkpoint_holds_the_weights_that_were_validated_and_those_to_go_on_from(tmp_path: Path) -> None:
    saving = ModelCheckpoint(dirpath=tmp_path / "c", save_top_k=-1, filename="{epoch}", monitor="val_loss")
    module, trainer = fit(tmp_path, EMAWeightAveraging(decay=DECAY), saving, enable_checkpointing=True)
    for epoch in range(EPOCHS):
        checkpoint = torch.load(tmp_path / "c" / f"epoch={epoch}.ckpt", weights_only=True)
        loaded = Net.load_from_checkpoint(tmp_path / "c" / f"epoch={epoch}.ckpt")
        assert torch.equal(loaded.weights(), module.validated[epoch])
        current = Net()
        current.load_state_dict(checkpoint["current_model_state"])
        if epoch < EPOCHS - 1:
            assert torch.equal(current.weights(), module.trained[(epoch + 1) * BATCHES - 1])
        assert int(checkpoint["averaging_state"]["n_averaged"]) == (epoch + 1) * BATCHES
    # saved after the training, when the module itself holds the average
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    after = torch.load(tmp_path / "after.ckpt", weights_only=True)
    assert same(after["state_dict"], checkpoint["state_dict"])
    assert same(after["current_model_state"], checkpoint["current_model_state"])


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path: Path) -> None:
    whole, _ = fit(tmp_path / "whole", EMAWeightAveraging(decay=DECAY))
    _, trainer = fit(tmp_path / "parts", EMAWeightAveraging(decay=DECAY), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    parts, _ = fit(tmp_path / "parts", EMAWeightAveraging(decay=DECAY), seed=99, ckpt_path=tmp_path / "two.ckpt")
    assert same(whole.state_dict(), parts.state_dict())


def test_a_run_broken_off_in_validation_has_its_current_weights_back(tmp_path: Path) -> None:
    class Breaking(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if self.global_step == 2 * BATCHES:
                raise KeyboardInterrupt

    module, plain = Breaking(), fit(tmp_path / "plain")[0]
    saving = ModelCheckpoint(dirpath=tmp_path / "c", save_on_exception=True, filename="broken")
    trainer = make(tmp_path, EMAWeightAveraging(decay=DECAY), saving, enable_checkpointing=True)
    lk.seed_everything(5, verbose=False)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(module, data(), data(shuffle=False))
    assert torch.equal(module.weights(), plain.trained[2 * BATCHES - 1])
    saved = torch.load(tmp_path / "c" / "broken-v1.ckpt", weights_only=True)
    assert torch.equal(saved["current_model_state"]["net.0.weight"], module.net[0].weight)
    assert not torch.equal(saved["state_dict"]["net.0.weight"], module.net[0].weight)


def test_a_checkpoint_without_an_average_begins_one(tmp_path: Path) -> None:
    _, trainer = fit(tmp_path, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.warns(UserWarning) as caught:
        module, _ = fit(tmp_path, EMAWeightAveraging(decay=DECAY), ckpt_path=tmp_path / "plain.ckpt")
    assert [str(w.message) for w in caught] == [
        "the checkpoint was saved without EMAWeightAveraging: the average begins with its weights"
    ]
    plain, _ = fit(tmp_path)
    torch.testing.assert_close(module.weights(), ema([*plain.trained, plain.weights()][BATCHES:]))


def test_layers_built_late_are_averaged_too(tmp_path: Path) -> None:
    class Late(Net):
        def configure_model(self) -> None:
            if not hasattr(self, "late"):
                self.late = nn.Linear(1, 1)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return nn.functional.mse_loss(self.late(self.net(batch[0])), batch[1])

    module, trainer = Late(), make(tmp_path, EMAWeightAveraging(decay=DECAY), precision="64-true")
    trainer.fit(module, data())
    trainer.save_checkpoint(tmp_path / "late.ckpt")
    saved = torch.load(tmp_path / "late.ckpt", weights_only=True)
    assert saved["state_dict"]["late.weight"].dtype == torch.float64
    assert not torch.equal(saved["state_dict"]["late.weight"], saved["current_model_state"]["late.weight"])


def test_a_decay_outside_of_0_and_1() -> None:
    with pytest.raises(ConfigError) as caught:
        EMAWeightAveraging(decay=1.5)
    assert str(caught.value) == "EMAWeightAveraging(decay=1.5): expected a share between 0 and 1, such as 0.999"


def test_two_averages_in_one_trainer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(tmp_path, WeightAveraging(), EMAWeightAveraging())
    assert str(caught.value) == (
        "WeightAveraging and EMAWeightAveraging: each lends the module its average for the validation, "
        "and only one can; use one of them"
    )

"""No fit ends normally with weights that are NaN, whatever reads or logs nothing; the error says where it was found."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.errors import NonFiniteError
from tests.test_hot_loop import CountReads

STEPS = 6
TAIL = (
    "; training stopped, checkpoints saved before are untouched. Try a lower learning rate, gradient_clip_val=1.0 or "
    "detect_anomaly=True; Trainer(nan_check='off') goes on regardless"
)


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(4 * STEPS, 3, generator=generator)), batch_size=4)


class Net(lk.LightModule):
    """`bad` says which factor the loss has, by epoch and batch."""

    bad: dict[tuple[int, int], float] = {}  # never changed

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def loss(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layer(batch[0]).square().mean() * self.bad.get((self.current_epoch, batch_idx), 1.0)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(root: Path, **arguments: Any) -> lk.Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 2, "accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "logger": False,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def error_of(run: Callable[[], Any]) -> NonFiniteError:
    with pytest.raises(NonFiniteError) as caught:
        run()
    return caught.value


def place_of(error: NonFiniteError) -> tuple[Any, ...]:
    return error.epoch, error.batch_idx, error.global_step, error.is_first


@pytest.mark.parametrize("log_every_n_steps", [None, 0, 50])
@pytest.mark.parametrize("batch", [0, 2, STEPS - 1])
def test_a_nan_loss_ends_a_fit_that_nobody_reads(tmp_path: Path, batch: int, log_every_n_steps: Any) -> None:
    class Diverging(Net):
        bad = {(0, batch): math.nan}

    t = trainer(tmp_path, log_every_n_steps=log_every_n_steps)
    error = error_of(lambda: t.fit(Diverging(), data()))
    assert str(error) == f"the loss is nan in epoch 0, batch {STEPS - 1} (step {STEPS}){TAIL}"
    assert place_of(error) == (0, STEPS - 1, STEPS, False)
    assert t.state.status == "failed"


def test_looked_at_in_every_step_the_first_bad_batch_is_named(tmp_path: Path) -> None:
    class Diverging(Net):
        bad = {(1, 2): math.inf}

    error = error_of(lambda: trainer(tmp_path, nan_check="step").fit(Diverging(), data()))
    assert str(error) == f"the loss is inf in epoch 1, batch 2 (step {STEPS + 2}){TAIL}"
    assert place_of(error) == (1, 2, STEPS + 2, True)
    assert place_of(pickle.loads(pickle.dumps(error))) == place_of(copy.copy(error)) == place_of(error)


class LastUpdate(Net):
    """The last update of the fit, after a loss that is finite, makes the weights NaN."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.global_step == 2 * STEPS - 1:
            self.layer.weight.grad = torch.full_like(self.layer.weight, math.nan)


def test_weights_that_the_last_update_made_nan_end_the_fit(tmp_path: Path) -> None:
    error = error_of(lambda: trainer(tmp_path).fit(LastUpdate(), data()))
    last = f"epoch 1, batch {STEPS - 1} (step {2 * STEPS})"
    assert str(error) == f"layer.weight is NaN or infinite after {last}{TAIL}"
    assert place_of(error) == (1, STEPS - 1, 2 * STEPS, False)


def test_a_checkpoint_after_an_update_that_made_the_weights_nan_is_not_saved(tmp_path: Path) -> None:
    saves = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    t = trainer(tmp_path, callbacks=[saves], enable_checkpointing=True)
    error_of(lambda: t.fit(LastUpdate(), data()))
    assert sorted(int(p.stem[5:]) for p in tmp_path.glob("step=*.ckpt")) == list(range(1, 2 * STEPS))


def test_max_steps_inside_an_epoch_is_an_end_too(tmp_path: Path) -> None:
    class Diverging(Net):
        bad = {(0, 1): math.nan}

    error = error_of(lambda: trainer(tmp_path, max_steps=3).fit(Diverging(), data()))
    assert str(error) == f"the loss is nan in epoch 0, batch 2 (step 3){TAIL}"


class Elsewhere(Net):
    """The loss of all but one batch does not depend on what became NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(3, 1)

    def loss(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().loss(batch, batch_idx)
        return loss + self.other(batch[0]).mean() * math.nan if batch_idx == 1 else loss


def test_weights_that_no_later_loss_depends_on_are_looked_at_too(tmp_path: Path) -> None:
    class Skips(Elsewhere):  # the first layer's gradients of that batch are put right
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            for parameter in self.layer.parameters():
                assert parameter.grad is not None
                parameter.grad.nan_to_num_()

    error = error_of(lambda: trainer(tmp_path).fit(Skips(), data()))
    where = f"after epoch 1, batch {STEPS - 1} (step {2 * STEPS})"
    assert str(error).startswith(f"other.weight is NaN or infinite {where};")


def test_running_statistics_that_an_update_left_out_does_not_mend_are_looked_at_too(tmp_path: Path) -> None:
    class Normed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def loss(self, batch: Any, batch_idx: int) -> Tensor:
            x = batch[0] * math.nan if batch_idx == 1 else batch[0]
            return super().loss([self.norm(x)], batch_idx)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            for parameter in self.parameters():
                assert parameter.grad is not None
                parameter.grad.nan_to_num_()

    error = error_of(lambda: trainer(tmp_path).fit(Normed(), data()))
    assert str(error).startswith("norm.running_mean is NaN or infinite after epoch 1")


class Manual(LastUpdate):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch, batch_idx))
        optimizer.step()


def test_manual_optimization_is_looked_at_as_well(tmp_path: Path) -> None:
    class ByLoss(Manual):
        bad = {(0, 3): math.nan}

    last = f"epoch 1, batch {STEPS - 1} (step {2 * STEPS})"
    assert str(error_of(lambda: trainer(tmp_path).fit(Manual(), data()))) == (
        f"layer.weight is NaN or infinite after {last}{TAIL}"
    )
    assert str(error_of(lambda: trainer(tmp_path).fit(ByLoss(), data()))) == (
        f"the loss is nan in epoch 0, batch {STEPS - 1} (step {STEPS}){TAIL}"
    )


def test_a_loss_of_several_elements_is_looked_at_as_a_whole(tmp_path: Path) -> None:
    class Rows(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Any:  # type: ignore[override]
            rows = self.layer(batch[0]).squeeze(-1)
            return rows.detach() * self.bad.get((self.current_epoch, batch_idx), 1.0)

    class Bad(Rows):
        bad = {(0, STEPS - 1): math.nan}

    with pytest.warns(UserWarning, match="an epoch without an optimizer step"):
        trainer(tmp_path, log_every_n_steps=1).fit(Rows(), data())
    assert place_of(error_of(lambda: trainer(tmp_path).fit(Bad(), data())))[:2] == (0, STEPS - 1)


def test_off_goes_on_regardless(tmp_path: Path) -> None:
    class Diverging(Net):
        bad = {(0, 2): math.nan}

    module = Diverging()
    trainer(tmp_path, nan_check="off").fit(module, data())
    assert module.layer.weight.isnan().all()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_that_the_scaler_leaves_out_are_normal(tmp_path: Path, accumulate: int) -> None:
    class Overflowing(Net):
        def on_after_backward(self) -> None:
            if self.current_epoch == 1 and self.trainer.fit_loop.progress.batches_done >= STEPS - 2:
                self.layer.weight.grad = torch.full_like(self.layer.weight, math.inf)

    module = Overflowing()
    t = trainer(tmp_path, precision="16-mixed", accumulate_grad_batches=accumulate)
    t.fit(module, data())
    assert t.state.status == "finished" and module.layer.weight.isfinite().all()


def test_a_mask_that_is_infinite_on_purpose_is_no_weight(tmp_path: Path) -> None:
    class Masked(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.full((3,), -math.inf))
            self.frozen = nn.Parameter(torch.full((3,), -math.inf), requires_grad=False)
            self.empty = nn.Parameter(torch.zeros(0))
            self.complex = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
            self.wide = nn.Parameter(torch.full((2,), 1e300, dtype=torch.float64))

    trainer(tmp_path).fit(Masked(), data())


def test_looking_costs_an_epoch_one_read_and_a_step_none(tmp_path: Path) -> None:
    def reads(epochs: int, batches: int) -> int:
        t = trainer(tmp_path, max_epochs=epochs, limit_train_batches=batches)
        with CountReads() as count:
            t.fit(Net(), data())
        return count.reads

    of_the_order = 1  # its seed, each epoch
    of_the_end = 1  # the weights
    wanted = tuple(n * (of_the_order + 1) + of_the_end for n in (1, 1, 3))
    assert (reads(1, 2), reads(1, STEPS), reads(3, STEPS)) == wanted

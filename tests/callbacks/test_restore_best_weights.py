"""EarlyStopping(restore_best_weights=True): the module ends with the weights of its best check, also after a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint

Fit = Callable[..., Any]
BEST_IN_THE_MIDDLE = (0.9, 0.5, 0.6, 0.7, 0.8, 0.9)


class Seen(lk.Callback):
    """The weights at the end of each validation of a fit."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_validation_end(self, trainer: lk.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.weights.append(pl_module.layer.weight.detach().clone())


def final(trainer: lk.Trainer) -> torch.Tensor:
    module: Any = trainer.lightning_module
    return module.layer.weight.detach()


@pytest.mark.parametrize("arguments, values, best", [
    ({}, BEST_IN_THE_MIDDLE, 1),  # stops after patience
    ({"patience": 10}, BEST_IN_THE_MIDDLE, 1),  # is not stopped: restored all the same, as by Keras 3
    ({"mode": "max", "patience": 2}, (0.1, 0.3, 0.2, 0.2, 0.2, 0.2), 1),
    ({"patience": 10}, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), 5),
    ({"min_delta": 0.3, "patience": 10}, (0.9, 0.8, 0.7, 0.5, 0.4, 0.3), 3),  # best_score moves by min_delta alone
    ({"stopping_threshold": 0.4}, (0.9, 0.5, 0.3, 0.2, 0.1, 0.0), 2),
    ({"divergence_threshold": 5.0}, (0.9, 9.0, 0.3, 0.2, 0.1, 0.0), 0),
    ({}, (float("nan"),) * 6, 0),
    ({}, (0.5, -float("inf"), 0.3, 0.2, 0.1, 0.0), 0),  # refused, so no best one
])  # fmt: skip
def test_the_module_ends_with_the_weights_of_its_best_check(
    fit: Fit, arguments: dict[str, Any], values: tuple[float, ...], best: int
) -> None:
    seen = Seen()
    trainer = fit([seen, EarlyStopping("v", restore_best_weights=True, **arguments)], values=values, max_epochs=6)
    assert torch.equal(final(trainer), seen.weights[best])
    assert all(not torch.equal(a, b) for a, b in zip(seen.weights, seen.weights[1:], strict=False))


def test_without_it_the_last_weights_stay(fit: Fit) -> None:
    seen = Seen()
    trainer = fit([seen, EarlyStopping("v")], values=BEST_IN_THE_MIDDLE, max_epochs=6)
    assert torch.equal(final(trainer), seen.weights[-1]) and len(seen.weights) == 5


@pytest.mark.parametrize("epoch", range(5))
def test_a_resumed_run_ends_with_the_same_weights(epoch: int, fit: Fit, tmp_path: Path) -> None:
    """From before the best check, after it, and from the end of a run that was stopped."""

    def callbacks(folder: str) -> list[Any]:
        keep = ModelCheckpoint(tmp_path / folder, filename="{epoch}", save_top_k=-1)
        return [keep, EarlyStopping("v", restore_best_weights=True)]

    whole = final(fit(callbacks("whole"), values=BEST_IN_THE_MIDDLE, max_epochs=6))
    path = tmp_path / "whole" / f"epoch={epoch}.ckpt"
    resumed = fit(callbacks("resumed"), values=BEST_IN_THE_MIDDLE, max_epochs=6, ckpt_path=path)
    assert torch.equal(final(resumed), whole)
    assert resumed.global_step == 20


def test_checkpoints_hold_the_weights_of_their_moment(fit: Fit, tmp_path: Path) -> None:
    seen = Seen()
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, save_last=True)
    fit([seen, keep, EarlyStopping("v", restore_best_weights=True)], values=BEST_IN_THE_MIDDLE, max_epochs=6)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(saved["state_dict"]["layer.weight"], seen.weights[4])
    (state,) = (value for key, value in saved["callbacks"].items() if key.startswith("EarlyStopping"))
    assert torch.equal(state["best_weights"]["layer.weight"], seen.weights[1])


def test_a_checkpoint_without_the_best_weights_says_so_and_the_end_keeps_what_it_has(fit: Fit, tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    fit([keep, EarlyStopping("v")], values=BEST_IN_THE_MIDDLE, max_epochs=2)
    message = (
        r"EarlyStopping\(monitor='v', restore_best_weights=True\): the checkpoint has a best score \(0.5\) without its "
        "weights; only those of a better one are restored"
    )
    seen = Seen()
    again = [seen, ModelCheckpoint(tmp_path / "again"), EarlyStopping("v", restore_best_weights=True)]
    with pytest.warns(UserWarning, match=f"^{message}$"):
        trainer = fit(again, values=BEST_IN_THE_MIDDLE, max_epochs=6, ckpt_path=tmp_path / "epoch=1.ckpt")
    assert torch.equal(final(trainer), seen.weights[-1])


def test_verbose_says_that_they_were_restored(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit([EarlyStopping("v", restore_best_weights=True, verbose=True)], values=BEST_IN_THE_MIDDLE, max_epochs=6)
    assert "EarlyStopping: the module has the weights of its best v again." in capsys.readouterr().out


def test_another_fit_keeps_its_own_best(fit: Fit) -> None:
    callback, seen = EarlyStopping("v", restore_best_weights=True), Seen()
    fit([callback], values=BEST_IN_THE_MIDDLE, max_epochs=6)
    trainer = fit([callback, seen], values=(0.9, 0.8, 0.85), max_epochs=3)
    assert torch.equal(final(trainer), seen.weights[1])

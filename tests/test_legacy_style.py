"""The earlier style (0.7 to 1.9): steps that return dicts, `*_step_end`, `*_epoch_end(outputs)`, earlier names."""

from __future__ import annotations

import csv
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.errors import HookError
from lightkit.loggers import CSVLogger


def data(samples: int = 10) -> DataLoader[Any]:
    """Batches of 4, the last one short; sample i is [i]."""
    return DataLoader(TensorDataset(torch.arange(float(samples)).unsqueeze(1)), batch_size=4)


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def trainer(root: Path, **arguments: Any) -> Any:
    defaults: dict[str, Any] = {
        "max_epochs": 1, "accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "logger": False, "num_sanity_val_steps": 0,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def plain(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def rows(root: Path) -> list[dict[str, float]]:
    with open(root / "run" / "metrics.csv", encoding="utf-8", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def message_of(run: Callable[[], Any]) -> str:
    with pytest.raises(HookError) as caught:
        run()
    assert type(caught.value) is HookError
    return str(caught.value)


# ------------------------------------------------------------------ what training_step returns


class DictReturns(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        index = torch.tensor(float(batch_idx))
        return {
            "loss": super().training_step(batch, batch_idx),
            "log": {"logged": index, "both": batch_idx + 10.0},
            "progress_bar": {"shown": index + 20, "both": batch_idx + 10.0},
        }


def test_log_and_progress_bar_of_a_step_reach_loggers_bar_and_callbacks(tmp_path: Path) -> None:
    seen = []

    class Look(lk.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            seen.append((plain(trainer.progress_bar_metrics), plain(trainer.callback_metrics)))
            assert set(outputs) == {"loss", "log", "progress_bar"} and not outputs["loss"].requires_grad

    t = trainer(tmp_path, logger=CSVLogger(), run_dir=tmp_path / "run", log_every_n_steps=2, callbacks=[Look()])
    t.fit(DictReturns(), data())
    bar = [{"shown": 20.0 + i, "both": 10.0 + i} for i in range(3)]
    assert seen == [(shown, {"logged": float(i), **shown}) for i, shown in enumerate(bar)]
    assert rows(tmp_path) == [{"logged": 1.0, "both": 11.0, "epoch": 0.0, "step": 1.0}]


def test_a_dict_trains_as_its_loss_alone_does(tmp_path: Path) -> None:
    nets = []
    for kind in (Net, DictReturns):
        torch.manual_seed(1)
        net = kind()
        trainer(tmp_path, max_epochs=2).fit(net, data())
        nets.append(net)
    assert torch.equal(nets[0].layer.weight, nets[1].layer.weight)
    torch.manual_seed(1)
    assert not torch.equal(Net().layer.weight, nets[0].layer.weight)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ({"log": {}}, "returned a dict with 'log'"),
        ({}, "returned a dict with no keys"),
        (1.5, "returned a float"),
        ({"loss": 1.5}, "returned a float"),
    ],
)
def test_a_step_without_a_loss(tmp_path: Path, output: Any, told: str) -> None:
    class Wrong(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return output

    assert message_of(lambda: trainer(tmp_path).fit(Wrong(), data())) == (
        f"Wrong.training_step {told}; expected the loss (a scalar tensor), a dict with 'loss', or None to skip the "
        "batch"
    )


# ------------------------------------------------------------------ *_step_end


def test_what_step_end_returns_is_the_step_s_output(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Ends(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return {"out": self.layer(batch[0])}

        def training_step_end(self, output: Any) -> Any:
            loss = output["out"].square().mean()
            self.log("step_end", 1.0)
            return {"loss": loss}

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return float(batch_idx)

        def validation_step_end(self, output: Any) -> Any:
            self.log("val", output)
            return {"ended": output}

        def validation_epoch_end(self, outputs: Any) -> None:
            seen["validation"] = outputs

        def test_step(self, batch: Any, batch_idx: int) -> Any:
            return batch_idx

        def test_step_end(self, output: Any) -> Any:
            return output * 2

        def test_epoch_end(self, outputs: Any) -> Any:
            seen["test"] = outputs

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            seen["keys"] = set(outputs)

    t = trainer(tmp_path)
    net = Ends()
    t.fit(net, data(), data())
    assert plain(t.callback_metrics) == pytest.approx({"step_end": 1.0, "val": 0.8})
    t.test(net, data(), verbose=False)
    assert seen == {"validation": [{"ended": 0.0}, {"ended": 1.0}, {"ended": 2.0}], "test": [0, 2, 4], "keys": {"loss"}}


# ------------------------------------------------------------------ *_epoch_end(outputs)


class EpochEnds(Net):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, list[Any]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx), "index": batch_idx, "out": self.layer(batch[0])}

    def training_epoch_end(self, outputs: Any) -> Any:
        self.given["train"].append(outputs)
        return {"log": {"train_outputs": len(outputs)}}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"val_loss": batch[0].mean(), "n": len(batch[0])}

    def validation_epoch_end(self, outputs: Any) -> Any:
        self.given["val"].append(outputs)
        mean = torch.stack([x["val_loss"] for x in outputs]).mean()
        return {"val_loss": mean, "log": {"logged": 2.0}, "progress_bar": {"shown": 3.0}, "text": "ignored"}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return {"test_loss": batch[0].mean()}

    def test_epoch_end(self, outputs: Any) -> Any:
        self.given["test"].append(outputs)
        return {"test_loss": outputs[-1]["test_loss"], "log": {"n": len(outputs)}}


VAL_LOSS = (1.5 + 5.5 + 8.5) / 3  # the user's own mean, of batches


def test_what_epoch_end_returns_reaches_callbacks_loggers_and_bar(tmp_path: Path) -> None:
    t = trainer(tmp_path, logger=CSVLogger(), run_dir=tmp_path / "run", max_epochs=2)
    net = EpochEnds()
    t.fit(net, data(), data())
    metrics = plain(t.callback_metrics)
    assert metrics == pytest.approx({"val_loss": VAL_LOSS, "logged": 2.0, "shown": 3.0, "train_outputs": 3.0})
    assert plain(t.progress_bar_metrics) == {"shown": 3.0}
    assert rows(tmp_path) == [
        {"logged": 2.0, "train_outputs": 3.0, "epoch": 0.0, "step": 2.0},
        {"logged": 2.0, "train_outputs": 3.0, "epoch": 1.0, "step": 5.0},
    ]  # fmt: skip
    assert t.validate(net, data(), verbose=False) == [
        pytest.approx({"val_loss": VAL_LOSS, "logged": 2.0, "shown": 3.0})
    ]
    assert t.test(net, data(), verbose=False) == [{"test_loss": 8.5, "n": 3.0}]


def test_outputs_are_one_detached_entry_a_batch(tmp_path: Path) -> None:
    net = EpochEnds()
    trainer(tmp_path, max_epochs=2).fit(net, data(), data())
    assert [[o["index"] for o in outputs] for outputs in net.given["train"]] == [[0, 1, 2]] * 2
    assert [[o["n"] for o in outputs] for outputs in net.given["val"]] == [[4, 4, 2]] * 2
    kept = [x for outputs in net.given["train"] for o in outputs for x in (o["loss"], o["out"])]
    assert len(kept) == 12 and not any(x.requires_grad for x in kept)


class Pair(NamedTuple):
    out: torch.Tensor
    more: list[torch.Tensor]


def test_outputs_inside_any_structure_are_detached(tmp_path: Path) -> None:
    given = []

    class Nested(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            out = self.layer(batch[0])
            return {"loss": out.mean(), "pair": Pair(out, [out]), "deep": [(out, {"x": out})]}

        def training_epoch_end(self, outputs: Any) -> None:
            given.extend(outputs)

    trainer(tmp_path).fit(Nested(), data())
    for output in given:
        pair, ((first, inner),) = output["pair"], output["deep"]
        assert type(pair) is Pair
        assert not any(x.requires_grad for x in (output["loss"], pair.out, pair.more[0], first, inner["x"]))


def test_a_bare_loss_is_kept_under_its_name_and_a_skipped_batch_is_not(tmp_path: Path) -> None:
    given = []

    class Skips(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

        def training_epoch_end(self, outputs: Any) -> None:
            given.append(outputs)

    trainer(tmp_path).fit(Skips(), data())
    ((first, second),) = given
    assert set(first) == set(second) == {"loss"} and not first["loss"].requires_grad


def test_with_several_loaders_outputs_are_a_list_for_each(tmp_path: Path) -> None:
    class Two(EpochEnds):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return (dataloader_idx, batch_idx)

        def validation_epoch_end(self, outputs: Any) -> Any:
            self.given["val"].append(outputs)
            return {"val_loss": 1.0, "log": {"logged": 2.0}}

    net = Two()
    found = trainer(tmp_path).validate(net, [data(), data(4)], verbose=False)
    assert net.given["val"] == [[[(0, 0), (0, 1), (0, 2)], [(1, 0)]]]
    assert found == [{"val_loss": 1.0, "logged": 2.0}] * 2, "what is logged of the pass concerns every loader"


@pytest.mark.parametrize("silent", [0, 1])
def test_a_loader_without_outputs_has_an_empty_list(tmp_path: Path, silent: int) -> None:
    class Two(EpochEnds):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return None if dataloader_idx == silent else batch_idx

        def validation_epoch_end(self, outputs: Any) -> Any:
            self.given["val"].append(outputs)

    net = Two()
    trainer(tmp_path).validate(net, [data(4), data(4)], verbose=False)
    assert net.given["val"] == [[[], [0]] if silent == 0 else [[0], []]]


@pytest.mark.parametrize("on_cpu", [False, True])
def test_outputs_on_cpu_are_copies(tmp_path: Path, on_cpu: bool) -> None:
    class Reuses(EpochEnds):
        outputs_on_cpu = on_cpu

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("place", torch.zeros(()))

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.place.fill_(float(batch_idx))
            return self.place

        def validation_epoch_end(self, outputs: Any) -> Any:
            self.given["val"].append([float(x) for x in outputs])

    net = Reuses()
    trainer(tmp_path).validate(net, data(), verbose=False)
    assert net.given["val"] == [[0.0, 1.0, 2.0] if on_cpu else [2.0, 2.0, 2.0]]


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("stage", ["train", "val"])
def test_outputs_are_kept_only_where_such_a_hook_is(tmp_path: Path, stage: str, wanted: bool) -> None:
    alive: list[int] = []

    class Heavy:
        """An output that tells whether anybody still holds it."""

    refs: list[weakref.ref[Heavy]] = []

    class Outputs(Net):
        def _output(self) -> Heavy:
            alive.append(sum(ref() is not None for ref in refs))
            refs.append(weakref.ref(heavy := Heavy()))
            return heavy

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return {"loss": loss, "heavy": self._output()} if stage == "train" else loss

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return self._output() if stage == "val" else None

    class Wants(Outputs):
        def training_epoch_end(self, outputs: Any) -> None:
            pass

        def validation_epoch_end(self, outputs: Any) -> None:
            pass

    trainer(tmp_path).fit(Wants() if wanted else Outputs(), data(20), data(20))
    # the loop's own variable holds the output of the step before
    assert alive == ([0, 1, 2, 3, 4] if wanted else [0, 1, 1, 1, 1])
    assert not any(ref() is not None for ref in refs), "forgotten when the epoch is over"


def test_log_works_in_epoch_end_beside_what_it_returns(tmp_path: Path) -> None:
    class Logs(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return batch_idx

        def validation_epoch_end(self, outputs: Any) -> Any:
            self.log("sum", float(sum(outputs)), prog_bar=True)

        def training_epoch_end(self, outputs: Any) -> None:
            self.log("outputs", float(len(outputs)))

    t = trainer(tmp_path)
    t.fit(Logs(), data(), data())
    assert plain(t.callback_metrics) == {"sum": 3.0, "outputs": 3.0}
    assert plain(t.progress_bar_metrics) == {"sum": 3.0}


def test_what_epoch_end_returns_can_be_monitored(tmp_path: Path) -> None:
    from lightkit.callbacks import EarlyStopping, ModelCheckpoint

    class Worse(EpochEnds):
        def validation_epoch_end(self, outputs: Any) -> Any:
            return {"val_loss": torch.tensor(1.0 + self.current_epoch)}

    best = ModelCheckpoint(monitor="val_loss", filename="{epoch}")
    t = trainer(
        tmp_path, max_epochs=9, enable_checkpointing=True, callbacks=[EarlyStopping("val_loss", patience=2), best]
    )
    t.fit(Worse(), data(4), data(4))
    assert t.current_epoch == 3
    assert Path(best.best_model_path).name == "epoch=0.ckpt" and float(best.best_model_score) == 1.0


@pytest.mark.parametrize("hook", ["training_epoch_end", "validation_epoch_end"])
def test_epoch_end_must_return_a_dict_or_nothing(tmp_path: Path, hook: str) -> None:
    net = type("Wrong", (EpochEnds,), {hook: lambda self, outputs: 1.5})()
    assert message_of(lambda: trainer(tmp_path).fit(net, data(), data())) == (
        f"Wrong.{hook} returned a float; expected a dict or None"
    )


# ------------------------------------------------------------------ earlier names of the test hooks


class Aliases(Net):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def test_loop_step(self, batch: Any, batch_idx: int) -> Any:
        self.calls.append("step")
        return batch[0].mean()

    def test_loop_step_end(self, output: Any) -> Any:
        self.calls.append("step_end")
        return output + 1

    def test_loop_epoch_end(self, outputs: Any) -> Any:
        self.calls.append([float(x) for x in outputs])
        return {"log": {"mean": sum(outputs) / len(outputs)}}


def test_the_earlier_names_are_the_test_hooks(tmp_path: Path) -> None:
    net = Aliases()
    t = trainer(tmp_path)
    t.fit(net, data(6))
    for _ in range(2):  # the same module again
        assert t.test(net, data(6), verbose=False) == [{"mean": 4.0}]
        assert net.calls == ["step", "step_end", "step", "step_end", [2.5, 5.5]]
        net.calls.clear()


@pytest.mark.parametrize("name", ["test_step", "test_step_end", "test_epoch_end"])
def test_both_names_at_once_are_an_error(tmp_path: Path, name: str) -> None:
    alias = name.replace("test_", "test_loop_")
    net = type("Both", (Aliases,), {name: lambda self, *args: None})()
    message = f"Both defines {alias} and {name}; they are the same hook, keep one"
    assert message_of(lambda: trainer(tmp_path).test(net, data())) == message
    assert message_of(lambda: trainer(tmp_path).fit(net, data())) == message, "told before a long fit"

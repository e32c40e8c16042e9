"""What the recipes of all fields share: one base of the data modules, constructors that a config can read."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lightkit as lk
from recipes.audio.base import AudioModule
from recipes.audio.classification import AudioClassifier
from recipes.audio.ctc import CTCRecognizer
from recipes.datamodule import RecipeData
from recipes.vision.autoencoder import Autoencoder
from recipes.vision.data import TorchvisionData

ROOT = Path(__file__).resolve().parents[2]
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")


def classes_of_the_recipes(*bases: type) -> list[type]:
    """Every class below `recipes` that is one of `bases`, by name."""
    found: dict[str, type] = {}
    for path in sorted((ROOT / "recipes").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for cls in vars(importlib.import_module(name)).values():
            if isinstance(cls, type) and issubclass(cls, bases) and cls.__module__ == name:
                found[f"{name}.{cls.__qualname__}"] = cls
    return list(found.values())


def test_every_data_module_takes_its_loaders_from_one_base() -> None:
    modules = classes_of_the_recipes(lk.LightDataModule)
    assert len(modules) >= 25
    assert [cls.__name__ for cls in modules if not issubclass(cls, RecipeData)] == []
    subclasses = [cls for cls in modules if cls is not RecipeData]
    own = {f"{cls.__name__}.{name}" for cls in subclasses for name in LOADERS if name in vars(cls)}
    assert own == {"GraphData.predict_dataloader"}  # the nodes that are to be predicted are all


def test_what_constructors_take_is_known_at_run_time() -> None:
    found = classes_of_the_recipes(lk.LightDataModule, lk.LightModule, lk.Callback)
    assert len(found) >= 45
    for cls in found:
        named = [p.name for p in inspect.signature(cls).parameters.values()]
        hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
        assert set(named) <= set(hints), cls


@pytest.mark.parametrize(("build", "differs"), [
    (AudioClassifier, {}),
    (CTCRecognizer, {"sample_rate": 8000, "lr": 0.003, "weight_decay": 0.01}),
])  # fmt: skip
def test_the_modules_on_sound_take_and_keep_the_arguments_of_their_base(
    build: Callable[..., AudioModule], differs: dict[str, Any]
) -> None:
    parameters = list(inspect.signature(AudioModule.__init__).parameters.values())[1:]
    expected = {p.name: p.default for p in parameters if p.name not in ("augment", "masks")} | differs
    assert len(expected) == 9
    hparams = build(width=8).hparams
    assert {name: hparams[name] for name in expected} == expected and "masks" not in hparams
    given = {"features": "mfcc", "sample_rate": 11025, "window_ms": 40.0, "hop_ms": 20.0, "bins": 13, "cmn": "sliding"}
    model = build(width=8, schedule="constant", **given)
    assert (model.front_end.kind, model.front_end.cmn, model.front_end.bins) == ("mfcc", "sliding", 13)
    assert (model.front_end.hop, model.sample_rate, model.schedule) == (220, 11025, "constant")
    # flat, as every checkpoint has them
    assert {**given, "schedule": "constant"}.items() <= model.hparams.items()
    assert build(**model.hparams).hparams == model.hparams


def test_a_second_fit_measures_the_same_pixels_of_images_on_the_device(
    tmp_path: Path, make_trainer: Callable[..., lk.Trainer]
) -> None:
    model, data = Autoencoder(image_size=28, width=4), TorchvisionData(on_device=True)
    data.generate(tmp_path, model)
    black, white = -0.1307 / 0.3081, (1 - 0.1307) / 0.3081
    for _ in range(2):
        make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, logger=False).fit(model, datamodule=data)
        assert (model.pixels.low.item(), model.pixels.high.item()) == pytest.approx((black, white))

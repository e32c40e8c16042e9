"""What a class_path means, and the parameters that a class takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightkit.callbacks import EarlyStopping
from lightkit.cli.classes import ClassPathError, parameters_of, plain_class_path, resolve


@pytest.mark.parametrize("given, ours", [
    ("lightning.pytorch.callbacks.ModelCheckpoint", "lightkit.callbacks.ModelCheckpoint"),
    ("pytorch_lightning.callbacks.early_stopping.EarlyStopping", "lightkit.callbacks.EarlyStopping"),
    ("lightning.pytorch.loggers.CSVLogger", "lightkit.loggers.CSVLogger"),
    ("torch.optim.lr_scheduler.ReduceLROnPlateau", "lightkit.cli.api.ReduceLROnPlateau"),
    ("torch.optim.Adam", "torch.optim.Adam"),
    ("EarlyStopping", "EarlyStopping"),
])  # fmt: skip
def test_lightnings_paths_become_ours_and_others_stay(given: str, ours: str) -> None:
    assert plain_class_path(given) == ours


def test_a_class_is_found_also_inside_a_class(project: Path) -> None:
    (project / "nested.py").write_text("class Outer:\n    class Inner:\n        pass\n")
    assert resolve("nested.Outer.Inner").__qualname__ == "Outer.Inner"
    assert resolve("lightning.pytorch.callbacks.EarlyStopping") is EarlyStopping


@pytest.mark.parametrize("path, message", [
    ("Adam", "class_path 'Adam': give the whole path, such as 'package.module.Adam'"),
    ("torch.optim.Adamm",
     "class_path 'torch.optim.Adamm': module 'torch.optim' has no 'Adamm'; did you mean 'Adam'?"),
    ("torch.optim.lr_scheduler", "class_path 'torch.optim.lr_scheduler': this is a module, not a class"),
    ("lightkit.callback.EarlyStopping",
     "class_path 'lightkit.callback.EarlyStopping': no module named 'lightkit.callback'; "
     "did you mean 'callbacks'?"),
])  # fmt: skip
def test_a_path_that_leads_nowhere_says_which_part(path: str, message: str) -> None:
    with pytest.raises(ClassPathError) as caught:
        resolve(path)
    assert str(caught.value) == message


def test_a_module_that_requires_an_extra_says_what_to_install(project: Path) -> None:
    (project / "wants.py").write_text(
        "from lightkit.errors import require\n"
        "require('torchaudio_surely_absent', 'audio', needed_by='wants')\n"
    )
    with pytest.raises(ClassPathError) as caught:
        resolve("wants.Net")
    assert str(caught.value) == (
        "class_path 'wants.Net': torchaudio_surely_absent is needed by wants: pip install \"lightkit[audio]\""
    )


def test_parameters_of_parents_count_where_kwargs_are_passed_on() -> None:
    class Parent:
        def __init__(self, width: int = 1, depth: int = 2) -> None:
            self.size = (width, depth)

    class Child(Parent):
        def __init__(self, name: str, **kwargs: int) -> None:
            super().__init__(**kwargs)
            self.name = name

    assert parameters_of(Child) == ["name", "width", "depth"]
    assert parameters_of(torch.nn.Dropout) == ["p", "inplace"]
    assert "params" not in (parameters_of(torch.optim.SGD, {"params"}) or ["params"])

"""`lightkit test CONFIG --ckpt_path FILE` tests the model that was trained, whatever the config says by now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightkit.cli import LightkitCLI

Run = Callable[..., Any]

SHAPED = """
from __future__ import annotations
import enum
from dataclasses import dataclass, field
from pathlib import Path
import torch
from jobs import Data, Net

class Act(enum.Enum):
    RELU = "relu"
    ZERO = "zero"

@dataclass
class Cfg:
    scale: float = 1.0
    act: Act = Act.RELU
    where: Path = Path("a")

class Shaped(Net):
    def __init__(
        self, act: Act = Act.RELU, cfg: Cfg = field(default_factory=Cfg), where: Path = Path("x"), hidden: int = 4,
        betas: tuple[float, float] = (0.1, 0.2), sizes: list[int] | None = None,
    ) -> None:
        super().__init__(hidden=hidden)
        self.save_hyperparameters()
        self.act, self.cfg = act, cfg

    def forward(self, x):
        y = super().forward(x) * self.cfg.scale
        return y if self.act is Act.RELU else y * 0

class Bare(Net):
    def __init__(self, act=None, hidden: int = 4) -> None:
        super().__init__(hidden=hidden)
        self.save_hyperparameters()
"""
SHAPED = SHAPED.replace("cfg: Cfg = field(default_factory=Cfg)", "cfg: Cfg = Cfg()")

CHANGED = [
    "--model.act=ZERO", "--model.cfg.scale=0.5", "--model.cfg.act=ZERO", "--model.cfg.where=b", "--model.where=y",
    "--model.hidden=6", "--model.betas=[0.5, 0.6]", "--model.sizes=[1, 2]",
]  # fmt: skip


@pytest.fixture
def trained(lightkit: Run, project: Path) -> Path:
    """The checkpoint of a training with other options than the config's."""
    (project / "shaped.py").write_text(SHAPED)
    result = lightkit("fit", "job.yaml", "--model=shaped.Shaped", *CHANGED, "--trainer.run_dir=trained")
    assert (result.code, result.err) == (0, "")
    (path,) = (project / "trained" / "checkpoints").glob("epoch=*.ckpt")
    return path


def loss_of(result: Any) -> str:
    assert result.code == 0, result.err
    found: str = result.out.split("test_loss")[1].split()[0]
    return found


def test_the_model_is_built_as_it_was_trained_where_the_config_says_otherwise(lightkit: Run, trained: Path) -> None:
    same = lightkit("test", "job.yaml", "--model=shaped.Shaped", *CHANGED, "--ckpt_path", str(trained))
    assert loss_of(same) == "0.693147"  # of the two classes none is preferred: all outputs are zero
    with pytest.warns(UserWarning) as caught:
        other = lightkit("test", "job.yaml", "--model=shaped.Shaped", "--ckpt_path", str(trained))
    assert loss_of(other) == loss_of(same)
    (message,) = [str(warning.message) for warning in caught]
    assert message == (
        f"{trained}: was trained with act=<Act.ZERO: 'zero'> (the config: <Act.RELU: 'relu'>), cfg=Cfg(scale=0.5, "
        "act=<Act.ZERO: 'zero'>, where=PosixPath('b')) (the config: Cfg(scale=1.0, act=<Act.RELU: 'relu'>, "
        "where=PosixPath('a'))), where=PosixPath('y') (the config: PosixPath('x')), hidden=6 (the config: 4), "
        "betas=(0.5, 0.6) (the config: (0.1, 0.2)), sizes=[1, 2] (the config: None); the model is built so. To build "
        "another, give it on the command line, --model.act ..."
    )


def test_what_this_command_line_gives_counts(lightkit: Run, trained: Path) -> None:
    with pytest.warns(UserWarning, match=r"was trained with cfg="):
        result = lightkit("test", "job.yaml", "--model=shaped.Shaped", "--model.act=RELU", "--ckpt_path", str(trained))
    assert loss_of(result) != "0.693147"


def test_validate_and_predict_build_it_so_too_and_a_fixed_class(lightkit: Run, trained: Path, project: Path) -> None:
    for command in ("validate", "predict"):
        with pytest.warns(UserWarning, match=r"hidden=6 \(the config: 4\)"):
            result = lightkit(command, "job.yaml", "--model=shaped.Shaped", "--ckpt_path", str(trained))
        assert result.code == 0, result.err
    import shaped  # type: ignore[import-not-found]

    quiet = [
        "--trainer.enable_progress_bar=false",
        "--trainer.logger=false",
        "--trainer.max_epochs=1",
        "--data.batch_size=4",
    ]
    with pytest.warns(UserWarning, match=r"hidden=6 \(the config: 4\)"):
        cli = LightkitCLI(shaped.Shaped, shaped.Data, args=["test", "--ckpt_path", str(trained), *quiet])
    assert cli.model.hparams.act is shaped.Act.ZERO  # type: ignore[attr-defined]


def test_a_value_that_cannot_be_made_again_must_be_in_the_config_or_is_an_error(lightkit: Run, trained: Path) -> None:
    import shaped

    from lightkit.checkpoint import files

    content = files.load(trained)
    content |= {"hyper_parameters": {"act": "zero", "hidden": 6}, "hparams_kinds": {"act": "shaped.Act:ZERO"}}
    files.save(content, trained)
    result = lightkit("test", "job.yaml", "--model=shaped.Bare", "--ckpt_path", str(trained))
    assert result.code == 2
    assert result.err == (
        f"lightkit: error: {trained}: 'act' was saved as 'zero', of the kind shaped.Act; no class is imported because "
        "a file names it: annotate the argument 'act' of Bare.__init__ with its class, or give it, --model.act ...\n"
    )
    assert shaped.Act.ZERO.value == "zero"


def test_fit_goes_on_with_what_the_config_says(lightkit: Run, trained: Path) -> None:
    result = lightkit(
        "fit", "job.yaml", "--model=shaped.Shaped", "--model.hidden=6", "--trainer.max_epochs=3",
        "--trainer.run_dir=on", "--ckpt_path", str(trained),
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")

"""`lightkit export CKPT --format ...`: the file, or one clear error; nothing is imported on the word of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import lightkit as lk
from lightkit.checkpoint import files
from lightkit.checkpoint.places import place
from lightkit.cli.main import main

MODULE = """
import torch
import lightkit as lk

class Net(lk.LightModule):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(3, width)
        self.example_input_array = torch.randn(2, 3)

    def forward(self, x):
        return self.layer(x)

class Another(Net):
    def forward(self, x):
        return self.layer(x) + (1 if torch.jit.is_tracing() else 0)

class Silent(Net):
    def __init__(self, width: int = 2) -> None:
        super().__init__(width)
        self.example_input_array = None

class Noisy(Net):
    def forward(self, x):
        return torch.nn.functional.dropout(self.layer(x), 0.5, True)

class Branches(Net):
    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x
"""


@pytest.fixture(autouse=True)
def exported_nets(tmp_path: Path) -> Iterator[None]:
    """A file of classes in the working directory."""
    (tmp_path / "exported_nets.py").write_text(MODULE)
    yield
    sys.modules.pop("exported_nets", None)


def save(name: str, path: object) -> lk.LightModule:
    """A checkpoint as a fit writes it, by a Trainer that has run no step."""
    sys.path.insert(0, "")
    try:
        import exported_nets  # type: ignore[import-not-found]
    finally:
        sys.path.remove("")
    model: lk.LightModule = getattr(exported_nets, name)(width=5)
    content = {
        "state_dict": model.state_dict(), "class_path": f"exported_nets.{name}", "hyper_parameters": {"width": 5},
        "optimizer_states": [{"state": {}}], "loop": {}, "epoch": 3, "global_step": 12,
    }  # fmt: skip
    files.save(content, str(path))
    return model


def test_the_file_stands_beside_the_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    model = save("Net", "runs/net.ckpt")
    assert main(["export", "runs/net.ckpt", "--format", "pt2", "--model", "exported_nets.Net"]) == 0
    assert capsys.readouterr().out == f"pt2: {Path('runs/net.pt2')}\n"
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load("runs/net.pt2")
    x = torch.randn(7, 3)
    torch.testing.assert_close(program.module()(x), model(x))


def test_the_suffix_of_the_output_says_the_format_and_a_url_is_one_of_its_store() -> None:
    pytest.importorskip("safetensors")
    save("Net", "net.ckpt")
    target = "memory://exports/deep/net.safetensors"
    assert main(["export", "net.ckpt", "--output", target, "--model", "exported_nets.Net"]) == 0
    content = files.load(target)
    assert sorted(content) == ["class_path", "epoch", "global_step", "hyper_parameters", "state_dict"]
    assert content["hyper_parameters"] == {"width": 5}
    save("Net", "memory://exports/net.ckpt")
    assert main(["export", "memory://exports/net.ckpt", "--format", "torchscript", "--model", "exported_nets.Net"]) == 0
    assert place("memory://exports/net.torchscript").is_file()


def test_safetensors_may_have_any_name() -> None:
    pytest.importorskip("safetensors")
    save("Silent", "net.ckpt")
    arguments = ["--format", "safetensors", "--output", "weights.bin", "--model", "exported_nets.Silent"]
    assert main(["export", "net.ckpt", *arguments]) == 0
    from safetensors.torch import load_file

    assert sorted(load_file("weights.bin")) == ["layer.bias", "layer.weight"]
    assert sorted(p.name for p in Path().iterdir() if p.is_file()) == ["exported_nets.py", "net.ckpt", "weights.bin"]


@pytest.mark.parametrize("name, arguments, code, message", [
    ("Net", ["net.ckpt"], 2,
     "lightkit export: give --format, expected one of onnx, torchscript, pt2, safetensors"),
    ("Net", ["net.ckpt", "--format", "onx"], 2,
     "lightkit export: --format onx: expected one of onnx, torchscript, pt2, safetensors; did you mean 'onnx'?"),
    ("Net", [], 2, "lightkit export: give the checkpoint, lightkit export CKPT --format onnx"),
    ("Net", ["net.ckpt", "--fromat", "onnx"], 2, "lightkit export: unrecognized arguments: --fromat onnx"),
    ("Net", ["net.ckpt", "--format", "pt2", "--output", "./net.ckpt"], 2,
     "lightkit export: net.ckpt is the checkpoint itself; name another file with --output"),
    ("Net", ["net.ckpt", "--format", "pt2"], 2,
     "net.ckpt: of class exported_nets.Net, which is none of lightkit's recipes; nothing is imported because a "
     "checkpoint names it: if you trust that class, add --model exported_nets.Net"),
    ("Silent", ["net.ckpt", "--format", "pt2", "--model", "exported_nets.Silent"], 2,
     "lightkit export: Silent has no example_input_array, so that nothing says what its forward takes; set it in "
     "__init__, or export its weights alone, --format safetensors"),
    ("Another", ["net.ckpt", "--format", "torchscript", "--model", "exported_nets.Another"], 1,
     "Another.to_torchscript(method='trace'): differs from the module by 1, more than 0.0001; nothing was kept. "
     "Its forward may depend on Python values, which an export keeps as they were"),
    ("Branches", ["net.ckpt", "--format", "pt2", "--model", "exported_nets.Branches"], 1,
     "Branches cannot be exported as pt2: GuardOnDataDependentSymNode: Could not guard on data-dependent expression "
     "Eq(u0, 1) (unhinted: Eq(u0, 1)).  (Size-like symbols: none)"),
])  # fmt: skip
def test_what_cannot_be_exported_is_one_line_and_no_file(
    name: str, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(name, "net.ckpt")
    before = sorted(path.name for path in Path().iterdir() if path.is_file())
    assert main(["export", *arguments]) == code
    told = capsys.readouterr()
    assert told.err == f"lightkit: error: {message}\n" and told.out == ""
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == before


def test_a_file_that_was_not_compared_says_so() -> None:
    save("Noisy", "net.ckpt")
    with pytest.warns(UserWarning, match="not compared with the module, which gives other numbers each time"):
        assert main(["export", "net.ckpt", "--format", "pt2", "--model", "exported_nets.Noisy"]) == 0

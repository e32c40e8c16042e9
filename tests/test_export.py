"""Exported modules give the module's numbers, or are not kept; the module is left as it was."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lightkit as lk
from lightkit.checkpoint.places import place
from lightkit.errors import ConfigError, ExportError, RunDirError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Net(lk.LightModule):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.5))
        self.head = nn.Linear(width, 2)
        self.example_input_array = torch.randn(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Pair(lk.LightModule):
    """Two inputs and two outputs, one of them by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor, shift: Tensor) -> dict[str, Tensor]:
        return {"sum": self.layer(x) + shift, "twice": 2 * x}


class AnotherWhenTraced(Net):
    """Gives other numbers to an exporter than to its user."""

    def forward(self, x: Tensor) -> Tensor:
        is_asked = torch.jit.is_tracing() or torch.compiler.is_exporting()
        return super().forward(x) + (0.01 if is_asked else 0.0)


class Noisy(Net):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


def write(module: Any, form: str, path: Any, **kwargs: Any) -> Any:
    if form == "onnx":
        return module.to_onnx(path, **kwargs)
    if form == "program":
        return module.to_exported_program(path, **kwargs)
    return module.to_torchscript(path, method=form, **kwargs)


def run(form: str, path: Path, *inputs: Tensor) -> list[Any]:
    """What a file gives, without the class."""
    if form == "onnx":
        session = onnxruntime.InferenceSession(path)
        names = [argument.name for argument in session.get_inputs()]
        feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, feed)]
    module = torch.export.load(path).module() if form == "program" else load_script(path)
    found = module(*inputs)
    return list(found.values()) if isinstance(found, dict) else [found]


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
def load_script(path: Path) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(path)


@pytest.fixture(autouse=True)
def reading_is_quiet() -> None:
    import warnings

    warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)


FORMS = ("script", "trace", "program", "onnx")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_gives_the_numbers_of_the_module_in_evaluation_mode(form: str, tmp_path: Path) -> None:
    net = Net()
    net(torch.randn(20, 3))  # moves the running statistics
    write(net, form, tmp_path / "made" / "net.x")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["net.x"]
    (found,) = run(form, tmp_path / "made" / "net.x", net.example_input_array)
    with torch.no_grad():
        torch.testing.assert_close(found, net.eval()(net.example_input_array))


@pytest.mark.parametrize("form", FORMS)
def test_modes_gradients_and_generators_are_as_before(form: str, tmp_path: Path) -> None:
    net = Net()
    net.body[1].eval()
    modes = [part.training for part in net.modules()]
    state, weights = torch.get_rng_state(), {name: value.clone() for name, value in net.state_dict().items()}
    write(net, form, tmp_path / "net.x")
    assert modes == [part.training for part in net.modules()] and True in modes and False in modes
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("form", ("trace", "program"))
def test_modes_are_as_before_after_an_error(form: str, tmp_path: Path) -> None:
    net = AnotherWhenTraced()
    with pytest.raises(ExportError):
        write(net, form, tmp_path / "net.x")
    assert net.training and net.body.training


@pytest.mark.parametrize("form", ("script", "trace", "program"))
def test_a_module_in_the_middle_of_a_fit_is_exported(form: str, tmp_path: Path) -> None:
    made = []

    class Exports(lk.Callback):
        def on_train_epoch_end(self, trainer: lk.Trainer, pl_module: Any) -> None:
            write(pl_module, form, tmp_path / "net.x")
            made.append(pl_module.training)

    net = Net()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 3)), batch_size=4)
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    lk.Trainer(max_epochs=1, callbacks=[Exports()], enable_checkpointing=False, **quiet).fit(net, data)
    assert made == [True]
    (found,) = run(form, tmp_path / "net.x", torch.ones(5, 3))
    with torch.no_grad():
        torch.testing.assert_close(found, net.eval()(torch.ones(5, 3)))


@pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")
def test_torch_s_own_script_and_trace_take_a_module_that_no_trainer_has() -> None:
    net = Net().eval()
    x = torch.randn(5, 3)
    scripted, traced = torch.jit.script(net), torch.jit.trace(net, x)
    assert torch.equal(scripted(x), net(x)) and torch.equal(traced(x), net(x))
    with pytest.raises(lk.errors.HookError, match="not attached to a Trainer yet"):
        net.trainer


@pytest.mark.parametrize("form", ("trace", "program", "onnx"))
@pytest.mark.parametrize("by_name", [False, True])
def test_examples_may_hold_several_arguments(form: str, by_name: bool, tmp_path: Path) -> None:
    net, x, shift = Pair(), torch.randn(2, 3), torch.randn(3)
    net.example_input_array = {"x": x, "shift": shift} if by_name else (x, shift)
    write(net, form, tmp_path / "pair.x", **({"strict": False} if form == "trace" else {}))
    if by_name and form == "program":
        found = list(torch.export.load(tmp_path / "pair.x").module()(x=x, shift=shift).values())
    else:
        found = run(form, tmp_path / "pair.x", x, shift)
    for tensor, wanted in zip(found, net(x, shift).values(), strict=True):
        torch.testing.assert_close(tensor, wanted)


def test_an_example_that_is_given_counts_more_than_the_module_s(tmp_path: Path) -> None:
    net = Net()
    net.example_input_array = "nothing that it takes"
    for form, name in (("trace", "example_inputs"), ("program", "example_inputs")):
        write(net, form, tmp_path / form, **{name: torch.randn(2, 3)})
        assert (tmp_path / form).is_file()


@pytest.mark.parametrize("form, message", [
    ("trace", "Net.to_torchscript(method='trace'): nothing to run the module on; give example_inputs=..., or set "
     "self.example_input_array in __init__"),
    ("onnx", "Net.to_onnx(...): nothing to run the module on; give input_sample=..., or set "
     "self.example_input_array in __init__"),
    ("program", "Net.to_exported_program(...): nothing to run the module on; give example_inputs=..., or set "
     "self.example_input_array in __init__"),
    ("scrpt", "Net.to_torchscript(method='scrpt'): expected one of 'script', 'trace'; did you mean 'script'?"),
])  # fmt: skip
def test_what_is_missing_is_said(form: str, message: str, tmp_path: Path) -> None:
    net = Net()
    net.example_input_array = None
    with pytest.raises(ConfigError) as caught:
        write(net, form, tmp_path / "net.x")
    assert str(caught.value) == message


def test_a_script_needs_no_example(tmp_path: Path) -> None:
    net = Net()
    net.example_input_array = None
    net.to_torchscript(tmp_path / "net.pt")
    torch.testing.assert_close(run("script", tmp_path / "net.pt", torch.ones(2, 3))[0], net.eval()(torch.ones(2, 3)))


@pytest.mark.parametrize("form, who", [
    ("trace", "AnotherWhenTraced.to_torchscript(method='trace')"),
    ("program", "AnotherWhenTraced.to_exported_program(...)"),
    ("onnx", "AnotherWhenTraced.to_onnx(...)"),
])  # fmt: skip
@pytest.mark.parametrize("was_there", [False, True])
def test_what_differs_from_the_module_is_not_kept(form: str, who: str, was_there: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.x"
    if was_there:
        path.write_text("before")
    with pytest.raises(ExportError) as caught:
        write(AnotherWhenTraced(), form, path)
    assert str(caught.value) == (
        f"{who}: differs from the module by 0.01, more than 0.0001; nothing was kept. "
        "Its forward may depend on Python values, which an export keeps as they were"
    )
    assert [found.name for found in tmp_path.iterdir()] == (["net.x"] if was_there else [])
    assert not was_there or path.read_text() == "before"


def test_a_module_that_draws_is_written_and_said_not_to_be_compared(tmp_path: Path) -> None:
    who, why = r"Noisy.to_exported_program\(...\)", "which gives other numbers each time it is called"
    with pytest.warns(UserWarning, match=f"^{who}: not compared with the module, {why}$"):
        Noisy().to_exported_program(tmp_path / "noisy.pt2")
    assert (tmp_path / "noisy.pt2").is_file()


def test_onnx_may_be_two_files_which_belong_together(tmp_path: Path) -> None:
    net = Net(width=300)
    net.to_onnx(tmp_path / "a.onnx", external_data=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]
    (found,) = run("onnx", tmp_path / "a.onnx", net.example_input_array)
    torch.testing.assert_close(found, net.eval()(net.example_input_array))


def test_neither_of_two_files_is_made_where_one_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").mkdir()  # in the way of the second one
    for was_there in (False, True):
        if was_there:
            (tmp_path / "a.onnx.data").write_text("before")
        with pytest.raises(RunDirError, match="cannot write .*a.onnx: Is a directory"):
            Net(width=300).to_onnx(tmp_path / "a.onnx", external_data=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", *(["a.onnx.data"] if was_there else [])]
    assert (tmp_path / "a.onnx.data").read_text() == "before"


def test_a_new_pair_of_files_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = Net(width=300)
        net.to_onnx(tmp_path / "a.onnx", external_data=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]
    (found,) = run("onnx", tmp_path / "a.onnx", net.example_input_array)
    torch.testing.assert_close(found, net.eval()(net.example_input_array))


@pytest.mark.parametrize("form", ("script", "onnx"))
def test_a_url_is_a_file_of_its_store(form: str, store: str, tmp_path: Path) -> None:
    net = Net()
    write(net, form, f"{store}/made/net.x", **({"external_data": True} if form == "onnx" else {}))
    names = sorted(path.name for path in place(f"{store}/made").iterdir())
    assert names == (["net.x", "net.x.data"] if form == "onnx" else ["net.x"])
    for name in names:
        (tmp_path / name).write_bytes(place(f"{store}/made/{name}").read_bytes())
    (found,) = run(form, tmp_path / "net.x", net.example_input_array)
    torch.testing.assert_close(found, net.eval()(net.example_input_array))


def test_onnx_goes_into_a_buffer_too_where_it_is_one_file() -> None:
    buffer, net = io.BytesIO(), Net()
    net.to_onnx(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue())
    (found,) = session.run(None, {session.get_inputs()[0].name: net.example_input_array.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), net.eval()(net.example_input_array))
    with pytest.raises(ExportError) as caught:
        net.to_onnx(buffer, external_data=True)
    message = "these weights need a second file (model.onnx.data), which a buffer cannot hold; give a path"
    assert str(caught.value) == message


def test_further_arguments_are_the_exporter_s(tmp_path: Path) -> None:
    net = Net()
    program = net.to_exported_program(dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    assert program.module()(torch.randn(9, 3)).shape == (9, 2)
    net.to_onnx(tmp_path / "net.onnx", input_names=["rows"], dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    assert session.run(None, {"rows": torch.randn(7, 3).numpy()})[0].shape == (7, 2)
    frozen: Callable[..., Any] = net.to_torchscript(method="trace", check_trace=False)
    assert frozen(torch.zeros(4, 3)).shape == (4, 2)


@pytest.mark.parametrize("way", ["torch.set_float32_matmul_precision('high'); torch.backends.cudnn.allow_tf32 = False",
                                 "torch.backends.cuda.matmul.fp32_precision = 'tf32'"])  # fmt: skip
def test_how_a_gpu_multiplies_is_as_before_whichever_way_it_was_said(way: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = f"""
import torch, lightkit as lk
class Net(lk.LightModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
    def forward(self, x):
        return self.layer(x)
{way}
parts = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
before = [part.fp32_precision for part in parts]
Net().to_torchscript("net.pt", method="trace", example_inputs=torch.zeros(2, 3))
assert before == [part.fp32_precision for part in parts] and "tf32" in before, before
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_nothing_of_export_is_imported_by_a_fit() -> None:
    import subprocess
    import sys

    code = "import sys, lightkit as lk; lk.LightModule; lk.Trainer; print('lightkit.export' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

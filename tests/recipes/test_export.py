"""Every recipe's checkpoint is exported with `lightkit export`, or says in one line why it cannot be."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightkit.checkpoint import files
from lightkit.cli.job import prepare_job
from lightkit.cli.main import main
from lightkit.cli.raw_input import class_of

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("safetensors")

ROOT = Path(__file__).resolve().parents[2]
PACKED_TEXT = (
    "LSTM(packed=True): a packed recurrence runs as long as each text, which torch.export and ONNX cannot hold; "
    "train with model.packed=false, or export as torchscript"
)
PACKED_SOUND = (
    "FrameEncoder(kind='lstm'): a packed recurrence runs as long as each sound, which torch.export and ONNX cannot "
    "hold; train a conformer, or export as torchscript"
)
NO_EXAMPLE = (
    "lightkit export: Detector has no example_input_array, so that nothing says what its forward takes; set it in "
    "__init__, or export its weights alone, --format safetensors"
)
EVERY = ("torchscript", "pt2", "onnx")
# by config: further options, the formats that cannot be made, and what is said then
CASES: dict[str, tuple[list[str], tuple[str, ...], str]] = {
    "audio/tones": ([], (), ""),
    "audio/yesno_ctc": ([], ("pt2", "onnx"), PACKED_SOUND),
    "graph/karate": ([], (), ""),
    "tabular/linear": ([], (), ""),
    "text/csv": ([], (), ""),
    "text/stdlib_lines": ([], ("pt2", "onnx"), PACKED_TEXT),
    "text/stdlib_tags": (["--model.packed=false"], (), ""),
    "text/stdlib_gpt": ([], (), ""),
    "vision/autoencoder": ([], (), ""),
    "vision/cifar10_fast": ([], (), ""),
    "vision/dcgan": ([], (), ""),
    "vision/detection": ([], EVERY, NO_EXAMPLE),
    "vision/digits": ([], (), ""),
    "vision/segmentation": ([], (), ""),
    "vision/transfer": ([], (), ""),
}


def load_generated() -> Any:
    """The made-up data of the shipped configs; with --import-mode=importlib tests are no package."""
    spec = importlib.util.spec_from_file_location("generated_data_for_export", Path(__file__).with_name("generated.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.GENERATED


GENERATED = load_generated()


def trained(name: str, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of two steps."""
    options = [*GENERATED[name](folder / "data", patch), *CASES[name][0]]
    quiet = ["--trainer.fast_dev_run=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
             "--trainer.enable_model_summary=false", f"--trainer.default_root_dir={folder}"]  # fmt: skip
    job = prepare_job("fit", [str(ROOT / "configs" / f"{name}.yaml"), *options, *quiet])
    job.trainer.fit(job.model, datamodule=job.data)
    job.trainer.save_checkpoint(folder / "trained.ckpt")
    return folder / "trained.ckpt"


def test_every_recipe_is_among_them() -> None:
    def classes(names: list[str]) -> set[str]:
        texts = [(ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8") for name in names]
        return {yaml.safe_load(text)["model"]["class_path"] for text in texts}

    all_of_them = classes([p.relative_to(ROOT / "configs").with_suffix("").as_posix()
                           for p in (ROOT / "configs").rglob("*.yaml")])  # fmt: skip
    assert classes(list(CASES)) == all_of_them and len(all_of_them) == 14


def exported(ckpt: Path, made: str, capsys: pytest.CaptureFixture[str]) -> Path | str:
    """The file, or what was said instead."""
    capsys.readouterr()
    code = main(["export", str(ckpt), "--format", made])
    told = capsys.readouterr()
    target = ckpt.with_suffix(f".{made}")
    if code == 0:
        assert told.out == f"{made}: {target}\n" and told.err == ""
        return target
    assert told.out == "" and told.err.startswith("lightkit: error: ") and not target.exists()
    return told.err.removeprefix("lightkit: error: ").removesuffix("\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_exported_gives_the_numbers_of_the_module(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ckpt = trained(name, tmp_path, monkeypatch)
    cannot, why = CASES[name][1:]
    model = class_of(files.load(ckpt), None, str(ckpt)).load_from_checkpoint(ckpt).eval()
    again = exported(ckpt, "safetensors", capsys)
    assert isinstance(again, Path)
    weights = type(model).load_from_checkpoint(again).state_dict()
    assert weights and all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    for made in EVERY:
        found = exported(ckpt, made, capsys)
        if made in cannot:
            assert found == why
            continue
        assert isinstance(found, Path), found
        given = model.example_input_array
        given = given if isinstance(given, tuple) else (given,)
        for inputs in (given, one_more(name, given)):
            with torch.no_grad():
                wanted = model(*inputs)
            for a, b in zip(run(made, found, inputs), wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert sorted(p.suffix for p in tmp_path.glob("trained.*")) == sorted(
        [".ckpt", ".safetensors", *(f".{made}" for made in EVERY if made not in cannot)]
    )


def one_more(name: str, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Inputs of another size: one row more; a graph has its nodes and links in several."""
    if name.startswith("graph"):
        features, links = inputs
        return torch.cat([features, features[:1]]), torch.cat([links, links[:, :1]], dim=1)
    return tuple(torch.cat([x, x[:1]]) for x in inputs)


def run(made: str, file: Path, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """What a file gives."""
    if made == "onnx":
        session = onnxruntime.InferenceSession(file)
        names = [argument.name for argument in session.get_inputs()]
        feed = {key: value.numpy() for key, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, feed)]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found = torch.export.load(file).module()(*inputs) if made == "pt2" else torch.jit.load(file)(*inputs)
    return list(found) if isinstance(found, tuple) else [found]

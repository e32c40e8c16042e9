"""`lightkit predict --ckpt_path FILE --text ...`: labels from a checkpoint alone, and no code named by it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lightkit as lk
from lightkit.checkpoint import files

Run = Callable[..., Any]

MODULE = '''
from __future__ import annotations
from pathlib import Path
from typing import Any
import torch
import lightkit as lk

class Lengths(lk.LightModule):
    """Says whether a text is short or long; the limit is learned elsewhere."""

    raw_input = "text"

    def __init__(self) -> None:
        super().__init__()
        self.limit = torch.nn.Parameter(torch.tensor(5.0))
        self.labels: list[str] = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["labels"] = ["short", "long", "empty", "never"]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.labels = checkpoint["labels"]

    def predict_raw(self, raw: str) -> list[tuple[str, float]]:
        assert not self.training and not torch.is_grad_enabled()
        long = float(torch.sigmoid(len(raw) - self.limit))
        scores = zip(self.labels, [1 - long, long, 0.0, 0.0], strict=True)
        return sorted(scores, key=lambda pair: -pair[1])

class Sizes(Lengths):
    raw_input = "image"

    def predict_raw(self, raw: str) -> list[tuple[str, float]]:
        return super().predict_raw(Path(raw).read_text())

class Mute(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
'''


@pytest.fixture
def rawmodels(project: Path) -> Iterator[Any]:
    """A user's file with three modules."""
    (project / "rawmodels.py").write_text(MODULE)
    import importlib

    yield importlib.import_module("rawmodels")
    sys.modules.pop("rawmodels", None)


def saved(module: lk.LightModule, path: str = "model.ckpt", **changes: Any) -> str:
    kind = type(module)
    content: dict[str, Any] = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    content["class_path"] = f"{kind.__module__}.{kind.__qualname__}"
    module.on_save_checkpoint(content)
    files.save({**content, **changes}, path)
    return path


def test_every_input_gets_a_line_with_its_labels_and_probabilities(lightkit: Run, rawmodels: Any) -> None:
    path = saved(rawmodels.Lengths())
    result = lightkit(
        "predict", "--ckpt_path", path, "--model", "rawmodels.Lengths", "--text", "abc", "a longer one", "--text=12345"
    )
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "abc           short 0.8808, long 0.1192, empty 0.0000\n"
        "a longer one  long 0.9991, short 0.0009, empty 0.0000\n"
        "12345         short 0.5000, long 0.5000, empty 0.0000\n"
    )


def test_a_long_text_is_shown_shortened(lightkit: Run, rawmodels: Any) -> None:
    path = saved(rawmodels.Lengths())
    result = lightkit("predict", "--ckpt_path", path, "--model", "rawmodels.Lengths", "--text", "word\n" * 40)
    assert result.out.startswith("word word word") and "...  long 1.0000" in result.out
    assert len(result.out.splitlines()) == 1


def test_files_are_given_by_their_path(lightkit: Run, rawmodels: Any, project: Path) -> None:
    path = saved(rawmodels.Sizes())
    (project / "a.png").write_text("abc")
    result = lightkit("predict", "--ckpt_path", path, "--model", "rawmodels.Sizes", "--image", "a.png")
    assert result.out == "a.png  short 0.8808, long 0.1192, empty 0.0000\n"
    result = lightkit(
        "predict", "--ckpt_path", path, "--model", "rawmodels.Sizes", "--image", "a.png", "b.png", "c.png"
    )
    assert (result.code, result.err) == (2, "lightkit: error: --image: no such file: b.png, c.png\n")


def test_a_class_outside_the_recipes_is_not_imported_because_a_checkpoint_names_it(
    lightkit: Run, rawmodels: Any, project: Path
) -> None:
    path = saved(rawmodels.Lengths())
    (project / "evil.py").write_text("from pathlib import Path\nPath('was_here').touch()\n")
    for named in ("rawmodels.Lengths", "evil.Evil", "recipes.evil", "os.system", "recipes..x.Y"):
        files.save({**files.load(path), "class_path": named}, path)
        result = lightkit("predict", "--ckpt_path", path, "--text", "abc")
        assert (result.code, result.out) == (2, "")
        assert result.err == (
            f"lightkit: error: model.ckpt: of class {named}, which is none of lightkit's recipes; nothing is imported "
            f"because a checkpoint names it: if you trust that class, add --model {named}\n"
        )
    assert not (project / "was_here").exists()


def test_a_recipe_that_is_no_module_is_refused(lightkit: Run, rawmodels: Any) -> None:
    path = saved(rawmodels.Lengths(), class_path="recipes.plots.Curves")
    result = lightkit("predict", "--ckpt_path", path, "--text", "abc")
    assert result.err == "lightkit: error: model.ckpt: recipes.plots.Curves is not a LightModule of the recipes\n"
    path = saved(rawmodels.Lengths(), class_path="recipes.plots.Path")
    result = lightkit("predict", "--ckpt_path", path, "--text", "abc")
    assert result.err.startswith("lightkit: error: model.ckpt: class_path 'recipes.plots.Path': module 'recipes.plots'")


def test_a_recipe_is_found_by_the_class_that_the_checkpoint_names(lightkit: Run, project: Path) -> None:
    from recipes.graph.classification import NodeClassifier

    path = saved(NodeClassifier())
    assert files.load(path)["class_path"] == "recipes.graph.classification.NodeClassifier"
    result = lightkit("predict", "--ckpt_path", path, "--text", "abc")
    assert (result.code, result.err) == (
        2,
        "lightkit: error: NodeClassifier cannot predict from raw input: it has no raw_input ('text', 'audio' or "
        "'image') and predict_raw(raw) -> [(label, probability), ...]; use lightkit predict CONFIG\n",
    )


def test_an_image_classifier_predicts_an_image(lightkit: Run, project: Path) -> None:
    from PIL import Image

    from recipes.vision.classification import ImageClassifier
    from recipes.vision.data import DigitsData

    if not hasattr(ImageClassifier, "predict_raw"):
        pytest.skip("ImageClassifier has no predict_raw yet")
    trainer = lk.Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1, accelerator="cpu", logger=False,
                         enable_progress_bar=False, enable_model_summary=False, run_dir="run")  # fmt: skip
    trainer.fit(ImageClassifier(image_size=8, width=4), datamodule=DigitsData())
    [path] = Path("run", "checkpoints").glob("*.ckpt")
    Image.new("L", (20, 20), 255).save("white.png")
    result = lightkit("predict", "--ckpt_path", str(path), "--image", "white.png")
    assert (result.code, result.err) == (0, "")
    name, *labels = result.out.replace(",", "").split()
    assert name == "white.png" and len(labels) == 6 and set(labels[::2]) <= set("0123456789")


@pytest.mark.parametrize("arguments, message", [
    (["--text", "a"], "lightkit predict --text: give the checkpoint too, --ckpt_path FILE"),
    (["job.yaml", "--text", "a"],
     "lightkit predict: 'job.yaml' and --text exclude each other: raw input is predicted from the checkpoint alone; "
     "leave the config out"),
    (["--text", "a", "--image", "b"],
     "lightkit predict: --text and --image are given; a module takes one kind of input"),
    (["--text", "a", "--batch=3"], "lightkit predict: unrecognized arguments: --batch=3"),
    (["--text"], "lightkit predict: argument --text: expected at least one argument"),
    (["--ckpt_path", "model.ckpt", "--model", "rawmodels.Sizes", "--text", "a"],
     "--text: Sizes takes image; give --image"),
    (["--ckpt_path", "model.ckpt", "--model", "rawmodels.Mute", "--text", "a"],
     "Mute cannot predict from raw input: it has no raw_input ('text', 'audio' or 'image') and predict_raw(raw) -> "
     "[(label, probability), ...]; use lightkit predict CONFIG"),
    (["--ckpt_path", "model.ckpt", "--model", "rawmodels.Length", "--text", "a"],
     "command line: --model: class_path 'rawmodels.Length': module 'rawmodels' has no 'Length'; did you mean "
     "'Lengths'?"),
    (["--ckpt_path", "model.ckpt", "--model", "torch.nn.Linear", "--text", "a"],
     "command line: --model: torch.nn.Linear is not a LightModule"),
])  # fmt: skip
def test_wrong_input(lightkit: Run, rawmodels: Any, arguments: list[str], message: str) -> None:
    saved(rawmodels.Lengths())
    result = lightkit("predict", *arguments)
    assert (result.code, result.out, result.err) == (2, "", f"lightkit: error: {message}\n")


def test_a_checkpoint_that_is_not_there_or_says_no_class(lightkit: Run, rawmodels: Any) -> None:
    result = lightkit("predict", "--ckpt_path", "nowhere.ckpt", "--text", "a")
    assert result.code == 2 and result.err.startswith("lightkit: error: there is no checkpoint nowhere.ckpt")
    torch.save({"state_dict": {}}, "old.ckpt")
    result = lightkit("predict", "--ckpt_path", "old.ckpt", "--text", "a")
    assert result.err == (
        "lightkit: error: old.ckpt: does not say of which class it is; give it, --model package.Class\n"
    )


def test_the_byte_order_mark_of_a_text_is_none_of_it(lightkit: Run, rawmodels: Any) -> None:
    path = saved(rawmodels.Lengths())
    result = lightkit("predict", "--ckpt_path", path, "--model", "rawmodels.Lengths", "--text", "\ufeff12345")
    assert result.out == "12345  short 0.5000, long 0.5000, empty 0.0000\n"

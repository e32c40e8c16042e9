"""docs/primer.md runs from top to bottom, in one session, with warnings as errors."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

# the topics of the notes that the primer grew from, by what the primer must name
TOPICS = (
    "torch.device", "torch.tensor", "from_numpy", "linspace", "squeeze", "permute", "scatter", "torch.where",
    "matmul", "broadcast", "backward", "no_grad", "detach", "manual_seed", "class Scores(Dataset)",
    "TensorDataset", "drop_last", "F.relu", "log_softmax", "binary_cross_entropy", "ignore_index",
    "param_groups", "weight_decay", "Conv2d", "MaxPool2d", "nn.RNN", "nn.LSTM", "nn.GRU", "nn.Embedding",
    "from_pretrained", "nn.Dropout", "nn.Sequential", "add_module", "state_dict", "weights_only",
    "xavier_uniform_", ".eval()", "load_from_checkpoint", "freeze", "validation_epoch_end", "prepare_data",
    "MNIST", "test_data", "Field", "TabularDataset.splits", "BucketIterator", "GloVe", "Resample",
    "MelSpectrogram", "MFCC", "MuLawEncoding", "SlidingWindowCmn", "Fade", "dither", "lowpass_biquad", "Ignite",
    "Geometric",
)  # fmt: skip
SCHEDULERS = (
    "LambdaLR", "MultiplicativeLR", "StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "ReduceLROnPlateau",
    "CyclicLR", "OneCycleLR", "CosineAnnealingWarmRestarts",
)  # fmt: skip


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "primer.md").read_text(encoding="utf-8")


def blocks_of(page: str) -> list[tuple[int, str]]:
    """Return line number and code of each python block."""
    found = re.finditer(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return [(page.count("\n", 0, match.start(1)), match[1]) for match in found]


def extras_of(code: str) -> list[str]:
    """Return the optional packages that the block imports."""
    return re.findall(r"^(?:from|import) (torchvision|torchtext|torchaudio|soundfile)\b", code, re.MULTILINE)


def test_every_block_runs_in_order(page: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTKIT_PROGRESS", "off")
    path, namespace, ran = repository / "docs" / "primer.md", {"__name__": "primer"}, 0
    for line, code in blocks_of(page):
        if any(importlib.util.find_spec(name) is None for name in extras_of(code)):
            continue
        # the line numbers of an error are those of the page
        exec(compile("\n" * line + code, str(path), "exec"), namespace)
        ran += 1
    assert ran >= 18 and len(blocks_of(page)) == 21


def test_the_blocks_that_need_packages_are_the_three_at_the_end(page: str) -> None:
    optional = [bool(extras_of(code)) for _, code in blocks_of(page)]
    assert optional[-3:] == [True] * 3 and not any(optional[:-3])


def test_it_has_every_topic_and_all_ten_schedulers(page: str) -> None:
    assert [topic for topic in TOPICS if topic not in page] == []
    assert [name for name in SCHEDULERS if f"S.{name}" not in page] == [] and len(SCHEDULERS) == 10


def test_what_it_calls_gone_is_gone(page: str) -> None:
    import torch
    from torch import nn

    gone: dict[str, Any] = {
        "torch.range": lambda: torch.range(0, 3),
        "torch.eig": lambda: torch.eig(torch.eye(2)),
        "linespace": lambda: torch.linespace(0, 1, 5),  # type: ignore[attr-defined]
        "unsqeeze": lambda: torch.unsqeeze,  # type: ignore[attr-defined]
        "add_model": lambda: nn.Sequential().add_model,
        "verbose=": lambda: torch.optim.lr_scheduler.StepLR(
            torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0),
            1,
            verbose=True,  # type: ignore[call-arg]
        ),
        "nn.init.uniform": lambda: nn.init.uniform(torch.zeros(1)),
        "torch.jit.script": lambda: torch.jit.script(nn.Linear(1, 1)),
    }
    for name, use in gone.items():
        assert name in page
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises((Warning, RuntimeError, AttributeError, TypeError)):
                use()

"""Loggers of Lightning that are not here, and what to write instead."""

from __future__ import annotations

from lightkit.errors import did_you_mean
from lightkit.foreign_names import NAMES

CHOICES = {"csv": "CSVLogger", "mlflow": "MLFlowLogger", "tensorboard": "TensorBoardLogger", "wandb": "WandbLogger"}

ANSWERS = NAMES["loggers"]


def what_for(word: str) -> str:
    """What to write for a word such as "wandb", where a logger is wanted."""
    asked = word.strip().lower().removesuffix("logger").replace("_", "").replace("-", "")
    for name, answer in ANSWERS.items():
        if name.lower().removesuffix("logger") == asked:
            return f"lightkit has no {name}; {answer}"
    if asked in CHOICES:
        return f"expected a logger; write logger={CHOICES[asked]}(), from lightkit.loggers"
    choices = ", ".join(f"{name}()" for name in CHOICES.values())
    near = did_you_mean(asked, CHOICES)
    return f"expected a logger: {choices} of lightkit.loggers, a list of loggers, True or False{near}"

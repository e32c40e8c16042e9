"""What mypy and pyright know of a Trainer's public attributes in a user's file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.structure.live import ALL_OFF, fit
from benchmarks.structure.rows import Row, mypy

KNOWN, ANY, MISSING = "known", "Any", "does not exist"

# The issue speaks of 59 and names few of them: arguments that stay readable, and what users' code reads. These give
# its figures, 20 known, 22 Any and 17 that do not exist, at the commit before.
OF_THE_ISSUE = (
    "accumulate_grad_batches barebones callback_metrics callbacks check_val_every_n_epoch checkpoint_callback "
    "current_epoch datamodule default_root_dir detect_anomaly early_stopping_callback estimated_stepping_batches "
    "evaluating fast_dev_run global_rank global_step gradient_clip_val inference_mode is_global_zero is_last_batch "
    "lightning_module limit_predict_batches limit_test_batches limit_train_batches limit_val_batches local_rank "
    "log_dir logged_metrics logger loggers max_epochs max_steps min_epochs min_steps model nan_check num_devices "
    "num_nodes num_training_batches num_val_batches optimizers overfit_batches predict_dataloaders predicting "
    "profiler progress_bar_metrics reload_dataloaders_every_n_epochs run_dir sanity_checking should_stop state "
    "test_dataloaders testing train_dataloader training use_distributed_sampler val_dataloaders validating world_size"
).split()

_REVEALED = re.compile(r'(?:Revealed type is|Type of "[^"]*" is) "(.*)"', re.DOTALL)
_NO_ATTRIBUTE = re.compile(r"has no attribute|Cannot access attribute")


def program(names: list[str]) -> str:
    """A user's file that asks for the type of each attribute; the first name is asked for in line 4."""
    asked = [f"reveal_type(trainer.{name})" for name in names]
    return "\n".join(["import lightkit as lk", "", "trainer = lk.Trainer()", *asked, ""])


def _judge(names: list[str], said: list[tuple[int, str]]) -> dict[str, str]:
    """By attribute; `said`: (line from 1, what the checker says of it)."""
    found: dict[str, str] = {}
    for line, message in said:
        if not 4 <= line < 4 + len(names):
            continue
        name, revealed = names[line - 4], _REVEALED.search(message)
        if _NO_ATTRIBUTE.search(message):
            found[name] = MISSING
        elif revealed is not None:
            kind = ANY if revealed[1] in ("Any", "Unknown") else KNOWN
            found.setdefault(name, kind)
    missing = set(names) - set(found)
    assert not missing, f"the checker said nothing of {sorted(missing)}: {said}"
    return found


def by_mypy(root: Path, names: list[str]) -> dict[str, str]:
    """KNOWN, ANY or MISSING, by attribute."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "user.py")
        file.write_text(program(names), encoding="utf-8")
        said = mypy(root, str(file)).stdout
    lines = [re.match(r".*?user\.py:(\d+): (.*)", line) for line in said.splitlines()]
    return _judge(names, [(int(line[1]), line[2]) for line in lines if line])


def pyright_command() -> str | None:
    """Where pyright is: $PYRIGHT, beside this Python, or on the path; None: it is not installed."""
    named = os.environ.get("PYRIGHT")
    beside = str(Path(sys.executable).parent)
    return named or shutil.which("pyright", path=beside) or shutil.which("pyright")


def pyright(root: Path, text: str) -> list[tuple[int, str, str]]:
    """(line from 1, severity, message) that pyright has of a user's file with this text, lightkit read from `root`."""
    command = pyright_command()
    assert command is not None
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "user.py").write_text(text, encoding="utf-8")
        settings = {"include": ["user.py"], "extraPaths": [str(root)]}
        Path(folder, "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
        arguments = [command, "--outputjson", "--pythonpath", sys.executable]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [(item["range"]["start"]["line"] + 1, item["severity"], item["message"]) for item in found]


def by_pyright(root: Path, names: list[str]) -> dict[str, str] | None:
    """KNOWN, ANY or MISSING, by attribute; None where pyright is not installed."""
    if pyright_command() is None:
        return None
    return _judge(names, [(line, message) for line, _, message in pyright(root, program(names))])


def user_rows(root: Path) -> list[Row]:
    """Public attributes of a fitted Trainer (not methods), by checker; and of those that the issue counted."""
    trainer = fit(root, ALL_OFF)
    names, methods = trainer["attributes"], trainer["methods"]
    rows = []
    for checker, found in (("mypy", by_mypy(root, names)), ("pyright", by_pyright(root, names))):
        if found is None:
            rows.append(
                Row(f"user_{checker}", f"public attributes of Trainer that {checker} knows", 0, "not installed")
            )
            continue
        wrong = [f"{kind:14} {name}" for name, kind in sorted(found.items()) if kind != KNOWN]
        issue = {name: found.get(name, MISSING) for name in OF_THE_ISSUE}
        title = f"public attributes of Trainer that {checker} does not know"
        rows.append(Row(f"user_{checker}", title, len(wrong), f"{len(wrong)} of {len(names)}: {_counts(found)}", wrong))
        unknown = sum(kind != KNOWN for kind in issue.values())
        rows.append(Row(f"issue_{checker}", "  of the issue's 59", unknown, f"{unknown}: {_counts(issue)}"))
    rows.append(Row("methods", "public methods of Trainer", len(methods), f"{len(methods)} ({', '.join(methods)})"))
    return rows


def _counts(found: dict[str, str]) -> str:
    counted = Counter(found.values())
    return ", ".join(f"{counted[kind]} {kind}" for kind in (KNOWN, ANY, MISSING))

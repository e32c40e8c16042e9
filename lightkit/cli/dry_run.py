"""Two steps of everything, in a folder that is thrown away: what `lightkit check` does.

A data module may offer `generate(root, model)`: write a small made-up set in its own layout below `root`,
and read that one from now on. It is asked where its files are not there (`MissingDataError`). The data
module's and the module's `prepare_data` are left out: they download, and write outside of that folder.
"""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from lightkit.cli.checking import Checker
from lightkit.cli.classes import Kinds
from lightkit.cli.config import Parsed, check_input, parse_without
from lightkit.cli.documents import listed, raise_problems
from lightkit.cli.job import Job, build_part, build_trainer, seed
from lightkit.errors import ConfigError, LightkitError, MissingDataError, did_you_mean
from lightkit.hooks import overrides
from lightkit.module import LightModule
from lightkit.trainer import Trainer

Result = TypeVar("Result")

STEPS = 2


@dataclass
class Findings:
    """What was found: problems, and lines to tell what was done."""

    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def add(self, problem: str, where: str = "") -> None:
        """Note a problem once, though several stages meet it."""
        if not any(known.endswith(problem) for known in self.problems):
            self.problems.append(f"{where}: {problem}" if where else problem)

    def attempt(self, where: str, call: Callable[[], Result]) -> Result | None:
        """Call, note what goes wrong, and return the result, or None. Missing data is passed on."""
        try:
            return call()
        except MissingDataError:
            raise
        except LightkitError as error:
            self.add(str(error), where)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self.add(f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})", where)
        return None


def check(arguments: list[str]) -> list[str]:
    """Parse, build, and run two steps; return what was done. Raises ConfigError that lists every problem."""
    findings = Findings()
    with _thrown_away() as folder, warnings.catch_warnings():
        given = check_input("check", arguments, Kinds())
        if not all(problem.is_value for problem in given.problems):
            raise_problems(given.problems)
        findings.problems += map(str, given.problems)
        if given.problems:  # what is warned of now may be due to values that were left out
            warnings.simplefilter("ignore")
        parsed = _parse_the_rest(given)
        job = None if parsed is None else _build(parsed, findings, folder)
        if job is not None:
            _run(job, findings, folder)
    if findings.problems:
        config = arguments[0] if arguments and not arguments[0].startswith("-") else ""
        raise ConfigError(listed(config, findings.problems))
    return [*findings.lines, "no problems; nothing was written"]


def _parse_the_rest(given: Checker) -> Parsed | None:
    """Parse without the values that are wrong; None where nothing can be built then, as without a model."""
    try:
        return parse_without(given, [*given.cuts, *(problem.cut for problem in given.problems)])
    except ConfigError:
        if not given.problems:
            raise
        return None  # due to what was left out


@contextmanager
def _thrown_away() -> Iterator[Path]:
    """A temporary folder; weights that a model downloads go there too, those already here are found."""
    import torch

    hub, environment = torch.hub.get_dir(), dict(os.environ)
    with TemporaryDirectory(prefix="lightkit-check-") as name:
        weights = Path(name, "hub", "checkpoints")
        weights.mkdir(parents=True)
        for file in Path(hub, "checkpoints").glob("*"):
            (weights / file.name).symlink_to(file.resolve())
        os.environ.update(LIGHTKIT_PROGRESS="off", TORCH_HOME=name)
        was_set = torch.hub.get_dir() == hub  # by set_dir, which counts more than the environment
        if was_set:
            torch.hub.set_dir(f"{name}/hub")
        try:
            yield Path(name)
        finally:
            if was_set:
                torch.hub.set_dir(hub)
            os.environ.clear()
            os.environ.update(environment)


def _build(parsed: Parsed, findings: Findings, folder: Path) -> Job | None:
    """Build model, data and trainer, each for itself, so that the problems of all are found."""
    values, before = parsed.values, len(findings.problems)
    findings.attempt("seed_everything", lambda: seed(values.get("seed_everything")))
    model = findings.attempt("model", lambda: build_part(parsed, "model"))
    if isinstance(values.get("data.init_args.download"), bool):
        values["data.init_args.download"] = False
    data = findings.attempt("data", lambda: build_part(parsed, "data"))
    here = {"default_root_dir": str(folder), "run_dir": None}
    findings.attempt("trainer", lambda: build_trainer(parsed, here))
    if len(findings.problems) > before:
        return None
    small = {**here, "fast_dev_run": STEPS, "barebones": False}
    trainer = findings.attempt("trainer", lambda: build_trainer(parsed, small))
    if trainer is None or model is None:
        return None
    count = sum(parameter.numel() for parameter in model.parameters())
    findings.lines.append(f"model: {type(model).__name__}" + (f", {count:,} parameters" if count else ""))
    return Job(model, data, trainer, values)


def _run(job: Job, findings: Findings, folder: Path) -> None:
    """Train, validate and test two steps each; on made-up data where the real is not there."""
    for owner in (job.model, job.data):
        if owner is not None:
            owner._take_hook("prepare_data", lambda: None)
    name = "the module's own" if job.data is None else type(job.data).__name__
    findings.lines.append(f"data: {name}")
    try:
        _run_stages(job, findings)
    except MissingDataError as error:
        generate = getattr(job.data, "generate", None)
        if generate is None:
            findings.add(f"{error} (check downloads nothing)", "data")
            return
        findings.lines[-1] += f", made up: {error}"
        findings.attempt("data", lambda: generate(folder / "data", job.model))
        try:
            _run_stages(job, findings)
        except MissingDataError as missing:
            findings.add(str(missing), "data")


def _run_stages(job: Job, findings: Findings) -> None:
    trainer, model, data, before = job.trainer, job.model, job.data, len(findings.problems)
    with redirect_stdout(StringIO()):
        findings.attempt("fit", lambda: trainer.fit(model, datamodule=data))
        if len(findings.problems) == before:
            _check_monitors(trainer, findings)
            findings.lines.append(f"fit: ran, optimizer steps: {trainer.global_step}")
        elif overrides(model, LightModule, "validation_step"):
            findings.attempt("validate", lambda: trainer.validate(model, datamodule=data, verbose=False))
        if not overrides(model, LightModule, "test_step"):
            return
        try:
            if findings.attempt("test", lambda: trainer.test(model, datamodule=data, verbose=False)) is not None:
                findings.lines.append("test: ran")
        except MissingDataError as error:
            findings.lines.append(f"test: left out: {error}")


def _check_monitors(trainer: Trainer, findings: Findings) -> None:
    """A callback that waits for a metric which nobody logs fails only at the end of an epoch."""
    known = list(trainer.callback_metrics)
    for callback in trainer.callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in known:
            findings.add(
                f"{type(callback).__name__}(monitor={monitor!r}): no such metric was logged "
                f"(logged: {', '.join(sorted(known))}){did_you_mean(monitor, known)}"
            )

"""Annotations of public constructors resolve at run time: the command line reads its arguments from them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from types import ModuleType

import pytest

import lightkit as lk
import recipes


def classes_of(room: ModuleType) -> list[type]:
    return [value for name in room.__all__ if inspect.isclass(value := getattr(room, name))]


def classes_of_recipes() -> list[type]:
    """Every module and data module that a file of recipes/ defines."""
    found: list[type] = []
    for file in pkgutil.walk_packages(recipes.__path__, "recipes."):
        module = importlib.import_module(file.name)
        own = [value for value in vars(module).values() if getattr(value, "__module__", None) == file.name]
        found += [v for v in own if inspect.isclass(v) and issubclass(v, lk.LightModule | lk.LightDataModule)]
    return found


ROOMS = (lk, lk.callbacks, lk.loggers, lk.profilers)
PUBLIC = sorted({kind for room in ROOMS for kind in classes_of(room)}, key=lambda kind: kind.__name__)


def problem_with(kind: type) -> str | None:
    """What does not resolve; None where all does."""
    try:
        typing.get_type_hints(kind.__init__)  # type: ignore[misc]
    except NameError as error:
        return f"{kind.__module__}.{kind.__qualname__}: {error}"
    return None


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_a_public_constructor_s_annotations_resolve(kind: type) -> None:
    assert problem_with(kind) is None


def test_the_recipes_constructors_annotations_resolve() -> None:
    found = classes_of_recipes()
    assert [problem for problem in map(problem_with, found) if problem] == []
    assert len(found) >= 30


def test_the_public_classes_are_found() -> None:
    names = {kind.__name__ for kind in PUBLIC}
    assert {"Trainer", "LightModule", "ModelCheckpoint", "CSVLogger", "SimpleProfiler"} <= names
    assert len(names) >= 25


def test_a_name_that_is_there_for_checkers_alone_is_seen() -> None:
    class Wrong:
        def __init__(self, trainer: OnlyForCheckers) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert problem_with(Wrong) == (
        f"{__name__}.test_a_name_that_is_there_for_checkers_alone_is_seen.<locals>.Wrong: "
        "name 'OnlyForCheckers' is not defined"
    )

"""Which classes a config may name; from the text after `class_path:` to the class, or what to say when that fails."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightkit import callbacks, loggers
from lightkit.cli.parser import LightkitArgumentParser
from lightkit.cli.shipped import PACKAGE
from lightkit.datamodule import LightDataModule
from lightkit.errors import ConfigError, LightkitError, MissingExtraError, did_you_mean
from lightkit.module import LightModule
from lightkit.trainer import Trainer

# Which optional packages an extra brings.
EXTRAS = {
    "vision": ("torchvision", "sklearn", "matplotlib", "torchmetrics", "pycocotools"),
    "text": ("torchtext", "tokenizers"),
    "graph": ("torch_geometric",),
    "audio": ("torchaudio", "soundfile"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
}
# Configs written for Lightning name its callbacks and loggers; ours have the same names and arguments.
LIGHTNINGS = re.compile(r"(?:lightning\.pytorch|pytorch_lightning)\.(callbacks|loggers|profilers)\.(?:.*\.)?(.*)")
MAX_PATH = 200
# Where ReduceLROnPlateau may be said to be: ours is torch's with the name of the metric it watches.
PLATEAU_PLACES = ("", "torch.optim.lr_scheduler", "lightning.pytorch.cli", "pytorch_lightning.cli", "lightkit.cli")


def bases_of(model: type[LightModule] = LightModule, data: type[LightDataModule] = LightDataModule) -> dict[str, type]:
    """What may be named under each top-level key."""
    for room in (callbacks, loggers):  # so that short names such as EarlyStopping are known
        for name in room.__all__:
            with suppress(MissingExtraError):  # of a package that this installation does without
                getattr(room, name)
    return {"model": model, "data": data, "optimizer": Optimizer, "lr_scheduler": LRScheduler}


@dataclass(frozen=True)
class Kinds:
    """What a command line builds beside a Trainer, and what it is called.

    `bases` is what a class named under a top-level key must derive from. Of those that are `fixed` it is the very
    class, whose arguments then stand directly under the key; `makers` has the functions that make one instead.
    `trainer` is the class, or what makes one. `fill` adds what a script wants to the parser, instead of what `lightkit`
    has.
    """

    bases: dict[str, type] = field(default_factory=bases_of)
    fixed: frozenset[str] = frozenset()
    makers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    trainer: Callable[..., Trainer] = Trainer
    trainer_defaults: dict[str, Any] = field(default_factory=dict)
    prog: str = "lightkit"
    seed_default: bool | int | None = True
    make_parser: Callable[..., LightkitArgumentParser] = LightkitArgumentParser
    fill: Callable[[LightkitArgumentParser], None] | None = None


class ClassPathError(LightkitError):
    """A class_path that cannot be used; the message has no place in a file yet."""


def plain_class_path(path: str) -> str:
    """Return lightkit's own path for one of Lightning's, any other path as it is."""
    place, _, name = path.rpartition(".")
    if name == "ReduceLROnPlateau" and place in PLATEAU_PLACES:
        return "lightkit.cli.api.ReduceLROnPlateau"
    match = LIGHTNINGS.fullmatch(path)
    return f"lightkit.{match[1]}.{match[2]}" if match else path


def let_the_working_directory_be_imported() -> None:
    """Make classes of the user's importable by class_path, behind everything that is installed."""
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)


def resolve(path: str) -> Callable[..., Any]:
    """Import what `path` ("package.module.Class") names.

    Raises ClassPathError that says which part does not exist and what is near, or what to install;
    ConfigError where another folder called `recipes` stands before ours.
    """
    path = plain_class_path(path)
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise ClassPathError(f"class_path {path!r}: give the whole path, such as 'package.module.{path}'")
    if module_name.partition(".")[0] == "recipes":
        check_that_recipes_are_ours()
    module = _import(path, module_name)
    found = getattr(module, name, None)
    if found is None:
        options = [option for option in dir(module) if not option.startswith("_")]
        likely = [option for option in options if inspect.isclass(getattr(module, option, None))]
        raise ClassPathError(
            f"class_path {path!r}: module {module_name!r} has no {name!r}{did_you_mean(name, likely or options)}"
        )
    if not callable(found):
        raise ClassPathError(f"class_path {path!r}: this is a {type(found).__name__}, not a class")
    return found


def _import(path: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except MissingExtraError as error:
        raise ClassPathError(f"class_path {path!r}: {error}") from error
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            with suppress(ImportError, AttributeError, ValueError):  # the class may stand in another class
                outer_module, _, outer = module_name.rpartition(".")
                return getattr(importlib.import_module(outer_module), outer)
            raise ClassPathError(f"class_path {path!r}: no module named {missing!r}{_near_module(missing)}") from error
        raise ClassPathError(f"class_path {path!r}: {_what_to_install(missing, module_name)}") from error
    except LightkitError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}:{frame.lineno}"
        if isinstance(error, SyntaxError) and error.filename:
            place = f"{error.filename}:{error.lineno}"
        what = f"{type(error).__name__}: {error}"
        raise ClassPathError(f"class_path {path!r}: importing {module_name!r} failed at {place}: {what}") from error


def _near_module(missing: str) -> str:
    """The end of the message, from the modules beside the one that is missing."""
    parent, _, name = missing.rpartition(".")
    paths = getattr(sys.modules.get(parent), "__path__", []) if parent else [str(Path.cwd())]
    known = [] if parent else ["recipes", "lightkit", "torch", "torchvision"]
    return did_you_mean(name, [*known, *(module.name for module in pkgutil.iter_modules(paths))])


def _what_to_install(missing: str, module_name: str) -> str:
    package, room = missing.partition(".")[0], module_name.removeprefix("recipes.").partition(".")[0]
    extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
    if extra is None:
        return f"{module_name} needs {package}, which is not installed"
    if module_name.startswith("recipes.") and room in EXTRAS:
        extra = room
    return f'{package} is needed by {module_name}: pip install "lightkit[{extra}]"'


def check_that_recipes_are_ours() -> None:
    """Raise ConfigError where `recipes` would be imported from a folder that is not lightkit's.

    `python -m lightkit` and scripts put their own folder first on sys.path: a folder called recipes/ there
    would be taken for ours, and the error would then speak of a missing module.
    """
    expected, spec = PACKAGE.parent / "recipes", importlib.util.find_spec("recipes")
    if spec is None or not expected.is_dir():
        return
    places = [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or ""]]
    if expected in places:
        return
    shown = ", ".join(map(str, places))
    raise ConfigError(
        f"{shown} stands before lightkit's own {expected} on sys.path, and both are called 'recipes'; "
        "rename yours, or start from another folder with the command `lightkit`"
    )


def find(path: str, base: type | None) -> Callable[..., object] | None:
    """The class that `path` names, which is or derives from `base`; a bare name is one of the base's subclasses.

    None for a bare name without a base. Raises ClassPathError where there is no such class, or one of another kind.
    """
    if len(path) > MAX_PATH:
        raise ClassPathError(f"class_path {path[:37] + '...'!r}: no class has a path of {len(path):,} characters")
    path = plain_class_path(path)
    if "." not in path:
        if base is None:
            return None
        imported = [base]
        for cls in imported:  # it grows meanwhile
            imported += cls.__subclasses__()
        known = {cls.__name__: cls for cls in reversed(imported)}
        if path not in known:
            raise ClassPathError(f"class_path {path!r}: no {base.__name__} of that name{did_you_mean(path, known)}")
        return known[path]
    thing = resolve(path)
    if base is None:
        return thing
    if inspect.isclass(thing):
        if not issubclass(thing, base):
            raise ClassPathError(f"class_path {path!r}: {thing.__name__} is not a {base.__name__}")
    elif not _returns(thing, base):
        raise ClassPathError(
            f"class_path {path!r}: this is a {type(thing).__name__}, and not annotated to return a {base.__name__}"
        )
    return thing


def _returns(function: Callable[..., object], base: type) -> bool:
    """Whether a function says by its annotation that it makes one of these; jsonargparse calls no other."""
    try:
        made = get_type_hints(function).get("return")
    except (TypeError, NameError, AttributeError):  # it has none that can be read
        return False
    return inspect.isclass(made) and issubclass(made, base)


class Arguments:
    """The arguments that may stand below one key: those of a parser whose names begin with `prefix`.

    `owner` is the class whose arguments they are, where that is not fixed. `names` has a group of arguments once;
    those that are `required` have no default.
    """

    def __init__(self, parser: ArgumentParser, prefix: str = "", owner: str = "") -> None:
        self.parser, self.prefix, self.owner = parser, prefix, owner
        self.actions = {a.dest.removeprefix(prefix): a for a in parser._actions if a.dest.startswith(prefix)}
        names = dict.fromkeys(name.partition(".")[0] for name in self.actions)
        self.names = [name for name in names if name not in ("config", "help", "print_config")]
        needed = [(name, a) for name, a in self.actions.items() if a.required and a.option_strings]
        self.required = [name for name, action in needed if action.default is None]  # a script may have set one

    def hint(self, name: str) -> object | None:
        """The annotation of an argument; None for a group, and where jsonargparse was given a plain function."""
        return getattr(self.actions.get(name), "_typehint", None)

    def is_default(self, name: str, value: object) -> bool:
        """Whether a string is the default, which jsonargparse takes whatever the annotation says."""
        return isinstance(value, str) and name in self.actions and self.actions[name].default == value

    def group(self, name: str) -> Arguments | None:
        """The arguments that stand directly below the key, as those of `trainer` do; None where it has a value."""
        inner = Arguments(self.parser, f"{self.prefix}{name}.", self.owner and name)
        return inner if self.hint(name) is None and inner.names else None


@cache
def arguments_of(thing: Callable[..., object], skip: frozenset[str] = frozenset()) -> Arguments | None:
    """What a class or function accepts as keywords, also those of its parents through **kwargs.

    None where that cannot be told; then nothing is checked before jsonargparse does.
    """
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    add = parser.add_class_arguments if inspect.isclass(thing) else parser.add_function_arguments
    try:
        inspect.signature(thing.__init__ if inspect.isclass(thing) else thing)
        add(thing, skip=set(skip), fail_untyped=False)
    except Exception:  # jsonargparse's own limits are no error of the user's
        return None
    return Arguments(parser, owner=getattr(thing, "__name__", ""))


def parameters_of(thing: Callable[..., object], skip: Iterable[str] = ()) -> list[str] | None:
    """Names that a class or function accepts as keywords; None where they cannot be told."""
    arguments = arguments_of(thing, frozenset(skip))
    return None if arguments is None else arguments.names

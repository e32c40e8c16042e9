"""One pass over every YAML node and every option against the annotations of the parameters they are for.

jsonargparse stops at the first problem and knows no lines. Here each key, class and value is looked at for itself,
before anything is built or any data is touched: whether a value will do is jsonargparse's verdict on that one value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightkit.cli import classes
from lightkit.cli.documents import (
    COMMAND_LINE,
    Document,
    Problem,
    children,
    entries,
    entry,
    is_null,
    is_string,
    kind_of,
)
from lightkit.cli.loading import CLASS_SPEC_KEYS, value_of
from lightkit.cli.options import Option, OptionNode, is_help
from lightkit.cli.sections import Kinds
from lightkit.cli.type_hints import accepts, class_base, members, name_of, part_hints
from lightkit.errors import ConfigError, did_you_mean
from lightkit.settings import REMOVED, refuse_unknown

# What the command line gives these classes itself.
GIVEN = {"optimizer": frozenset({"params"}), "lr_scheduler": frozenset({"optimizer"})}
NO_KEYS = ("config", "help", "print_config")


@dataclass(frozen=True)
class Where:
    """Which key: `full` is as in the file, `plain` as an option, without init_args and numbers of items."""

    full: str = ""
    plain: str = ""
    is_item: bool = False

    def key(self, name: str) -> Where:
        dot = "." if self.plain else ""
        return replace(self, full=f"{self.full}{dot}{name}", plain=f"{self.plain}{dot}{name}")

    def part(self, step: str) -> Where:
        return replace(self, full=self.full + step, is_item=self.is_item or step.startswith("["))


@dataclass(frozen=True)
class Arguments:
    """The arguments that may stand below one key: those of a parser whose names begin with `prefix`.

    `owner` is the class whose arguments they are, where that is not fixed.
    """

    parser: ArgumentParser
    prefix: str = ""
    owner: str = ""

    @property
    def names(self) -> list[str]:
        """The keys, a group of arguments once."""
        keys = [a.dest.removeprefix(self.prefix) for a in self.parser._actions if a.dest.startswith(self.prefix)]
        return [key for key in dict.fromkeys(key.partition(".")[0] for key in keys) if key not in NO_KEYS]

    @property
    def required(self) -> list[str]:
        """The arguments without a default."""
        required = [a.dest for a in self.parser._actions if a.required and a.option_strings]
        return [name.removeprefix(self.prefix) for name in required if name.startswith(self.prefix)]

    def hint(self, name: str) -> object | None:
        """The annotation of an argument; None for a group, and where jsonargparse was given a plain function."""
        actions = [action for action in self.parser._actions if action.dest == self.prefix + name]
        return next((hint for action in actions if (hint := getattr(action, "_typehint", None)) is not None), None)

    def is_default(self, name: str, value: object) -> bool:
        """Whether a string is the default, which jsonargparse takes whatever the annotation says."""
        defaults = [a.default for a in self.parser._actions if a.dest == self.prefix + name]
        return any(isinstance(default, str) and default == value for default in defaults)

    def group(self, name: str) -> Arguments | None:
        """The arguments that stand directly below the key, as those of `trainer` do; None where it has a value."""
        inner = Arguments(self.parser, f"{self.prefix}{name}.", self.owner and name)
        return inner if self.hint(name) is None and inner.names else None


@dataclass(frozen=True)
class Need:
    """A class that was named without all it needs; options may still give it."""

    where: Where
    names: list[str]
    problem: Problem


@dataclass
class Checker:
    """Walks config files and options in turn, and collects what is wrong."""

    top: Arguments
    kinds: Kinds
    problems: list[Problem] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    # plain keys that have a value, and the class named last for a key, None where it cannot be told
    given: set[str] = field(default_factory=set)
    named: dict[str, Callable[..., object] | None] = field(default_factory=dict)
    source: str = COMMAND_LINE
    option: Option | None = None  # the one that is looked at

    @property
    def noted(self) -> int:
        """How much was found to be wrong or missing until now."""
        return len(self.problems) + len(self.needs)

    def problem(self, node: Node, text: str, *, is_value: bool) -> Problem:
        """What is wrong with `node`, with its place."""
        if self.option is not None:
            return Problem(COMMAND_LINE, 0, text, is_value, self.option)
        return Problem(self.source, node.start_mark.line + 1, text, is_value, node)

    def add(self, node: Node, text: str, *, is_value: bool = False) -> None:
        self.problems.append(self.problem(node, text, is_value=is_value))

    def read(self, node: Node) -> object:
        """What jsonargparse gets to judge: a single value of an option as it was typed."""
        is_typed = self.option is not None and node is self.option.value and isinstance(node, ScalarNode)
        return self.option.texts[0] if self.option is not None and is_typed else value_of(node)

    def check_document(self, document: Document) -> None:
        """Check one config file; the trainer last, as it is built last."""
        self.source, self.option = str(document.path), None
        self.check_names(document.root, Where(), self.top.names)
        for name, _, value in sorted(entries(document.root), key=lambda found: found[0] == "trainer"):
            if name in self.top.names:
                self.check_argument(value, Where().key(name), self.top, name)

    def check_names(self, node: MappingNode, where: Where, allowed: list[str] | None, owner: str = "") -> bool:
        """Report unknown and repeated keys of one mapping; return whether all is right."""
        seen: dict[str, Node] = {}
        before = len(self.problems)
        for name, key, value in entries(node):
            full = where.key(name).full
            if name in seen:
                self.add(key, f"{full}: given twice, first in line {seen[name].start_mark.line + 1}")
            elif allowed is not None and name not in allowed:
                if not isinstance(node, OptionNode) or self.option is None:
                    self.add(key, f"{full}: {what_to_write(where.full, name, value, allowed)}")
                elif owner:
                    self.add(key, f"{where.plain}: {owner} has no {name!r}{did_you_mean(name, allowed)}")
                else:
                    known = [name for name in self.top.parser._option_string_actions if not name.endswith("+")]
                    self.add(key, f"unknown option {self.option.name}{did_you_mean(self.option.name, known)}")
            seen[name] = key
        return len(self.problems) == before

    def check_option(self, option: Option) -> None:
        """Check one option: that there is a parameter of its name, and that it takes the value."""
        parser, plain, before, value = self.top.parser, ".".join(option.keys), self.noted, option.value
        action = parser._option_string_actions.get(option.name)
        self.option, stood_before = option, plain in self.given
        if is_help(option) or (action is not None and action.nargs == 0):
            return
        if action is not None and action.dest != plain:  # another name, added by a script
            self.given.add(action.dest)
            return
        if not option.name.startswith("-"):
            if all(known.option_strings for known in parser._actions):
                self.add(value, f"{option.name!r} is not expected here; options start with --")
            return
        if len(option.keys) == 1 and is_string(value) and value.value.endswith((".yaml", ".yml")):
            self.given.add(plain)  # jsonargparse reads that file
            self.named[plain] = None
            return
        if not option.name.endswith("+"):
            self.forget_needs(plain)
        self.check_arguments(option.node, Where("--"), self.top)
        if not option.texts and self.noted == before and (action is None or action.nargs is None):
            self.add(value, f"{option.name}: expected one argument")
        if stood_before and isinstance(value, SequenceNode):
            self.forget_needs(plain)  # items keep arguments of those that stood there before
        if is_null(value):
            self.given.discard(plain)

    def forget_needs(self, plain: str) -> None:
        """Forget what the value that stood for a key until now was in need of."""
        self.needs = [need for need in self.needs if not f"{need.where.plain}.".startswith(f"{plain}.")]

    def check_argument(self, node: Node, where: Where, arguments: Arguments, name: str) -> None:
        """Check what is given for one argument."""
        group, hint = arguments.group(name), arguments.hint(name)
        if group is not None:
            if not self.check_arguments(node, where, group):
                self.given.update(where.key(required).plain for required in group.required)
        elif isinstance(node, OptionNode):
            self.check_part(node, where, hint)
        elif where.plain in self.kinds.bases:
            self.check_class(node, where, self.kinds.bases[where.plain])
        elif hint is not None and not (isinstance(node, ScalarNode) and arguments.is_default(name, value_of(node))):
            self.check_value(node, where, hint)

    def check_part(self, node: OptionNode, where: Where, hint: object) -> None:
        """Check an option that reaches into the value of an argument: a class's, the one named last, or a mapping's."""
        thing = self.named.get(where.plain, self.kinds.bases.get(where.plain, class_base(hint)))
        parser = None if thing is None else classes.parser_of(thing, GIVEN.get(where.plain, frozenset()))
        if parser is not None:
            self.check_arguments(node, where, Arguments(parser, owner=getattr(thing, "__name__", "")))
            return
        for (_, value), inner in zip(children(node), part_hints(hint, node) or (), strict=False):
            self.check_value(value, where, inner)

    def check_arguments(self, node: Node, where: Where, arguments: Arguments | None) -> bool:
        """Check a mapping of arguments, its keys and values; return whether the keys are right."""
        if is_null(node):
            return True
        if not isinstance(node, MappingNode):
            self.add(node, f"{where.full}: expected keys and values, found a {kind_of(node)}")
            return False
        names, owner = (None, "") if arguments is None else (arguments.names, arguments.owner)
        is_right = self.check_names(node, where, names, owner)
        for name, _, value in entries(node):
            inner = where.key(name)
            if not where.is_item:
                self.given.add(inner.plain)
            if arguments is None:
                self.check_value(value, inner, Any)
            elif name in arguments.names:
                self.check_argument(value, inner, arguments, name)
        return is_right

    def check_value(self, node: Node, where: Where, hint: object) -> None:
        """Check one value against an annotation."""
        if is_null(node):
            return
        before, cls, hints = self.noted, class_base(hint), part_hints(hint, node)
        if not holds_spec(node) and accepts(hint, self.read(node)):
            if is_string(node) and str not in members(hint):
                self.named[where.plain] = self.class_of(node, where, cls)
            return
        is_right = holds_spec(node)
        if is_spec(node) or (cls is not None and is_string(node) and "." in node.value):
            self.check_class(node, where, cls)
            is_right = cls is not None or accepts(hint, value_of(node))
        elif hints is not None:
            if isinstance(node, MappingNode):
                self.check_names(node, where, None)
            for (step, part), inner in zip(children(node), hints, strict=False):
                self.check_value(part, where.part(step), inner)
        elif cls is not None and isinstance(node, MappingNode) and classes.parameters_of(cls):
            self.check_built(node, node, where, cls, cls)
        elif cls is not None and isinstance(node, MappingNode):
            self.check_class(node, where, cls)
        else:
            is_right = False
        if not is_right and self.noted == before:
            self.add(node, f"{where.plain}: expected {name_of(hint)}, got {str(value_of(node))!r}", is_value=True)

    def check_class(self, node: Node, where: Where, base: type | None) -> None:
        """Check one class spec: that the class can be imported and is of the right kind, then its arguments."""
        if is_null(node):
            return
        self.given.add(where.plain)
        self.named[where.plain] = None
        spec = entry(node, "class_path") if isinstance(node, MappingNode) else node
        if not isinstance(spec, ScalarNode):
            self.add(node, f"{where.full}: expected class_path: and init_args:, found {_found(node)}")
            return
        is_right = not isinstance(node, MappingNode) or self.check_names(node, where, list(CLASS_SPEC_KEYS))
        thing = self.named[where.plain] = self.class_of(spec, where, base, report=True)
        if thing is not None:
            inside = where.part(".init_args")
            self.check_built(node, entry(node, "init_args"), inside, thing, base if is_right else None)

    def class_of(
        self, spec: Node, where: Where, base: type | None, *, report: bool = False
    ) -> Callable[..., object] | None:
        """The class that a node names, or None, with the problem noted where it is to be reported."""
        if not isinstance(spec, ScalarNode) or (base is None and not report):
            return None
        try:
            return classes.find(str(spec.value), base)
        except classes.ClassPathError as error:
            if report:
                self.add(spec, f"{where.full}: {error}")
            return None

    def check_built(
        self, node: Node, arguments: Node | None, where: Where, thing: Callable[..., object], base: type | None
    ) -> None:
        """Check the arguments of a class, and note what it needs and is not given, unless `base` is None."""
        parser = classes.parser_of(thing, GIVEN.get(where.plain, frozenset()))
        accepted = None if parser is None else Arguments(parser)
        is_right = arguments is None or self.check_arguments(arguments, where, accepted)
        if accepted is None or base is None or not is_right:  # the key that is missing may be a misspelt one
            return
        own = [name for name, _, _ in entries(arguments)] if isinstance(arguments, MappingNode) else []
        missing = [name for name in accepted.required if name not in own]
        if missing:
            text = f"{where.plain}: {getattr(thing, '__name__', thing)} needs "
            self.needs.append(Need(where, missing, self.problem(node, text, is_value=True)))

    def add_missing(self) -> None:
        """Report what is needed and given nowhere."""
        for need in self.needs:
            names = [name for name in need.names if need.where.key(name).plain not in self.given]
            if names:
                text = f"{need.problem.text}{', '.join(names)}, which is not given"
                self.problems.append(replace(need.problem, text=text))
        required = [*self.top.required, *({"model"} - self.kinds.fixed)]
        names = [name for name in required if name not in self.given]
        if names and self.source == COMMAND_LINE:
            hint = "give a CONFIG, `lightkit list` shows the shipped ones"
            self.problems.append(Problem("missing", 0, f"{', '.join(names)}; {hint}", is_value=True))
        elif names:
            self.problems.append(Problem(self.source, 0, f"missing: {', '.join(names)}", is_value=True))


def what_to_write(where: str, name: str, value: Node, allowed: list[str]) -> str:
    """The end of the message for an unknown key, or what to write for one that Lightning once had."""
    if where == "trainer" and name in REMOVED:
        given = yaml.safe_load(value.value) if isinstance(value, ScalarNode) else "..."
        try:
            refuse_unknown({name: given}, allowed)
        except ConfigError as error:
            return str(error).partition("): ")[2]
    return f"unknown key{did_you_mean(name, allowed)}"


def is_spec(node: Node) -> bool:
    return entry(node, "class_path") is not None


def holds_spec(node: Node) -> bool:
    """Whether a class spec stands in the value, at any depth."""
    return is_spec(node) or any(holds_spec(child) for _, child in children(node))


def _found(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "keys " + ", ".join(name for name, _, _ in entries(node)) if node.value else "nothing"
    return f"a {kind_of(node)}"

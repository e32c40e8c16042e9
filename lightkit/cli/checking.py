"""One pass over every YAML node and every option against the annotations of the parameters they are for.

jsonargparse stops at the first problem and knows no lines. Here each key, class and value is looked at for itself,
before anything is built or any data is touched: whether a value will do is jsonargparse's verdict on that one value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightkit.cli import classes
from lightkit.cli.classes import Arguments, Kinds
from lightkit.cli.documents import (
    COMMAND_LINE,
    Problem,
    children,
    entries,
    entry,
    is_null,
    is_string,
    kind_of,
    scalars,
    written,
)
from lightkit.cli.loading import CLASS_SPEC_KEYS, read_document, value_of
from lightkit.cli.options import Option, OptionNode, is_help
from lightkit.cli.parser import LightkitArgumentParser
from lightkit.cli.type_hints import accepts, class_base, members, name_of, part_hints
from lightkit.errors import did_you_mean
from lightkit.plain_yaml import MERGE
from lightkit.removed_arguments import REMOVED, what_now

_OTHER_BASE = re.compile(r"[-+]?0[0-7_]*[0-7]|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")


class Where(NamedTuple):
    """Which key: `full` is as in the file, `plain` as an option, without init_args and numbers of items."""

    full: str = ""
    plain: str = ""

    def key(self, name: str) -> Where:
        dot = "." if self.plain else ""
        return Where(f"{self.full}{dot}{name}", f"{self.plain}{dot}{name}")

    def part(self, step: str) -> Where:
        return Where(self.full + step, self.plain)


@dataclass
class Checker:
    """Walks config files and options in turn, and collects what is wrong."""

    parser: LightkitArgumentParser
    top: Arguments
    kinds: Kinds
    options: list[Option]
    documents: list[MappingNode] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    # classes that were named without all they need, which options may still give: their key, the names, the problem
    needs: list[tuple[Where, list[str], Problem]] = field(default_factory=list)
    # plain keys that have a value, and the class named last for a key, None where it cannot be told
    given: set[str] = field(default_factory=set)
    named: dict[str, Callable[..., object] | None] = field(default_factory=dict)
    # what was wrong and is given anew later on: it is not read at all
    cuts: list[object] = field(default_factory=list)
    is_rewritten: bool = False  # documents are not what the files have
    source: str = COMMAND_LINE
    option: Option | None = None  # the one that is looked at

    @property
    def bases(self) -> dict[str, type]:
        """By top-level key, what a class named there derives from."""
        return {**self.kinds.bases, **self.parser.bases}

    @property
    def noted(self) -> int:
        """How much was found to be wrong or missing until now."""
        return len(self.problems) + len(self.needs)

    def problem(self, node: Node, text: str, *, value_of: Where | None) -> Problem:
        """What is wrong with a node; `value_of` is the key of a value, None of all else."""
        of_value = (False, "", False) if value_of is None else (True, value_of.plain, "[" in value_of.full)
        is_value, key, is_in_list = of_value
        if self.option is not None:
            return Problem(COMMAND_LINE, 0, text, is_value, self.option, key, is_in_list)
        return Problem(self.source, node.start_mark.line + 1, text, is_value, node, key, is_in_list)

    def add(self, node: Node, text: str, *, value_of: Where | None = None) -> None:
        self.problems.append(self.problem(node, text, value_of=value_of))

    def check(self) -> None:
        """Check every config file and option in the order in which they are given."""
        for option in self.options:
            if option.name != "--config":
                self.check_option(option)
            elif option.texts:
                self.documents.append(self.read(Path(option.texts[0])))
                self.check_document(self.documents[-1])
        if not any(map(is_help, self.options)):
            self.add_missing()

    def read(self, path: Path) -> MappingNode:
        """Read a config file; what stands in `${...}` is put in where the parser asks for it."""
        root = read_document(path)
        if self.parser.resolves and any("${" in scalar.value for scalar in scalars(root)):
            from lightkit.cli.interpolation import resolve

            self.is_rewritten = True
            resolve(root, path)
        return root

    def check_document(self, root: MappingNode) -> None:
        """Check one config file; the trainer last, as it is built last."""
        self.source, self.option = root.start_mark.name, None
        root.value.sort(key=lambda pair: pair[0].value == "trainer")
        before = len(self.problems)
        self.check_arguments(root, Where(), self.top)
        self.forget_overridden(root, before)

    def check_option(self, option: Option) -> None:
        """Check one option: that there is a parameter of its name, and that it takes the value."""
        parser, plain, before, value = self.top.parser, ".".join(option.keys), self.noted, option.value
        problems_before = len(self.problems)
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
        if not option.name.endswith("+"):
            self.forget_overridden(option.node, problems_before)
        if not option.texts and self.noted == before and (action is None or action.nargs is None):
            self.add(value, f"{option.name}: expected one argument")
        if stood_before and isinstance(value, SequenceNode):
            self.forget_needs(plain)  # items keep arguments of those that stood there before
        if is_null(value):
            self.given.discard(plain)

    def forget_needs(self, plain: str) -> None:
        """Forget what the value that stood for a key until now was in need of."""
        self.needs = [need for need in self.needs if not f"{need[0].plain}.".startswith(f"{plain}.")]

    def forget_overridden(self, node: Node, before: int) -> None:
        """Forget the values that were wrong in what came `before` this node, and are given anew, and right, in it."""
        older, newer = self.problems[:before], self.problems[before:]
        wrong = {problem.key for problem in newer}
        gone = [p for p in older if p.key and p.key not in wrong and self.is_given_anew(p, node)]
        self.cuts += [problem.cut for problem in gone]
        self.problems = [*(problem for problem in older if problem not in gone), *newer]

    def is_given_anew(self, problem: Problem, node: Node) -> bool:
        """Whether a value, or what it stands in, is replaced where `node` is read after it."""
        keys = problem.key.split(".")
        for number, key in enumerate(keys):
            inner = entry(node, key) or entry(entry(node, "init_args"), key)
            if inner is None:
                break
            node = inner
            if not isinstance(node, MappingNode):
                is_last = number == len(keys) - 1
                return is_last or not is_string(node) or self.drops(".".join(keys[: number + 1]), keys[number + 1])
        else:
            return not problem.is_in_list
        return number > 0 and is_spec(node) and self.drops(".".join(keys[:number]), keys[number])

    def drops(self, plain: str, name: str) -> bool:
        """Whether the class that is named now for a key has no such argument: what was given for it is left out."""
        thing = self.named.get(plain)
        names = None if thing is None else classes.parameters_of(thing)
        return names is not None and name not in names

    def check_inside(self, node: Node, where: Where, hint: object) -> None:
        """Report what jsonargparse takes without a word, at any depth: keys given twice, and what YAML has changed."""
        if isinstance(node, ScalarNode):
            self.check_base(node, where, hint)
            return
        if isinstance(node, MappingNode):
            self.check_names(node, where, None)
        for key in changed_keys(node, hint):
            text = f"{where.plain}: the key {key.value}, which YAML reads as {plainly(key)}; quote it: {key.value!r}"
            self.add(key, text, value_of=where)
        hints = part_hints(hint, node) or [Any] * len(node.value)
        for (step, child), inner in zip(children(node), hints, strict=False):
            self.check_inside(child, where.part(step), inner)

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
            if "[" not in where.full and not is_null(value):
                self.given.add(inner.plain)
            if arguments is None:
                self.check_value(value, inner, Any)
            elif name in arguments.names:
                self.check_argument(value, inner, arguments, name)
        return is_right

    def check_argument(self, node: Node, where: Where, arguments: Arguments, name: str) -> None:
        """Check what is given for one argument."""
        group, hint = arguments.group(name), arguments.hint(name)
        if group is not None:
            if not self.check_arguments(node, where, group):
                self.given.update(where.key(required).plain for required in group.required)
        elif isinstance(node, OptionNode):
            # below a class: the one named last, or the only one that it can be
            thing = self.named.get(where.plain, self.bases.get(where.plain, class_base(hint)))
            if thing is not None and self.arguments_of(thing, where) is not None:
                self.check_built(node, node, where, thing, None)
                return
            for (_, value), inner in zip(children(node), part_hints(hint, node) or (), strict=False):
                self.check_value(value, where, inner)
        elif where.plain in self.bases:
            self.check_class(node, where, self.bases[where.plain])
        elif hint is not None and not (isinstance(node, ScalarNode) and arguments.is_default(name, value_of(node))):
            self.check_value(node, where, hint)

    def check_value(self, node: Node, where: Where, hint: object) -> None:
        """Check one value against an annotation."""
        if is_null(node):
            return
        known = self.named.get(where.plain)
        if known is not None and "[" not in where.full and not is_spec(node) and entry(node, "init_args") is not None:
            assert isinstance(node, MappingNode)
            self.check_part(node, where, known)  # of the class that an earlier file, or option, has named
            return
        before, cls, hints, is_right = self.noted, class_base(hint), part_hints(hint, node), holds_spec(node)
        is_typed = self.option is not None and node is self.option.value and isinstance(node, ScalarNode)
        value = self.option.texts[0] if self.option is not None and is_typed else value_of(node)
        if not is_right and accepts(hint, value):
            self.check_inside(node, where, hint)
            if is_string(node) and cls is not None and str not in members(hint):
                self.named[where.plain] = None
                with suppress(classes.ClassPathError):
                    self.named[where.plain] = classes.find(node.value, cls)
            return
        if is_spec(node) or (cls is not None and is_string(node) and "." in node.value):
            self.check_class(node, where, cls)
            is_right = cls is not None or accepts(hint, value_of(node))
        elif hints is not None:
            if isinstance(node, MappingNode):
                self.check_names(node, where, None)
            for (step, part), inner in zip(children(node), hints, strict=False):
                self.check_value(part, where.part(step), inner)
        elif cls is not None and isinstance(node, MappingNode):
            if classes.parameters_of(cls):
                self.check_built(node, node, where, cls, cls)
            else:
                self.check_class(node, where, cls)
        else:
            is_right = False
        if not is_right and self.noted == before:
            got = repr(written(node)) if is_typed else as_read(node, hint)
            self.add(node, f"{where.plain}: expected {name_of(hint)}, got {got}", value_of=where)

    def check_base(self, node: ScalarNode, where: Where, hint: object) -> None:
        """Report a number that YAML reads in base 8 or 60: `010` is 8, `1:30` is 90."""
        if node.style or not _OTHER_BASE.fullmatch(node.value):
            return
        is_text = self.option is not None and node is self.option.value and str in members(hint)
        value = value_of(node)
        if isinstance(value, int | float) and not is_text:
            quoted = f", or quote it: {node.value!r}" if {str, Any} & set(members(hint)) else ""
            text = f"{where.plain}: {node.value}, which YAML reads as {value}; write {value}{quoted}"
            self.add(node, text, value_of=where)

    def check_class(self, node: Node, where: Where, base: type | None) -> None:
        """Check one class spec: that the class can be imported and is of the right kind, then its arguments."""
        if is_null(node):
            return
        self.given.add(where.plain)
        before, self.named[where.plain] = self.named.get(where.plain), None
        spec = entry(node, "class_path") if isinstance(node, MappingNode) else node
        if spec is None and before is not None and isinstance(node, MappingNode) and "[" not in where.full:
            self.named[where.plain] = before  # a part of the class that an earlier file, or option, has named
            self.check_part(node, where, before)
            return
        if not isinstance(spec, ScalarNode):
            found = f"a {kind_of(node)}"
            if isinstance(node, MappingNode):
                found = f"keys {', '.join(name for name, _, _ in entries(node))}" if node.value else "nothing"
            self.add(node, f"{where.full}: expected class_path: and init_args:, found {found}")
            return
        is_right = not isinstance(node, MappingNode) or self.check_names(node, where, list(CLASS_SPEC_KEYS))
        try:
            thing = self.named[where.plain] = classes.find(str(spec.value), base)
        except classes.ClassPathError as error:
            self.add(spec, f"{where.full}: {error}")
            return
        if thing is not None:
            inside = where.part(".init_args")
            self.check_built(node, entry(node, "init_args"), inside, thing, base if is_right else None)

    def check_part(self, node: MappingNode, where: Where, thing: Callable[..., object]) -> None:
        """Check more arguments of a class: below `init_args`, or as they are."""
        names = [name for name, _, _ in entries(node)]
        if not set(names) & set(CLASS_SPEC_KEYS):
            self.check_built(node, node, where, thing, None)
        elif self.check_names(node, where, list(CLASS_SPEC_KEYS)):
            self.check_built(node, entry(node, "init_args"), where.part(".init_args"), thing, None)

    def check_built(
        self, node: Node, given: Node | None, where: Where, thing: Callable[..., object], base: type | None
    ) -> None:
        """Check the arguments of a class, and note what it needs and is not given, unless `base` is None."""
        arguments = self.arguments_of(thing, where)
        is_right = given is None or self.check_arguments(given, where, arguments)
        if arguments is None or base is None or not is_right:  # the key that is missing may be a misspelt one
            return
        missing = [name for name in arguments.required if entry(given, name) is None]
        if missing:
            text = f"{where.plain}: {getattr(thing, '__name__', thing)} needs "
            self.needs.append((where, missing, self.problem(node, text, value_of=where)))

    def arguments_of(self, thing: Callable[..., object], where: Where) -> Arguments | None:
        return classes.arguments_of(thing, self.parser.supplied.get(where.plain, frozenset()))

    def add_missing(self) -> None:
        """Report what is needed and given nowhere."""
        for where, missing, problem in self.needs:
            names = [name for name in missing if where.key(name).plain not in self.given]
            if names:
                text = f"{problem.text}{', '.join(names)}, which is not given"
                self.problems.append(replace(problem, text=text))
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
        return what_now(name, value_of(value) if isinstance(value, ScalarNode) else "...")
    return f"unknown key{did_you_mean(name, allowed)}"


def as_read(node: Node, hint: object) -> str:
    """A value as the file has it, with what YAML makes of it and whether it should be quoted."""
    if not isinstance(node, ScalarNode):
        return repr(written(node))
    value, advice = value_of(node), ""
    if not node.style and not isinstance(value, str):
        advice = f"; quote it: {node.value!r}" if accepts(hint, node.value) else ""
        if advice or str(value) != node.value:
            return f"{written(node)}, which YAML reads as {plainly(node)}{advice}"
    return repr(written(node))


def plainly(node: Node) -> str:
    """What YAML makes of a single value, in words: `the float 2.5`, `true`, `null`."""
    value = value_of(node)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"the {type(value).__name__} {value}"


def changed_keys(node: Node, hint: object) -> list[ScalarNode]:
    """The keys of a mapping that YAML reads as no text, where text is asked for, or where nobody would expect it."""
    if not isinstance(node, MappingNode):
        return []
    plain = [key for key, _ in node.value if not key.style and key.tag != MERGE]
    is_text = any(get_args(member)[:1] == (str,) for member in members(hint))
    found = [(key, value_of(key)) for key in plain]
    return [
        key for key, value in found
        if not isinstance(value, str)
        and (is_text or value is None or isinstance(value, bool) or _OTHER_BASE.fullmatch(key.value))
    ]  # fmt: skip


def is_spec(node: Node) -> bool:
    return entry(node, "class_path") is not None


def holds_spec(node: Node) -> bool:
    """Whether a class spec stands in the value, at any depth."""
    return is_spec(node) or any(holds_spec(child) for _, child in children(node))

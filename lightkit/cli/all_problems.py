"""Every value in a configuration that cannot be, not only the first: parse, note, leave it out, parse again."""

from __future__ import annotations

import argparse
import copy
import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from yaml.nodes import MappingNode, Node, SequenceNode

from lightkit.cli.check_keys import Document, entry
from lightkit.cli.explain import explain
from lightkit.errors import ConfigError

MAX_PROBLEMS = 20


def parse_all(
    parser: ArgumentParser, arguments: list[str], documents: list[Document], scratch: Path
) -> tuple[Any, list[str]]:
    """Parse, and return the values with every problem; the values are those without what was wrong.

    None stands for the values where a problem cannot be left out, such as a missing model. `scratch` takes
    copies of the files without the wrong values.
    """
    problems: list[str] = []
    roots = {str(document.path): copy.deepcopy(document.root) for document in documents}
    arguments = list(arguments)
    while len(problems) < MAX_PROBLEMS:
        try:
            return parser.parse_args(_with_files(arguments, roots, scratch) if problems else arguments), problems
        except argparse.ArgumentError as error:
            text = str(error)
            problem = explain(text, documents, parser, arguments)
            if problem in problems:
                break
            problems.append(problem)
            if not _leave_out(text, arguments, roots):
                break
        except ConfigError as error:
            problems.append(str(error))
            break
    return None, problems


def _with_files(arguments: list[str], roots: dict[str, MappingNode], scratch: Path) -> list[str]:
    """The arguments, with what is left of each config file in the place of the file."""
    places = {}
    for number, (path, root) in enumerate(roots.items()):
        places[path] = scratch / f"config_{number}.yaml"
        places[path].write_text(yaml.serialize(root, Dumper=yaml.SafeDumper), encoding="utf-8")
    found = []
    for argument in arguments:
        plain = argument.removeprefix("--config=")
        prefix = argument[: len(argument) - len(plain)]
        found.append(f"{prefix}{places.get(plain, plain)}")
    return found


def _leave_out(text: str, arguments: list[str], roots: dict[str, MappingNode]) -> bool:
    """Take the value that was complained about out of the command line or out of a file."""
    keys = [part for key in re.findall(r'Parser key "([^"]+)"', text) for part in key.split(".")]
    named = [cls.rpartition(".")[2] for cls in re.findall(r"given class_path '([^']+)'", text)]
    if not keys or keys in (["model"], ["data"]):
        return False
    wanted = ".".join(key for key in keys if key != "init_args")
    for number, argument in enumerate(arguments):
        option, equals, _ = argument.partition("=")
        if option.removeprefix("--").replace(".init_args", "") == wanted:
            follows = not equals and number + 1 < len(arguments) and not arguments[number + 1].startswith("--")
            del arguments[number : number + 2 if follows else number + 1]
            return True
    return any(_remove(root, keys, named) for root in reversed(list(roots.values())))


def _remove(root: Node, keys: list[str], named: list[str]) -> bool:
    """Delete the entry that the keys lead to, through init_args and into the list item complained about."""
    node: Node | None = root
    for part in keys[:-1]:
        node = _into_item(node, named)
        inside = entry(node, "init_args") if node is not None else None
        node = (entry(node, part) if node is not None else None) or (entry(inside, part) if inside else None)
    node = _into_item(node, named)
    for mapping in (node, entry(node, "init_args") if node is not None else None):
        if isinstance(mapping, MappingNode):
            kept = [pair for pair in mapping.value if str(pair[0].value) != keys[-1]]
            if len(kept) < len(mapping.value):
                mapping.value = kept
                return True
    return False


def _into_item(node: Node | None, named: list[str]) -> Node | None:
    """The list item whose class was complained about."""
    if not isinstance(node, SequenceNode):
        return node
    for item in node.value:
        spec = entry(item, "class_path")
        if spec is not None and str(spec.value).rpartition(".")[2] in named:
            found: Node = item
            return found
    return None

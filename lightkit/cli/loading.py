"""How our YAML is read: class specs written out in full, Lightning's class paths turned into ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader, set_parsing_settings
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightkit.cli import classes
from lightkit.cli.documents import compose_text, composed, is_null, is_string, kind_of
from lightkit.cli.parser import PARSER_MODE
from lightkit.errors import ConfigError
from lightkit.plain_yaml import MAPPING, STRING, compose

# Where a class and its arguments may be written in short: `- ModelCheckpoint: {monitor: val_loss}`.
SHORT_SPECS = (("trainer", "callbacks"), ("trainer", "logger"))
CLASS_SPEC_KEYS = ("class_path", "init_args", "dict_kwargs")


def register_loader() -> None:
    """Make jsonargparse read configs, and values of options, by `load_value`."""
    set_loader(PARSER_MODE, load_value, (yaml.YAMLError,))
    # a class named where any value is accepted is built too; what jsonargparse calls dangerous is refused
    set_parsing_settings(instantiate_subclass_spec_in_any=True, import_path_denylist=[])


def load_value(text: str) -> Any:
    """jsonargparse's YAML (`1e-3` is a float), with class specs in the form and of the paths that it knows."""
    node = compose(text)  # raises YAMLError before anything is made of what is not taken here
    value = get_loader("yaml")(text)
    return value_of(in_full(node)) if node is not None and isinstance(value, dict | list) else value


def value_of(node: Node) -> Any:
    """The value that jsonargparse reads from a node."""
    if is_null(node):  # nothing at all is no document that can be read again
        return None
    return get_loader("yaml")(yaml.serialize(node, Dumper=yaml.SafeDumper))


def read_document(path: Path) -> MappingNode:
    """Compose the YAML in `path`, class specs in full; raises ConfigError where it is no YAML, empty, or no mapping."""
    root = composed(path)
    if root is None:
        raise ConfigError(f"{path}: empty; it should hold keys such as model: and trainer:")
    if not isinstance(root, MappingNode):
        line = root.start_mark.line + 1
        raise ConfigError(f"{path}:{line}: expected keys such as model: and trainer:, found a {kind_of(root)}")
    in_full(root)
    return root


def in_full(node: Node, keys: tuple[str, ...] = ()) -> Node:
    """Write out the class specs in what stands below `keys`: `{Name: {argument: 1}}` as class_path and init_args.

    Each node keeps its line.
    """
    if isinstance(node, SequenceNode):
        node.value = [in_full(item, keys) for item in node.value]
        return node
    if keys in SHORT_SPECS:
        node = _spec_in_full(node)
    if isinstance(node, MappingNode):
        node.value = [(key, in_full(value, (*keys, str(key.value)))) for key, value in node.value]
    elif keys[-1:] == ("class_path",) and is_string(node):
        return ScalarNode(node.tag, classes.plain_class_path(node.value), node.start_mark, node.end_mark)
    return node


def _spec_in_full(node: Node) -> Node:
    spec: list[tuple[Node, Node]] = []
    if is_string(node):
        spec = [(ScalarNode(STRING, "class_path"), node)]
    elif isinstance(node, MappingNode) and len(node.value) == 1 and node.value[0][0].value not in CLASS_SPEC_KEYS:
        [(name, arguments)] = node.value
        spec = [(ScalarNode(STRING, "class_path"), name)]
        spec += [] if is_null(arguments) else [(ScalarNode(STRING, "init_args"), arguments)]
    return MappingNode(MAPPING, spec, node.start_mark, node.end_mark) if spec else node


def option_in_full(option: str, text: str) -> str:
    """The text of an option with the class specs in it written out."""
    keys = tuple(option.removeprefix("--").removesuffix("+").split("."))
    if keys not in SHORT_SPECS:
        return classes.plain_class_path(text)
    return str(yaml.serialize(in_full(compose_text(text), keys), Dumper=yaml.SafeDumper))

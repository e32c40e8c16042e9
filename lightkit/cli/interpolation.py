"""`${...}` in a config file, resolved by OmegaConf; each node keeps its line. Imported where a parser asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from lightkit.cli.documents import children
from lightkit.errors import ConfigError, require
from lightkit.plain_yaml import compose


def resolve(root: MappingNode, path: Path) -> None:
    """Put the values in; raises ConfigError for what leads nowhere."""
    omegaconf: Any = require("omegaconf", "dev", needed_by="parser_mode='omegaconf'")
    text = yaml.serialize(root, Dumper=yaml.SafeDumper)
    try:
        resolved = omegaconf.OmegaConf.to_container(omegaconf.OmegaConf.create(text), resolve=True)
    except omegaconf.errors.OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    _put_in(root, resolved)


def _put_in(node: Node, value: Any) -> None:
    values = list(value.values()) if isinstance(node, MappingNode) else value
    for number, (_, child) in enumerate(children(node)):
        if isinstance(child, ScalarNode) and "${" in child.value:
            _replace(node, number, _node_of(values[number], child))
        elif not isinstance(child, ScalarNode):
            _put_in(child, values[number])


def _node_of(value: Any, at: Node) -> Node:
    node = compose(yaml.safe_dump(value))
    assert node is not None
    node.start_mark, node.end_mark = at.start_mark, at.end_mark
    return node


def _replace(node: Node, number: int, value: Node) -> None:
    if isinstance(node, MappingNode):
        node.value[number] = (node.value[number][0], value)
    else:
        node.value[number] = value

"""jsonargparse's messages in one line: which file and line, which key, what was expected, what arrived."""

from __future__ import annotations

import re

from jsonargparse import ArgumentParser
from yaml.nodes import MappingNode, Node, SequenceNode

from lightkit.cli import classes
from lightkit.cli.check_keys import Document, entry
from lightkit.errors import did_you_mean


def explain(text: str, documents: list[Document], parser: ArgumentParser, arguments: list[str]) -> str:
    """Turn jsonargparse's message into one line: where, what was expected, what arrived."""
    unknown = re.search(r"[Uu]nrecognized arguments: (.*)", text, re.S)
    if unknown:
        return _explain_unknown(unknown.group(1).split()[0], parser)
    keys = re.findall(r'Parser key "([^"]+)"', text)
    required = re.search(r"the following arguments are required: (.+)|[Kk]ey \"([^\"]+)\" is required", text)
    named = [cls.rpartition(".")[2] for cls in re.findall(r"given class_path '([^']+)'", text)]
    path = ".".join(keys) if keys else ""
    nested = re.search(r"NestedArg\(key='([^']+)'", text)  # from an option such as --model.lr
    place = "command line: " if nested else _place(documents, keys, named, arguments)
    if required:
        missing = ", ".join(filter(None, required.groups()))
        owner = f"{named[-1]} needs " if named else ""
        if not keys and not documents:
            return f"missing: {missing.strip()}; give a CONFIG, `lightkit list` shows the shipped ones"
        if not keys:
            return f"{_files(documents)}missing: {missing.strip()}"
        return f"{place}{path}: {owner}{missing.strip()}, which is not given"
    rejected = re.search(r"Option '([^']+)' is not accepted", text)
    if rejected and named:
        allowed = _parameters_by_name(named[-1], text) or []
        name = rejected.group(1)
        return f"{place}{path}: {named[-1]} has no {name!r}{did_you_mean(name, allowed)}"
    return f"{place}{path + ': ' if path else ''}{_expectation(text)}"


def _files(documents: list[Document]) -> str:
    return f"{documents[-1].path}: " if documents else ""


def _parameters_by_name(name: str, text: str) -> list[str] | None:
    full = [cls for cls in re.findall(r"given class_path '([^']+)'", text) if cls.endswith(name)]
    try:
        return classes.parameters_of(classes.resolve(full[-1]))
    except (classes.ClassPathError, IndexError):
        return None


def _explain_unknown(option: str, parser: ArgumentParser) -> str:
    known = [name for action in parser._actions for name in action.option_strings if not name.endswith("+")]
    name = option.partition("=")[0]
    if not name.startswith("-"):
        return f"command line: {option!r} is not expected here; options start with --"
    return f"command line: unknown option {name}{did_you_mean(name, known)}"


def _expectation(text: str) -> str:
    """`expected int or null, got 'abc'` from the innermost complaint."""
    single = re.findall(r"Expected (?:a|an) <class '([^']+)'>\. Got value: (.*)", text)
    if single:
        wanted, got = single[-1]
        return f"expected {_type_name(wanted)}, got {got.strip()!r}"
    # the innermost union is the one without another inside
    union = re.search(r"Subtypes: \[(.*)\]\n(?:(?!.*Subtypes: ).*\n)*?\s*Given value: (.*)", text)
    not_subclass = re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", text)
    if not_subclass:
        return f"{not_subclass.group(1)} is not a {not_subclass.group(2)}"
    if union:
        return f"expected {_type_names(union.group(1))}, got {union.group(2).strip()!r}"
    return " ".join(re.sub(r'^Parser key "[^"]+":', "", text).split())


def _type_names(subtypes: str) -> str:
    """`[<class 'int'>, <class 'NoneType'>]` -> `int or null`."""
    parts = re.findall(r"<class '([^']+)'>|((?:typing\.)?\w[\w.]*\[.*?\](?:\]*))", subtypes)
    names = [_type_name(plain or generic) for plain, generic in parts]
    return " or ".join(names) if names else subtypes


def _type_name(name: str) -> str:
    if name == "NoneType":
        return "null"
    if "[" in name:
        return name.removeprefix("typing.")
    return name.rpartition(".")[2]


def _place(documents: list[Document], keys: list[str], named: list[str], arguments: list[str]) -> str:
    """`file:line: ` of the value that the keys lead to, "command line: " where it was given there, or ""."""
    path = [part for key in keys for part in key.split(".")]
    plain = ".".join(path)
    for argument in arguments:
        option = argument.partition("=")[0].removeprefix("--").replace(".init_args", "")
        if plain and option == plain:
            return "command line: "
    for document in reversed(documents):
        node = _descend(document.root, path, named)
        if node is not None:
            return f"{document.path}:{node.start_mark.line + 1}: "
    return _files(documents)


def _descend(node: Node, path: list[str], named: list[str]) -> Node | None:
    """Follow the keys down, through init_args and into the list item of the class complained about."""
    for part in path:
        if isinstance(node, SequenceNode):
            node = next((item for item in node.value if _names_class(item, named)), node)
        inside = entry(node, "init_args")
        found = entry(node, part) or (entry(inside, part) if inside is not None else None)
        if found is None:
            return node if isinstance(node, MappingNode) else None
        node = found
    return node


def _names_class(node: Node, named: list[str]) -> bool:
    spec = entry(node, "class_path")
    return spec is not None and str(spec.value).rpartition(".")[2] in named

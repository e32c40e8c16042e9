"""Sizes: lines of code of a file (docstrings, comments and blank lines not counted), lines of a function."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

from benchmarks.structure.rows import Row, lines_of, sources

MOST_CODE_LINES = 450  # of a file
MOST_FUNCTION_LINES = 60
_NO_CODE = frozenset({
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    tokenize.ENCODING,
})  # fmt: skip


def code_lines(text: str) -> int:
    """Lines that hold code: a string of several lines counts by its lines, a docstring not at all."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def long_functions(text: str, most: int = MOST_FUNCTION_LINES) -> list[tuple[int, str, int]]:
    """(line, name, lines) of each function of more than `most` lines, all lines counted."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > most:
                found.append((node.lineno, node.name, lines))
    return found


def size_rows(root: Path) -> list[Row]:
    """The longest file by code lines, and the functions that are too long."""
    files, functions = [], []
    for path in sources(root):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(root)
        files.append((code_lines(text), str(name)))
        functions += [f"{name}:{line}  {function}: {lines} lines" for line, function, lines in long_functions(text)]
    files.sort(reverse=True)
    whole = sorted(((lines_of(path), path.name) for path in sources(root)), reverse=True)
    first = ", ".join(f"{Path(name).name} {lines}" for lines, name in files[:5])
    return [
        Row("file_lines", "code lines of the longest file", files[0][0], f"{files[0][0]} ({first})",
            [f"{lines:5}  {name}" for lines, name in files]),
        Row("whole_lines", "  with docstrings, comments and blanks", whole[0][0],
            f"{whole[0][0]} ({', '.join(f'{name} {lines}' for lines, name in whole[:5])})"),
        Row("code_lines", "  code lines in all", sum(lines for lines, _ in files)),
        Row("long_functions", f"functions over {MOST_FUNCTION_LINES} lines", len(functions), places=functions),
    ]  # fmt: skip

"""Texts that every machine has: lines of the running Python's own standard library, labelled with `tokenize`.

Classification: is a line code, a comment, or part of a docstring? Tagging: what is each token of a line of code?
The labels are those of Python's own tokenizer and of simple rules on its tokens, so they are exact; a network sees a
line alone, without the lines around it. Each file is in one part only. The files differ between versions of Python, and
with them the figures in the third digit.
"""

from __future__ import annotations

import ast
import keyword
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from lightkit.errors import ConfigError, DataError
from recipes.text.base import Parts, TextData
from recipes.text.fields import TextField
from recipes.text.rows import OnBadRow, Row

_LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}
# f-strings are several tokens from Python 3.12 on
_STRINGS = {
    number for name in ("STRING", "FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")
    if (number := getattr(tokenize, name, None)) is not None
}  # fmt: skip

Tokens = Sequence[tokenize.TokenInfo]


def library_files(owner: str, max_files: int) -> list[Path]:
    """Return modules of the standard library, evenly spread over its alphabet; at most `max_files`.

    Raises:
        DataError: this Python has no sources, as in some embedded ones.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    # _sysconfigdata_... is written when Python is built: one statement of a thousand lines that differs everywhere
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_sysconfigdata"))
    if len(files) < 10:
        raise DataError(f"{owner}: no sources of Python's standard library in {folder}; use another data module")
    step = max(1, len(files) // max_files)
    return files[::step][:max_files]


def tokens_of(path: Path) -> list[tokenize.TokenInfo]:
    """Return the tokens of a source file; none where it is not Python of this version."""
    try:
        with path.open("rb") as file:
            return list(tokenize.tokenize(file.readline))
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):
        return []


def parts_of(files: Sequence[Path], seed: int) -> dict[str, list[Path]]:
    """Deal files out: a tenth validates, a fifth tests, the others train."""
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    tenth = max(1, len(files) // 10)
    numbers = {"val": order[:tenth], "test": order[tenth : 3 * tenth], "train": order[3 * tenth :]}
    return {part: [files[i] for i in sorted(chosen)] for part, chosen in numbers.items()}


def label_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield number, text and label of every line that is not blank: "code", "comment" or "docstring".

    A docstring is a string that is a statement of its own; its lines may look like code. A line with code and a
    comment is code.
    """
    tokens = tokens_of(path)
    label_of: dict[int, str] = {}
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token.type in _LAYOUT:
            continue
        label = "code"
        if token.type == tokenize.COMMENT:
            label = "comment"
        elif token.type == tokenize.STRING and before.type in _LAYOUT and after.type == tokenize.NEWLINE:
            label = "docstring"
        for number in range(token.start[0], token.end[0] + 1):
            if label_of.get(number) != "code":
                label_of[number] = label
    for number, line in enumerate(_lines(tokens), start=1):
        if number in label_of and line.strip():
            yield number, line.strip(), label_of[number]


def _lines(tokens: Tokens) -> list[str]:
    """Return the lines of a source, as its tokens hold them."""
    lines: dict[int, str] = {}
    for token in tokens:
        # a token's `line` holds all lines of the token, or of the statement up to it
        for offset, line in enumerate(token.line.removesuffix("\n").split("\n")):
            lines.setdefault(token.start[0] + offset, line)
    return [lines.get(number, "") for number in range(1, max(lines, default=0) + 1)]


class StdlibLines(TextData):
    """Lines of the standard library: "code", "comment" or "docstring"? Nothing is downloaded.

    Lines that occur twice are kept once, and a class has at most `max_lines` in the training part.

    Args:
        max_files: so many modules, evenly spread over the alphabet.
        max_lines: training lines a class; the validation part has at most a tenth, the test part a fifth of it.
        field: tokenization and vocabulary.
        batch_size: lines a batch.
        num_workers: processes that prepare batches.
        split_seed: seed of the choice of files and lines.
        on_bad_row: "error" or "skip" lines without a token.
    """

    def __init__(
        self,
        max_files: int = 42,
        max_lines: int = 2500,
        field: TextField | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        split_seed: int = 42,
        on_bad_row: OnBadRow = "skip",
    ) -> None:
        field = TextField("words", lower=False) if field is None else field
        super().__init__(field, batch_size, num_workers, 0.1, split_seed, on_bad_row)
        if max_files < 10:
            raise ConfigError(f"StdlibLines(max_files={max_files}): expected at least 10, to have some for each part")
        self.max_files = max_files
        self.max_lines = max_lines
        self.save_hyperparameters(ignore=["field"])

    def read(self) -> Parts:
        """Return the lines of each part's files, up to the limit a class, evenly spread."""
        files = parts_of(library_files("StdlibLines", self.max_files), self.split_seed)
        limits = {"train": self.max_lines, "val": self.max_lines // 10 + 1, "test": self.max_lines // 5 + 1}
        seen: set[str] = set()
        rows: dict[str, list[Row]] = {}
        for part in ("train", "val", "test"):
            by_label: dict[str, list[Row]] = {"code": [], "comment": [], "docstring": []}
            for path in files[part]:
                for number, line, label in label_lines(path):
                    if line not in seen:
                        seen.add(line)
                        by_label[label].append(Row(line, label, f"{path}, line {number}"))
            rows[part] = [row for found in by_label.values() for row in _evenly(found, limits[part])]
        return Parts(**rows)


def _evenly(rows: list[Row], at_most: int) -> list[Row]:
    step = max(1.0, len(rows) / at_most)
    return [rows[int(i * step)] for i in range(min(at_most, len(rows)))]


def tag_statements(tokens: Tokens) -> Iterator[list[tuple[str, str]]]:
    """Yield the statements of a source as pairs of token and tag.

    Tags: keyword, definition (the name after `def` and `class`), call (a name before a parenthesis), attribute (after a
    dot, not called), argument (a name before `=` inside parentheses), name, number, string, operator, comment. Strings
    and numbers are replaced by signs that stand for all of them.
    """
    statement: list[tokenize.TokenInfo] = []
    for token in tokens:
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if statement:
                yield _tagged(statement)
            statement = []
        elif token.type not in _LAYOUT:
            statement.append(token)


def _tagged(statement: Tokens) -> list[tuple[str, str]]:
    texts = ["", *(token.string for token in statement), ""]
    depth, tagged = 0, []
    for place, token in enumerate(statement, start=1):
        before, text, after = texts[place - 1 : place + 2]
        if text in tuple("([{"):
            depth += 1
        elif text in tuple(")]}"):
            depth -= 1
        if token.type == tokenize.NAME:
            tagged.append((text, _role(before, text, after, is_nested=depth > 0)))
        elif token.type == tokenize.NUMBER:
            tagged.append(("0" if isinstance(ast.literal_eval(text), int) else "0.0", "number"))
        elif token.type in _STRINGS:
            tagged.append(("''", "string"))
        elif token.type == tokenize.COMMENT:
            tagged.append(("#", "comment"))
        else:
            tagged.append((text, "operator"))
    return tagged


def _role(before: str, text: str, after: str, *, is_nested: bool) -> str:
    """Say what a name is, from its neighbours."""
    if keyword.iskeyword(text):
        return "keyword"
    if before in ("def", "class"):
        return "definition"
    if after == "(":
        return "call"
    if before == ".":
        return "attribute"
    return "argument" if is_nested and after == "=" else "name"

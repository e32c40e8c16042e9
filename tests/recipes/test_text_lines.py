"""Every reader of text drops the byte-order mark, and ends lines at line feeds and carriage returns alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recipes.tabular.data import CSVData
from recipes.text.data import FilesPerClass, LinesPerClass, TabularText, TorchtextCsvData
from recipes.text.fields import TextCodec, TextField
from recipes.text.language_data import TextFileData
from recipes.text.language_tokens import BPETokenizer
from recipes.text.lines import lines_of
from recipes.text.rows import files_of_lines, folders_of_files
from recipes.text.stdlib import label_lines
from recipes.text.tags import TaggedFiles

MARK = b"\xef\xbb\xbf"
# ends of lines for str.splitlines, and for nobody else: vertical tab, form feed, separators, U+0085, U+2028, U+2029
NO_ENDS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
SIGNS = TextField(tokenize="split", lower=False)


def write(path: Path, text: str, mark: bytes = MARK) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mark + text.encode())
    return path


@pytest.mark.parametrize("sign", NO_ENDS)
def test_a_line_ends_at_line_feeds_and_carriage_returns_alone(sign: str) -> None:
    assert lines_of(f"a{sign}b\nc\r\nd\re") == [f"a{sign}b", "c", "d", "e"]
    assert lines_of(f"a{sign}b\nc\r\nd\r", keep_ends=True) == [f"a{sign}b\n", "c\r\n", "d\r"]
    assert lines_of("a\n\nb\n") == ["a", "", "b"] and lines_of("") == []


@pytest.mark.parametrize("sign", NO_ENDS)
def test_a_file_of_lines_has_as_many_texts_as_lines(sign: str, tmp_path: Path) -> None:
    write(tmp_path / "Greek.txt", f"a{sign}b\r\nc\rd\n")
    rows = files_of_lines("X", tmp_path)
    path = tmp_path / "Greek.txt"
    assert [tuple(row) for row in rows] == [
        (f"a{sign}b", "Greek", f"{path}, line 1"), ("c", "Greek", f"{path}, line 2"), ("d", "Greek", f"{path}, line 3"),
    ]  # fmt: skip


@pytest.mark.parametrize("sign", [*NO_ENDS, "\u00a0"])
def test_a_tagged_line_keeps_signs_that_are_no_blanks(sign: str, tmp_path: Path) -> None:
    write(tmp_path / "train.txt", f"a{sign}b  X\r\n{sign}\tY\n\nc X\n")
    write(tmp_path / "val.txt", "c X\n")
    data = TaggedFiles(root=str(tmp_path), test=None)
    data.setup("fit")
    assert [text.tokens for text in data.parts["train"]] == [[f"a{sign}b", sign], ["c"]]
    assert [text.tags for text in data.parts["train"]] == [["X", "Y"], ["X"]]
    assert data.parts["val"][0].tokens == ["c"]


def test_the_mark_is_dropped_from_folders_of_texts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in ("neg", "pos"):
            for i in range(6):
                write(tmp_path / part / label / f"{i}.txt", f"word {label}")
    data = FilesPerClass(root=str(tmp_path), field=SIGNS)
    data.setup("fit")
    assert data.codec is not None and set(data.codec.tokens) == {"<unk>", "<pad>", "word", "neg", "pos"}


def tables(root: Path, end: str, content: str, **arguments: Any) -> set[str]:
    write(root / f"train.{end}", content)
    data = TabularText(root=str(root), train=f"train.{end}", format=end, field=SIGNS, val_fraction=0.2, **arguments)
    data.setup("fit")
    assert data.codec is not None
    return set(data.codec.tokens) - {"<unk>", "<pad>"}


def test_tables_have_no_mark_and_keep_other_signs_in_their_cells(tmp_path: Path) -> None:
    text = "a\u2028b"
    for end, sign in (("csv", ","), ("tsv", "\t")):
        lines = "".join(f"{text}{sign}{'xy'[i % 2]}\r\n" for i in range(10))
        assert tables(tmp_path / end, end, lines, text=0, label=1) == {"a", "b"}
    objects = "".join(json.dumps({"text": text, "label": "xy"[i % 2]}, ensure_ascii=False) + "\n" for i in range(10))
    assert tables(tmp_path / "json", "json", objects, text="text", label="label") == {"a", "b"}


def test_names_of_classes_have_no_mark(tmp_path: Path) -> None:
    folder = tmp_path / "ag_news_csv"
    rows = "".join(f'"{1 + i % 2}","title {i}","text"\n' for i in range(20))
    for part in ("train", "test"):
        write(folder / f"{part}.csv", rows)
    write(folder / "classes.txt", "World\nSports\u2028News\n")
    data = TorchtextCsvData(root=str(tmp_path), download=False)
    data.setup("fit")
    assert data.class_names == ["World", "Sports\u2028News"]


def test_a_plain_text_has_no_mark_and_one_kind_of_line_end(tmp_path: Path) -> None:
    path = write(tmp_path / "input.txt", "ab\r\nc\u2028\rd\n")
    assert TextFileData(path=str(path)).read() == ("ab\nc\u2028\nd\n", str(path))


def test_vectors_find_the_first_word_behind_the_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "vectors.txt", "first 1 2 3\nsecond 4 5 6\n")
    field = TextField(tokenize="split", vectors=str(path), vectors_cache=str(tmp_path / "cache"))
    write(tmp_path / "train.csv", "text,label\n" + "first second,x\nfirst second,y\n" * 5)
    data = TabularText(root=str(tmp_path), field=field, val_fraction=0.2)
    data.setup("fit")
    assert data.codec is not None and data.vectors is not None
    assert data.vectors[data.codec.tokens.index("first")].tolist() == [1, 2, 3]


def test_a_raw_text_is_encoded_without_the_mark() -> None:
    codec = TextCodec(SIGNS, ["<unk>", "<pad>", "a", "b"], ["x"])
    assert codec.encode(["\ufeffa b"]).tolist() == codec.encode(["a b"]).tolist() == [[2, 3]]


def test_a_table_of_numbers_keeps_its_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "name,y\r\n" + "".join(f"a\u2028{i},{i}\r\n" for i in range(20)))
    data = CSVData(path=str(path), target="y", categorical=["name"], task="regression")
    data.setup("fit")
    data.setup("test")
    assert sum(len(part) for part in data.sets.values()) == 20


def test_byte_pairs_do_not_stop_at_a_form_feed() -> None:
    pytest.importorskip("tokenizers")
    assert len(BPETokenizer.train("\f\f" * 40, 257).encode("\f\f")) == 1


@pytest.mark.parametrize("sign", ["\f", "\u2028", "\x85"])
def test_lines_of_a_source_are_numbered_as_python_numbers_them(sign: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.py", f'x = """a{sign}b\nc"""\ny = 1  # {sign}z\nz = 2\n', mark=b"")
    found = [(number, line) for number, line, _ in label_lines(path)]
    assert found == [(1, f'x = """a{sign}b'), (2, 'c"""'), (3, f"y = 1  # {sign}z"), (4, "z = 2")]


def test_what_programs_leave_in_a_folder_is_no_text_and_no_class(tmp_path: Path) -> None:
    left: list[Callable[[], Path]] = [
        lambda: write(tmp_path / "a" / "._1.txt", "\x00\x05\x16\x07"),
        lambda: write(tmp_path / ".ipynb_checkpoints" / "1-checkpoint.txt", "old"),
        lambda: write(tmp_path / "__MACOSX" / "1.txt", "none"),
    ]
    write(tmp_path / "a" / "1.txt", "word")
    for make in left:
        make()
    assert [(row.text, row.label) for row in folders_of_files("X", tmp_path)] == [("word", "a")]
    write(tmp_path / "lines" / "English.txt", "one\n")
    write(tmp_path / "lines" / "._English.txt", "\x00\x05")
    assert [(row.text, row.label) for row in files_of_lines("X", tmp_path / "lines")] == [("one", "English")]
    assert LinesPerClass(root=str(tmp_path / "lines"), split_ratio=(0.5, 0.5)).root == tmp_path / "lines"

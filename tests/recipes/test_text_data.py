"""The texts of the text recipes: fields, buckets, splits, labels by `tokenize`, and data that cannot be used."""

from __future__ import annotations

import json
import sysconfig
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from lightkit.errors import ConfigError, DataError, MissingDataError
from recipes.text.base import split_rows
from recipes.text.batches import BucketSampler
from recipes.text.data import FilesPerClass, IMDBData, LinesPerClass, TabularText, TorchtextCsvData
from recipes.text.fields import TextCodec, TextField, find_tokenizer
from recipes.text.rows import Row
from recipes.text.stdlib import StdlibLines, label_lines, library_files, tag_statements, tokens_of
from recipes.text.tags import TaggedFiles


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def rows(count: int = 20) -> str:
    return "".join(f"text {i} {'ab'[i % 2]},{'xy'[i % 2]}\n" for i in range(count))


def table(folder: Path, content: str, **arguments: Any) -> TabularText:
    """The data module over `train.csv` of this content, with columns `text` and `label` unless said otherwise."""
    write(folder / "train.csv", content)
    return TabularText(root=str(folder), **{"val_fraction": 0.2, **arguments})


def words_of(data: Any, part: str) -> list[list[str]]:
    return [tokens for _, tokens in data.parts[part]]


# ---------------------------------------------------------------- fields and batches


def test_a_batch_is_torchtexts_with_padded_text_and_numbered_labels(tmp_path: Path) -> None:
    data = table(tmp_path, "text,label\n" + rows() + "One two three four five,x\n")
    data.setup("fit")
    assert data.codec is not None
    batch = next(iter(data.val_dataloader()))
    assert type(batch).__module__ == "torchtext.data.batch"
    assert batch.text.dtype == batch.label.dtype == torch.int64
    assert batch.text.shape == (len(batch.label), 3) and data.class_names == ["x", "y"]
    texts = [" ".join(data.codec.tokens[i] for i in row) for row in batch.text.tolist()]
    assert texts == [" ".join(t if t in data.codec.tokens else "<unk>" for t in w) for w in words_of(data, "val")]


@pytest.mark.parametrize(
    ("field", "tokens"),
    [
        (TextField(), ["it", "'", "s", "a", "b-c", "."]),
        (TextField("split", lower=False), ["It's", "a", "B-c."]),
        (TextField("words"), ["it", "'", "s", "a", "b", "-", "c", "."]),
        (TextField("characters", max_length=3), ["i", "t", "'"]),
        (TextField("split", ngrams=3), ["it's", "a", "b-c.", "it's a", "a b-c.", "it's a b-c."]),
        (TextField("tests.recipes.test_text_data.upper", lower=False), ["IT'S A B-C."]),
    ],
)
def test_text_is_tokenized_as_the_field_says(field: TextField, tokens: list[str], monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tests.recipes.test_text_data", sys.modules[__name__])
    assert field.build().preprocess("It's a B-c.") == tokens


def upper(text: str) -> list[str]:
    return [text.upper()]


def test_vocabulary_keeps_frequent_tokens_and_a_codec_comes_back_from_plain_values(tmp_path: Path) -> None:
    text = "text,label\n" + "a a a b b c,x\na b d,y\n" * 5
    data = table(tmp_path, text, field=TextField(min_freq=4, max_size=3))
    data.setup("fit")
    assert data.codec is not None and data.codec.tokens == ["<unk>", "<pad>", "a", "b", "c"]
    again = TextCodec.from_plain(json.loads(json.dumps(data.codec.to_plain())))
    assert again == data.codec
    assert again.encode(["b zzz", "a"]).tolist() == [[3, 0], [2, 1]]


def test_fix_length_pads_and_cuts(tmp_path: Path) -> None:
    data = table(tmp_path, "text,label\n" + rows(), field=TextField(fix_length=2))
    data.setup("fit")
    assert next(iter(data.train_dataloader())).text.shape[1] == 2


def test_buckets_hold_texts_of_similar_length_in_an_order_of_torchs_generator() -> None:
    lengths = [1 + (i * 7) % 40 for i in range(500)]
    sampler = BucketSampler(lengths, batch_size=8)
    torch.manual_seed(0)
    first, second = list(sampler), list(sampler)
    torch.manual_seed(0)
    assert list(sampler) == first != second
    assert sorted(i for batch in first for i in batch) == list(range(500))
    assert len(sampler) == len(first) == 63 and sorted(map(len, first)) == [4, *[8] * 62]
    padding = sum(max(lengths[i] for i in b) * len(b) - sum(lengths[i] for i in b) for b in first)
    assert padding < 0.05 * sum(lengths)
    starts = [lengths[batch[0]] for batch in first]
    assert starts != sorted(starts)


def test_worker_processes_give_the_same_batches(tmp_path: Path) -> None:
    alone, helped = (table(tmp_path, "text,label\n" + rows(), batch_size=3, num_workers=n) for n in (0, 1))
    batches = []
    for data in (alone, helped):
        data.setup("fit")
        batches.append([(batch.text, batch.label) for batch in data.val_dataloader()])
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


# ---------------------------------------------------------------- sources


def test_csv_tsv_and_json_give_the_same_texts(tmp_path: Path) -> None:
    pairs = [(f'say "{i}", twice', "xy"[i % 2]) for i in range(10)]
    quoted = ['"' + text.replace('"', '""') + '"' for text, _ in pairs]
    files = {
        "csv": "\ufeffnote,label\n" + "".join(f"{q},{y}\n" for q, (_, y) in zip(quoted, pairs, strict=True)) + "\n",
        "tsv": "label\tnote\n" + "".join(f"{y}\t{q}\n" for q, (_, y) in zip(quoted, pairs, strict=True)),
        "json": "".join(json.dumps({"note": text, "label": y, "more": 1}) + "\n" for text, y in pairs),
    }
    found = []
    for kind, text in files.items():
        write(tmp_path / f"train.{kind}", text)
        data = TabularText(root=str(tmp_path), train=f"train.{kind}", format=kind, text="note", val_fraction=0.2)
        data.setup("fit")
        found.append([(row.text, row.label) for part in ("train", "val") for row, _ in data.parts[part]])
    assert found[0] == found[1] == found[2] and sorted(found[0]) == sorted(pairs)


def test_parts_are_files_or_ranges_of_rows(tmp_path: Path) -> None:
    write(tmp_path / "test.csv", "label;text\nx;held out\n")
    data = table(tmp_path, "label;text\n" + "".join(f"{'xy'[i % 2]};row {i}\n" for i in range(10)), delimiter=";",
                 train_rows=[0, 6], val_rows=[-4, None], test="test.csv")  # fmt: skip
    data.setup("fit")
    assert words_of(data, "train") == [["row", str(i)] for i in range(6)]
    assert words_of(data, "val") == [["row", str(i)] for i in range(6, 10)]
    assert words_of(data, "test") == [["held", "out"]]


def test_a_stratified_split_gives_each_class_its_share_and_a_plain_one_is_torchtexts() -> None:
    made = [Row(str(i), "abc"[0 if i < 60 else 1 if i < 90 else 2], "") for i in range(100)]
    parts = split_rows("X", made, [0.7, 0.2, 0.1], 1, stratified=True)
    assert parts.val is not None and parts.test is not None
    assert [Counter(row.label for row in part) for part in (parts.train, parts.test, parts.val)] == [
        {"a": 42, "b": 21, "c": 7}, {"a": 12, "b": 6, "c": 2}, {"a": 6, "b": 3, "c": 1},
    ]  # fmt: skip
    for stratified in (True, False):
        first, again = (split_rows("X", made, [0.8, 0.2], 5, stratified=stratified) for _ in range(2))
        assert first == again != split_rows("X", made, [0.8, 0.2], 6, stratified=stratified)
        assert first.val is None and first.test is not None and len(first.test) == 20
        assert sorted(row.text for row in first.train + first.test) == sorted(row.text for row in made)


def test_lines_of_a_source_are_labelled_as_python_reads_them(tmp_path: Path) -> None:
    source = '"""About\n\nx = 1  # not code\n"""\n\n# a remark\nx = 1  # why\ny = """no\ndocstring"""\n\n\n'
    source += 'def f():\n    """Say."""\n    return (\n        "no docstring"\n    )\n'
    found = [(line, label) for _, line, label in label_lines(write(tmp_path / "m.py", source))]
    assert found == [
        ('"""About', "docstring"), ("x = 1  # not code", "docstring"), ('"""', "docstring"), ("# a remark", "comment"),
        ("x = 1  # why", "code"), ('y = """no', "code"), ('docstring"""', "code"), ("def f():", "code"),
        ('"""Say."""', "docstring"), ("return (", "code"), ('"no docstring"', "code"), (")", "code"),
    ]  # fmt: skip
    assert list(label_lines(write(tmp_path / "bad.py", "x = (\n"))) == []


def test_every_labelled_line_of_the_library_is_a_line_of_its_file() -> None:
    path = library_files("X", 10)[3]
    lines = path.read_text(encoding="utf-8").split("\n")
    found = list(label_lines(path))
    assert all(lines[number - 1].strip() == text for number, text, _ in found)
    assert len(found) == len({number for number, _, _ in found}) == sum(bool(line.strip()) for line in lines)


def test_tokens_of_a_statement_are_tagged_by_their_neighbours(tmp_path: Path) -> None:
    source = "@once\ndef f(a, b=1):\n    return a.go(b.x, key='s') + 2.5  # so\n"
    statements = list(tag_statements(tokens_of(write(tmp_path / "m.py", source))))
    assert [" ".join(token for token, _ in s) for s in statements] == [
        "@ once", "def f ( a , b = 0 ) :", "return a . go ( b . x , key = '' ) + 0.0 #",
    ]  # fmt: skip
    assert statements[2] == [
        ("return", "keyword"), ("a", "name"), (".", "operator"), ("go", "call"), ("(", "operator"), ("b", "name"),
        (".", "operator"), ("x", "attribute"), (",", "operator"), ("key", "argument"), ("=", "operator"),
        ("''", "string"), (")", "operator"), ("+", "operator"), ("0.0", "number"), ("#", "comment"),
    ]  # fmt: skip


def test_no_line_of_the_library_is_in_two_parts() -> None:
    data = StdlibLines(max_files=10, max_lines=200)
    data.setup("fit")
    lines = {part: {row.text for row, _ in rows} for part, rows in data.parts.items()}
    assert not lines["train"] & lines["test"] and not lines["train"] & lines["val"]
    assert data.class_names == ["code", "comment", "docstring"]
    files = {part: {row.where.split(",")[0] for row, _ in rows} for part, rows in data.parts.items()}
    assert not files["train"] & files["test"] and not files["train"] & files["val"]


# ---------------------------------------------------------------- bad input


def failure_of(data: Any) -> str:
    with pytest.raises(DataError) as caught:
        data.prepare_data()
        data.setup("fit")
    return str(caught.value)


_HOW = "; correct it, or set data.on_bad_row to skip to leave such rows out"


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("title,label\na,x\n", {}, " has no column 'text'; its first line has 'title', 'label'"),
        ("texts,label\na,x\n", {}, " has no column 'text'; its first line has 'texts', 'label'; did you mean 'texts'?"),
        (
            "text;label\na;x\n",
            {},
            " has no column 'text'; its first line has 'text;label' (it holds a semicolon: is data.delimiter right? "
            "It is ',')",
        ),
        (
            "x\ta\n",
            {"text": 1, "label": 0},
            f", line 1: has 1 column, column 1 is needed (it holds a tab: is data.delimiter right? It is ','){_HOW}",
        ),
        ('text,label\n"a\nb",x\nc\n', {}, f", line 4: has 1 column, column 1 is needed{_HOW}"),
        ("text,label\na,x\n , x\n", {}, f", line 3: the text is empty{_HOW}"),
        ("text,label\na,x\nb,\n", {}, f", line 3: the label is empty{_HOW}"),
        ('text,label\na,x\n"""",x\n', {}, f""", line 3: the text '"' has no token{_HOW}"""),
        (
            "text,label\na,x\nb,y\nc,x\n",
            {"train_rows": [0, 2], "val_rows": [1, 2], "test_rows": [2, 3]} | {"train_rows": [0, 1]},
            f", line 3: the label 'y' is none of x{_HOW}",
        ),
        (
            "text,label\n",
            {},
            None,
        ),
    ],
)
def test_a_table_that_cannot_be_used_names_file_line_and_remedy(
    tmp_path: Path, text: str, arguments: dict[str, Any], message: str | None
) -> None:
    where = f"TabularText: {tmp_path}/train.csv"
    expected = "TabularText: there are no rows to train with" if message is None else where + message
    assert failure_of(table(tmp_path, text, **arguments)) == expected


def test_bad_rows_are_counted_where_skipping_is_asked_for(tmp_path: Path) -> None:
    data = table(tmp_path, "text,label\n" + rows() + "short\n ,x\nlast,z\n", train_rows=[0, 20], test_rows=[19, None],
                 on_bad_row="skip")  # fmt: skip
    with pytest.warns(UserWarning) as caught:
        data.setup("fit")
    assert [str(w.message) for w in caught] == [
        f"TabularText: 3 rows were left out, the first: {tmp_path}/train.csv, line 22: has 1 column, column 1 is needed"
    ]
    assert data.skipped == 3 and [row.text for row, _ in data.parts["test"]] == ["text 19 b"]
    empty = table(tmp_path / "empty", "text,label\n,x\n", on_bad_row="skip")
    assert failure_of(empty) == (
        "TabularText: there are no rows to train with; 1 row was left out, the first: "
        f"{tmp_path}/empty/train.csv, line 2: the text is empty"
    )


def test_json_lines_that_cannot_be_used(tmp_path: Path) -> None:
    for text, problem in {
        '{"text": "a"}\n': "no 'label'; there are text",
        "[1]\n": "no 'text'; there are no keys",
        "{'text'}\n": "no json object (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
    }.items():
        write(tmp_path / "train.json", text)
        data = TabularText(root=str(tmp_path), train="train.json", format="json")
        assert failure_of(data) == f"TabularText: {tmp_path}/train.json, line 1: {problem}{_HOW}"


def test_files_that_are_missing_or_not_text(tmp_path: Path) -> None:
    assert failure_of(TabularText(root=str(tmp_path))) == (
        f"TabularText: {tmp_path}/train.csv cannot be read (No such file or directory); "
        "put the file there, or name another one"
    )
    (tmp_path / "train.csv").write_bytes(b"text,label\n\xff,x\n")
    assert failure_of(TabularText(root=str(tmp_path))).startswith(f"TabularText: {tmp_path}/train.csv is not UTF-8 (")
    assert failure_of(LinesPerClass(root=str(tmp_path / "names"))) == (
        f"LinesPerClass: no folder {tmp_path}/names; expected one file per class there, {tmp_path}/names/CLASS.txt"
    )
    write(tmp_path / "names" / "Empty.txt", "\n \n")
    assert failure_of(LinesPerClass(root=str(tmp_path / "names"))) == (
        f"LinesPerClass: {tmp_path}/names/Empty.txt has no lines; remove it, or write an example on each line"
    )
    (tmp_path / "texts" / "train" / "good").mkdir(parents=True)
    assert failure_of(FilesPerClass(root=str(tmp_path / "texts"))) == (
        f"FilesPerClass: no *.txt in {tmp_path}/texts/train/good; "
        f"expected texts there, {tmp_path}/texts/train/good/*.txt"
    )


def test_made_up_texts_stand_in_for_missing_ones(tmp_path: Path) -> None:
    for build in (TabularText, LinesPerClass, FilesPerClass, IMDBData, TorchtextCsvData):
        data: Any = build(root=str(tmp_path / "none"))
        with pytest.raises(MissingDataError):
            data.setup("fit")
        data.generate(tmp_path, None)
        data.setup("fit")
        assert {part: len(rows) for part, rows in data.parts.items()} == {"train": 80, "val": 20, "test": 20}


def test_sets_that_are_not_there_say_where_to_put_them(tmp_path: Path, monkeypatch: Any) -> None:
    assert failure_of(TorchtextCsvData(root=str(tmp_path), download=False)) == (
        f"TorchtextCsvData(name='AG_NEWS', download=False): no train.csv and test.csv in {tmp_path}/ag_news_csv; "
        "set data.download to true, or put the files there"
    )
    assert failure_of(IMDBData(root=str(tmp_path), download=False)) == (
        f"IMDBData(root={str(tmp_path)!r}, download=False): no reviews in {tmp_path}/imdb/aclImdb; set data.download "
        f"to true, or unpack aclImdb_v1.tar.gz there, so that {tmp_path}/imdb/aclImdb/train/pos is a folder"
    )
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    offline = failure_of(TorchtextCsvData(root=str(tmp_path)))
    assert "no train.csv and test.csv in" in offline and "and the download failed (" in offline
    assert offline.endswith("; put the files there")
    assert "and the download failed (" in failure_of(IMDBData(root=str(tmp_path)))


def test_an_archive_that_is_there_already_is_unpacked(tmp_path: Path) -> None:
    import tarfile

    folder = tmp_path / "packed" / "ag_news_csv"
    for name in ("train.csv", "test.csv"):
        write(folder / name, "".join(f'"{1 + i % 2}","Title","Text {i}"\n' for i in range(20)))
    root = tmp_path / "data"
    root.mkdir()
    with tarfile.open(root / "ag_news_csv.tar.gz", "w:gz") as archive, warnings.catch_warnings():
        archive.add(folder, "ag_news_csv")
    data = TorchtextCsvData(root=str(root))
    data.prepare_data()
    data.setup("fit")
    assert len(data.parts["test"]) == 20 and data.class_names == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a 1 2 3\nb 1 2\n", "{path}, line 2 ('b') has 2 values, the lines before it 3"),
        ("a 1 2 3\nb 1 two 3\n", "{path}, line 2 ('b') holds what is no number"),
        (
            "zebra 1 2 3\nyak 1 2 3\n",
            "none of the 6 words of the vocabulary has a vector; it begins with ['a', 'b', 'c', 'd'], the vectors "
            "with ['zebra', 'yak'] (other language, or upper and lower case?)",
        ),
    ],
)
def test_vectors_that_cannot_be_used(tmp_path: Path, content: str, problem: str) -> None:
    path = write(tmp_path / "vectors.txt", content)
    field = TextField(vectors=str(path), vectors_cache=str(tmp_path / "cache"))
    data = table(tmp_path, "text,label\n" + "a b c d,x\na b c d,y\n" * 5, field=field)
    assert failure_of(data) == f"TextField(vectors={str(path)!r}): {problem.format(path=path)}"


def test_vectors_that_are_not_there(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for spec, part in {
        "glove.6B.100": "neither a file nor a set that torchtext downloads (charngram.100d, ",
        "glove.6B.50d": f"; put glove.6B.50d.txt into {tmp_path}/cache, or set data.field.vectors to a file",
    }.items():
        field = TextField(vectors=spec, vectors_cache=str(tmp_path / "cache"))
        message = failure_of(table(tmp_path, "text,label\n" + rows(), field=field))
        assert message.startswith(f"TextField(vectors={spec!r}): ") and part in message


def test_tagged_files_are_read_and_their_mistakes_named(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "the DET\ndog NOUN\n\na DET\ncat NOUN\n")
    write(tmp_path / "val.txt", "a DET\n")
    data = TaggedFiles(root=str(tmp_path), test=None)
    data.setup("fit")
    assert [text.tokens for text in data.parts["train"]] == [["the", "dog"], ["a", "cat"]]
    assert data.class_names == ["DET", "NOUN"]
    with pytest.raises(DataError) as caught:
        data.test_dataloader()
    assert str(caught.value) == "TaggedFiles: there are no rows to test with"
    for text, problem in {
        "the DET\ndog\n": f"{tmp_path}/val.txt, line 2: 'dog' has no tag; expected a token and its tag{_HOW}",
        "the DET\n\nruns VERB\n": f"{tmp_path}/val.txt, line 3: the tag 'VERB' is none of DET, NOUN{_HOW}",
        "\n": f"{tmp_path}/val.txt has no lines of a token and its tag",
    }.items():
        write(tmp_path / "val.txt", text)
        assert failure_of(TaggedFiles(root=str(tmp_path), test=None)) == f"TaggedFiles: {problem}"


def test_a_python_without_sources_is_named(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert failure_of(StdlibLines()) == (
        f"StdlibLines: no sources of Python's standard library in {tmp_path}; use another data module"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TextField(min_freq=0), "TextField(min_freq=0): expected at least 1"),
        (
            lambda: find_tokenizer("character"),
            "TextField(tokenize='character'): expected one of basic_english, split, words, characters, spacy, moses, "
            "toktok, revtok, or the import path of a function such as my_module.tokenize; did you mean 'characters'?",
        ),
        (
            lambda: find_tokenizer("json.token"),
            "TextField(tokenize='json.token'): cannot be imported (module 'json' has no attribute 'token')",
        ),
        (lambda: TabularText(format="xls"), "TabularText(format='xls'): expected one of csv, tsv, json"),
        (
            lambda: TabularText(text=["title", 2]),
            "TabularText: columns are all named or all positions, got ['title', 2, 'label']",
        ),
        (
            lambda: TabularText(format="json", text=1, label=0),
            "TabularText(format='json'): columns must be named, got [1, 0]",
        ),
        (
            lambda: TabularText(test_rows=[1]),
            "TabularText(test_rows=[1]): expected first and end, such as [0, 6600], or [-1000, null] for the last "
            "1,000 rows",
        ),
        (
            lambda: TabularText(test="test.csv", split_ratio=[0.8, 0.2]),
            "TabularText: split_ratio splits train alone; leave it out, or val, test and their rows",
        ),
        (lambda: TabularText(on_bad_row="ignore"), "TabularText(on_bad_row='ignore'): expected 'error' or 'skip'"),  # type: ignore[arg-type]
        (lambda: TabularText(batch_size=0), "TabularText(batch_size=0): expected at least 1"),
        (
            lambda: TabularText(val_fraction=1),
            "TabularText(val_fraction=1): expected a share between 0 and 1, such as 0.1",
        ),
        (
            lambda: TorchtextCsvData("AGNEWS"),
            "TorchtextCsvData(name='AGNEWS'): expected one of AG_NEWS, SogouNews, DBpedia, YelpReviewPolarity, "
            "YelpReviewFull, YahooAnswers, AmazonReviewPolarity, AmazonReviewFull; did you mean 'AG_NEWS'?",
        ),
        (
            lambda: TaggedFiles(field=TextField(ngrams=2)),
            "TaggedFiles: ngrams and fix_length cannot be used where each token has a tag",
        ),
        (
            lambda: StdlibLines(max_files=3),
            "StdlibLines(max_files=3): expected at least 10, to have some for each part",
        ),
        (
            lambda: split_rows("X", [], [1.0], 0, stratified=True),
            "X(split_ratio=[1.0]): expected the shares of train and test, or of train, test and validation, such as "
            "[0.8, 0.2]",
        ),
    ],
)
def test_wrong_argument(build: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message

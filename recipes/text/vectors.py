"""Pre-trained word vectors, read or downloaded by torchtext, with errors that say what is the matter."""

from __future__ import annotations

import gzip
import ssl
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightkit.errors import DataError, MissingDataError, did_you_mean, require
from recipes.text.lines import without_mark


def vectors_for(field: Any, tokens: list[str], spec: str, cache: str) -> Tensor:
    """Return a vector for each of `tokens`, float32 (tokens, dimensions).

    Words without a vector get small random ones, from torch's default generator; the padding token gets zeros.

    Args:
        field: the torchtext field, whose padding token is known.
        tokens: the vocabulary, by number.
        spec: a word2vec or GloVe text file (also .gz), or one of torchtext's sets, such as "glove.6B.100d".
        cache: folder for downloads and for a faster form of the file.

    Raises:
        DataError: no such file or set, no network, rows of different sizes, or no word of `tokens` in it.
    """
    found = _load(spec, Path(cache))
    row_of = {without_mark(found.itos[0]): 0, **found.stoi} if found.itos else found.stoi
    rows = [row_of.get(token.strip()) for token in tokens]
    if all(row is None for row in rows):
        raise DataError(
            f"TextField(vectors={spec!r}): none of the {len(tokens)} words of the vocabulary has a vector; it begins "
            f"with {tokens[2:7]}, the vectors with {found.itos[:5]} (other language, or upper and lower case?)"
        )
    vectors: Tensor = torch.randn(len(tokens), found.dim) * found.vectors.std()
    for number, row in enumerate(rows):
        if row is not None:
            vectors[number] = found.vectors[row]
    vectors[tokens.index(field.pad_token)] = 0
    return vectors


def _load(spec: str, cache: Path) -> Any:
    vocab = require("torchtext.vocab", "text", needed_by=f"TextField(vectors={spec!r})")
    path = Path(spec)
    known = vocab.pretrained_aliases
    if not path.is_file() and spec not in known:
        raise MissingDataError(
            f"TextField(vectors={spec!r}): neither a file nor a set that torchtext downloads ({', '.join(known)})"
            f"{did_you_mean(spec, known)}"
        )
    context = ssl._create_default_https_context
    try:
        if spec in known and not path.is_file():
            return known[spec](cache=str(cache))
        # torchtext takes its faster form by the file's name alone, whatever has become of the file since
        state = path.stat()
        return vocab.Vectors(str(path), cache=str(cache / f"{state.st_size}-{state.st_mtime_ns}"))
    except OSError as error:
        name = f"{spec}.txt" if spec.startswith("glove.") else "its file"
        raise MissingDataError(
            f"TextField(vectors={spec!r}): cannot be downloaded ({error}); "
            f"put {name} into {cache}, or set data.field.vectors to a file"
        ) from None
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"TextField(vectors={spec!r}): {_explain(path, error)}") from None
    finally:
        ssl._create_default_https_context = context  # torchtext turns the check of certificates off for good


def _explain(path: Path, error: Exception) -> str:
    """Say which row of a vector file is wrong; torchtext names the word at best."""
    opener = gzip.open if path.suffix == ".gz" else open
    size: int | None = None
    with opener(path, "rb") as file:
        for line, row in enumerate(file, start=1):
            word, *values = row.rstrip().split(b" ")
            if line == 1 and len(values) == 1:
                continue  # word2vec's header: words and dimensions
            size = len(values) if size is None else size
            if len(values) != size or size == 0:
                where = f"{path}, line {line} ({word.decode(errors='replace')!r})"
                return f"{where} has {len(values)} values, the lines before it {size or 'a word alone'}"
            try:
                [float(value) for value in values]
            except ValueError:
                return f"{path}, line {line} ({word.decode(errors='replace')!r}) holds what is no number"
    return f"{path} cannot be read as vectors ({error})"

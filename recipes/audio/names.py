"""What the names of files say: fields by a pattern, and rules that choose files by their fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightkit.errors import ConfigError, DataError, MissingDataError, did_you_mean
from lightkit.utilities import rank_zero_warn
from recipes.audio.files import OnBadFile, sounds_in

_OWNER = "NamedAudioData"


@dataclass(frozen=True)
class NamedFile:
    """A file and the fields of its name."""

    path: str
    fields: Mapping[str, str]


def _in_order(values: set[str]) -> list[str]:
    """Return numbers by value, then words by letters."""
    return sorted(values, key=lambda value: (not value.isdecimal(), int(value) if value.isdecimal() else 0, value))


class NamePattern:
    """A pattern for paths below a folder; see `NamedAudioData` for how it is written.

    Raises:
        ConfigError: it is no regular expression, or has no {label}.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        if "(?P<" in pattern:
            text = pattern
        else:
            parts = re.split(r"\{(\w+)\}", pattern)
            # odd places hold the names of fields
            text = "".join(f"(?P<{part}>[^/]+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
        try:
            self.regex = re.compile(text)
        except re.error as error:
            raise ConfigError(f"{_OWNER}(pattern={pattern!r}): no valid pattern ({error})") from None
        self.fields = list(self.regex.groupindex)
        if "label" not in self.fields:
            raise ConfigError(
                f"{_OWNER}(pattern={pattern!r}): expected a field {{label}}, "
                "such as '{label}_{speaker}_{index}.wav'"
            )

    def find(self, root: Path, on_bad_file: OnBadFile) -> list[NamedFile]:
        """Return the sound files below `root`, in the order of their paths.

        Raises:
            DataError: there are none, or a name does not match and `on_bad_file` is "error".
        """
        paths = sounds_in(root) if root.is_dir() else []
        if not paths:
            raise MissingDataError(
                f"{_OWNER}: no sound files in {root}; put the files {root}/{self.pattern} there, or set data.root"
            )
        found, strange = [], []
        for path in paths:
            match = self.regex.fullmatch(path.relative_to(root).as_posix())
            if match is None:
                strange.append(path)
            else:
                found.append(NamedFile(str(path), {name: value or "" for name, value in match.groupdict().items()}))
        told = f"{len(strange)} of {len(paths)} names do not match"
        if strange and (on_bad_file == "error" or not found):
            raise DataError(
                f"{_OWNER}(pattern={self.pattern!r}): {told}; the first is {strange[0]} "
                "(correct data.pattern, move the file, or set data.on_bad_file to skip)"
            )
        if strange:
            rank_zero_warn(
                f"{_OWNER}(on_bad_file='skip'): {told} {self.pattern!r} and are left out; the first is {strange[0]}"
            )
        return found

    def class_names(self, files: Sequence[NamedFile]) -> list[str]:
        """Return the labels of the files, numbers by value, then words by letters."""
        return _in_order({file.fields["label"] for file in files})

    def numbered(self, files: Sequence[NamedFile], class_names: Sequence[str], part: str) -> list[tuple[str, int]]:
        """Return path and class number of each file.

        Raises:
            DataError: a file has a label that is not in `class_names`; names it.
        """
        numbers = {name: number for number, name in enumerate(class_names)}
        for file in files:
            label = file.fields["label"]
            if label not in numbers:
                raise DataError(
                    f"{file.path}: the {part} label {label!r} is none of the training files' "
                    f"({', '.join(class_names[:10])}{', ...' if len(class_names) > 10 else ''}); "
                    "remove the file, or move some with this label to the training part"
                )
        return [(file.path, numbers[file.fields["label"]]) for file in files]


class Rule:
    """Chooses files: `FIELD=VALUE[,VALUE...]`, where a VALUE may be a range of whole numbers, `0-4`.

    Raises:
        ConfigError: it does not read so, or the pattern has no such field.
    """

    def __init__(self, argument: str, text: str, pattern: NamePattern) -> None:
        self.argument = argument
        self.text = text
        self.field, _, values = (part.strip() for part in text.partition("="))
        if not self.field or not values:
            raise ConfigError(f"{_OWNER}({self}): expected FIELD=VALUES, such as 'index=0-4' or 'speaker=theo'")
        if self.field not in pattern.fields:
            raise ConfigError(
                f"{_OWNER}({self}): the pattern {pattern.pattern!r} has the fields {', '.join(pattern.fields)}"
                f"{did_you_mean(self.field, pattern.fields)}"
            )
        self.values: set[str] = set()
        self.ranges: list[range] = []
        for value in (value.strip() for value in values.split(",")):
            ends = re.fullmatch(r"(\d+)-(\d+)", value)
            if ends and int(ends[1]) <= int(ends[2]):
                self.ranges.append(range(int(ends[1]), int(ends[2]) + 1))
            else:
                self.values.add(value)

    def __str__(self) -> str:
        """Return the argument as the user wrote it."""
        return f"{self.argument}={self.text!r}"

    @property
    def example(self) -> str:
        """A value that is chosen."""
        return min(self.values) if self.values else str(self.ranges[0][0])

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Say whether a file with these fields is chosen."""
        value = fields[self.field]
        return value in self.values or (value.isdecimal() and any(int(value) in r for r in self.ranges))

    def values_in(self, files: Sequence[NamedFile]) -> str:
        """Return the values that the field has, as far as they can be read at a glance."""
        values = _in_order({file.fields[self.field] for file in files})
        return f"{', '.join(values[:10])}{', ...' if len(values) > 10 else ''}"

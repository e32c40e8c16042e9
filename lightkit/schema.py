"""The form of a saved state, checked before anybody takes it: a wrong one is an error that names its place.

    PROGRESS = Record({"epoch": WHOLE, "is_done": TRUTH})
    PROGRESS.check({"epoch": "x", "is_done": True}, "progress")
    StateError: ['progress']['epoch']: expected a whole number, found 'x'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lightkit.errors import CheckpointError


class StateError(CheckpointError):
    """A state that is none of this part's; who knows where it stands in a checkpoint says so with `inside`."""

    def __init__(self, problem: str, *place: object):
        super().__init__(f"{place_text(place)}: {problem}" if place else problem)
        self.problem, self.place = problem, place

    def inside(self, *place: object) -> StateError:
        """The same, seen from further outside."""
        return StateError(self.problem, *place, *self.place)


def place_text(place: tuple[object, ...]) -> str:
    """The keys that lead to a value, as Python writes them: `['callbacks']['Timer']`."""
    return "".join(f"[{key!r}]" for key in place)


class Form:
    """What a value has to be."""

    expected: str

    def check(self, value: object, *place: object) -> None:
        """Raise StateError where the value, or one in it, is of another form."""
        if not self.holds(value):
            raise StateError(f"expected {self.expected}, found {shown(value)}", *place)

    def holds(self, value: object) -> bool:
        """Whether the value as a whole, without what is in it, is of this form."""
        return True


class Anything(Form):
    """What only its owner knows."""

    expected = "anything"


@dataclass(frozen=True)
class Kind(Form):
    """A value of one of these types; a truth value counts as a number nowhere."""

    types: tuple[type, ...]
    expected: str

    def holds(self, value: object) -> bool:
        return isinstance(value, self.types) and (bool in self.types or not isinstance(value, bool))


@dataclass(frozen=True)
class Either(Form):
    """One of several forms."""

    forms: tuple[Form, ...]

    @property
    def expected(self) -> str:  # type: ignore[override]
        """All of them."""
        return " or ".join(form.expected for form in self.forms)

    def check(self, value: object, *place: object) -> None:
        super().check(value, *place)
        next(form for form in self.forms if form.holds(value)).check(value, *place)

    def holds(self, value: object) -> bool:
        return any(form.holds(value) for form in self.forms)


@dataclass(frozen=True)
class Choice(Form):
    """One of these values."""

    values: tuple[object, ...]

    @property
    def expected(self) -> str:  # type: ignore[override]
        """All of them."""
        return f"one of {', '.join(map(repr, self.values))}"

    def holds(self, value: object) -> bool:
        return any(type(value) is type(known) and value == known for known in self.values)


@dataclass(frozen=True)
class ListOf(Form):
    """A list, or a tuple, of values of one form; `first` are the forms of its first ones."""

    each: Form
    first: tuple[Form, ...] = ()
    expected: str = field(default="a list", init=False)

    def check(self, value: object, *place: object) -> None:
        super().check(value, *place)
        assert isinstance(value, (list, tuple))
        if len(value) < len(self.first):
            raise StateError(f"expected a list of at least {len(self.first)}, found one of {len(value)}", *place)
        for index, item in enumerate(value):
            form = self.first[index] if index < len(self.first) else self.each
            form.check(item, *place, index)

    def holds(self, value: object) -> bool:
        return isinstance(value, (list, tuple))


@dataclass(frozen=True)
class DictOf(Form):
    """A dict of values of one form by keys of one type."""

    each: Form
    key: type = str
    expected: str = field(default="a dict", init=False)

    def check(self, value: object, *place: object) -> None:
        super().check(value, *place)
        assert isinstance(value, Mapping)
        for key, item in value.items():
            if not isinstance(key, self.key):
                raise StateError(f"expected keys of type {self.key.__name__}, found {shown(key)}", *place)
            self.each.check(item, *place, key)

    def holds(self, value: object) -> bool:
        return isinstance(value, Mapping)


@dataclass(frozen=True)
class Record(Form):
    """A dict with these keys, each of its own form; others are left unchecked. optional: those that may be missing."""

    fields: Mapping[str, Form]
    optional: Mapping[str, Form] = field(default_factory=dict)
    expected: str = field(default="a dict", init=False)

    def check(self, value: object, *place: object) -> None:
        super().check(value, *place)
        assert isinstance(value, Mapping)
        for key, form in {**self.fields, **self.optional}.items():
            if key in value:
                form.check(value[key], *place, key)
            elif key in self.fields:
                raise StateError(f"{key!r} is missing", *place)

    def holds(self, value: object) -> bool:
        return isinstance(value, Mapping)


class Scalar(Form):
    """A real number, or a tensor that holds one."""

    expected = "a number"

    def holds(self, value: object) -> bool:
        if isinstance(value, Tensor):
            return value.numel() == 1 and not value.is_complex()
        return NUMBER.holds(value)


ANYTHING = Anything()
SCALAR = Scalar()
WHOLE = Kind((int,), "a whole number")
NUMBER = Kind((int, float), "a number")
TRUTH = Kind((bool,), "True or False")
TEXT = Kind((str,), "a string")
TENSOR = Kind((Tensor,), "a tensor")
NOTHING = Kind((type(None),), "None")


def optional(*forms: Form) -> Form:
    """One of these forms, or None."""
    return Either((*forms, NOTHING))


def shown(value: object) -> str:
    """A value in an error message."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple, dict, set)):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return text if len(text) <= 60 else f"{text[:60]}..."
    return f"a {type(value).__name__}"


def check_like(value: object, example: object, *place: object) -> None:
    """Raise StateError where a value is of another form than an example, or one in it is.

    Numbers may be whole or not, or tensors of one element; where the example is None, anything may come; of two dicts
    the keys that both have are compared.
    """
    if isinstance(example, Mapping):
        DictOf(ANYTHING, object).check(value, *place)
        assert isinstance(value, Mapping)
        for key in value.keys() & example.keys():
            check_like(value[key], example[key], *place, key)
    elif isinstance(example, (list, tuple)):
        ListOf(ANYTHING).check(value, *place)
        assert isinstance(value, (list, tuple))
        for index, item in enumerate(value if example else ()):
            check_like(item, example[min(index, len(example) - 1)], *place, index)
    else:
        form = next((form for form in (TRUTH, TEXT, SCALAR) if form.holds(example)), ANYTHING)
        form.check(value, *place)

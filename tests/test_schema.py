"""A state of another form is one error that says where, what was expected and what was found."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightkit.errors import CheckpointError
from lightkit.schema import (
    ANYTHING,
    NUMBER,
    SCALAR,
    TENSOR,
    TEXT,
    TRUTH,
    WHOLE,
    Choice,
    DictOf,
    Form,
    ListOf,
    Record,
    StateError,
    check_like,
    optional,
)  # fmt: skip

STATE = Record(
    {"epoch": WHOLE, "is_done": TRUTH, "score": SCALAR, "names": ListOf(TEXT), "weights": DictOf(TENSOR)},
    {"rate": optional(NUMBER), "kind": Choice(("min", "max", 1)), "pair": ListOf(ANYTHING, (TEXT, WHOLE))},
)
RIGHT: dict[str, Any] = {
    "epoch": 1, "is_done": True, "score": torch.tensor(0.5), "names": ("a", "b"), "weights": {"w": torch.ones(2)},
    "rate": None, "kind": "min", "pair": ["a", 1, None], "left": object(),
}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"score": 2}, {"rate": 0.5}, {"names": []}, {"kind": 1}])
def test_what_is_of_the_form_passes(changes: dict[str, Any]) -> None:
    STATE.check({**RIGHT, **changes})


@pytest.mark.parametrize(("changes", "message"), [
    ({"epoch": "x"}, "['loop']['epoch']: expected a whole number, found 'x'"),
    ({"epoch": True}, "['loop']['epoch']: expected a whole number, found True"),
    ({"epoch": 1.5}, "['loop']['epoch']: expected a whole number, found 1.5"),
    ({"is_done": 1}, "['loop']['is_done']: expected True or False, found 1"),
    ({"score": torch.ones(2)}, "['loop']['score']: expected a number, found a tensor of shape (2,)"),
    ({"score": torch.tensor(1j)}, "['loop']['score']: expected a number, found a tensor of shape ()"),
    ({"names": ["a", b"b"]}, "['loop']['names'][1]: expected a string, found a bytes"),
    ({"names": {"a": 1}}, "['loop']['names']: expected a list, found a dict of 1"),
    ({"weights": {"w": [1.0]}}, "['loop']['weights']['w']: expected a tensor, found a list of 1"),
    ({"weights": {3: 1}}, "['loop']['weights']: expected keys of type str, found 3"),
    ({"rate": "fast"}, "['loop']['rate']: expected a number or None, found 'fast'"),
    ({"kind": True}, "['loop']['kind']: expected one of 'min', 'max', 1, found True"),
    ({"pair": ["a"]}, "['loop']['pair']: expected a list of at least 2, found one of 1"),
    ({"pair": ["a", None]}, "['loop']['pair'][1]: expected a whole number, found None"),
    ({"epoch": "y" * 100}, f"['loop']['epoch']: expected a whole number, found '{'y' * 59}..."),
])  # fmt: skip
def test_what_is_not_of_the_form_is_named_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StateError) as caught:
        STATE.check({**RIGHT, **changes}, "loop")
    assert str(caught.value) == message and isinstance(caught.value, CheckpointError)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(StateError) as caught:
        STATE.check({key: value for key, value in RIGHT.items() if key != "epoch"})
    assert str(caught.value) == "'epoch' is missing"
    assert str(caught.value.inside("loop", 0)) == "['loop'][0]: 'epoch' is missing"


@pytest.mark.parametrize("form", [optional(optional(NUMBER)), optional(Choice((None,)), NUMBER)])
def test_forms_stand_in_one_another(form: Form) -> None:
    form.check(None)
    form.check(1)
    with pytest.raises(StateError, match="found 'x'"):
        form.check("x")


EXAMPLE = {
    "lr": 0.1, "betas": (0.9, 0.99), "flag": False, "name": "min", "none": None, "inner": [{"a": 1}], "empty": [],
}  # fmt: skip


@pytest.mark.parametrize("value", [
    {}, {"lr": 1}, {"lr": torch.tensor(1.0)}, {"betas": [1, 2, 3]}, {"none": object()}, {"inner": []}, {"empty": ["x"]},
    {"other": "x"}, {"inner": [{"a": 2}, {"b": "x"}]},
])  # fmt: skip
def test_what_is_like_an_example_passes(value: Any) -> None:
    check_like(value, EXAMPLE)


@pytest.mark.parametrize(("value", "message"), [
    ([], "expected a dict, found a list of 0"),
    ({"lr": "x"}, "['lr']: expected a number, found 'x'"),
    ({"lr": None}, "['lr']: expected a number, found None"),
    ({"betas": (0.1, "x")}, "['betas'][1]: expected a number, found 'x'"),
    ({"flag": 0}, "['flag']: expected True or False, found 0"),
    ({"name": None}, "['name']: expected a string, found None"),
    ({"inner": [{"a": 1}, {"a": {}}]}, "['inner'][1]['a']: expected a number, found a dict of 0"),
])  # fmt: skip
def test_what_is_unlike_an_example_is_named(value: Any, message: str) -> None:
    with pytest.raises(StateError) as caught:
        check_like(value, EXAMPLE)
    assert str(caught.value) == message

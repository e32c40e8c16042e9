"""What the errors promise: they are also the builtin ones, and they name what was probably meant."""

import re

import pytest

from lightkit import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ConfigError, ValueError),
        (errors.HookError, TypeError),
        (errors.DataError, ValueError),
        (errors.MissingDataError, errors.DataError),
        (errors.CheckpointError, RuntimeError),
        (errors.MissingExtraError, ImportError),
        (errors.RunDirError, OSError),
        (errors.NonFiniteError, ArithmeticError),
    ],
)
def test_each_error_is_also_the_builtin_one_that_plain_code_would_raise(error, builtin):
    assert issubclass(error, errors.LightkitError)
    assert issubclass(error, builtin)
    assert str(error("what to do")) == "what to do"


def test_the_tree_in_the_docstring_names_every_error():
    drawn = set(re.findall(r"── (\w+)", errors.__doc__))
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.LightkitError) and value.__name__ == name
    }
    assert len(defined) == 11
    assert drawn == defined - {"LightkitError"}


def test_lightnings_name_for_a_wrong_argument_is_ours():
    assert errors.MisconfigurationException is errors.ConfigError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bf16-mixd", "bf16-mixed"),
        ("BF16-MIXED", "bf16-mixed"),
        ("32_true", "32-true"),
        ("val_loss", None),
        ("", None),
    ],
)
def test_nearest_is_the_option_that_was_probably_meant(name, expected):
    assert errors.nearest(name, ["32-true", "16-mixed", "bf16-mixed"]) == expected


def test_did_you_mean_ends_a_message_or_is_empty():
    assert errors.did_you_mean("vall_loss", ["train_loss", "val_loss"]) == "; did you mean 'val_loss'?"
    assert errors.did_you_mean("accuracy", ["train_loss", "val_loss"]) == ""


def test_require_returns_the_module_that_is_there():
    import json.decoder

    assert errors.require("json.decoder", "vision") is json.decoder


def test_require_says_which_extra_installs_a_missing_package():
    with pytest.raises(errors.MissingExtraError) as caught:
        errors.require("no_such_package.sub", "vision", needed_by="VisionData")
    assert str(caught.value) == 'no_such_package is needed by VisionData: pip install "lightkit[vision]"'
    assert caught.value.name == "no_such_package"


def test_require_leaves_the_import_error_of_an_installed_package_alone(tmp_path, monkeypatch):
    (tmp_path / "half_broken.py").write_text("import its_own_missing_part\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'its_own_missing_part'$"):
        errors.require("half_broken", "vision")

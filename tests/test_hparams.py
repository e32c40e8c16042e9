"""What `save_hyperparameters` keeps, and how an object is built from it again."""

import argparse
import copy
import dataclasses
import enum
import functools
import inspect
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lightkit as lk
from lightkit.checkpoint import files as ckpt
from lightkit.errors import CheckpointError, ConfigError
from lightkit.hparams import AttributeDict, Hyperparameters, collect, stored
from lightkit.hparams.loading import load_kwargs


class Base(nn.Module):
    """Delegates as LightModule does."""

    def save_hyperparameters(self, *args, **kwargs):
        self._hyperparameters = collect(self, args, frame=inspect.currentframe().f_back, **kwargs)


class Everything(Base):
    def __init__(self, width, depth=2, *layers, rate=0.1, **more):
        super().__init__()
        not_an_argument = 5
        self.save_hyperparameters()
        assert not_an_argument


def test_without_names_every_argument_is_kept_the_keywords_flat():
    module = Everything(8, 3, "dropped", rate=0.5, extra=1)
    assert module._hyperparameters.values == {"width": 8, "depth": 3, "rate": 0.5, "extra": 1}
    assert (module._hyperparameters.argument, module._hyperparameters.is_logged) == ("kwargs", True)
    assert module._hyperparameters.initial == module._hyperparameters.values
    module._hyperparameters.values.width = 9
    assert module._hyperparameters.initial.width == 8


class Parent(Base):
    def __init__(self, lr=0.1, width=4):
        nn.Module.__init__(self)  # no super(): frames are read, not the `__class__` cell
        self.save_hyperparameters()


class Child(Parent):
    def __init__(self, depth, width=5, **kwargs):
        helper = Parent(lr=99)  # another object's __init__ runs inside ours and must not mix in
        super().__init__(width=width * 2, **kwargs)
        assert helper._hyperparameters.values == {"lr": 99, "width": 4}


def test_a_parents_call_keeps_the_subclass_s_arguments_too_and_the_subclass_wins():
    assert Child(3, lr=0.7)._hyperparameters.values == {"lr": 0.7, "width": 5, "depth": 3}


class ByHelper(Base):
    def __init__(self, a, b):
        super().__init__()
        self.prepare()

    def prepare(self):
        self.save_hyperparameters()


def test_the_call_may_stand_in_a_helper_method():
    assert ByHelper(1, 2)._hyperparameters.values == {"a": 1, "b": 2}


class Choosing(Base):
    def __init__(self, a, b=2, net=None, how=None):
        super().__init__()
        how(self)


def test_names_choose_ignore_leaves_out_and_a_later_call_adds():
    def names(module):
        module.save_hyperparameters("a", "b")

    def ignoring(module):
        module.save_hyperparameters(ignore=["how", "net"])

    def ignoring_one(module):
        module.save_hyperparameters("a", "b", ignore="b", logger=False)

    def twice(module):
        module.save_hyperparameters("a")
        module.save_hyperparameters({"b": 7, "c": 8})

    assert Choosing(1, how=names)._hyperparameters.values == {"a": 1, "b": 2}
    assert Choosing(1, net=nn.Linear(1, 1), how=ignoring)._hyperparameters.values == {"a": 1, "b": 2}
    only = Choosing(1, how=ignoring_one)
    assert (only._hyperparameters.values, only._hyperparameters.is_logged) == ({"a": 1}, False)
    assert Choosing(1, how=twice)._hyperparameters.values == {"a": 1, "b": 7, "c": 8}


def test_a_name_that_is_no_argument_is_refused_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        Choosing(1, how=lambda module: module.save_hyperparameters("nett"))
    assert str(caught.value) == (
        "save_hyperparameters('nett'): Choosing.__init__ has no such argument (it has: 'a', 'b', 'net', "
        "'how'); did you mean 'net'?"
    )


def test_what_holds_no_names_is_refused():
    with pytest.raises(ConfigError) as caught:
        Choosing(1, how=lambda module: module.save_hyperparameters(3))
    assert str(caught.value) == (
        "save_hyperparameters(...): expected names of arguments, a dict, a Namespace or a dataclass, got a int"
    )
    with pytest.raises(ConfigError) as caught:
        Choosing(1, how=lambda module: module.save_hyperparameters("a", {"b": 1}))
    assert str(caught.value) == "save_hyperparameters(...): expected names of arguments or one dict, got a dict"


@dataclasses.dataclass
class Conf:
    lr: float = 0.1
    sizes: list = dataclasses.field(default_factory=lambda: [1, 2])


class Whole(Base):
    def __init__(self, conf, flag=True):
        super().__init__()
        self.save_hyperparameters(conf)


@pytest.mark.parametrize(
    "conf", [{"lr": 0.1, "sizes": [1, 2]}, argparse.Namespace(lr=0.1, sizes=[1, 2]), Conf()], ids=type
)
def test_one_dict_namespace_or_dataclass_is_kept_by_its_entries_and_its_argument_s_name(conf):
    module = Whole(conf)
    assert module._hyperparameters.values == {"lr": 0.1, "sizes": [1, 2]}
    assert module._hyperparameters.values.lr == 0.1
    assert module._hyperparameters.argument == "conf"


def test_an_empty_dict_keeps_its_argument_alone():
    kept = Whole({})._hyperparameters
    assert (kept.values, kept.argument) == ({}, "conf")
    assert load_kwargs(Whole, stored(kept), {}) == {"conf": {}}
    assert Whole(None)._hyperparameters == Hyperparameters()


@dataclasses.dataclass(eq=False)
class DataModule:
    folder: Path
    batch_size: int = 4
    sizes: list = dataclasses.field(default_factory=lambda: [3])

    def __post_init__(self):
        self._hyperparameters = collect(self, ())


def test_a_dataclass_keeps_its_fields_defaults_included():
    assert DataModule(Path("x"))._hyperparameters.values == {"folder": Path("x"), "batch_size": 4, "sizes": [3]}


class Colour(enum.Enum):
    RED = "red"
    CODE = print


class Plain(Base):
    def __init__(self, **kwargs):
        super().__init__()
        self.save_hyperparameters()


PLAIN = {
    "number": 1.5,
    "truth": True,
    "nothing": None,
    "text": "a",
    "path": Path("a"),
    "colour": Colour.RED,
    "dtype": torch.float16,
    "device": torch.device("cpu"),
    "numpy": np.float32(2),
    "nested": {"a": [1, (2, {"b": {3}})]},
}


def test_plain_values_are_kept_as_they_are_and_can_be_saved(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = Plain(**PLAIN)
    assert module._hyperparameters.values == PLAIN
    ckpt.save({"hyper_parameters": module._hyperparameters.values}, tmp_path / "a.ckpt")
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]
    assert loaded == PLAIN | {"path": "a", "colour": "red"}
    assert type(loaded) is dict


def test_what_is_kept_is_a_copy():
    sizes = [1, 2]
    module = Plain(sizes=sizes)
    sizes.append(3)
    assert module._hyperparameters.values.sizes == [1, 2]


def test_a_nested_dataclass_or_namespace_keeps_its_attributes():
    conf = Conf()
    module = Plain(conf=conf, args=argparse.Namespace(a=1))
    hparams = module._hyperparameters.values
    assert hparams == {"conf": Conf(), "args": argparse.Namespace(a=1)}
    assert hparams.conf is not conf
    assert stored(module._hyperparameters)["hyper_parameters"] == {
        "conf": {"lr": 0.1, "sizes": [1, 2]},
        "args": {"a": 1},
    }


def test_what_is_not_plain_is_left_out_with_one_warning_that_names_it():
    with pytest.warns(UserWarning) as caught:
        module = Plain(lr=0.1, net=nn.Linear(1, 1), losses=[len], code=Colour.CODE)
    assert [str(warning.message) for warning in caught] == [
        "save_hyperparameters(): left out 'net' (torch.nn.modules.linear.Linear), 'losses' (builtins.list), "
        f"'code' ({type(Colour.CODE).__module__}.{type(Colour.CODE).__qualname__}): only plain values are "
        "saved, so that loading a checkpoint never runs code; give them to load_from_checkpoint() again, "
        "and write save_hyperparameters(ignore=['net', 'losses', 'code']) to say that you know"
    ]
    assert caught[0].filename == __file__  # it points at the user's line, not at ours
    kept = module._hyperparameters
    assert kept.initial == kept.values and stored(kept)["hyper_parameters"] == {"lr": 0.1}
    assert kept.values == {"lr": 0.1, "net": kept.values.net, "losses": [len], "code": Colour.CODE}  # as in Lightning


def test_what_is_put_in_the_place_of_what_is_not_plain_is_saved():
    with pytest.warns(UserWarning, match="left out 'net'"):
        module = Plain(lr=0.1, net=nn.Linear(1, 1))
    module._hyperparameters.values.net = "linear"
    assert stored(module._hyperparameters)["hyper_parameters"] == {"lr": 0.1, "net": "linear"}


def test_a_library_takes_hyperparameters_away_by_lightnings_names():
    class Special(lk.LightModule):
        def __init__(self, rate=0.1, net=None):
            super().__init__()
            self.save_hyperparameters()
            del self._hparams["net"]
            del self._hparams_initial["net"]

    with pytest.warns(UserWarning, match="left out 'net'"):
        module = Special(net=nn.Linear(1, 1))
    assert module.hparams == module.hparams_initial == {"rate": 0.1}


def test_hyperparameters_may_be_saved_before_the_module_is_one():
    class Early(lk.LightModule):
        def __init__(self, width=4):
            self.save_hyperparameters()
            super().__init__()
            self.layer = nn.Linear(self.hparams.width, 1)

    class Data(lk.LightDataModule):
        def __init__(self, size=4):
            self.save_hyperparameters()
            super().__init__()

    assert Early(3).hparams == {"width": 3} and Data(2).hparams == {"size": 2}


def test_an_optimizer_to_be_made_is_found_in_hparams():
    """As templates with Hydra write it: partial optimizers are arguments, and read from `self.hparams`."""

    class Made(lk.LightModule):
        def __init__(self, optimizer, rate=0.1):
            super().__init__()
            self.save_hyperparameters(ignore=["rate"])
            self.layer = nn.Linear(1, 1)

        def configure_optimizers(self):
            return self.hparams.optimizer(params=self.parameters())

    with pytest.warns(UserWarning, match="left out 'optimizer'"):
        module = Made(functools.partial(torch.optim.SGD, lr=0.5))
    assert module.configure_optimizers().defaults["lr"] == 0.5
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module._hyperparameters))):
        kept = copied if isinstance(copied, Hyperparameters) else copied._hyperparameters
        assert stored(kept).get("hyper_parameters", {}) == {}


def test_hyperparameters_are_attributes_that_print_one_a_line():
    hparams = AttributeDict(lr=0.1, batch_size=4)
    hparams.lr = 0.2
    hparams.new = "x"
    assert str(hparams) == "lr          0.2\nbatch_size  4\nnew         x"
    assert repr(hparams) == "{'lr': 0.2, 'batch_size': 4, 'new': 'x'}"
    assert str(AttributeDict()) == ""
    del hparams.new
    with pytest.raises(AttributeError, match=r"^no hyperparameter 'new'$"):
        del hparams.new
    with pytest.raises(AttributeError, match=r"^no hyperparameter 'batchsize'; did you mean 'batch_size'\?"):
        hparams.batchsize
    for same in (copy.deepcopy(hparams), copy.copy(hparams), pickle.loads(pickle.dumps(hparams))):
        assert isinstance(same, AttributeDict)
        assert same == hparams


class Deletes(lk.LightModule):
    def __init__(self, cfg, extra=None, **kwargs):
        super().__init__()
        del extra, kwargs
        self.save_hyperparameters(cfg)


def test_an_argument_that_was_deleted_before_is_not_missed():
    assert dict(Deletes({"lr": 0.1}, extra=1, more=2).hparams) == {"lr": 0.1}


class Takes(nn.Module):
    def __init__(self, width, depth=1):
        super().__init__()


class TakesAny(nn.Module):
    def __init__(self, width, **more):
        super().__init__()


def test_saved_arguments_build_the_object_again_overrides_win():
    saved = {"hyper_parameters": {"width": 8, "depth": 2, "gone": 3}}
    assert load_kwargs(Takes, saved, {}) == {"width": 8, "depth": 2}
    assert load_kwargs(Takes, saved, {"depth": 5}) == {"width": 8, "depth": 5}
    assert load_kwargs(TakesAny, saved, {"new": 1}) == {"width": 8, "depth": 2, "gone": 3, "new": 1}
    assert load_kwargs(Takes, {}, {"width": 1}) == {"width": 1}
    datamodule = {"datamodule_hyper_parameters": {"width": 3}}
    assert load_kwargs(Takes, datamodule, {}, key="datamodule_hyper_parameters") == {"width": 3}


def test_one_saved_dict_is_given_to_its_argument_with_the_overrides_in_it():
    saved = {"hyper_parameters": {"lr": 0.1, "size": 2}, "hparams_name": "conf"}
    kwargs = load_kwargs(Whole, saved, {"lr": 0.5, "flag": False, "new": 3})
    assert kwargs == {"conf": {"lr": 0.5, "size": 2, "new": 3}, "flag": False}
    assert Whole(**kwargs)._hyperparameters.values.lr == 0.5


def test_an_argument_neither_saved_nor_given_is_named():
    with pytest.raises(CheckpointError) as caught:
        load_kwargs(Takes, {"hyper_parameters": {"depth": 2}}, {})
    assert str(caught.value) == (
        "Takes.load_from_checkpoint(...): arguments that Takes.__init__ requires are neither saved in the "
        "checkpoint nor given: 'width'; call load_from_checkpoint(path, width=...), or "
        "self.save_hyperparameters() in __init__ before training"
    )


def test_an_override_that_is_no_argument_is_refused():
    with pytest.raises(ConfigError) as caught:
        load_kwargs(Takes, {"hyper_parameters": {"width": 2}}, {"widht": 3})
    assert str(caught.value) == (
        "Takes.load_from_checkpoint(widht=...): Takes.__init__ has no such argument (it has: 'width', "
        "'depth'); did you mean 'width'?"
    )


def test_what_was_put_in_the_place_of_what_is_not_plain_stays_after_another_call():
    class Twice(lk.LightModule):
        def __init__(self, net=None, lr=0.1):
            super().__init__()
            self.save_hyperparameters("net")
            self.hparams["net"] = "resnet"
            self.save_hyperparameters("lr")

    with pytest.warns(UserWarning, match="left out 'net'"):
        module = Twice(nn.Linear(1, 1))
    assert module.hparams == {"net": "resnet", "lr": 0.1}
    assert stored(module._hyperparameters)["hyper_parameters"] == {"net": "resnet", "lr": 0.1}

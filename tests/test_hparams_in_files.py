"""Hyperparameters that went through a real file: the constructor gets what it got before, or an error says why not."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.checkpoint import files
from lightkit.errors import CheckpointError, ConfigError
from lightkit.hparams import AttributeDict


class Act(enum.Enum):
    RELU = "relu"
    GELU = "gelu"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Norm(enum.StrEnum):
    BATCH = enum.auto()


class Part(enum.Flag):
    HEAD = 1
    BODY = 2


class Pair(enum.Enum):
    ADAM = (0.9, 0.999)


@dataclasses.dataclass
class Inner:
    width: int = 3
    act: Act = Act.GELU
    where: Path = Path("a/b")


@dataclasses.dataclass
class Cfg:
    lr: float = 0.1
    inner: Inner = dataclasses.field(default_factory=Inner)
    tags: list[str] = dataclasses.field(default_factory=list)
    nothing: int | None = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    size: tuple[int, int] = (2, 3)
    parts: frozenset[Act] = frozenset({Act.RELU})


@dataclasses.dataclass
class Derived(Cfg):
    extra: Norm = Norm.BATCH


class Point(typing.NamedTuple):
    x: float
    act: Act


class Rate(float):
    pass


class Net(lk.LightModule):
    def __init__(self, net: nn.Module | None = None):
        super().__init__()
        self.net = net or nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.net(batch[0]).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, **kwargs) -> lk.Trainer:
    return lk.Trainer(
        max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        enable_checkpointing=False, default_root_dir=folder, **kwargs,
    )  # fmt: skip


def batches() -> DataLoader:
    return DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)


def saved(module: lk.LightModule, folder, datamodule: lk.LightDataModule | None = None) -> Path:
    """The file of a fit."""
    t, path = trainer(folder), folder / "saved.ckpt"
    if datamodule is None:
        t.fit(module, batches())
    else:
        t.fit(module, datamodule=datamodule)
    t.save_checkpoint(path)
    return path


def assert_same(found: object, wanted: object) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, (torch.Tensor, np.ndarray)):
        assert found.dtype == wanted.dtype and bool((found == wanted).all()) and found.shape == wanted.shape
    else:
        assert (found, repr(found)) == (wanted, repr(wanted))


# what is stored, and the annotation that names its class; None: there is none
VALUES: dict[str, tuple[object, object]] = {
    "none": (None, None),
    "bool": (True, None),
    "int": (2**70, None),
    "float": (0.1, None),
    "infinite": (float("inf"), None),
    "complex": (1 + 2j, None),
    "str": ("a", None),
    "bytes": (b"a\x00", None),
    "path": (Path("a/b"), None),
    "pure_path": (PurePosixPath("/a"), None),
    "enum": (Act.GELU, Act),
    "int_enum": (Level.HIGH, Level | None),
    "str_enum": (Norm.BATCH, Norm),
    "flag": (Part.HEAD | Part.BODY, Part),
    "empty_flag": (Part(0), Part),
    "enum_of_tuple": (Pair.ADAM, Pair),
    "dataclass": (Cfg(lr=1, tags=["x"]), Cfg),
    "frozen_dataclass": (Frozen(), Frozen),
    "derived_dataclass": (Derived(inner=Inner(act=Act.RELU, where=Path("c"))), Cfg),
    "dataclasses_in_dict": ({"a": [Inner(5)], Act.RELU: (Inner(),)}, dict[Act | str, list[Inner]]),
    "namespace": (argparse.Namespace(a=1, sub=argparse.Namespace(path=Path("x"))), None),
    "simple_namespace": (types.SimpleNamespace(a=[1]), None),
    "attribute_dict": (AttributeDict(a=1, sub={"x": AttributeDict(b=2)}), None),
    "dict": ({"a": {1: None, (1, 2): [True]}}, None),
    "ordered_dict": (collections.OrderedDict(b=1, a=Path("x")), None),
    "default_dict": (collections.defaultdict(list, a=[1]), None),
    "counter": (collections.Counter("aab"), None),
    "list": ([1, [Path("a"), "a"]], None),
    "tuple": ((0.9, (0.999,)), None),
    "named_tuple": (Point(0.5, Act.RELU), Point),
    "set": ({3}, None),
    "frozenset": (frozenset({3}), None),
    "set_of_enum": ({Act.GELU}, set[Act]),
    "dtype": (torch.bfloat16, None),
    "device": (torch.device("cpu", 0), None),
    "size": (torch.Size([2, 3]), None),
    "numpy_float": (np.float32(0.1), None),
    "numpy_float64": (np.float64(0.1), None),
    "numpy_bool": (np.bool_(True), None),
    "numpy_str": (np.str_("a"), None),
    "numpy_array": (np.array([[1, 2]], dtype=np.int16), None),
    "tensor": (torch.tensor([0.5, 1.5], dtype=torch.float64), None),
    "float_of_own_class": (Rate(0.5), Rate),
}


def taking(hint: object) -> type[Net]:
    """A module with one argument of this annotation."""

    class Holds(Net):
        def __init__(self, value):
            super().__init__()
            self.save_hyperparameters()
            self.value = value

    if hint is not None:
        Holds.__init__.__annotations__["value"] = hint
    return Holds


def test_the_table_has_all_kinds():
    assert len(VALUES) == 43 and sum(hint is None for _, hint in VALUES.values()) == 30


@pytest.mark.parametrize("kind", VALUES)
def test_an_argument_comes_back_from_the_file_as_it_was(kind, tmp_path):
    value, hint = VALUES[kind]
    cls = taking(hint)
    path = saved(cls(value), tmp_path)
    torch.load(path, weights_only=True)
    loaded = cls.load_from_checkpoint(path)
    assert_same(loaded.value, value)
    assert_same(loaded.hparams.value, value)
    assert_same(loaded.hparams_initial.value, value)


@pytest.mark.parametrize("kind", VALUES)
def test_a_resumed_fit_writes_hyperparameters_that_load_as_the_first_did(kind, tmp_path):
    value, hint = VALUES[kind]
    cls = taking(hint)
    first = saved(cls(value), tmp_path)
    t = trainer(tmp_path)
    t.fit(cls(value), batches(), ckpt_path=first)
    t.save_checkpoint(tmp_path / "again.ckpt")
    assert_same(cls.load_from_checkpoint(tmp_path / "again.ckpt").value, value)


class Whole(Net):
    def __init__(self, cfg, flag: bool = True):
        super().__init__()
        self.save_hyperparameters(cfg)
        self.cfg, self.flag = cfg, flag


class WholeCfg(Whole):
    def __init__(self, cfg: Cfg, flag: bool = True):
        super().__init__(cfg, flag)


class WholeAct(Whole):
    def __init__(self, cfg: Mapping[str, Act], flag: bool = True):
        super().__init__(cfg, flag)


class ComposedAct(Net):
    def __init__(self, cfg: Mapping[str, Act], sub=None):
        super().__init__()
        self.save_hyperparameters()
        self.cfg, self.sub = cfg, sub


CONTENT = {"lr": 0.1, "sub": {"x": [1, 2]}, "act": Path("a")}
WHOLES = [
    (Whole, {"key": 1, "sub": {"x": [1, 2]}}),
    (Whole, {}),
    (Whole, {1: "a", (1, 2): "b"}),
    (Whole, argparse.Namespace(**CONTENT)),
    (Whole, types.SimpleNamespace(**CONTENT)),
    (Whole, AttributeDict(CONTENT)),
    (Whole, collections.OrderedDict(CONTENT)),
    (WholeCfg, Cfg(lr=0.5, inner=Inner(7))),
    (WholeCfg, Derived(extra=Norm.BATCH)),
]


@pytest.mark.parametrize("cls, cfg", WHOLES, ids=lambda x: getattr(x, "__name__", type(x).__name__))
def test_one_object_is_given_back_to_its_argument_as_what_it_was(cls, cfg, tmp_path):
    module = cls(cfg)
    loaded = cls.load_from_checkpoint(saved(module, tmp_path))
    assert_same(loaded.cfg, cfg)
    assert_same(loaded.hparams, module.hparams)


def test_a_file_of_weights_alone_has_them_too(tmp_path):
    pytest.importorskip("safetensors")
    module = WholeCfg(Cfg(lr=0.5, inner=Inner(7, Act.RELU)))
    t = trainer(tmp_path)
    t.fit(module, batches())
    for name in ("weights.ckpt", "weights.safetensors"):
        t.save_checkpoint(tmp_path / name, weights_only=True)
        assert WholeCfg.load_from_checkpoint(tmp_path / name).cfg == module.cfg


def test_entries_of_one_object_are_overridden_in_it(tmp_path):
    path = saved(WholeCfg(Cfg(tags=["a"])), tmp_path)
    assert WholeCfg.load_from_checkpoint(path, lr=2.0, flag=False).cfg == Cfg(lr=2.0, tags=["a"])
    assert WholeCfg.load_from_checkpoint(path, flag=False).flag is False
    assert WholeCfg.load_from_checkpoint(path, cfg=Cfg(lr=3.0)).cfg == Cfg(lr=3.0)
    with pytest.raises(ConfigError) as caught:
        WholeCfg.load_from_checkpoint(path, lrr=2.0)
    assert str(caught.value) == (
        "WholeCfg.load_from_checkpoint(lrr=...): WholeCfg.__init__ has no such argument (it has: 'cfg', 'flag', 'lr', "
        "'inner', 'tags', 'nothing'); did you mean 'lr'?"
    )


class Renaming(Whole):
    def __init__(self, config, width=4):
        super().__init__(config)
        self.save_hyperparameters("width")
        self.width = width


class Copying(Net):
    def __init__(self, cfg, depth=1):
        super().__init__()
        kept = dict(cfg)
        self.save_hyperparameters(kept)
        self.cfg = cfg


def test_one_object_is_found_under_the_name_of_the_class_that_is_built_and_beside_other_arguments(tmp_path):
    loaded = Renaming.load_from_checkpoint(saved(Renaming({"lr": 0.1}, width=8), tmp_path))
    assert (loaded.cfg, loaded.width, type(loaded.cfg)) == ({"lr": 0.1}, 8, dict)
    assert Copying.load_from_checkpoint(saved(Copying({"lr": 0.1}), tmp_path)).cfg == {"lr": 0.1}


class Data(lk.LightDataModule):
    def __init__(self, cfg: Cfg, act: Act = Act.RELU):
        super().__init__()
        self.save_hyperparameters()
        self.cfg, self.act = cfg, act

    def train_dataloader(self):
        return batches()


class WholeData(Data):
    def __init__(self, options):
        super().__init__(Cfg())
        self.save_hyperparameters(options, ignore=["cfg", "act"])
        self.options = options


def test_a_data_module_comes_back_as_it_was(tmp_path):
    path = saved(Net(), tmp_path, Data(Cfg(lr=3.0), Act.GELU))
    loaded = Data.load_from_checkpoint(path)
    assert (loaded.cfg, loaded.act) == (Cfg(lr=3.0), Act.GELU)
    assert Data.load_from_checkpoint(path, map_location="cpu", act=Act.RELU).act is Act.RELU
    path = saved(Net(), tmp_path, WholeData(argparse.Namespace(n=1)))
    assert WholeData.load_from_checkpoint(path).options == argparse.Namespace(n=1)
    assert {
        "datamodule_hparams_name": "options",
        "datamodule_hparams_type": "argparse.Namespace",
    }.items() <= torch.load(path, weights_only=True).items()


# ---------------------------------------------------------------------- where the class is found


class ByDefault(Net):
    def __init__(self, act=Act.RELU, cfg=Cfg(), options={"a": Inner()}):  # noqa: B006, B008  # what is tested
        super().__init__()
        self.save_hyperparameters()
        self.got = act, cfg, options


class Passing(ByDefault):
    def __init__(self, depth: int, **kwargs):
        super().__init__(**kwargs)


class Overriding(Whole):
    def __init__(self, cfg: Derived, **kwargs):
        super().__init__(cfg, **kwargs)


class Textual(Net):
    def __init__(self, a: "typing.Optional[Act]", b: "list[Inner] | None", c: "NotThere | Act", d: typing.List["Act"]):  # noqa: F821, UP006, UP037, UP045
        super().__init__()
        self.save_hyperparameters()
        self.got = a, b, c, d


def test_a_class_is_found_by_a_default_a_base_a_string_or_a_closure(tmp_path):
    got = Act.GELU, Cfg(lr=1.5), {"a": Inner(9)}
    assert ByDefault.load_from_checkpoint(saved(ByDefault(*got), tmp_path)).got == got
    passing = Passing(2, act=got[0], cfg=got[1], options=got[2])
    assert Passing.load_from_checkpoint(saved(passing, tmp_path)).got == got
    assert Overriding.load_from_checkpoint(saved(Overriding(Derived()), tmp_path)).cfg == Derived()
    texts = Act.RELU, [Inner(1)], Act.GELU, [Act.RELU]
    assert Textual.load_from_checkpoint(saved(Textual(*texts), tmp_path)).got == texts

    class Local(enum.Enum):
        A = 1

    class Closing(Net):
        def __init__(self, a: Local):
            super().__init__()
            self.save_hyperparameters()
            assert isinstance(a, Local)
            self.a = a

    assert Closing.load_from_checkpoint(saved(Closing(Local.A), tmp_path)).a is Local.A


class Bare(Net):
    def __init__(self, act, cfg=None):
        super().__init__()
        self.save_hyperparameters()
        self.got = act, cfg


def message_of(call) -> str:
    with pytest.raises(CheckpointError) as caught:
        call()
    return str(caught.value)


def test_a_class_that_the_constructor_does_not_name_is_an_error_that_says_what_is_stored_and_what_to_do(tmp_path):
    path = saved(Bare(Act.GELU), tmp_path)
    assert message_of(lambda: Bare.load_from_checkpoint(path)) == (
        f"Bare.load_from_checkpoint(...): 'act' was saved as 'gelu', of the kind {__name__}.Act; no class is imported "
        "because a file names it: annotate the argument 'act' of Bare.__init__ with its class, or give it, "
        "load_from_checkpoint(path, act=...)"
    )
    assert Bare.load_from_checkpoint(path, act=Act.GELU).got == (Act.GELU, None)
    path = saved(Bare("x", [{"inner": {"act": Act.GELU}}]), tmp_path)
    assert message_of(lambda: Bare.load_from_checkpoint(path)).startswith(
        "Bare.load_from_checkpoint(...): 'cfg.0.inner.act' was saved as 'gelu', "
    )
    path = saved(Whole(Cfg()), tmp_path)
    assert f"of the kind {__name__}.Cfg; no class is imported" in message_of(lambda: Whole.load_from_checkpoint(path))


def changed(path: Path, **entries) -> Path:
    """The file with other entries, as an earlier or a hostile program would have written it."""
    content = files.load(path)
    files.save({**content, **entries}, path)
    return path


def test_another_class_or_member_than_was_saved_is_noticed(tmp_path):
    cls = taking(Act)
    path = saved(cls(Act.GELU), tmp_path)
    say = "Holds.load_from_checkpoint(...): 'value' was saved as "
    give = "give it, load_from_checkpoint(path, value=...)"
    assert message_of(lambda: taking(Norm).load_from_checkpoint(path)) == (
        f"{say}'gelu', of the kind {__name__}.Act; expected is Norm; no class is imported because a file "
        f"names it: annotate the argument 'value' of Holds.__init__ with its class, or {give}"
    )
    changed(path, hyper_parameters={"value": "tanh"}, hparams_kinds={"value": "old.place.Act:TANH"})
    assert message_of(lambda: cls.load_from_checkpoint(path)) == (
        f"{say}'tanh', which is no Act (it has: RELU, GELU); {give}"
    )
    changed(path, hyper_parameters={"value": "relu"}, hparams_kinds={"value": "old.place.Act:GELU"})
    assert message_of(lambda: cls.load_from_checkpoint(path)) == (
        f"{say}'relu', which was Act.GELU and is Act.RELU now; {give}"
    )
    changed(path, hyper_parameters={"value": "RELU"}, hparams_kinds={"value": "old.place.Act:RELU"})
    assert cls.load_from_checkpoint(path).value is Act.RELU  # its value is another now, its name says which
    cls = taking(Cfg)
    path = changed(saved(cls(Cfg()), tmp_path), hyper_parameters={"value": {"gone": 1}})
    assert message_of(lambda: cls.load_from_checkpoint(path)) == (
        f"{say}a Cfg with 'gone', which is no field of it now (lr, inner, tags, nothing); {give}"
    )


@dataclasses.dataclass
class Scaling:
    lr: float = 0.1

    def __post_init__(self):
        self.lr = self.lr * 2


@dataclasses.dataclass
class Counting:
    width: int = 2
    area: int = dataclasses.field(init=False)

    def __post_init__(self):
        self.area = self.width**2


@dataclasses.dataclass
class Hidden:
    width: int = 2
    seed: dataclasses.InitVar[int] = 0

    def __post_init__(self, seed):
        self.drawn = seed


def test_a_dataclass_is_built_by_its_fields_and_one_that_is_another_then_is_refused(tmp_path):
    cls = taking(Counting)
    module = cls(Counting(3))
    path = saved(module, tmp_path)
    assert torch.load(path, weights_only=True)["hyper_parameters"] == {"value": {"width": 3}}
    assert cls.load_from_checkpoint(path).value == Counting(3)
    cls = taking(Scaling)
    path = saved(cls(Scaling(0.5)), tmp_path)
    assert message_of(lambda: cls.load_from_checkpoint(path)) == (
        "Holds.load_from_checkpoint(...): 'value' was saved as a Scaling whose lr is 1.0; built again, lr is 2.0; "
        "give it, load_from_checkpoint(path, value=...)"
    )
    with pytest.warns(UserWarning, match=r"left out 'value' \(.*Hidden\)"):
        taking(Hidden)(Hidden(seed=5))


def test_a_fields_that_are_not_given_are_no_hyperparameters():
    class Holds(Net):
        def __init__(self, cfg):
            super().__init__()
            self.save_hyperparameters(cfg)

    assert Holds(Counting(3)).hparams == {"width": 3}

    @dataclasses.dataclass(eq=False)
    class Made(lk.LightDataModule):
        size: int = 4
        rows: int = dataclasses.field(init=False, default=0)

        def __post_init__(self):
            super().__init__()
            self.save_hyperparameters()

    assert Made(5).hparams == {"size": 5}


class Base(Net):
    def __init__(self, lr=0.1, width=2):
        super().__init__()
        self.save_hyperparameters()


class Ignoring(Base):
    def __init__(self, body, lr=0.1, width=2, secret="x"):
        super().__init__(lr, width)
        self.save_hyperparameters(ignore=["secret", "lr"])


def test_a_subclass_s_ignore_drops_what_the_base_saved(tmp_path):
    module = Ignoring([1], lr=0.5, width=3, secret="password")
    assert module.hparams == module.hparams_initial == {"body": [1], "width": 3}
    assert torch.load(saved(module, tmp_path), weights_only=True)["hyper_parameters"] == {"body": [1], "width": 3}


def tanh(x):
    return x.tanh()


@dataclasses.dataclass
class WithCode:
    lr: float = 0.1
    act: typing.Callable = torch.relu


class Coded(Net):
    def __init__(self, act=torch.relu, width=2):
        super().__init__()
        self.save_hyperparameters()
        self.act = act


class WholeCoded(Net):
    def __init__(self, cfg: WithCode):
        super().__init__()
        self.save_hyperparameters(cfg)
        self.cfg = cfg


def test_what_was_left_out_is_asked_for_again_and_no_default_put_in_its_place(tmp_path):
    def made(call):
        with pytest.warns(UserWarning, match="left out 'act'"):
            return call()

    path = saved(made(lambda: Coded(tanh, 3)), tmp_path)
    assert message_of(lambda: Coded.load_from_checkpoint(path)) == (
        "Coded.load_from_checkpoint(...): 'act', a builtins.function, was not saved as it is, and its default would "
        "build another one: give it, load_from_checkpoint(path, act=...), or leave it out when saving, "
        "save_hyperparameters(ignore=['act'])"
    )
    assert made(lambda: Coded.load_from_checkpoint(path, act=tanh)).act is tanh
    path = saved(made(Coded), tmp_path)  # it was the default
    assert made(lambda: Coded.load_from_checkpoint(path)).act is torch.relu
    path = saved(made(lambda: WholeCoded(WithCode(act=tanh))), tmp_path)
    assert "'act', a builtins.function, was not saved as it is" in message_of(
        lambda: WholeCoded.load_from_checkpoint(path)
    )
    assert made(lambda: WholeCoded.load_from_checkpoint(path, act=tanh)).cfg == WithCode(act=tanh)
    assert made(lambda: WholeCoded.load_from_checkpoint(path, cfg=WithCode(act=tanh))).cfg == WithCode(act=tanh)


def test_one_that_its_fields_do_not_make_again_is_asked_for(tmp_path):
    class Takes(Net):
        def __init__(self, cfg: Hidden = Hidden()):  # noqa: B008
            super().__init__()
            self.save_hyperparameters(cfg)

    path = saved(Takes(Hidden(3, seed=5)), tmp_path)
    assert f"'cfg', a {__name__}.Hidden, was not saved as it is" in message_of(lambda: Takes.load_from_checkpoint(path))


def test_of_two_objects_the_first_is_asked_for(tmp_path):
    class Two(Net):
        def __init__(self, cfg=None, opt=None):
            super().__init__()
            self.save_hyperparameters(cfg)
            self.save_hyperparameters(opt)
            self.got = cfg, opt

    path = saved(Two({"a": 1}, argparse.Namespace(b=2)), tmp_path)
    assert "'cfg', a builtins.dict, was not saved as it is" in message_of(lambda: Two.load_from_checkpoint(path))
    assert Two.load_from_checkpoint(path, cfg={"a": 1}).got == ({"a": 1}, argparse.Namespace(b=2))


def test_defaults_in_the_place_of_everything_that_was_saved_are_told(tmp_path):
    class Flat(Net):
        def __init__(self, cfg=Counting()):  # noqa: B008
            super().__init__()
            self.save_hyperparameters(dataclasses.asdict(cfg))

    with pytest.warns(UserWarning) as caught:
        Flat.load_from_checkpoint(saved(Flat(Counting(3)), tmp_path))
    assert [str(warning.message) for warning in caught] == [
        "Flat.load_from_checkpoint(...): Flat.__init__ takes none of the saved hyperparameters ('width', 'area'), so "
        "that its defaults are used; give what it takes, load_from_checkpoint(path, cfg=...)"
    ]
    assert caught[0].filename == __file__


def test_configs_of_omegaconf_come_back_as_what_they_were(tmp_path):
    from omegaconf import DictConfig, OmegaConf

    cfg = OmegaConf.create({"lr": 0.1, "sizes": [1, {"a": 2}], "act": Act.GELU, "where": Path("x"), "late": "???"})
    cfg.again = "${lr}"
    OmegaConf.set_struct(cfg, True)
    wanted = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    loaded = ComposedAct.load_from_checkpoint(saved(ComposedAct(cfg, cfg.sizes), tmp_path))
    assert loaded.cfg == wanted and OmegaConf.is_struct(loaded.cfg)
    assert (type(loaded.cfg), type(loaded.sub)) == (DictConfig, type(cfg.sizes)) and loaded.sub == cfg.sizes
    loaded = WholeAct.load_from_checkpoint(saved(WholeAct(cfg), tmp_path))
    assert type(loaded.cfg) is DictConfig and loaded.cfg == wanted and OmegaConf.is_missing(loaded.cfg, "late")
    assert loaded.hparams.sizes[1].a == 2


# ---------------------------------------------------------------------- files of hyperparameters


class Written(Net):
    def __init__(
        self, act: Act, part: Part, cfg: Cfg, where: Path, betas: tuple[float, float], point: Point | None = None,
        dtype=torch.float32, device: torch.device | str = "cpu", data: bytes = b"", size=torch.Size([1]), lr=0.1,  # noqa: B008
        rate: float | None = None, names: set[str] = frozenset(), free=None, space=argparse.Namespace(),  # noqa: B008
    ):  # fmt: skip
        super().__init__()
        self.save_hyperparameters()
        self.got = dict(self.hparams)


GIVEN = {
    "act": Act.GELU, "part": Part.HEAD, "cfg": Cfg(2.0, Inner(4, Act.RELU, Path("x")), ["a"], 3), "where": Path("a/b"),
    "betas": (0.9, 1.0), "point": Point(0.5, Act.GELU), "dtype": torch.float16, "device": "cpu", "data": b"a\x00",
    "size": torch.Size([2, 3]), "lr": 1e-05, "rate": 1.0, "names": {"x"}, "free": [1, "2"],
    "space": argparse.Namespace(a=[1]),
}  # fmt: skip


@pytest.mark.parametrize("logger", [lk.loggers.CSVLogger, lk.loggers.TensorBoardLogger])
def test_the_file_that_a_logger_wrote_is_text_that_builds_the_same_module_again(logger, tmp_path):
    t = trainer(tmp_path)
    t.loggers = [logger(tmp_path / "logs")]
    t.fit(Written(**GIVEN), batches())
    t.save_checkpoint(tmp_path / "a.ckpt")
    (file,) = (tmp_path / "logs").rglob("hparams.yaml")
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["cfg"] == {
        "lr": 2.0, "inner": {"width": 4, "act": "Act.RELU", "where": "x"}, "tags": ["a"], "nothing": 3,
    }  # fmt: skip
    changed(tmp_path / "a.ckpt", hyper_parameters={})
    loaded = Written.load_from_checkpoint(tmp_path / "a.ckpt", hparams_file=file)
    for name, value in GIVEN.items():
        assert_same(loaded.got[name], value)
    assert Written.load_from_checkpoint(tmp_path / "a.ckpt", hparams_file=file, lr=0.5).got["lr"] == 0.5


def test_one_object_is_read_from_a_file_of_hyperparameters_too(tmp_path):
    (tmp_path / "h.yaml").write_text("lr: 1\ninner: {act: GELU, where: w}\n", encoding="utf-8")
    wanted = Cfg(1.0, Inner(3, Act.GELU, Path("w")))
    path = saved(WholeCfg(Cfg()), tmp_path)
    assert_same(WholeCfg.load_from_checkpoint(path, hparams_file=tmp_path / "h.yaml").cfg, wanted)
    path = saved(Whole(argparse.Namespace(lr=2)), tmp_path)
    found = Whole.load_from_checkpoint(path, hparams_file=tmp_path / "h.yaml").cfg
    assert found == argparse.Namespace(lr=1, inner={"act": "GELU", "where": "w"})


def test_lightnings_yaml_and_csv_files_are_read(tmp_path):
    (tmp_path / "h.yml").write_text(
        "act: relu\npart: 2\ncfg: {}\nwhere: !!python/object/apply:pathlib.PosixPath [x]\n"
        "space: !!python/object:argparse.Namespace {a: 1}\nbetas: !!python/tuple [0.9, 0.99]\n"
        "free: !!python/complex '1j'\n"
    )
    (tmp_path / "h.csv").write_text('key,value\nact,relu\npart,2\ncfg,{}\nwhere,x\nbetas,"(0.9, 0.99)"\nfree,1j\n')
    path = saved(Written(**GIVEN), tmp_path)
    for name in ("h.yml", "h.csv"):
        got = Written.load_from_checkpoint(path, hparams_file=tmp_path / name).got
        wanted = {"act": Act.RELU, "part": Part.BODY, "cfg": Cfg(), "where": Path("x"), "betas": (0.9, 0.99)}
        assert wanted.items() <= got.items() and got["free"] == 1j
        assert got["space"] == (argparse.Namespace(a=1) if name == "h.yml" else argparse.Namespace())
    (tmp_path / "data.yaml").write_text("cfg: {lr: 3}\nact: Act.GELU\n", encoding="utf-8")
    data = Data.load_from_checkpoint(saved(Net(), tmp_path, Data(Cfg())), hparams_file=tmp_path / "data.yaml")
    assert (data.cfg, data.act) == (Cfg(3.0), Act.GELU)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("h.json", "{}", "expected a .yaml, .yml or .csv file"),
        ("h.yaml", "- 1", "expected names with values, found a list"),
        ("h.csv", "key,value\na", "expected rows of a name and a value"),
    ],
)
def test_a_file_of_hyperparameters_that_is_none_is_refused(name, text, message, tmp_path):
    path, file = saved(Net(), tmp_path), tmp_path / name
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Net.load_from_checkpoint(path, hparams_file=str(file))
    assert str(caught.value) == f"load_from_checkpoint(hparams_file={str(file)!r}): {message}"


def test_code_in_a_file_of_hyperparameters_is_not_executed(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text(f"a: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"could not determine a constructor for the tag .*os\.mkdir"):
        Net.load_from_checkpoint(saved(Net(), tmp_path), hparams_file=file)
    assert not (tmp_path / "made").exists()


# ---------------------------------------------------------------------- files of others


def test_a_file_from_before_kinds_were_recorded_is_read_by_the_annotations(tmp_path):
    class Old(Net):
        def __init__(self, act: Act, where=Path("x"), cfg: Cfg | None = None, word: str | Act = "", n=np.float32(1)):  # noqa: B008
            super().__init__()
            self.save_hyperparameters()
            self.got = act, where, cfg, word, n

    plain = {"lr": 1.0, "inner": {"width": 1, "act": "relu", "where": "w"}}
    old = {"act": "gelu", "where": "a/b", "cfg": plain, "word": "relu", "n": 0.5}
    path = changed(saved(Old(Act.RELU), tmp_path), lightkit_format=1, hyper_parameters=old, hparams_kinds={})
    loaded = Old.load_from_checkpoint(path)
    wanted = Cfg(1.0, Inner(1, Act.RELU, Path("w")))
    assert loaded.got == (Act.GELU, Path("a/b"), wanted, "relu", np.float32(0.5))
    assert type(loaded.got[4]) is np.float32
    changed(path, hyper_parameters={**old, "act": "tanh"})
    assert message_of(lambda: Old.load_from_checkpoint(path)) == (
        "Old.load_from_checkpoint(...): 'act' was saved as 'tanh', which is no Act (it has: RELU, GELU); "
        "give it, load_from_checkpoint(path, act=...)"
    )


def test_a_file_as_lightning_writes_it_gives_its_one_object_to_its_argument(tmp_path):
    class Takes(Net):
        def __init__(self, cfg: argparse.Namespace, untyped=None):
            super().__init__()
            self.cfg = cfg

    content = {
        "state_dict": Takes(argparse.Namespace()).state_dict(), "pytorch-lightning_version": "2.6.6", "epoch": 0,
        "global_step": 0, "hparams_name": "cfg",
        "hyper_parameters": {"lr": 0.1, "betas": (0.9, 0.99), "sub": argparse.Namespace(x=types.SimpleNamespace(y=1))},
    }  # fmt: skip
    torch.save(content, tmp_path / "lightning.ckpt")
    found = Takes.load_from_checkpoint(tmp_path / "lightning.ckpt").cfg
    assert found == argparse.Namespace(**content["hyper_parameters"])
    torch.save({**content, "hparams_name": "untyped"}, tmp_path / "lightning.ckpt")
    with pytest.raises(CheckpointError, match="neither saved in the checkpoint nor given: 'cfg'"):
        Takes.load_from_checkpoint(tmp_path / "lightning.ckpt")
    loaded = Whole.load_from_checkpoint(changed(tmp_path / "lightning.ckpt", hparams_name="cfg"))
    assert loaded.cfg.lr == 0.1 and loaded.cfg["betas"] == (0.9, 0.99)


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"hyper_parameters": 3}, "FILE: checkpoint['hyper_parameters']: expected a dict or None, found 3"),
        ({"hparams_kinds": []}, "FILE: checkpoint['hparams_kinds']: expected a dict, found a list of 0"),
        ({"hparams_name": {}}, "FILE: checkpoint['hparams_name']: expected a string or None, found a dict of 0"),
        (
            {"datamodule_hparams_entries": 3},
            "FILE: checkpoint['datamodule_hparams_entries']: expected a list, found 3",
        ),
        (
            {"hparams_kinds": {"value": ["x", 3]}},
            "Holds.load_from_checkpoint(...): 'value' was saved as a note of its kind that is none: ['x', 3]; give it, "
            "load_from_checkpoint(path, value=...)",
        ),
        (
            {"hparams_kinds": {"value": "argparse.Namespace"}},
            "Holds.load_from_checkpoint(...): 'value' was saved as 1, of the kind argparse.Namespace, which "
            "cannot be made (TypeError: 'int' object is not iterable); give it, load_from_checkpoint(path, value=...)",
        ),
        (
            {"hparams_kinds": {"value": "os.system"}},
            "Holds.load_from_checkpoint(...): 'value' was saved as 1, of the kind os.system; no class is imported "
            "because a file names it: annotate the argument 'value' of Holds.__init__ with its class, or give it, "
            "load_from_checkpoint(path, value=...)",
        ),
    ],
)
def test_what_no_program_of_ours_wrote_is_an_error_too(entries, message, tmp_path):
    path = changed(saved(taking(None)(1), tmp_path), **entries)
    assert message_of(lambda: taking(None).load_from_checkpoint(path)) == message.replace("FILE", str(path))


BOMB = "\n".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30)), "lr: *a29"])


@pytest.mark.parametrize("text, problem", [
    ("lr: &x [*x]\n", "an alias of what it stands in: it would never end"),
    ("lr: &x {part: *x}\n", "an alias of what it stands in: it would never end"),
    (BOMB, "its aliases stand for more than 10,000 values"),
])  # fmt: skip
def test_a_file_of_hyperparameters_that_never_ends_is_one_error(tmp_path: Path, text: str, problem: str) -> None:
    path, file = saved(Net(), tmp_path), tmp_path / "h.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Net.load_from_checkpoint(path, hparams_file=file)
    assert str(caught.value).startswith(f"load_from_checkpoint(hparams_file={str(file)!r}): {problem}")


def test_hyperparameters_that_a_hook_adds_are_saved_where_they_are_plain(tmp_path):
    """As pytorch-forecasting does with its loss, which it has taken out of `hparams`."""

    class Adds(lk.LightModule):
        def __init__(self, rate=0.1, loss=None, when=None):
            super().__init__()
            self.save_hyperparameters("rate")
            self.loss, self.when = loss, when
            self.layer = nn.Linear(1, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)

        def on_save_checkpoint(self, checkpoint):
            checkpoint["hyper_parameters"] |= {"loss": self.loss, "when": self.when}

    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Adds(0.2, nn.L1Loss(), Path("x")), torch.ones(2, 1).split(1))
    with pytest.warns(UserWarning, match=r"^on_save_checkpoint: left out hyperparameter 'loss' \(torch.*L1Loss\): "):
        trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="loss"):
        Adds.load_from_checkpoint(tmp_path / "a.ckpt")
    again = Adds.load_from_checkpoint(tmp_path / "a.ckpt", loss=nn.MSELoss())
    assert (again.hparams.rate, type(again.loss), again.when) == (0.2, nn.MSELoss, Path("x"))

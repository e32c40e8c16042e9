"""What user code imports from Lightning's `utilities`, `core` and `demos` does what its name says."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lightkit as lk
from lightkit.accelerators import find_usable_cuda_devices
from lightkit.accelerators.cpu import get_cpu_stats
from lightkit.core import LightningDataModule, saving
from lightkit.core.mixins import HyperparametersMixin
from lightkit.core.optimizer import LightningOptimizer, do_nothing_closure
from lightkit.demos import boring_classes
from lightkit.errors import ConfigError
from lightkit.loggers.logger import merge_dicts
from lightkit.utilities import (
    disable_possible_user_warnings,
    find_shared_parameters,
    is_shared_filesystem,
    isolate_rng,
    measure_flops,
    rank_zero_debug,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
    set_shared_parameters,
    suggested_max_num_workers,
)
from lightkit.utilities.data import extract_batch_size, has_len_all_ranks
from lightkit.utilities.enums import GradClipAlgorithmType, LightningEnum
from lightkit.utilities.memory import garbage_collection_cuda, is_oom_error, recursive_detach
from lightkit.utilities.model_helpers import is_overridden
from lightkit.utilities.parsing import (
    AttributeDict,
    clean_namespace,
    collect_init_args,
    get_init_args,
    is_picklable,
    lightning_getattr,
    lightning_hasattr,
    lightning_setattr,
    parse_class_init_keys,
    save_hyperparameters,
)
from lightkit.utilities.rank_zero import LightningDeprecationWarning, WarningCache, rank_prefixed_message
from lightkit.utilities.signature_utils import is_param_in_hook_signature
from lightkit.utilities.warnings import PossibleUserWarning

# ------------------------------------------------------------ ranks


def test_rank_zero_only_runs_where_the_rank_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    @rank_zero_only
    def said() -> str:
        return "said"

    assert rank_zero_only.rank == 0
    assert said() == "said"
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert said() is None
    assert rank_zero_only(said, default="nothing")() == "nothing"


_WATCHED = """
import sys
{first}
from lightning_utilities.core.rank_zero import rank_zero_only
{second}
print(rank_zero_only.rank, rank_zero_only(lambda: "ran")())
"""


@pytest.mark.parametrize("first, second", [("import lightkit", ""), ("", "import lightkit")])
@pytest.mark.parametrize("rank, wanted", [(None, "0 ran\n"), ("2", "2 None\n")])
def test_lightning_utilities_knows_the_rank(first: str, second: str, rank: str | None, wanted: str) -> None:
    pytest.importorskip("lightning_utilities")
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK")}
    environment |= {} if rank is None else {"RANK": rank}
    code = _WATCHED.format(first=first, second=second)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == wanted


def test_importing_lightkit_does_not_import_lightning_utilities() -> None:
    code = "import sys, lightkit; print('lightning_utilities' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_messages_are_logged_and_warned_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="lightkit"):
        rank_zero_info("told %d", 1)
        rank_zero_debug("in detail")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("INFO", "told 1"), ("DEBUG", "in detail")]
    with pytest.warns(UserWarning, match=r"^beware$"):
        rank_zero_warn("beware")
    cache = WarningCache()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            cache.warn("once")
            cache.deprecation("gone")
    said = [(str(w.message), w.category) for w in caught]
    assert said == [("once", UserWarning), ("gone", LightningDeprecationWarning)]
    assert rank_prefixed_message("hello", 3) == "[rank: 3] hello"
    assert rank_prefixed_message("hello", None) == "hello"


def test_possible_warnings_can_be_turned_off() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("shown", PossibleUserWarning, stacklevel=1)
        disable_possible_user_warnings()
        warnings.warn("not shown", PossibleUserWarning, stacklevel=1)
        warnings.warn("another", UserWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["shown", "another"]


# ------------------------------------------------------------ modules and memory


def test_shared_parameters_are_found_and_tied_again() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    assert find_shared_parameters(module) == []
    module[2].weight = module[0].weight
    found = find_shared_parameters(module)
    assert found == [["0.weight", "2.weight"]]
    module[2].weight = nn.Parameter(torch.zeros(3, 3))
    assert set_shared_parameters(module, found) is module
    assert module[2].weight is module[0].weight


def test_flops_of_a_layer_are_counted_forward_and_backward() -> None:
    layer, x = nn.Linear(8, 4, bias=False), torch.ones(2, 8)
    assert measure_flops(layer, lambda: layer(x)) == 2 * 2 * 8 * 4
    assert measure_flops(layer, lambda: layer(x), lambda y: y.sum()) == 2 * (2 * 2 * 8 * 4)
    assert layer.weight.grad is None


def test_what_is_full_is_recognized() -> None:
    assert is_oom_error(torch.cuda.OutOfMemoryError("CUDA out of memory."))
    assert is_oom_error(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"))
    assert is_oom_error(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This may be ..."))
    assert is_oom_error(MemoryError())
    assert not is_oom_error(RuntimeError("out of luck"))
    garbage_collection_cuda()


def test_structures_are_detached() -> None:
    x = torch.ones(1, requires_grad=True)
    found = recursive_detach({"a": x * 2, "b": {"c": x * 3}, "d": 4}, to_cpu=True)
    assert not found["a"].requires_grad and not found["b"]["c"].requires_grad
    assert found["d"] == 4


def test_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    with isolate_rng(include_cuda=False):
        inside = (torch.rand(1), np.random.rand())
    assert torch.equal(torch.rand(1), inside[0])


def test_the_machine_is_asked(tmp_path: Path) -> None:
    assert 1 <= suggested_max_num_workers(1) <= (os.cpu_count() or 1)
    assert suggested_max_num_workers(10_000) == 1
    with pytest.raises(ConfigError, match=r"^suggested_max_num_workers\(0\): expected a count of at least 1$"):
        suggested_max_num_workers(0)
    strategy = lk.Trainer(max_epochs=1, logger=False).strategy
    assert is_shared_filesystem(strategy, tmp_path)
    assert has_len_all_ranks([1, 2], strategy)
    assert not has_len_all_ranks(iter([1]), strategy)
    assert extract_batch_size({"x": torch.zeros(5, 2)}) == 5
    assert find_usable_cuda_devices(0) == []
    count = torch.cuda.device_count()
    message = rf"^find_usable_cuda_devices\({count + 1}\): this machine has {count} GPUs$"
    with pytest.raises(ConfigError, match=message):
        find_usable_cuda_devices(count + 1)
    pytest.importorskip("psutil")
    assert set(get_cpu_stats()) == {"cpu_vm_percent", "cpu_percent", "cpu_swap_percent"}


# ------------------------------------------------------------ hooks and arguments


def test_an_overridden_hook_is_told() -> None:
    class Module(lk.LightModule):
        def training_step(self, batch: Any, batch_idx: int) -> None: ...

    class Free:
        def act(self) -> None: ...

    assert is_overridden("training_step", Module())
    assert not is_overridden("validation_step", Module())
    assert not is_overridden("training_step", None)
    assert is_overridden("on_fit_start", lk.callbacks.Timer())
    assert not is_overridden("on_fit_end", lk.callbacks.Timer())
    assert is_overridden("act", type("Other", (Free,), {"act": print})(), Free)
    with pytest.raises(ConfigError, match=r"^is_overridden\('nonsense', \.\.\.\): LightModule has no such method$"):
        is_overridden("nonsense", Module())
    message = (
        r"^is_overridden\('act', \.\.\.\): expected a LightModule, LightDataModule or Callback, got a Free; give the "
        r"class that has the default as parent$"
    )
    with pytest.raises(ConfigError, match=message):
        is_overridden("act", Free())


def test_arguments_of_hooks_are_told() -> None:
    def named(self, batch, dataloader_idx=0): ...  # type: ignore[no-untyped-def]
    def rest(self, *args): ...  # type: ignore[no-untyped-def]

    assert is_param_in_hook_signature(named, "dataloader_idx")
    assert not is_param_in_hook_signature(named, "batch_idx")
    assert is_param_in_hook_signature(named, "batch_idx", min_args=3)
    assert is_param_in_hook_signature(rest, "batch_idx")
    assert not is_param_in_hook_signature(rest, "batch_idx", explicit=True)


def test_arguments_of_constructors_are_read() -> None:
    class Parent:
        def __init__(me, a: int, *rest: int, b: int = 2, **more: int):
            me.own = get_init_args(sys._getframe())
            me.all = collect_init_args(sys._getframe(), [])

    class Child(Parent):
        def __init__(self, c: int):
            super().__init__(c + 1, b=5, d=6)

    child = Child(1)
    assert child.own == {"a": 2, "b": 5, "d": 6}
    assert [call["a"] if "a" in call else call["c"] for call in child.all] == [2, 1]
    assert parse_class_init_keys(Parent) == ("me", "rest", "more")
    assert parse_class_init_keys(Child) == ("self", None, None)


def test_what_cannot_be_pickled_is_taken_out() -> None:
    assert is_picklable([1]) and not is_picklable(lambda: 1)
    hparams = Namespace(lr=0.1, act=lambda: 1)
    message = r"^attribute 'act' is taken out of the hyperparameters: it cannot be pickled$"
    with pytest.warns(UserWarning, match=message):
        clean_namespace(hparams)
    assert hparams == Namespace(lr=0.1)


def test_attributes_are_found_in_the_module_its_hyperparameters_and_data() -> None:
    class Module(lk.LightModule):
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.width = 3

    module = Module(0.1)
    assert lightning_hasattr(module, "lr") and lightning_hasattr(module, "width")
    assert not lightning_hasattr(module, "depth")
    lightning_setattr(module, "lr", 0.5)
    assert lightning_getattr(module, "lr") == module.hparams.lr == 0.5
    message = r"^Module has no 'depth', neither itself nor in its hyperparameters or data module$"
    with pytest.raises(ConfigError, match=message):
        lightning_getattr(module, "depth")


def test_words_are_equal_to_their_text() -> None:
    class Kind(LightningEnum):
        DEEP = "deep"

    assert Kind.DEEP == "deep" and Kind.DEEP == "DEEP" and Kind.from_str("Deep") is Kind.DEEP
    with pytest.raises(ConfigError, match=r"^Kind: expected one of deep, got 'dep'; did you mean 'deep'\?$"):
        Kind.from_str("dep")
    assert GradClipAlgorithmType.NORM == "norm" and GradClipAlgorithmType.supported_type("value")
    assert GradClipAlgorithmType.supported_types() == ["value", "norm"]


# ------------------------------------------------------------ hyperparameters


class Kept(HyperparametersMixin):
    def __init__(self, lr: float, width: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_any_object_can_keep_its_arguments() -> None:
    kept = Kept(0.1)
    assert kept.hparams == AttributeDict(lr=0.1, width=2) == kept.hparams_initial
    save_hyperparameters(kept, given_hparams={"depth": 3})
    assert kept.hparams == {"lr": 0.1, "width": 2, "depth": 3}


@pytest.mark.parametrize("kind", ["yaml", "csv"])
def test_files_of_hyperparameters_come_back(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"hparams.{kind}"
    write, read = {
        "yaml": (saving.save_hparams_to_yaml, saving.load_hparams_from_yaml),
        "csv": (saving.save_hparams_to_tags_csv, saving.load_hparams_from_tags_csv),
    }[kind]
    assert read(file) == {}
    write(file, {"lr": 0.1, "name": "a", "sizes": [1, 2]})
    assert read(file) == {"lr": 0.1, "name": "a", "sizes": [1, 2]}
    write(file, Namespace(lr=0.2))
    assert read(file) == {"lr": 0.2}
    with pytest.raises(ConfigError, match=rf": the folder {tmp_path}/none is not there$"):
        write(tmp_path / "none" / f"a.{kind}", {})


def test_interpolations_of_omegaconf_stay_in_the_file(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"lr": 0.1, "double": "${lr}"})
    saving.save_hparams_to_yaml(tmp_path / "a.yaml", config)
    assert "${lr}" in (tmp_path / "a.yaml").read_text(encoding="utf-8")
    assert saving.load_hparams_from_yaml(tmp_path / "a.yaml")["double"] == 0.1
    assert saving.load_hparams_from_yaml(tmp_path / "a.yaml", use_omegaconf=False)["double"] == "${lr}"


def test_hyperparameters_are_updated_and_converted() -> None:
    hparams: dict[str, Any] = {"net": {"width": 2, "depth": 3}, "lr": 1}
    saving.update_hparams(hparams, {"net": {"width": 4}, "seed": 5})
    assert hparams == {"net": {"width": 4, "depth": 3}, "lr": 1, "seed": 5}
    assert saving.convert("[1, 2]") == [1, 2] and saving.convert("adam") == "adam"
    assert merge_dicts([{"a": 1, "b": 2}, {"a": 3}], {"b": max}) == {"a": 2.0, "b": 2.0}


# ------------------------------------------------------------ demos


@pytest.mark.parametrize("kind", [boring_classes.BoringModel, boring_classes.ManualOptimBoringModel])
def test_a_boring_model_fits_its_own_data(tmp_path: Path, kind: type[lk.LightModule]) -> None:
    model = kind()
    before = model.layer.weight.clone()  # type: ignore[operator, union-attr]
    limits = {"max_epochs": 1, "limit_train_batches": 4, "limit_val_batches": 2}
    trainer = lk.Trainer(default_root_dir=tmp_path, logger=False, **limits)
    trainer.fit(model)
    assert trainer.global_step == 4
    assert not torch.equal(model.layer.weight, before)  # type: ignore[arg-type, union-attr]
    with pytest.warns(UserWarning, match=r"^test_step logged nothing"):
        assert trainer.test(model, verbose=False) == [{}]
    assert len(trainer.predict(model)) == 64  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [
    boring_classes.BoringDataModule, boring_classes.BoringDataModuleNoLen, boring_classes.IterableBoringDataModule,
])  # fmt: skip
def test_boring_data_has_64_batches_a_stage(tmp_path: Path, data: type[LightningDataModule]) -> None:
    trainer = lk.Trainer(default_root_dir=tmp_path, max_epochs=1, logger=False, enable_checkpointing=False)
    trainer.fit(boring_classes.BoringModel(), datamodule=data())
    assert trainer.global_step == 64


def test_the_demo_model_learns_from_rows(tmp_path: Path) -> None:
    trainer = lk.Trainer(default_root_dir=tmp_path, fast_dev_run=True)
    rows = torch.utils.data.DataLoader(boring_classes.RandomDataset(32, 8), batch_size=4)
    trainer.fit(boring_classes.DemoModel(out_dim=3), rows)
    assert boring_classes.Net()(torch.ones(1, 32)).shape == (1, 2)
    item = boring_classes.RandomDictDataset(4, 2)[1]
    assert set(item) == {"a", "b"} and not torch.equal(item["a"], item["b"])


def test_the_optimizer_that_a_module_gets_has_lightning_s_name() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    stepped = LightningOptimizer(optimizer, lambda closure: "updated")
    assert stepped.step() == "updated" and stepped.param_groups is optimizer.param_groups
    assert do_nothing_closure() is None  # type: ignore[func-returns-value]


def test_tensors_in_lists_are_detached_too() -> None:
    found = recursive_detach({"a": [torch.ones(1, requires_grad=True) * 2], "b": ("x", 1)})
    assert not found["a"][0].requires_grad and found["b"] == ("x", 1)


def test_counting_operations_leaves_gradients_as_they_are() -> None:
    layer, x = torch.nn.Linear(2, 1), torch.ones(1, 2)
    layer(x).sum().backward()
    before = [parameter.grad for parameter in layer.parameters()]
    copies = [grad.clone() for grad in before]
    measure_flops(layer, lambda: layer(x), lambda y: y.sum())
    assert all(parameter.grad is grad for parameter, grad in zip(layer.parameters(), before, strict=True))
    assert all(torch.equal(grad, copy) for grad, copy in zip(before, copies, strict=True))


@pytest.mark.parametrize("room", ["utilities", "demos"])
def test_every_file_of_a_room_is_there_without_an_import_of_its_own(room: str) -> None:
    code = f"""if True:
        import pathlib
        import lightkit.{room} as room
        files = [path.stem for path in pathlib.Path(room.__file__).parent.glob("*.py") if path.stem != "__init__"]
        print(len(files) > 2, [name for name in files if not hasattr(room, name)])
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


def test_a_file_of_hyperparameters_is_whole_or_as_it_was(tmp_path: Path) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    path = tmp_path / "a.csv"
    saving.save_hparams_to_tags_csv(path, {"a": 1, "b": "x, y"})
    before = path.read_text()
    with pytest.raises(RuntimeError, match="no text"):
        saving.save_hparams_to_tags_csv(path, {"c": 2, "d": Bad()})
    assert path.read_text() == before and saving.load_hparams_from_tags_csv(path) == {"a": 1, "b": "x, y"}

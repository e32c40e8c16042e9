"""LightkitCLI takes what LightningCLI takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace

import lightkit as lk
from lightkit.callbacks import EarlyStopping, LearningRateMonitor
from lightkit.cli import (
    LightkitCLI,
    LightningArgumentParser,
    LightningCLI,
    OptimizerCallable,
    SaveConfigCallback,
    instantiate_class,
)
from lightkit.errors import ConfigError

QUIET: dict[str, Any] = {
    "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1,
}  # fmt: skip


@pytest.fixture
def classes(project: Path) -> Iterator[Any]:
    import jobs  # type: ignore[import-not-found]

    yield jobs


def cli_of(classes: Any, args: Any = (), kind: Any = LightkitCLI, **options: Any) -> Any:
    given = args if isinstance(args, (dict, Namespace)) else ["--data.batch_size=3", *args]
    defaults = {**QUIET, **options.pop("trainer_defaults", {})}
    return kind(classes.Net, classes.Data, trainer_defaults=defaults, **{"run": False, "args": given, **options})


def saved_in(cli: Any, name: str = "config.yaml") -> Any:
    return yaml.safe_load((Path(cli.trainer.run_dir) / name).read_text())


def test_arguments_are_those_of_lightning_in_their_order() -> None:
    assert [*inspect.signature(LightningCLI).parameters] == [
        "model_class", "datamodule_class", "save_config_callback", "save_config_kwargs", "trainer_class",
        "trainer_defaults", "seed_everything_default", "parser_kwargs", "parser_class", "subclass_mode_model",
        "subclass_mode_data", "args", "run", "auto_configure_optimizers", "load_from_checkpoint_support",
    ]  # fmt: skip


# ------------------------------------------------------------ the config that is saved


def test_no_config_is_saved_where_no_callback_is_to(classes: Any) -> None:
    cli = cli_of(classes, save_config_callback=None)
    cli.trainer.fit(cli.model, cli.datamodule)
    assert not (Path(cli.trainer.run_dir) / "config.yaml").exists()


def test_files_that_a_config_names_are_kept_as_they_were_at_each_run(classes: Any, tmp_path: Path) -> None:
    model = tmp_path / "model.yaml"
    run_dir = tmp_path / "run"

    def run(width: int) -> None:
        model.write_text(f"hidden: {width}\n")
        given = {"save_config_kwargs": {"multifile": True}, "trainer_defaults": {**QUIET, "run_dir": str(run_dir)}}
        cli = cli_of(classes, ["--model", str(model)], **given)
        cli.trainer.fit(cli.model, cli.datamodule)

    def kept() -> dict[str, str]:
        found = [path for path in run_dir.rglob("*.yaml") if path.name in ("config.yaml", "model.yaml")]
        return {str(path.relative_to(run_dir)): path.read_text() for path in found}

    run(3)
    first = kept()
    assert set(first) == {"config.yaml", "model.yaml"} and "hidden: 3" in first["model.yaml"]
    run(4)
    both = kept()
    assert {name: both[name] for name in first} == first and "hidden: 4" in both["config_2/model.yaml"]
    run(4)
    assert kept() == both


def test_a_callback_of_ones_own_keeps_the_config(classes: Any) -> None:
    class Keeps(SaveConfigCallback):
        def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
            kept.append((stage, yaml.safe_load(self.parser.dump(self.config))["data"]["batch_size"]))

    kept: list[Any] = []
    named = {"config_filename": "job.yaml"}
    cli = cli_of(classes, save_config_callback=Keeps, save_config_kwargs=named)
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    assert kept == [("fit", 3)]
    assert saved_in(cli, "job.yaml")["data"] == {"batch_size": 3, "rows": 12}
    assert not (Path(cli.trainer.run_dir) / "config.yaml").exists()
    cli = cli_of(classes, save_config_callback=Keeps, save_config_kwargs={"save_to_log_dir": False})
    cli.trainer.fit(cli.model, cli.datamodule)
    assert [*Path(cli.trainer.run_dir).glob("*.yaml")] in ([], [Path(cli.trainer.run_dir) / "hparams.yaml"])
    assert len(kept) == 2


def test_a_config_is_replaced_where_that_is_asked_for(classes: Any, project: Path) -> None:
    names = []
    for overwrite in (False, True):
        for size in (3, 4):
            run_dir = project / f"run_{overwrite}"
            cli = LightkitCLI(
                classes.Net, classes.Data, run=False, args=[f"--data.batch_size={size}"],
                trainer_defaults={**QUIET, "run_dir": str(run_dir)}, save_config_kwargs={"overwrite": overwrite},
            )  # fmt: skip
            cli.trainer.fit(cli.model, cli.datamodule)
        names.append(sorted(path.name for path in run_dir.glob("config*.yaml")))
    assert names == [["config.yaml", "config_2.yaml"], ["config.yaml"]]
    assert saved_in(cli)["data"]["batch_size"] == 4


def test_a_callback_that_would_save_nothing_is_refused(classes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli_of(classes, save_config_kwargs={"save_to_log_dir": False})
    assert capsys.readouterr().err == (
        "lightkit: error: SaveConfigCallback(save_to_log_dir=False): it saves nothing then; define "
        "save_config(trainer, pl_module, stage), or give LightkitCLI(save_config_callback=None)\n"
    )


# ------------------------------------------------------------ the trainer


class OwnTrainer(lk.Trainer):
    """A Trainer with an argument and a method more."""

    def __init__(self, *args: Any, label: str = "none", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label = label

    def finetune(self, model: lk.LightModule, datamodule: Any = None, epochs: int = 1) -> None:
        """Train the model a little more."""
        self.max_epochs = epochs
        self.fit(model, datamodule=datamodule)


def small_trainer(max_epochs: int = 2, callbacks: list[lk.Callback] | None = None) -> lk.Trainer:
    return lk.Trainer(**{**QUIET, "max_epochs": max_epochs}, callbacks=callbacks)


def test_the_trainer_may_be_of_another_class_or_made_by_a_function(classes: Any) -> None:
    cli = cli_of(classes, ["--trainer.label=a"], trainer_class=OwnTrainer)
    assert (type(cli.trainer), cli.trainer.label, cli.trainer.max_epochs) == (OwnTrainer, "a", 1)
    cli = LightkitCLI(
        classes.Net, classes.Data, trainer_class=small_trainer, run=False,
        args=["--data.batch_size=3", "--trainer.max_epochs=4"],
    )  # fmt: skip
    assert (type(cli.trainer), cli.trainer.max_epochs) == (lk.Trainer, 4)


def test_callbacks_of_the_defaults_come_in_addition(classes: Any) -> None:
    mine = LearningRateMonitor()
    for given in (mine, [mine]):
        cli = cli_of(classes, trainer_defaults={"callbacks": given})
        assert mine in cli.trainer.callbacks
        cli = cli_of(classes, ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_loss"],
                     trainer_defaults={"callbacks": given})  # fmt: skip
        assert mine in cli.trainer.callbacks
        assert any(isinstance(callback, EarlyStopping) for callback in cli.trainer.callbacks)


def test_a_method_of_the_trainer_may_be_a_subcommand(classes: Any) -> None:
    class Finetunes(LightkitCLI):
        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            return {**LightkitCLI.subcommands(), "finetune": {"model", "datamodule"}}

        def before_finetune(self) -> None:
            self.was_called = True

    args = ["finetune", "--data.batch_size=3", "--epochs=2"]
    cli = Finetunes(classes.Net, classes.Data, trainer_class=OwnTrainer, trainer_defaults=QUIET, args=args)
    assert (cli.subcommand, cli.trainer.current_epoch, cli.was_called) == ("finetune", 2, True)


def test_a_method_of_the_command_line_runs_instead_of_the_trainers(classes: Any) -> None:
    class Fits(LightkitCLI):
        def fit(self, model: Any, datamodule: Any, **kwargs: Any) -> None:
            self.given = model, datamodule, kwargs

    cli = Fits(classes.Net, classes.Data, args=["fit", "--data.batch_size=3", "--ckpt_path=a"], trainer_defaults=QUIET)
    assert cli.given == (cli.model, cli.datamodule, {"ckpt_path": "a"})


# ------------------------------------------------------------ what is built, when


def test_config_and_what_is_built_stand_below_the_subcommand(classes: Any) -> None:
    cli = LightkitCLI(classes.Net, classes.Data, args=["fit", "--data.batch_size=3"], trainer_defaults=QUIET)
    assert cli.config["subcommand"] == cli.subcommand == "fit"
    assert cli.config["fit"]["data"]["batch_size"] == cli.config.fit.data.batch_size == 3
    assert cli.config["fit"]["seed_everything"] == 0
    assert cli.config_init["fit"]["model"] is cli.model
    cli = cli_of(classes)
    assert cli.subcommand is None
    assert cli.config["data"]["batch_size"] == 3
    assert cli.config_init["model"] is cli.model


def test_methods_stand_around_the_building(classes: Any) -> None:
    class Around(LightkitCLI):
        def before_instantiate_classes(self) -> None:
            assert not hasattr(self, "model")
            self.config["fit"]["model"]["hidden"] = 9
            self.config["fit"]["trainer"]["max_epochs"] = 2

        def after_instantiate_classes(self) -> None:
            self.width = self.model.input.out_features

        def instantiate_trainer(self, **kwargs: Any) -> lk.Trainer:
            return super().instantiate_trainer(limit_train_batches=1, **kwargs)

    cli = Around(classes.Net, classes.Data, args=["fit", "--data.batch_size=3"], trainer_defaults=QUIET)
    assert (cli.width, cli.trainer.current_epoch, cli.trainer.global_step) == (9, 2, 2)
    assert saved_in(cli)["model"]["hidden"] == 9


def test_links_give_what_an_object_knows_to_another(classes: Any) -> None:
    class Linked(LightkitCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.link_arguments("data.batch_size", "model.hidden", apply_on="instantiate", compute_fn=lambda n: 2 * n)

    cli = cli_of(classes, kind=Linked)
    assert cli.model.input.out_features == 6

    class AtOnce(LightkitCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.link_arguments("data.batch_size", "model.hidden", compute_fn=lambda n: n + 1, apply_on="parse")

    assert cli_of(classes, kind=AtOnce).model.input.out_features == 4


def test_functions_make_model_and_data(classes: Any) -> None:
    def net(width: int = 5) -> classes.Net:  # type: ignore[name-defined]
        return classes.Net(hidden=width)

    net.__annotations__["return"] = classes.Net
    args = ["--data.batch_size=3", "--model.width=7"]
    cli = LightkitCLI(net, classes.Data, run=False, args=args, trainer_defaults=QUIET)
    assert (type(cli.model), cli.model.input.out_features) == (classes.Net, 7)


def test_a_callback_that_a_script_adds_is_the_trainers(classes: Any) -> None:
    class Stops(LightkitCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_lightning_class_args(EarlyStopping, "early_stopping")
            parser.set_defaults({"early_stopping.monitor": "val_loss", "early_stopping.patience": 5})

    cli = cli_of(classes, ["--early_stopping.patience=7"], kind=Stops)
    (stopping,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, EarlyStopping)]
    assert (stopping.monitor, stopping.patience) == ("val_loss", 7)
    assert cli.config_init["early_stopping"] is stopping


# ------------------------------------------------------------ optimizers


def test_an_optimizer_of_the_script_is_configured_and_combined(classes: Any) -> None:
    class Adams(LightkitCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_optimizer_args(torch.optim.Adam)
            parser.add_lr_scheduler_args(torch.optim.lr_scheduler.StepLR)

        @staticmethod
        def configure_optimizers(lightning_module: Any, optimizer: Any, lr_scheduler: Any = None) -> Any:
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "interval": "step"}}

    cli = cli_of(classes, ["--optimizer.lr=0.3", "--lr_scheduler.step_size=2", "--lr_scheduler.gamma=0.5"], kind=Adams)
    cli.trainer.fit(cli.model, cli.datamodule)
    assert type(cli.trainer.optimizers[0]) is torch.optim.Adam
    assert cli.trainer.optimizers[0].param_groups[0]["lr"] == 0.075  # four steps of it
    assert cli.trainer.lr_scheduler_configs[0].interval == "step"


def test_several_optimizers_are_linked_to_the_model(classes: Any) -> None:
    class Two(classes.Net):  # type: ignore[name-defined,misc]
        def __init__(self, first: dict[str, Any], second: dict[str, Any]) -> None:
            super().__init__()
            self.first = instantiate_class(self.input.parameters(), first)
            self.second = instantiate_class(self.output.parameters(), second)

    class Links(LightkitCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_optimizer_args((torch.optim.Optimizer,), nested_key="one", link_to="model.first")
            parser.add_optimizer_args(torch.optim.SGD, nested_key="two", link_to="model.second")

    args = ["--data.batch_size=3", "--one=Adam", "--one.lr=0.1", "--two.lr=0.2"]
    cli = Links(Two, classes.Data, run=False, args=args, trainer_defaults=QUIET)
    assert (type(cli.model.first), cli.model.first.param_groups[0]["lr"]) == (torch.optim.Adam, 0.1)
    assert (type(cli.model.second), cli.model.second.param_groups[0]["lr"]) == (torch.optim.SGD, 0.2)


def test_two_optimizers_for_one_module_are_refused(classes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Two(LightkitCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_optimizer_args(torch.optim.Adam, "one")
            parser.add_optimizer_args(torch.optim.SGD, "two")

    with pytest.raises(SystemExit):
        cli_of(classes, kind=Two)
    assert capsys.readouterr().err.startswith(
        "lightkit: error: add_optimizer_args, add_lr_scheduler_args: one, two, lr_scheduler would all replace "
        "configure_optimizers; "
    )


def test_without_auto_configuration_there_is_no_optimizer_to_give(
    classes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = cli_of(classes, auto_configure_optimizers=False)
    assert not {"optimizer", "lr_scheduler"} & set(vars(cli.config))
    with pytest.raises(SystemExit):
        cli_of(classes, ["--optimizer=Adam"], auto_configure_optimizers=False)
    assert capsys.readouterr().err.startswith("lightkit: error: command line: unknown option --optimizer")


class WithCallable(lk.LightModule):
    """Takes what makes its optimizer."""

    def __init__(self, optimizer: OptimizerCallable = torch.optim.SGD) -> None:  # type: ignore[assignment]
        super().__init__()
        self.make, self.layer = optimizer, torch.nn.Linear(2, 2)


def test_a_module_may_take_what_makes_its_optimizer() -> None:
    args = ["--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=0.3"]
    cli = LightkitCLI(WithCallable, run=False, args=args, trainer_defaults=QUIET)
    made = cli.model.make(cli.model.parameters())
    assert (type(made), made.param_groups[0]["lr"]) == (torch.optim.Adam, 0.3)


# ------------------------------------------------------------ where arguments come from


def test_arguments_may_be_a_dict(classes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    given: dict[str, Any] = {"data": {"batch_size": 3}, "model": {"hidden": 6}, "trainer": {"max_epochs": 1}}
    for args in (given, Namespace(**given)):
        cli = cli_of(classes, args)
        assert (cli.model.input.out_features, cli.datamodule.batch_size, cli.trainer.max_epochs) == (6, 3, 1)
    by_class = {"model": {"class_path": "jobs.Net", "init_args": {"lr": 0.5}}, "trainer": {"logger": False}}
    assert LightkitCLI(run=False, args=by_class, trainer_defaults=QUIET).model.lr == 0.5
    cli = cli_of(classes, {"fit": given}, run=True)
    assert (cli.subcommand, cli.trainer.current_epoch) == ("fit", 1)
    cli = cli_of(classes, {"subcommand": "validate", "validate": {"data": {"batch_size": 3}}}, run=True)
    assert cli.subcommand == "validate"
    for args, message in (
        (given, "args: a dict with one of the keys fit, validate, test, predict is expected"),
        ({"fit": {**given, "model": {"hiden": 6}}}, "command line: model.hiden: unknown key; did you mean 'hidden'?"),
    ):
        with pytest.raises(SystemExit):
            cli_of(classes, args, run=True)
        assert message.partition(":")[2].strip() in capsys.readouterr().err


def test_a_second_file_may_hold_a_part_of_a_class(
    classes: Any, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "one.yaml").write_text(
        "model: {class_path: jobs.Net, init_args: {lr: 0.5, hidden: 6}}\ndata: {class_path: jobs.Data}\n"
    )
    (project / "two.yaml").write_text("model: {init_args: {hidden: 7}}\ndata: {batch_size: 3}\n")
    cli = LightkitCLI(run=False, args=["--config=one.yaml", "--config=two.yaml"], trainer_defaults=QUIET)
    assert (cli.model.lr, cli.model.input.out_features, cli.datamodule.batch_size) == (0.5, 7, 3)
    (project / "wrong.yaml").write_text("model: {init_args: {hiden: 7}}\ndata: {batch_size: x}\n")
    with pytest.raises(SystemExit):
        LightkitCLI(run=False, args=["--config=one.yaml", "--config=wrong.yaml"])
    assert capsys.readouterr().err == (
        "lightkit: error: wrong.yaml: 2 problems\n"
        "  wrong.yaml:1: model.init_args.hiden: unknown key; did you mean 'hidden'?\n"
        "  wrong.yaml:2: data.batch_size: expected int, got 'x'\n"
    )


def test_a_part_of_a_class_that_is_an_argument_may_stand_in_a_second_file_too(classes: Any, project: Path) -> None:
    (project / "one.yaml").write_text(
        "model:\n  class_path: jobs.Net\n  init_args:\n    body:\n      class_path: torch.nn.Linear\n"
        "      init_args: {in_features: 4, out_features: 4}\noptimizer: {class_path: Adam, init_args: {lr: 0.5}}\n"
    )
    (project / "two.yaml").write_text(
        "model: {init_args: {body: {init_args: {bias: false}}}}\noptimizer: {init_args: {amsgrad: true}}\n"
    )
    cli = LightkitCLI(run=False, args=["--config=one.yaml", "--config=two.yaml"], trainer_defaults=QUIET)
    assert cli.model.body.bias is None and cli.model.body.in_features == 4
    optimizer = cli.model.configure_optimizers()
    assert (optimizer.defaults["lr"], optimizer.defaults["amsgrad"]) == (0.5, True)


def test_environment_variables_are_read_where_that_is_asked_for(
    classes: Any, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "of_environment.yaml").write_text("model: {lr: 0.7, hidden: 5}\n")
    for name, value in {
        "PL_CONFIG": "of_environment.yaml", "PL_MODEL__HIDDEN": "6", "PL_FIT__MODEL__HIDDEN": "8",
        "PL_TRAINER__MAX_EPOCHS": "2", "PL_DATA__BATCH_SIZE": "3",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    cli = cli_of(classes, ["--trainer.max_epochs=3"], parser_kwargs={"default_env": True})
    assert (cli.model.lr, cli.model.input.out_features, cli.trainer.max_epochs) == (0.7, 6, 3)
    reads = {"parser_kwargs": {"default_env": True}, "trainer_defaults": QUIET}
    cli = LightkitCLI(classes.Net, classes.Data, args=["fit"], **reads)
    assert (cli.model.input.out_features, cli.trainer.current_epoch) == (8, 2)
    assert cli_of(classes).model.input.out_features == 4
    monkeypatch.setenv("PL_MODEL__HIDDEN", "wide")
    with pytest.raises(SystemExit):
        cli_of(classes, parser_kwargs={"default_env": True})
    assert capsys.readouterr().err == "lightkit: error: command line: model.hidden: expected int, got 'wide'\n"


def test_files_that_are_always_read_come_first(classes: Any, project: Path) -> None:
    (project / "always.yaml").write_text("model: {lr: 0.7, hidden: 5}\n")
    (project / "mine.yaml").write_text("model: {hidden: 6}\n")
    first = {"default_config_files": ["always.yaml", "never.yaml"]}
    cli = cli_of(classes, ["--config=mine.yaml"], parser_kwargs=first)
    assert (cli.model.lr, cli.model.input.out_features) == (0.7, 6)
    cli = LightkitCLI(
        classes.Net, classes.Data, args=["fit", "mine.yaml", "--data.batch_size=3"], trainer_defaults=QUIET,
        parser_kwargs={"fit": first, "test": {"default_config_files": ["other.yaml"]}},
    )  # fmt: skip
    assert (cli.model.lr, cli.model.input.out_features) == (0.7, 6)


def test_omegaconf_puts_in_what_a_file_refers_to(
    classes: Any, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("omegaconf")
    text = "data: {batch_size: 3, rows: '${model.hidden}'}\nmodel: {hidden: 6, lr: 0.5}\n"
    (project / "refers.yaml").write_text(text)
    options = {"parser_kwargs": {"parser_mode": "omegaconf"}, "run": False, "trainer_defaults": QUIET}
    cli = LightkitCLI(classes.Net, classes.Data, args=["--config=refers.yaml"], **options)
    assert len(cli.datamodule.x) == 6
    (project / "refers.yaml").write_text(text.replace("model.hidden", "model.lr"))
    with pytest.raises(SystemExit):
        LightkitCLI(classes.Net, classes.Data, args=["--config=refers.yaml"], **options)
    assert capsys.readouterr().err.startswith("lightkit: error: refers.yaml:1: data.rows: expected int, got ")
    (project / "refers.yaml").write_text(text.replace("model.hidden", "model.width"))
    with pytest.raises(SystemExit):
        LightkitCLI(classes.Net, classes.Data, args=["--config=refers.yaml"], **options)
    assert capsys.readouterr().err.startswith("lightkit: error: refers.yaml: Interpolation key 'model.width' not found")


def test_a_mode_that_lightkit_does_not_read_is_said(classes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli_of(classes, parser_kwargs={"parser_mode": "toml"})
    assert capsys.readouterr().err == (
        "lightkit: error: parser_kwargs: parser_mode='toml': lightkit reads YAML and JSON; give 'yaml', or 'omegaconf' "
        "for files with ${...}\n"
    )


def test_a_parser_of_ones_own_is_used(classes: Any) -> None:
    class Parser(LightningArgumentParser):
        """With an argument more."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.add_argument("--label", type=str, default="none")

    cli = cli_of(classes, ["--label=a"], parser_class=Parser)
    assert (type(cli.parser), cli.config.label) == (Parser, "a")


def test_other_classes_than_ours_are_not_added_by_the_wrong_name() -> None:
    with pytest.raises(ConfigError, match=r"^add_lightning_class_args\(<class 'int'>\): expected a Trainer"):
        LightningArgumentParser().add_lightning_class_args(int, "number")

"""Text classification and tagging: configs, networks, vocabulary in the checkpoint, exact resume, real figures."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lightkit as lk
from lightkit.cli.job import Job, prepare_job
from lightkit.errors import CheckpointError, ConfigError, DataError
from recipes.text.classification import TextClassifier
from recipes.text.data import TabularText
from recipes.text.fields import TextField
from recipes.text.tagging import SequenceTagger
from recipes.text.tags import StdlibTags, most_frequent_tag_accuracy

MakeTrainer = Callable[..., lk.Trainer]
FRUIT = ("apple", "pear", "plum", "cherry")
TOOLS = ("hammer", "saw", "drill", "pliers")


def write_csv(path: Path, rows: int = 60, header: bool = True) -> Path:
    """Write texts of fruit and of tools, from one to nine words, and their labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(["id", "text", "label"])
        for i in range(rows):
            of_kind = (FRUIT, TOOLS)[i % 2]
            text = " ".join(of_kind[(i + k * k) % 4] for k in range(1 + i % 9))
            writer.writerow([i, text, ("fruit", "tool")[i % 2]])
    return path


def csv_data(folder: Path, **arguments: Any) -> TabularText:
    """The data module over such a file, of 60 rows of which 20 test."""
    if not (folder / "train.csv").exists():
        write_csv(folder / "train.csv")
    defaults: dict[str, Any] = {"train_rows": [0, 40], "test_rows": [40, None], "val_fraction": 0.2, "batch_size": 4}
    return TabularText(root=str(folder), **{**defaults, **arguments})


def small(**arguments: Any) -> TextClassifier:
    return TextClassifier(**{"embedding_dim": 8, "width": 8, "heads": 2, **arguments})


def test_every_text_config_says_what_it_is(repository: Path) -> None:
    from lightkit.cli.shipped import describe

    configs = {config.stem: config for config in (repository / "configs" / "text").glob("*.yaml")}
    assert {"ag_news", "csv", "imdb", "names", "stdlib_lines", "stdlib_tags"} <= set(configs)
    for config in configs.values():
        assert 20 < len(describe(config)) <= 120, config


def job_of(config: str, folder: Path, *options: str) -> Job:
    """Build a config for two short epochs that write below `folder`."""
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.max_epochs=2"]
    where = [f"--trainer.default_root_dir={folder}", "--trainer.limit_train_batches=2", "--model.embedding_dim=8"]
    return prepare_job("fit", [config, *quiet, *where, "--data.batch_size=8", *options])


def run_and_check(job: Job, *more_plots: str) -> None:
    job.trainer.fit(job.model, datamodule=job.data)
    job.trainer.test(job.model, datamodule=job.data, verbose=False)
    plots = sorted(path.name for path in (Path(job.trainer.run_dir) / "plots").iterdir())
    assert set(plots) >= {"confusion_matrix.png", "curves.png", *more_plots}
    assert {"test_loss", "test_acc"} <= set(job.trainer.callback_metrics)


def test_stdlib_lines_config_trains_and_draws(tmp_path: Path) -> None:
    options = ["--data.max_files=10", "--data.max_lines=40", "--model.width=8"]
    job = job_of("text/stdlib_lines", tmp_path, *options)
    run_and_check(job, "worst_mistakes.txt")
    assert "test_macro_acc" in job.trainer.callback_metrics


def test_stdlib_tags_config_trains_and_draws(tmp_path: Path) -> None:
    options = ["--data.max_files=10", "--data.max_statements=80", "--model.width=8", "--data.on_bad_row=skip"]
    run_and_check(job_of("text/stdlib_tags", tmp_path, *options))


def test_csv_config_takes_columns_by_name_and_random_shares(tmp_path: Path) -> None:
    write_csv(tmp_path / "mine.csv")
    options = [f"--data.root={tmp_path}", "--data.train=mine.csv", "--data.split_ratio=[0.6, 0.2, 0.2]"]
    job = job_of("text/csv", tmp_path, *options)
    run_and_check(job, "worst_mistakes.txt")
    assert isinstance(job.data, TabularText)
    assert {part: len(rows) for part, rows in job.data.parts.items()} == {"train": 36, "test": 12, "val": 12}


def test_csv_config_takes_columns_by_position_and_ranges_of_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", header=False)
    where = [f"--data.root={tmp_path}", "--data.text=[0, 1]", "--data.label=2"]
    rows = ["--data.train_rows=[0, 40]", "--data.test_rows=[40, null]", "--data.field.min_freq=1"]
    run_and_check(job_of("text/csv", tmp_path, *where, *rows), "worst_mistakes.txt")


def test_names_config_reads_one_file_per_class(tmp_path: Path) -> None:
    (tmp_path / "names").mkdir()
    for language, names in {"Aland": ["Aa", "Aba", "Acca"] * 5, "Beland": ["Oo", "Obo", "Occo"] * 5}.items():
        (tmp_path / "names" / f"{language}.txt").write_text("\n".join(names) + "\n\n")
    job = job_of("text/names", tmp_path, f"--data.root={tmp_path / 'names'}", "--model.width=8")
    run_and_check(job, "worst_mistakes.txt")
    assert {part: len(rows) for part, rows in job.data.parts.items()} == {"train": 21, "val": 3, "test": 6}  # type: ignore[union-attr]


def test_imdb_config_reads_the_unpacked_archive(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, word in {"pos": "good", "neg": "bad"}.items():
            folder = tmp_path / "imdb" / "aclImdb" / part / label
            folder.mkdir(parents=True)
            for i in range(10):
                (folder / f"{i}_7.txt").write_text(f"A {word} film .<br />Really {word} !")
    job = job_of("text/imdb", tmp_path, f"--data.root={tmp_path}", "--model.width=8", "--model.layers=1")
    run_and_check(job, "worst_mistakes.txt")
    assert job.data.class_names == ["neg", "pos"]  # type: ignore[union-attr]


def test_ag_news_config_reads_the_unpacked_archive_and_names_its_classes(tmp_path: Path) -> None:
    folder = tmp_path / "ag_news_csv"
    folder.mkdir()
    (folder / "classes.txt").write_text("World\nSports\n")
    for name in ("train.csv", "test.csv"):
        lines = [f'"{1 + i % 2}","Title {i}","About {("war", "goals")[i % 2]}"' for i in range(40)]
        (folder / name).write_text("\n".join(lines))
    run_and_check(job := job_of("text/ag_news", tmp_path, f"--data.root={tmp_path}"), "worst_mistakes.txt")
    assert job.data.class_names == ["World", "Sports"]  # type: ignore[union-attr]


@pytest.mark.parametrize("net", ["lstm", "gru", "rnn", "transformer", "bag"])
def test_padding_changes_nothing_in_the_logits(net: str, tmp_path: Path) -> None:
    data = csv_data(tmp_path)
    data.setup("fit")
    assert data.codec is not None
    for pool in ("last", "mean", "max"):
        model = small(net=net, layers=2, pool=pool).eval()
        model._build(data.codec)
        model.eval()
        alone = model(data.codec.encode(["apple pear"]))
        padded = model(data.codec.encode(["apple pear", "saw " * 7]))[:1]
        torch.testing.assert_close(alone, padded)


def test_a_classifier_learns_the_kinds_and_its_checkpoint_alone_predicts(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    lk.seed_everything(0)
    trainer, data = make_trainer(max_epochs=6), csv_data(tmp_path, class_names={"tool": "Tools"})
    trainer.fit(small(net="bag", lr=0.1, dropout=0.0), datamodule=data)
    [metrics] = trainer.test(datamodule=data, verbose=False)
    assert metrics["test_acc"] == metrics["test_macro_acc"] == 1.0
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    (tmp_path / "train.csv").unlink()
    code = (
        "from recipes.text.classification import TextClassifier\n"
        f"print(TextClassifier.load_from_checkpoint({str(path)!r}).predict_raw('Plum, PEAR'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=lk_root())
    [(first, share), (second, rest)] = eval(done.stdout)
    assert (first, second) == ("fruit", "Tools")
    assert share > 0.9 and share + rest == pytest.approx(1)


def lk_root() -> Path:
    return Path(__file__).resolve().parents[2]


def test_a_checkpoints_vocabulary_takes_the_place_of_other_datas(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    lk.seed_everything(0)
    data = csv_data(tmp_path / "a")
    trainer = make_trainer(max_epochs=4)
    trainer.fit(small(net="bag", lr=0.1), datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = write_csv(tmp_path / "b" / "train.csv")
    other.write_text(other.read_text().replace("hammer", "spanner"))
    for model in (small(net="bag"), TextClassifier.load_from_checkpoint(tmp_path / "a.ckpt")):
        fresh = csv_data(tmp_path / "b")
        [metrics] = make_trainer().test(model, datamodule=fresh, ckpt_path=tmp_path / "a.ckpt", verbose=False)
        assert fresh.codec == data.codec and "spanner" not in fresh.codec.tokens
        assert metrics["test_acc"] == 1.0


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("steps", [3, 8, 11])
def test_resumed_run_reaches_the_same_weights(
    tmp_path: Path, make_trainer: MakeTrainer, steps: int, num_workers: int
) -> None:
    def fit(max_steps: int = -1, ckpt_path: Path | None = None) -> lk.Trainer:
        lk.seed_everything(1, workers=True)
        trainer = make_trainer(max_steps=max_steps, logger=False, enable_checkpointing=False)
        model = small(net="gru", token_dropout=0.2, schedule="constant")
        trainer.fit(model, datamodule=csv_data(tmp_path, num_workers=num_workers), ckpt_path=ckpt_path)
        return trainer

    whole = fit()
    fit(max_steps=steps).save_checkpoint(tmp_path / "half.ckpt")
    resumed = fit(ckpt_path=tmp_path / "half.ckpt")
    assert whole.global_step == resumed.global_step == 16
    for name, weight in whole.lightning_module.state_dict().items():
        assert torch.equal(weight, resumed.lightning_module.state_dict()[name]), name


def test_batches_that_are_not_batch_first_train_to_the_same_weights(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    weights = []
    for batch_first in (True, False):
        lk.seed_everything(0)
        trainer = make_trainer(max_epochs=1, logger=False, enable_checkpointing=False)
        model = small(net="lstm")
        trainer.fit(model, datamodule=csv_data(tmp_path, field=TextField(batch_first=batch_first)))
        weights.append(model.state_dict())
        assert model.predict_raw("apple")[0][1] > 0
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_vectors_are_copied_into_the_embedding_and_stay_frozen(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("3 4\napple 1 2 3 4\nsaw 5 6 7 8\nzebra 0 0 0 1\n")
    field = TextField(vectors=str(vectors), vectors_cache=str(tmp_path / "cache"))
    data = csv_data(tmp_path, field=field)
    model = small(net="lstm", embedding_dim=4, freeze_embedding=True)
    make_trainer().fit(model, datamodule=data)
    assert model.encoder is not None and data.codec is not None
    weight, stoi = model.encoder.embedding.weight, data.codec.field.vocab.stoi
    assert weight[stoi["apple"]].tolist() == [1, 2, 3, 4] and weight[stoi["saw"]].tolist() == [5, 6, 7, 8]
    assert weight[data.codec.pad_index].abs().sum() == 0 and weight[stoi["pear"]].abs().sum() > 0
    learning = small(net="bag", embedding_dim=4)
    make_trainer().fit(learning, datamodule=csv_data(tmp_path, field=field))
    assert learning.encoder is not None
    assert learning.encoder.embedding.weight[stoi["apple"]].tolist() != [1, 2, 3, 4]


def test_a_tagger_learns_what_single_tokens_cannot_tell_and_ignores_padding(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    lk.seed_everything(0)
    data = StdlibTags(max_files=12, max_statements=500, batch_size=16, on_bad_row="skip")
    trainer = make_trainer(max_epochs=5, enable_checkpointing=False)
    model = SequenceTagger(embedding_dim=24, width=24, lr=0.02, dropout=0.1)
    trainer.fit(model, datamodule=data)
    [metrics] = trainer.test(model, datamodule=data, verbose=False)
    assert metrics["test_acc"] > most_frequent_tag_accuracy(data.parts["train"], data.parts["test"]) + 0.03
    trainer.save_checkpoint(tmp_path / "tags.ckpt")
    loaded = SequenceTagger.load_from_checkpoint(tmp_path / "tags.ckpt")
    tagged = loaded.tag(["def", "f", "(", "x", ")", ":"])
    assert [tag for _, tag, _ in tagged][:3] == ["keyword", "definition", "operator"]
    batch = next(iter(data.val_dataloader()))
    assert batch.tags.shape == batch.text.shape and int((batch.tags == loaded.ignore_index).sum()) > 0
    assert batch.token_count == int((batch.tags != loaded.ignore_index).sum())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: TextClassifier(net="lstn"),
            "TextClassifier(net='lstn'): expected one of lstm, gru, rnn, transformer, bag; did you mean 'lstm'?",
        ),
        (
            lambda: TextClassifier(pool="mena"),
            "TextClassifier(pool='mena'): expected one of last, mean, max; did you mean 'mean'?",
        ),
        (
            lambda: TextClassifier(net="transformer", width=10, heads=4),
            "TextClassifier(width=10, heads=4): width must be a multiple of heads",
        ),
        (
            lambda: SequenceTagger(net="bag"),
            "SequenceTagger(net='bag'): a bag has no vector for each token; expected lstm, gru, rnn or transformer",
        ),
        (
            lambda: SequenceTagger(net="lst"),
            "SequenceTagger(net='lst'): expected one of lstm, gru, rnn, transformer, bag; did you mean 'lstm'?",
        ),
    ],
)
def test_wrong_argument(build: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


def test_vectors_of_another_size_than_the_embedding(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("apple 1 2 3\nsaw 5 6 7\n")
    field = TextField(vectors=str(vectors), vectors_cache=str(tmp_path / "cache"))
    with pytest.raises(DataError) as caught:
        make_trainer().fit(small(), datamodule=csv_data(tmp_path, field=field))
    assert str(caught.value) == (
        "TextClassifier(embedding_dim=8): the data's vectors have 3 values; set model.embedding_dim to 3"
    )


def test_a_classifier_without_vocabulary_or_with_a_foreign_checkpoint(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(DataError) as caught:
        make_trainer().fit(small(), [1, 2])
    assert str(caught.value) == (
        "TextClassifier: no vocabulary; fit it with a data module of recipes.text (its `codec`), or load it with "
        "load_from_checkpoint"
    )
    with pytest.raises(CheckpointError) as caught_:
        small().on_load_checkpoint({"state_dict": {}})
    assert str(caught_.value) == (
        "TextClassifier: the checkpoint holds no vocabulary ('text_codec'); it is not one of this recipe's"
    )


def test_one_cycle_needs_an_end_and_prediction_needs_a_word(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    with pytest.raises(ConfigError) as caught:
        make_trainer(max_epochs=-1).fit(small(), datamodule=csv_data(tmp_path))
    assert str(caught.value) == (
        "TextClassifier(schedule='one_cycle'): the fit has no end to fall towards; set trainer.max_epochs or "
        "max_steps, or model.schedule to 'constant'"
    )
    model = small(net="bag")
    data = csv_data(tmp_path)
    data.setup("fit")
    assert data.codec is not None
    model._build(data.codec)
    with pytest.raises(DataError) as caught_:
        model.predict_raw("  ")
    assert str(caught_.value) == "the text '  ' has no token; expected at least one word"


@pytest.mark.slow
def test_stdlib_lines_reach_092_on_the_test_part(tmp_path: Path) -> None:
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.max_epochs=3"]
    job = prepare_job("fit", ["text/stdlib_lines", f"--trainer.default_root_dir={tmp_path}", *quiet])
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(job.model, datamodule=job.data, ckpt_path="best", verbose=False)
    assert metrics["test_acc"] >= 0.92


@pytest.mark.shared_data
@pytest.mark.slow
def test_csv_reaches_087_on_real_news_by_overrides_alone(tmp_path: Path, shared_data: Path) -> None:
    where = [f"--data.root={shared_data / 'ag_news'}", "--data.train=test.csv", "--data.text=[1, 2]", "--data.label=0"]
    rows = ["--data.train_rows=[0, 6600]", "--data.test_rows=[6600, null]"]
    # words alone and few epochs, to be quick: with pairs of words the config gets 0.88
    quick = ["--data.field.ngrams=1", "--trainer.max_epochs=4", "--trainer.enable_progress_bar=false"]
    job = prepare_job("fit", ["text/csv", f"--trainer.default_root_dir={tmp_path}", *where, *rows, *quick])
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(job.model, datamodule=job.data, ckpt_path="best", verbose=False)
    assert metrics["test_acc"] >= 0.87

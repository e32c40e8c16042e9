"""The language model: tokens, windows, learning, samples, exact resume, and what it refuses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import lightkit as lk
from lightkit.cli.job import prepare_job
from lightkit.errors import CheckpointError, ConfigError, DataError
from recipes.text.language_data import StdlibData, TextFileData, Windows
from recipes.text.language_model import LanguageModel, warmup_cosine
from recipes.text.language_network import GPT, Rotary
from recipes.text.language_tokens import BPETokenizer, CharTokenizer, tokenizer_from_state

MakeTrainer = Callable[..., lk.Trainer]
TEXT = "the cat sat on the mat; the dog sat on the log.\n" * 60
SMALL: dict[str, Any] = {"layers": 1, "heads": 2, "width": 16, "context": 16, "sample_tokens": 5}
# the fit is counted in steps, also over the ends of epochs
STEPS: dict[str, Any] = {"max_epochs": -1, "check_val_every_n_epoch": None}


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "input.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def data_of(path: Path, **arguments: Any) -> TextFileData:
    return TextFileData(str(path), **{"context": 16, "batch_size": 8, **arguments})


# ---------------------------------------------------------------- tokens


def test_characters_come_back_and_unknown_ones_are_one_token() -> None:
    tokenizer = CharTokenizer.train("hello, wörld 🙂")
    ids = tokenizer.encode("hell🙂 wörld")
    assert ids.dtype == torch.int64 and tokenizer.decode(ids.tolist()) == "hell🙂 wörld"
    assert tokenizer.encode("hxé").tolist() == [tokenizer.encode("h").item(), 0, 0]
    assert tokenizer.decode([0]) == "\ufffd"
    assert tokenizer.vocab_size == len(set("hello, wörld 🙂")) + 1
    assert tokenizer.encode("").tolist() == []


def test_byte_pairs_come_back_and_are_fewer_than_characters() -> None:
    tokenizer = BPETokenizer.train(TEXT, 300)
    assert 256 < tokenizer.vocab_size <= 300
    for text in (TEXT, "never séen 🙂\n\n\ttabs"):
        assert tokenizer.decode(tokenizer.encode(text).tolist()) == text
    assert len(tokenizer.encode(TEXT)) < len(TEXT) / 2


@pytest.mark.parametrize("trained", [CharTokenizer.train(TEXT), BPETokenizer.train(TEXT, 280)])
def test_a_tokenizer_is_built_again_from_its_plain_state(trained: Any, tmp_path: Path) -> None:
    torch.save(trained.state(), tmp_path / "state.pt")
    again = tokenizer_from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(again.encode(TEXT), trained.encode(TEXT))
    assert again.vocab_size == trained.vocab_size


def test_a_tokenizer_of_unknown_kind_is_refused() -> None:
    with pytest.raises(CheckpointError) as caught:
        tokenizer_from_state({"kind": "words"})
    assert str(caught.value) == "tokenizer of kind 'words': expected 'char' or 'bpe'"


# ---------------------------------------------------------------- data


def test_windows_hold_the_tokens_and_their_successors() -> None:
    windows = Windows(torch.arange(20), context=4, stride=4)
    tokens, targets = windows.__getitems__([0, 3])
    assert tokens.tolist() == [[0, 1, 2, 3], [12, 13, 14, 15]]
    assert targets.tolist() == [[1, 2, 3, 4], [13, 14, 15, 16]]
    assert windows[3][1].tolist() == [13, 14, 15, 16]
    assert len(windows) == 4 and len(Windows(torch.arange(21), 4, 4)) == 5
    assert len(Windows(torch.arange(4), 4, 1)) == 0


def test_the_first_90_percent_train_and_the_rest_validates(text_file: Path) -> None:
    data = data_of(text_file)
    data.setup("fit")
    cut = int(len(TEXT) * 0.9)
    assert data.text_tokenizer.decode(data.sets["train"].tokens.tolist()) == TEXT[:cut]
    assert data.text_tokenizer.decode(data.sets["val"].tokens.tolist()) == TEXT[cut:]
    (tokens, _), *_ = data.val_dataloader()
    assert data.text_tokenizer.decode(tokens[0].tolist()) == TEXT[cut : cut + 16]


def test_random_windows_begin_anywhere_and_strided_ones_at_multiples(text_file: Path) -> None:
    begins = {}
    for windows in ("random", "strided"):
        data = data_of(text_file, windows=windows, stride=8)
        data.setup("fit")
        sampler = data.train_dataloader().sampler
        step = data.sets["train"].stride
        begins[windows] = [i * step for i in sampler]
    tokens = int(len(TEXT) * 0.9)
    assert len(begins["random"]) == tokens // 16 and len({b % 8 for b in begins["random"]}) == 8
    assert sorted(begins["strided"]) == list(range(0, tokens - 16, 8))


def test_the_library_of_this_python_is_there_in_the_same_order_every_time() -> None:
    first, second = (StdlibData(max_chars=50_000) for _ in range(2))
    assert first.read() == second.read()
    text, _ = first.read()
    assert len(text) == 50_000 and "import " in text


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            None, {},
            "TextFileData: no file {path}; put the text there (UTF-8), or say where it lies: "
            "--data.path /where/it/is.txt",
        ),
        (
            b"good\nb\xe9d\n", {},
            "TextFileData: {path}, line 2: byte 0xe9 is not UTF-8; convert the file, for instance with "
            "`iconv -f latin1 -t utf-8`",
        ),
        (b"", {}, "TextFileData: {path} holds 0 characters, which is no text to learn from"),
        (
            b"x" * 50, {},
            "TextFileData: the validation part of {path} holds 5 tokens, too few for one window of 16 and the token "
            "after it; give more text, or a smaller data.context",
        ),
        (
            TEXT.encode(), {"tokenizer": "bpe", "vocab_size": 100},
            "BPETokenizer(vocab_size=100): 256 tokens are the single bytes; give more, such as 1024",
        ),
    ],
)  # fmt: skip
def test_text_that_cannot_be_used_is_named(
    content: bytes | None, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((DataError, ConfigError)) as caught:
        data_of(path, **arguments).setup("fit")
    assert str(caught.value) == message.format(path=path)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TextFileData(context=0), "TextFileData(context=0): expected at least 1"),
        (lambda: StdlibData(tokenizer="word"), "StdlibData(tokenizer='word'): expected 'char' or 'bpe'"),  # type: ignore[arg-type]
        (
            lambda: TextFileData(val_fraction=1.5),
            "TextFileData(val_fraction=1.5): expected a share between 0 and 1, such as 0.1",
        ),
        (
            lambda: LanguageModel(width=30, heads=4),
            "LanguageModel(width=30, heads=4): the heads must divide the width",
        ),
        (
            lambda: LanguageModel(sample_prompt=""),
            "LanguageModel(sample_prompt=''): expected at least one character, such as '\\n'",
        ),
        (
            lambda: LanguageModel().generate("a"),
            "LanguageModel: no tokenizer yet; fit it first, or use LanguageModel.load_from_checkpoint(path)",
        ),
    ],
)
def test_a_wrong_argument_says_what_to_write(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


# ---------------------------------------------------------------- network


def gpt(**arguments: Any) -> GPT:
    torch.manual_seed(0)
    return GPT(11, **{"context": 8, "layers": 2, "heads": 2, "width": 16, **arguments})


def test_no_place_sees_what_comes_after_it() -> None:
    net = gpt().eval()
    tokens = torch.randint(11, (2, 8))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    before, after = net(tokens), net(changed)
    assert before.shape == (2, 8, 11)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_an_untrained_network_knows_nothing_and_tied_weights_are_one_matrix() -> None:
    tied, free = gpt(), gpt(tie_weights=False)
    assert tied.head.weight is tied.token_embedding.weight
    sizes = [sum(p.numel() for p in net.parameters()) for net in (free, tied)]
    assert sizes[0] - sizes[1] == 11 * 16
    loss = F.cross_entropy(tied(torch.randint(11, (16, 8))).flatten(0, 1), torch.randint(11, (16 * 8,)))
    assert abs(loss.item() - math.log(11)) < 0.1


def test_rotary_positions_let_products_depend_on_distances_alone() -> None:
    rotary = Rotary(6, context=20)
    query, key = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    turned = [rotary(vector.expand(20, 6)) for vector in (query, key)]  # (places, 6) each
    products = turned[0] @ turned[1].T  # (places of the query, places of the key)
    for distance in (-7, 0, 3):
        line = products.diagonal(distance)
        torch.testing.assert_close(line, line[:1].expand(len(line)))
    assert products[0, 0] == pytest.approx(float(query @ key), rel=1e-5)
    assert not torch.allclose(products[0, :10], products[0, :1].expand(10))


def test_learned_positions_are_an_option_with_weights_of_their_own() -> None:
    learned, rotary = gpt(positions="learned"), gpt()
    assert learned.position_embedding.weight.shape == (8, 16)
    assert not any("position" in name or "rotary" in name for name in rotary.state_dict())
    tokens = torch.tensor([[1, 2, 3, 4]])
    for net in (learned, rotary):  # both tell places apart: another order of the same tokens is another sentence
        net.eval()
        assert not torch.allclose(net(tokens)[:, -1], net(tokens[:, [1, 0, 2, 3]])[:, -1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": "sines"}, "GPT(positions='sines'): expected 'rotary' or 'learned'"),
        (
            {"width": 6},
            "GPT(width=6, heads=2): rotary positions turn pairs of a head's 3 numbers; give an even number, or "
            "positions='learned'",
        ),
    ],
)
def test_positions_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gpt(**arguments)
    assert str(caught.value) == message


def test_dropout_acts_in_training_alone() -> None:
    net, tokens = gpt(dropout=0.5), torch.randint(11, (2, 8))
    assert not torch.equal(net(tokens), net(tokens))
    net.eval()
    assert torch.equal(net(tokens), net(tokens))


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine() -> None:
    rates = [warmup_cosine(step, 9, 109, 0.1) for step in range(110)]
    assert rates[:9] == pytest.approx([k / 10 for k in range(1, 10)])
    assert rates[9] == 1 and rates[59] == pytest.approx(0.55) and rates[109] == pytest.approx(0.1)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert warmup_cosine(500, 9, 109, 0.1) == pytest.approx(0.1)


# ---------------------------------------------------------------- training


def test_it_learns_a_text_of_two_sentences_and_writes_it(text_file: Path, make_trainer: MakeTrainer) -> None:
    lk.seed_everything(0, workers=True, verbose=False)
    model = LanguageModel(**{**SMALL, "width": 32}, lr=0.02, warmup_steps=10)
    trainer = make_trainer(max_steps=150, **STEPS, gradient_clip_val=1.0, val_check_interval="75step")
    trainer.fit(model, datamodule=data_of(text_file))
    values = trainer.callback_metrics
    assert values["val_loss"] < 0.3
    assert values["val_bpc"] == pytest.approx(values["val_loss"] / math.log(2))
    assert "sat on the" in model.generate("the cat ", 40, temperature=0)
    (likeliest, probability), *rest = model.predict_raw("on th")
    assert likeliest == "e" and probability > 0.9 and len(rest) == 9
    samples = sorted((trainer.run_dir / "samples").iterdir())
    assert [p.name for p in samples] == ["step_000075.txt", "step_000150.txt"]
    assert len(samples[0].read_text(encoding="utf-8")) == 1 + 5  # the prompt and five characters
    assert (trainer.run_dir / "plots" / "curves.png").is_file()
    test = make_trainer().test(model, datamodule=data_of(text_file), verbose=False)
    assert test[0]["test_loss"] == pytest.approx(float(values["val_loss"]), abs=1e-5)
    surprise = make_trainer().predict(model, datamodule=data_of(text_file))
    assert torch.cat(surprise).mean().item() == pytest.approx(float(values["val_loss"]), abs=1e-5)


def test_samples_reach_tensorboard_as_text(text_file: Path, make_trainer: MakeTrainer) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer(max_steps=2, **STEPS, val_check_interval="2step")
    trainer.fit(LanguageModel(**SMALL), datamodule=data_of(text_file))
    events = EventAccumulator(str(trainer.run_dir)).Reload()
    (event,) = events.Tensors("sample/text_summary")
    written = event.tensor_proto.string_val[0].decode()
    sample = (trainer.run_dir / "samples" / "step_000002.txt").read_text(encoding="utf-8")
    assert event.step == 2 and written == "\n".join(f"    {line}" for line in sample.split("\n"))


def test_sampling_changes_nothing_in_the_training(text_file: Path, make_trainer: MakeTrainer) -> None:
    weights = []
    for sample_tokens in (0, 20):
        lk.seed_everything(1, verbose=False)
        model = LanguageModel(**{**SMALL, "sample_tokens": sample_tokens}, dropout=0.2)
        trainer = make_trainer(max_steps=8, **STEPS, val_check_interval="4step", logger=False)
        trainer.fit(model, datamodule=data_of(text_file))
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("tokenizer", "windows", "workers"), [("char", "random", 0), ("char", "random", 2), ("bpe", "strided", 0)]
)
def test_resumed_run_reaches_the_same_weights(
    tokenizer: str, windows: str, workers: int, text_file: Path, tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    def fit(steps: int, ckpt_path: str | None = None) -> LanguageModel:
        lk.seed_everything(3, workers=True, verbose=False)
        model = LanguageModel(**SMALL, dropout=0.1)
        data = data_of(
            text_file, tokenizer=tokenizer, windows=windows, vocab_size=270, context=8, num_workers=workers
        )
        # 12 steps cover the end of an epoch for byte pairs, and the middle of one for characters
        stop = [StopAfter(steps)] if steps < 12 else []
        trainer = make_trainer(max_steps=12, **STEPS, val_check_interval="4step", callbacks=stop)
        try:
            trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
        except KeyboardInterrupt:
            assert stop
        assert trainer.global_step == steps
        return model

    whole = fit(12).state_dict()
    fit(5)
    resumed = fit(12, ckpt_path=str(tmp_path / "stopped.ckpt")).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole) and len(whole) > 5


class StopAfter(lk.Callback):
    """Saves `stopped.ckpt` in the working directory after a step, and ends the run like Ctrl-C."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint("stopped.ckpt")
            raise KeyboardInterrupt


# ---------------------------------------------------------------- checkpoints


@pytest.fixture
def checkpoint(text_file: Path, make_trainer: MakeTrainer) -> Callable[..., Path]:
    def make(**arguments: Any) -> Path:
        trainer = make_trainer(max_steps=3, **STEPS, logger=False, limit_val_batches=0)
        trainer.fit(LanguageModel(**SMALL), datamodule=data_of(text_file, **arguments))
        path = trainer.run_dir / "model.ckpt"
        trainer.save_checkpoint(path)
        return path

    return make


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_checkpoint_alone_writes_and_predicts(tokenizer: str, checkpoint: Callable[..., Path]) -> None:
    path = checkpoint(tokenizer=tokenizer, vocab_size=280)
    first, second = (LanguageModel.load_from_checkpoint(path) for _ in range(2))
    told = first.predict_raw("the do")
    assert told == second.predict_raw("the do") and len(told) == 10
    assert [p for _, p in told] == sorted((p for _, p in told), reverse=True)
    assert 0 < sum(p for _, p in told) <= 1.000001
    text = first.generate("the do", 30, seed=1)
    assert text == second.generate("the do", 30, seed=1) and text.startswith("the do")
    assert text != first.generate("the do", 30, seed=2)
    assert first.generate("the do", 0) == "the do"
    assert first.generate("the ", 8, temperature=0) == first.generate("the ", 8, top_k=1)


def test_a_seeded_sample_leaves_the_generator_as_it_was(checkpoint: Callable[..., Path]) -> None:
    model = LanguageModel.load_from_checkpoint(checkpoint())
    before = torch.get_rng_state()
    model.train()
    model.generate("a", 3, seed=0)
    assert model.training and torch.equal(before, torch.get_rng_state())
    for wrong in ({"temperature": -1.0}, {"top_k": 0}):
        with pytest.raises(ConfigError, match="expected at least 0, and at least 1"):
            model.generate("a", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="an empty text has no next token; give at least one character"):
        model.predict_raw("")


def test_weights_are_not_used_with_another_text_s_tokens(
    checkpoint: Callable[..., Path], tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    path = checkpoint()
    other = tmp_path / "other.txt"
    other.write_text("0123456789" * 100, encoding="utf-8")
    message = (
        "LanguageModel: the data's tokenizer (char, 11 tokens) is not the one that the weights were trained with "
        "(char, 17 tokens): ids would mean other text; use the text and data.tokenizer of that training"
    )
    for model, ckpt_path in ((LanguageModel(**SMALL), path), (LanguageModel.load_from_checkpoint(path), None)):
        with pytest.raises(DataError) as caught:
            make_trainer().validate(model, datamodule=data_of(other), ckpt_path=ckpt_path)
        assert str(caught.value) == message


def test_windows_longer_than_the_model_sees_are_refused(text_file: Path, make_trainer: MakeTrainer) -> None:
    with pytest.raises(DataError) as caught:
        make_trainer().fit(LanguageModel(**SMALL), datamodule=data_of(text_file, context=32))
    assert str(caught.value) == (
        "LanguageModel(context=16): the data's windows are 32 tokens long; set model.context to 32, or data.context "
        "to 16"
    )


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize("config", ["text/stdlib_gpt", "text/shakespeare_gpt"])
def test_config_trains_and_writes(config: str, tmp_path: Path, text_file: Path) -> None:
    of_data = ["--data.max_chars=20000"] if "stdlib" in config else [f"--data.path={text_file}"]
    options = [
        "--trainer.max_steps=2", "--trainer.val_check_interval=1step", "--trainer.limit_val_batches=2",
        "--trainer.enable_progress_bar=false", f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu",
        "--model.width=24", "--model.layers=1", "--model.sample_tokens=5", "--data.batch_size=4",
    ]  # fmt: skip
    job = prepare_job("fit", [config, *options, *of_data])
    job.trainer.fit(job.model, datamodule=job.data)
    assert len(list((Path(job.trainer.run_dir) / "samples").iterdir())) == 2
    (metrics,) = job.trainer.test(datamodule=job.data, verbose=False)
    assert {"test_loss", "test_bpc"} <= set(metrics)


@pytest.mark.shared_data
def test_seconds_on_shakespeare_beat_counting_characters(
    shared_data: Path, make_trainer: MakeTrainer
) -> None:
    lk.seed_everything(0, verbose=False)
    data = TextFileData(str(shared_data / "tinyshakespeare" / "input.txt"), context=32, batch_size=16)
    model = LanguageModel(layers=1, heads=2, width=48, context=32, lr=0.03, warmup_steps=10, sample_tokens=0)
    trainer = make_trainer(max_steps=150, **STEPS, val_check_interval="150step", limit_val_batches=20)
    trainer.fit(model, datamodule=data)
    assert data.text_tokenizer.vocab_size == 66
    # a second or two of training; the entropy of single characters is 3.3 nats
    assert trainer.callback_metrics["val_loss"] < 3.1


def test_the_page_s_script_runs_on_a_checkpoint(
    repository: Path, checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    page = (repository / "docs" / "recipes" / "text_language_model.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    made = checkpoint(tokenizer="bpe", vocab_size=280)
    capsys.readouterr()
    exec(code.replace("last.ckpt", str(made)), {})
    assert capsys.readouterr().out.startswith("ROMEO:")


@pytest.mark.slow
def test_stdlib_gpt_learns_from_python_s_own_source(tmp_path: Path) -> None:
    options = ["--trainer.max_steps=250", "--trainer.val_check_interval=250step", "--model.sample_tokens=40"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    job = prepare_job("fit", ["text/stdlib_gpt", f"--trainer.default_root_dir={tmp_path}", *options, *quiet])
    job.trainer.fit(job.model, datamodule=job.data)
    # how often each character occurs gives 3.0 nats; the whole fit reaches 1.9
    assert float(job.trainer.callback_metrics["val_loss"]) < 2.2

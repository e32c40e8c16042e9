"""The audio recipes: every config trains and draws, what the modules do and refuse, prediction from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

import lightkit as lk
from lightkit.cli.job import Job, prepare_job
from lightkit.errors import ConfigError, DataError
from recipes.audio.augment import SpecAugment, WaveAugment
from recipes.audio.classification import AudioClassifier
from recipes.audio.ctc import CTCRecognizer, count_errors, greedy_tokens
from recipes.audio.data import NamedAudioData
from recipes.audio.tones import TonesData
from recipes.audio.torchaudio_sets import YesNoData

Sound = Callable[..., None]
MakeTrainer = Callable[..., lk.Trainer]
QUIET = ("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.enable_model_summary=false")


def job_of(config: str, folder: Path, *options: str) -> Job:
    """Build model, data and trainer of a config, for two short epochs that write below `folder`."""
    small = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=2", "--data.batch_size=4", "--model.width=4"]
    return prepare_job("fit", [config, *QUIET, *small, f"--trainer.default_root_dir={folder}", *options])


def run(job: Job) -> Path:
    job.trainer.fit(job.model, datamodule=job.data)
    job.trainer.test(job.model, datamodule=job.data, verbose=False)
    return Path(job.trainer.run_dir)


def assert_reported(run_dir: Path) -> None:
    """Pictures are there, and the worst clips are sound files."""
    plots = {p.name: p for p in (run_dir / "plots").iterdir()}
    assert sorted(plots) == ["confusion_matrix.png", "curves.png", "worst_clips.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") and p.stat().st_size > 8000 for p in plots.values())
    clips = sorted((run_dir / "clips").glob("*.wav"))
    assert 1 <= len(clips) <= 12 and clips[0].name.startswith("01_true_")
    assert all(soundfile.info(str(clip)).frames > 100 for clip in clips)


def names_of_digits(root: Path, sound: Sound) -> None:
    """Write ten labels by two speakers, eight times each."""
    for label in range(10):
        for speaker in ("ann", "bob"):
            for index in range(8):
                sound(root / f"{label}_{speaker}_{index}.wav", seconds=0.1, pitch=200 + 150 * label + index)


def test_there_are_five_configs_and_each_says_what_it_is(repository: Path) -> None:
    from lightkit.cli.shipped import describe

    configs = sorted((repository / "configs" / "audio").glob("*.yaml"))
    assert [c.stem for c in configs] == ["folder", "speech_commands", "spoken_digits", "tones", "yesno_ctc"]
    lines = [describe(config) for config in configs]
    assert all(20 < len(line) <= 120 for line in lines) and len(set(lines)) == len(lines)
    pages = "".join(p.read_text(encoding="utf-8") for p in (repository / "docs" / "recipes").glob("audio_*.md"))
    assert [c.stem for c in configs if f"lightkit fit audio/{c.stem}" not in pages] == []


def test_tones_config_reports_on_disk_and_the_worst_clips_can_be_heard_in_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = run(job_of("audio/tones", tmp_path, "--data.clips_per_class=10"))
    assert_reported(run_dir)
    events = EventAccumulator(str(run_dir)).Reload()
    heard = events.Tags()["audio"]
    assert sorted(tag.removeprefix("worst_clips/") for tag in heard) == sorted(
        clip.stem for clip in (run_dir / "clips").iterdir()
    )
    assert events.Audio(heard[0])[0].sample_rate == 8000


def test_spoken_digits_config_trains_and_reports(tmp_path: Path, sound: Sound) -> None:
    names_of_digits(tmp_path / "data", sound)
    options = [f"--data.root={tmp_path / 'data'}", "--data.test_where=speaker=bob"]
    assert_reported(run(job_of("audio/spoken_digits", tmp_path, *options)))


@pytest.mark.parametrize("net", ["m5", "conformer"])
def test_speech_commands_config_trains_and_reports(net: str, tmp_path: Path, sound: Sound) -> None:
    folder = tmp_path / "data" / "SpeechCommands" / "speech_commands_v0.02"
    for word, pitch in (("no", 300), ("yes", 700)):
        for i in range(8):
            sound(folder / word / f"s{i}_nohash_0.wav", rate=16000, pitch=pitch + i)
    for name, i in (("validation", 6), ("testing", 7)):
        (folder / f"{name}_list.txt").write_text("".join(f"{w}/s{i}_nohash_0.wav\n" for w in ("no", "yes")))
    options = [f"--data.root={tmp_path / 'data'}", "--data.num_workers=0", "--model.num_classes=2"]
    if net == "conformer":
        options += ["--model.net=conformer", "--model.features=mel", "--model.width=8"]
    assert_reported(run(job_of("audio/speech_commands", tmp_path, *options)))


def test_folder_config_trains_and_reports_on_files_of_every_kind(tmp_path: Path, sound: Sound) -> None:
    for name, pitch in (("high", 900), ("low", 200)):
        for i, (end, rate, channels) in enumerate([("wav", 8000, 1), ("flac", 44100, 2), ("ogg", 22050, 2)] * 4):
            sound(tmp_path / "data" / name / f"{i}.{end}", rate=rate, channels=channels, pitch=pitch)
    options = [f"--data.root={tmp_path / 'data'}", "--model.num_classes=2"]
    assert_reported(run(job_of("audio/folder", tmp_path, *options)))


def write_yes_no(root: Path, count: int = 12) -> None:
    """Write utterances of four words, yes a high and no a low tone, with silence between them."""
    (root / "waves_yesno").mkdir(parents=True)
    time = torch.arange(1200) / 8000
    for i in range(count):
        words = [(i >> bit) & 1 for bit in range(4)]
        parts = [torch.sin(2 * torch.pi * (900.0 if word else 300.0) * time) for word in words]
        wave = torch.cat([piece for part in parts for piece in (torch.zeros(800), part, torch.zeros(400))])
        soundfile.write(root / "waves_yesno" / ("_".join(map(str, words)) + ".wav"), (0.3 * wave).numpy(), 8000)


def test_yesno_config_trains_and_draws(tmp_path: Path) -> None:
    write_yes_no(tmp_path / "data")
    job = job_of("audio/yesno_ctc", tmp_path, f"--data.root={tmp_path / 'data'}", "--model.encoder=conformer")
    run_dir = run(job)
    assert (run_dir / "plots" / "curves.png").stat().st_size > 8000
    assert {"test_loss", "test_error_rate"} <= set(job.trainer.callback_metrics)


def test_ctc_learns_to_write_tones_down(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    write_yes_no(tmp_path / "data", 16)
    torch.manual_seed(0)
    model = CTCRecognizer(width=32, layers=1, bins=16, lr=0.02, dropout=0.0)
    run = make_trainer(max_epochs=30, logger=False)
    data = YesNoData(root=str(tmp_path / "data"), download=False, batch_size=5)
    run.fit(model, datamodule=data)
    [metrics] = run.test(model, datamodule=data, verbose=False)
    assert metrics["test_error_rate"] <= 0.125
    run.save_checkpoint(tmp_path / "ctc.ckpt")
    [(words, probability)] = CTCRecognizer.load_from_checkpoint(tmp_path / "ctc.ckpt").predict_raw(
        str(tmp_path / "data" / "waves_yesno" / "0_1_1_0.wav")
    )
    assert words == "no yes yes no" and 0.5 < probability <= 1


# ---------------------------------------------------------------- the modules


@pytest.mark.parametrize(
    ("net", "features", "cmn"),
    [("cnn", "mel", "utterance"), ("cnn", "spectrogram", "none"), ("cnn", "mfcc", "sliding"),
     ("m5", "waveform", "none"), ("m5", "mu_law", "none"), ("lstm", "mfcc", "utterance"),
     ("conformer", "mel", "sliding")],
)  # fmt: skip
def test_every_network_and_front_end_gives_logits(net: Any, features: Any, cmn: Any) -> None:
    model = AudioClassifier(net=net, features=features, cmn=cmn, num_classes=7, sample_rate=8000, width=8, bins=16)
    waveforms, lengths = torch.randn(3, 4000), torch.tensor([4000, 1000, 37])
    waveforms[2, 37:] = 0
    logits = model(waveforms, lengths)
    assert logits.shape == (3, 7) and bool(logits.isfinite().all())
    logits.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_an_lstm_hears_an_utterance_the_same_alone_and_beside_a_longer_one() -> None:
    torch.manual_seed(0)
    model = CTCRecognizer(encoder="lstm", width=8).eval()
    short, long = torch.randn(3000), torch.randn(8000)
    both = torch.zeros(2, 8000)
    both[0, :3000], both[1] = short, long
    alone, [count] = model(short[None], torch.tensor([3000]))
    beside, counts = model(both, torch.tensor([3000, 8000]))
    assert counts[0] == count
    torch.testing.assert_close(beside[0, :count], alone[0], atol=1e-4, rtol=1e-4)


def test_the_mean_over_time_removes_the_colour_of_a_microphone() -> None:
    torch.manual_seed(0)
    waveform = torch.randn(1, 8000)
    quieter, lengths = 0.1 * waveform, torch.tensor([8000])
    for cmn, is_same in (("utterance", True), ("sliding", True), ("none", False)):
        front_end = AudioClassifier(sample_rate=8000, cmn=cmn, width=2).front_end  # type: ignore[arg-type]
        (a, frames), (b, _) = front_end(waveform, lengths), front_end(quieter, lengths)
        assert a.shape == (1, 32, 63) and frames.tolist() == [63]
        assert torch.allclose(a, b, atol=1e-3) == is_same


def test_greedy_decoding_removes_repetitions_and_blanks_and_stops_at_the_end() -> None:
    path = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 0, 1]])
    scores = torch.nn.functional.one_hot(path, 3).float()
    assert greedy_tokens(scores, torch.tensor([9])) == [[1, 1, 2, 1]]
    assert greedy_tokens(scores, torch.tensor([8])) == [[1, 1, 2]]
    assert count_errors([[1, 1, 2], []], [[1, 2], [2]]) == 2


# ---------------------------------------------------------------- random changes


def tone(pitch: float = 500.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 16 rows of a tone that fills the first half of a second at 8 kHz."""
    wave = 0.3 * torch.sin(2 * torch.pi * pitch * torch.arange(8000) / 8000)
    wave[4000:] = 0
    return wave.repeat(16, 1), torch.full((16,), 4000)


def test_without_amounts_nothing_changes() -> None:
    waveforms, lengths = tone()
    changed, after = WaveAugment()(waveforms, lengths, 8000)
    assert torch.equal(changed, waveforms) and torch.equal(after, lengths)
    features = torch.randn(4, 8, 20)
    assert torch.equal(SpecAugment()(features, torch.full((4,), 20))[0], features)


@pytest.mark.parametrize(
    "changes",
    [{"speed": 0.2}, {"shift_seconds": 0.1}, {"fade": 0.3}, {"low_pass_hz": (300, 400)}, {"high_pass_hz": (600, 900)},
     {"noise_snr_db": (0, 10)}, {"gain_db": 6}, {"dither_bits": 8}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_every_change_is_drawn_from_torchs_generator(changes: dict[str, Any]) -> None:
    augment, (waveforms, lengths) = WaveAugment(**changes), tone()
    before = waveforms.clone()
    torch.manual_seed(0)
    first, _ = augment(waveforms, lengths, 8000)
    other, _ = augment(waveforms, lengths, 8000)
    torch.manual_seed(0)
    again, _ = augment(waveforms, lengths, 8000)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(waveforms, before) and first.shape == before.shape and bool(first.isfinite().all())
    assert not torch.equal(first, before)


def test_speed_moves_the_pitch_and_the_length_together() -> None:
    waveforms, lengths = tone()
    torch.manual_seed(0)
    faster, after = WaveAugment(speed=0.25)(waveforms, lengths, 8000)
    pitch = torch.fft.rfft(faster).abs().argmax(dim=1).float()
    assert float(pitch.min()) < 450 and float(pitch.max()) > 550
    torch.testing.assert_close(pitch * after, torch.full((16,), 500 * 4000.0), rtol=0.01, atol=0)


def test_noise_has_the_level_that_was_asked_for() -> None:
    waveforms, lengths = tone()
    noisy, _ = WaveAugment(noise_snr_db=(6, 6))(waveforms, lengths, 8000)
    noise = (noisy - waveforms)[:, :4000].square().mean(dim=1)
    has_noise = noise > 0
    assert 2 <= int(has_noise.sum()) <= 14
    snr = 10 * torch.log10(waveforms[0, :4000].square().mean() / noise[has_noise])
    torch.testing.assert_close(snr, torch.full_like(snr, 6.0), atol=0.01, rtol=0)


def test_noise_is_cut_from_the_files_of_a_folder(tmp_path: Path, sound: Sound) -> None:
    sound(tmp_path / "hum.wav", seconds=0.1, rate=16000, pitch=100)
    waveforms, lengths = tone()
    noisy, _ = WaveAugment(noise_snr_db=(0, 0), noise_dir=str(tmp_path))(waveforms, lengths, 8000)
    noise = (noisy - waveforms)[(noisy != waveforms).any(dim=1)]
    assert torch.fft.rfft(noise).abs().argmax(dim=1).tolist() == [100] * len(noise) and len(noise) > 0
    with pytest.raises(DataError) as caught:
        WaveAugment(noise_snr_db=(0, 0), noise_dir="/nowhere")(waveforms, lengths, 8000)
    assert str(caught.value) == "WaveAugment(noise_dir='/nowhere'): no sound files there"


def test_fading_is_silent_at_both_ends_of_the_sound_and_filters_pass_what_they_should() -> None:
    waveforms, lengths = torch.ones(8, 8000), torch.full((8,), 4000)
    faded, _ = WaveAugment(fade=0.4)(waveforms, lengths, 8000)
    assert float(faded[:, 0].max()) == 0 and float(faded[:, 4000:].max()) == 0 and float(faded[:, 2000].min()) == 1
    waveforms, lengths = tone(2000)
    low, _ = WaveAugment(low_pass_hz=(200, 200))(waveforms, lengths, 8000)
    level = low.abs().amax(dim=1)
    assert set((level < 0.05).tolist()) == {True, False} == set((level > 0.29).tolist())


def test_what_becomes_longer_is_kept_where_that_is_asked_for() -> None:
    waveforms, lengths = tone()[0][:, :4000], torch.full((16,), 4000)
    cut, after = WaveAugment(speed=0.25)(waveforms, lengths, 8000)
    assert cut.shape[1] == 4000 and int(after.max()) == 4000
    kept, after = WaveAugment(speed=0.25)(waveforms, lengths, 8000, keep_all=True)
    assert kept.shape[1] == 5000 and 4000 < int(after.max()) <= 5000


def test_masks_and_stretching_change_features_by_their_amounts() -> None:
    features, lengths = torch.ones(32, 20, 40), torch.full((32,), 40)
    torch.manual_seed(0)
    masked, _ = SpecAugment(frequency_mask=4, time_mask=8, masks=1)(features, lengths)
    bins, frames = (masked == 0).all(dim=2).sum(dim=1), (masked == 0).all(dim=1).sum(dim=1)
    assert set(bins.tolist()) == {0, 1, 2, 3, 4} and int(frames.max()) == 8 and int(frames.min()) == 0
    stretched, after = SpecAugment(time_stretch=0.25)(features, lengths, keep_all=True)
    assert stretched.shape == (32, 20, 50) and 32 <= int(after.min()) < 40 < int(after.max()) <= 50


def test_only_training_batches_are_changed(make_trainer: MakeTrainer) -> None:
    model = AudioClassifier(num_classes=8, sample_rate=8000, width=2, augment=WaveAugment(gain_db=12))
    batch = (torch.ones(2, 100), torch.tensor([100, 50]), torch.tensor([0, 1]))
    assert model.on_after_batch_transfer(batch, 0)[0] is not batch[0]
    assert model.eval().on_after_batch_transfer(batch, 0) is batch


# ---------------------------------------------------------------- resume, prediction, refusals

CHANGES = WaveAugment(speed=0.1, shift_seconds=0.05, fade=0.1, noise_snr_db=(10, 30), gain_db=6, dither_bits=12)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_run_stopped_within_an_epoch_goes_on_to_the_same_weights(
    num_workers: int, tmp_path: Path, sound: Sound, make_trainer: MakeTrainer
) -> None:
    for index in range(12):
        for label in ("a", "b"):
            sound(tmp_path / "data" / f"{label}_s_{index}.wav", seconds=0.3, pitch=300 + 20 * index)

    def fit(name: str, ckpt_path: Any = None, **limits: Any) -> dict[str, torch.Tensor]:
        lk.seed_everything(1, verbose=False)
        masks = SpecAugment(time_stretch=0.1, frequency_mask=4, time_mask=3)
        model = AudioClassifier(
            num_classes=2, sample_rate=8000, width=2, augment=CHANGES, masks=masks, schedule="constant"
        )
        data = NamedAudioData(
            root=str(tmp_path / "data"), test_where="index=0", clip_seconds=0.2, batch_size=4, num_workers=num_workers
        )
        run = make_trainer(run_dir=tmp_path / name, logger=False, **limits)
        run.fit(model, datamodule=data, ckpt_path=ckpt_path)
        run.save_checkpoint(tmp_path / f"{name}.ckpt")
        return model.state_dict()

    whole = fit("whole")
    fit("stopped", max_steps=7)
    resumed = fit("resumed", ckpt_path=tmp_path / "stopped.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_checkpoint_alone_names_the_class_of_a_file(
    tmp_path: Path, sound: Sound, make_trainer: MakeTrainer
) -> None:
    torch.manual_seed(0)
    model = AudioClassifier(num_classes=8, sample_rate=8000, width=4, masks=SpecAugment(time_mask=4))
    data = TonesData(20)
    run = make_trainer(logger=False, max_epochs=1)
    run.fit(model, datamodule=data)
    run.save_checkpoint(tmp_path / "tones.ckpt")
    fresh = AudioClassifier.load_from_checkpoint(tmp_path / "tones.ckpt")
    assert fresh.raw_input == "audio"
    wave = data.sets["test"].sounds[0]
    soundfile.write(tmp_path / "a.wav", wave.numpy(), 8000, subtype="FLOAT")
    found = fresh.predict_raw(str(tmp_path / "a.wav"))
    expected = model.eval()(wave[None], torch.tensor([len(wave)])).softmax(dim=1)[0]
    assert [name for name, _ in found] == [data.class_names[i] for i in expected.argsort(descending=True).tolist()]
    assert [p for _, p in found] == pytest.approx(sorted(expected.tolist(), reverse=True))
    # another rate, two channels and another length are brought to the data's
    sound(tmp_path / "b.flac", seconds=2, rate=44100, channels=2)
    assert sum(p for _, p in fresh.predict_raw(str(tmp_path / "b.flac"))) == pytest.approx(1)
    with pytest.raises(DataError) as caught:
        fresh.predict_raw(str(tmp_path / "none.wav"))
    assert str(caught.value).startswith(f"{tmp_path}/none.wav: cannot be read as sound (")


def test_a_module_without_names_cannot_predict(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        AudioClassifier(width=2).predict_raw(str(tmp_path / "a.wav"))
    assert str(caught.value) == (
        "AudioClassifier.predict_raw: the module has no names yet; fit it, or load a checkpoint"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AudioClassifier(net="m5"), "AudioClassifier(net='m5', features='mel'): expected features 'waveform' "
         "or 'mu_law'"),
        (lambda: AudioClassifier(net="lstm", features="mu_law"), "AudioClassifier(net='lstm', features='mu_law'): "
         "expected features 'mel', 'spectrogram' or 'mfcc'"),
        (lambda: CTCRecognizer(features="waveform"), "CTCRecognizer(features='waveform'): expected 'mel', "
         "'spectrogram' or 'mfcc'"),
        (lambda: AudioClassifier(bins=200, window_ms=10), "FrontEnd(kind='mel', bins=200): 200 bands from a window of "
         "160 samples; set model.window_ms higher or model.bins lower"),
        (lambda: AudioClassifier(net="conformer", width=18), "FrameEncoder(kind='conformer', width=18): expected a "
         "multiple of 4, its attention heads"),
        (lambda: AudioClassifier(net="lstm", width=9), "FrameEncoder(kind='lstm', width=9): expected a multiple of 2, "
         "its directions"),
        (lambda: WaveAugment(fade=0.6), "WaveAugment(fade=0.6): expected a share from 0 to 0.5"),
        (lambda: WaveAugment(noise_snr_db=(20, 5)), "WaveAugment(noise_snr_db=[20, 5]): expected the lower end first"),
    ],
)  # fmt: skip
def test_wrong_argument(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (AudioClassifier(num_classes=3, sample_rate=8000, width=2), "AudioClassifier(num_classes=3): the data has 8 "
         "classes (sine, square, sawtooth, rising, falling, vibrato, pulsing, noise); set model.num_classes to 8"),
        (AudioClassifier(num_classes=8, width=2), "AudioClassifier(sample_rate=16000): the data is at 8000 Hz; set "
         "model.sample_rate to 8000"),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_the_network(model: Any, message: str, make_trainer: MakeTrainer) -> None:
    with pytest.raises(DataError) as caught:
        make_trainer().fit(model, datamodule=TonesData(10))
    assert str(caught.value) == message


def test_words_that_do_not_fit_the_recognizer(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    write_yes_no(tmp_path)
    with pytest.raises(DataError) as caught:
        make_trainer().fit(CTCRecognizer(num_tokens=3), datamodule=YesNoData(root=str(tmp_path)))
    assert str(caught.value) == (
        "CTCRecognizer(num_tokens=3): the data has 2 tokens; set model.num_tokens to 2"
    )


def test_one_cycle_needs_an_end(make_trainer: MakeTrainer) -> None:
    model = AudioClassifier(num_classes=8, sample_rate=8000, width=2)
    with pytest.raises(ConfigError) as caught:
        make_trainer(max_epochs=-1).fit(model, datamodule=TonesData(10))
    assert str(caught.value) == (
        "AudioClassifier(schedule='one_cycle'): the fit has no end to fall towards; "
        "set trainer.max_epochs or max_steps, or model.schedule to 'constant'"
    )


# ---------------------------------------------------------------- real training


@pytest.mark.slow
def test_tones_reach_097(tmp_path: Path) -> None:
    job = prepare_job("fit", ["audio/tones", *QUIET, f"--trainer.default_root_dir={tmp_path}"])
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(job.model, datamodule=job.data, ckpt_path="best", verbose=False)
    assert metrics["test_acc"] >= 0.97


@pytest.mark.shared_data
@pytest.mark.slow
def test_spoken_digits_are_learnt_from_real_recordings(tmp_path: Path, shared_data: Path) -> None:
    options = [f"--data.root={shared_data / 'fsdd' / 'recordings'}", "--trainer.max_epochs=2", "--model.width=8"]
    job = prepare_job("fit", ["audio/spoken_digits", *QUIET, f"--trainer.default_root_dir={tmp_path}", *options])
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(job.model, datamodule=job.data, verbose=False)
    # two epochs of a network half as wide: far above the 0.1 of guessing, below the config's 0.97
    assert metrics["test_acc"] > 0.7

"""What a test of sounds leaves to look at and listen to: confusion matrix, and the clips that went worst."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

import lightkit as lk
from lightkit.errors import require
from recipes.plots import ClassificationReport, Mistake, new_figure, publish

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Heard(Mistake):
    """One test clip, right or wrong; `input` holds its features, float (bins, frames), without the padding.

    Attributes:
        waveform: the sound, float (samples,), without the padding.
    """

    waveform: Tensor

    @property
    def is_wrong(self) -> bool:
        """Whether another class was found more probable than the true one."""
        return self.label != self.predicted


def clips_figure(clips: Sequence[Heard], seconds_per_frame: float, title: str, class_names: Sequence[str]) -> Figure:
    """Draw the features of the clips, time to the right, the lowest bin at the bottom.

    Args:
        clips: what to draw, in order.
        seconds_per_frame: the time from one frame to the next.
        title: what stands above.
        class_names: the names, by number.
    """
    columns = min(4, max(1, len(clips)))
    rows = max(1, -(-len(clips) // columns))
    figure = new_figure(max(2.7 * columns, 4.0), 1.9 * rows + 0.8)
    figure.suptitle(title)
    longest = max((clip.input.shape[1] for clip in clips), default=0) * seconds_per_frame
    for place, clip in enumerate(clips, start=1):
        axes = figure.add_subplot(rows, columns, place)
        bins, frames = clip.input.shape
        if bins == 1:
            axes.plot([i * seconds_per_frame for i in range(frames)], clip.input[0].numpy(), linewidth=0.6)
        else:
            extent = (0.0, frames * seconds_per_frame, 0.0, float(bins))
            axes.imshow(clip.input.numpy(), origin="lower", aspect="auto", cmap="magma", extent=extent)
        axes.set_xlim(0, longest)
        axes.set_facecolor("#e9ecef")
        if place > len(clips) - columns:
            axes.set_xlabel("seconds", fontsize=8)
        if place % columns == 1 or columns == 1:
            axes.set_ylabel("amplitude" if bins == 1 else "bin", fontsize=8)
        axes.tick_params(labelsize=7)
        said = f"{class_names[clip.predicted]} ({clip.predicted_probability:.1%})"
        truth = f"{class_names[clip.label]} ({clip.label_probability:.1%})"
        axes.set_title(
            f"{place}. true: {truth}\npredicted: {said}" if clip.is_wrong else f"{place}. right: {truth}",
            fontsize=8,
            color="#b02a1a" if clip.is_wrong else "#102a43",
        )
    return figure


def _file_name(place: int, clip: Heard, class_names: Sequence[str]) -> str:
    words = [f"{place:02d}_true", class_names[clip.label], "predicted", class_names[clip.predicted]]
    return re.sub(r"[^\w.-]+", "-", "_".join(words)) + ".wav"


class SoundReport(ClassificationReport):
    """Draws, after a test, `plots/confusion_matrix.png` and `plots/worst_clips.png`, and writes those clips.

    The clips are the mistakes with the highest loss and, where those are few, the right ones that the network
    was least sure of. They are written as `clips/*.wav` into the run directory, and go with the pictures to
    TensorBoard (tab "Audio"). Needs a `test_step` that returns a dict with `logits` (batch, classes), `labels`
    (batch,), `features` (batch, bins, frames), `waveforms` (batch, samples) and `lengths` (batch,).

    Args:
        sample_rate: Hz of the waveforms.
        num_clips: how many clips to draw and to write.
    """

    def __init__(self, sample_rate: int, num_clips: int = 12) -> None:
        super().__init__(num_mistakes=num_clips)
        self.sample_rate = sample_rate
        self.clips: list[Heard] = []
        self.seconds_per_frame = 0.0

    def on_test_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Forget an earlier test."""
        super().on_test_start(trainer, pl_module)
        self.clips = []

    def on_test_batch_end(
        self,
        trainer: lk.Trainer,
        pl_module: lk.LightModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch's pairs of true and predicted class, and keep the clips that went worst."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        logits, labels = outputs["logits"].float().cpu(), outputs["labels"].cpu()
        features = outputs["features"].float().cpu()
        self.seconds_per_frame = outputs["waveforms"].shape[1] / self.sample_rate / features.shape[2]
        losses = F.cross_entropy(logits, labels, reduction="none")
        predicted, probabilities = logits.argmax(dim=1), logits.softmax(dim=1)
        badness = losses + 1e6 * (predicted != labels)  # any mistake comes before all that is right
        for i in badness.argsort(descending=True)[: self.num_mistakes].tolist():
            label, guess = int(labels[i]), int(predicted[i])
            length, width = int(outputs["lengths"][i]), outputs["waveforms"].shape[1]
            waveform = outputs["waveforms"][i, :length].float().cpu()
            frames = max(1, features.shape[2] * length // width)
            of_label, of_guess = float(probabilities[i, label]), float(probabilities[i, guess])
            self.clips.append(Heard(features[i, :, :frames], label, guess, of_label, of_guess, waveform))
        self.clips = sorted(self.clips, key=lambda clip: (not clip.is_wrong, -clip.loss))[: self.num_mistakes]

    def draw_worst(self, trainer: lk.Trainer, names: Sequence[str], total: int, wrong: int) -> None:
        """Draw and write the worst of the clips."""
        title = f"{wrong:,} mistake{'' if wrong == 1 else 's'} in {total:,}"
        if wrong < len(self.clips):
            title += ", and the least certain of the others" if wrong else "; the least certain clips"
        elif wrong > len(self.clips):
            title += f" (the worst {len(self.clips)})"
        publish(trainer, "worst_clips", clips_figure(self.clips, self.seconds_per_frame, title, names))
        self._write_clips(trainer, names)

    def _write_clips(self, trainer: lk.Trainer, names: Sequence[str]) -> None:
        soundfile = require("soundfile", "audio", needed_by="SoundReport")
        folder = trainer.run_dir / "clips"
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*_true_*_predicted_*.wav"):
            old.unlink()  # of an earlier test in the same run
        for place, clip in enumerate(self.clips, start=1):
            name = _file_name(place, clip, names)
            waveform = clip.waveform.clamp(-1, 1)
            with (folder / name).open("wb") as file:
                soundfile.write(file, waveform.numpy(), self.sample_rate, subtype="PCM_16", format="WAV")
            for logger in trainer.loggers:
                if isinstance(logger, lk.loggers.TensorBoardLogger):
                    tag = f"worst_clips/{Path(name).stem}"
                    logger.experiment.add_audio(tag, waveform[None], trainer.global_step, self.sample_rate)

"""Networks on sound: a CNN on spectrograms, M5 on waveforms, and LSTM and Conformer encoders of frames."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lightkit.errors import ConfigError, ExportError, require

EncoderKind = Literal["lstm", "conformer"]


def _stage(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Build a 3x3 convolution with batch norm and ReLU; height and width stay."""
    return [
        # the bias would be taken out again by the batch norm's mean
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


class SpectrogramCNN(nn.Module):
    """Classify spectrograms with six 3x3 convolutions, in the manner of VGG.

    They have `width`, 2 and 4 times `width` channels; pooling halves bins and frames twice, then the bins
    alone. Mean and maximum over all positions go into one linear layer, so that any size from 8 bins and 4
    frames up fits.
    """

    def __init__(self, num_classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(1, width),
            nn.MaxPool2d(2),
            *_stage(width, 2 * width),
            *_stage(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_stage(2 * width, 4 * width),
            *_stage(4 * width, 4 * width),
            nn.MaxPool2d((2, 1)),
            *_stage(4 * width, 4 * width),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(8 * width, num_classes))
        # a third faster than the default on a CPU, and what tensor cores want
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map features (batch, bins, frames) to logits (batch, classes); padding counts as silence."""
        maps = self.features(features[:, None]).flatten(2)  # (B, 1, F, T) -> (B, 4 * width, F / 8 * T / 4)
        logits: Tensor = self.head(torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1))
        return logits


class M5(nn.Module):
    """Classify waveforms with four convolutions over time (Dai et al. 2016, "M5").

    The first spans 10 ms at 8 kHz and halves the rate to about 2,000 a second; each is followed by batch
    norm, ReLU and pooling by four. The channels are `width`, `width`, 2 and 4 times `width`.
    """

    def __init__(self, num_classes: int, in_channels: int, sample_rate: int, width: int, dropout: float) -> None:
        super().__init__()
        stride = max(1, sample_rate // 2000)

        def stage(channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
            convolution = nn.Conv1d(channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
            return [convolution, nn.BatchNorm1d(out_channels), nn.ReLU(inplace=True), nn.MaxPool1d(4, ceil_mode=True)]

        self.features = nn.Sequential(
            *stage(in_channels, width, 20 * stride, stride),
            *stage(width, width, 3),
            *stage(width, 2 * width, 3),
            *stage(2 * width, 4 * width, 3),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * width, num_classes))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map features (batch, channels, samples) to logits (batch, classes); padding counts as silence."""
        logits: Tensor = self.head(self.features(features).mean(dim=2))
        return logits


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """Return bool (batch, frames), true for the first `lengths` (batch,) of each row."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class FrameEncoder(nn.Module):
    """Encode features frame by frame, each with what stands before and after it.

    A convolution over three frames, with a stride, is followed by a bidirectional LSTM or by torchaudio's
    Conformer (Gulati et al. 2020). The LSTM's frames do not depend on the padding; the convolutions of
    torchaudio's Conformer reach a few frames into it.

    Args:
        kind: "lstm" or "conformer".
        bins: rows of the features.
        width: numbers a frame that come out; for the LSTM half of them from each direction.
        layers: number of LSTM or Conformer layers.
        dropout: share of activations that are dropped between layers.
        stride: frames that become one.

    Raises:
        ConfigError: a Conformer's `width` that four heads cannot share, or an odd one of an LSTM.
    """

    def __init__(self, kind: EncoderKind, bins: int, width: int, layers: int, dropout: float, stride: int) -> None:
        super().__init__()
        heads = 4
        if width % (heads if kind == "conformer" else 2):
            need = f"{heads}, its attention heads" if kind == "conformer" else "2, its directions"
            raise ConfigError(f"FrameEncoder(kind={kind!r}, width={width}): expected a multiple of {need}")
        self.kind: EncoderKind = kind
        self.stride = stride
        self.first = nn.Sequential(
            nn.Conv1d(bins, width, kernel_size=3, stride=stride, padding=1), nn.ReLU(), nn.Dropout(dropout)
        )
        if kind == "lstm":
            between = dropout if layers > 1 else 0.0  # torch warns of a dropout that has no place
            self.layers: nn.Module = nn.LSTM(
                width, width // 2, layers, batch_first=True, bidirectional=True, dropout=between
            )
        else:
            models = require("torchaudio.models", "audio", needed_by="the Conformer")
            self.layers = models.Conformer(
                input_dim=width,
                num_heads=heads,
                ffn_dim=4 * width,
                num_layers=layers,
                depthwise_conv_kernel_size=15,
                dropout=dropout,
            ).conformer_layers

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (batch, bins, frames) and lengths (batch,) to (batch, frames / stride, width) and theirs."""
        frames = self.first(features).transpose(1, 2)  # (B, bins, T) -> (B, T / stride, width)
        lengths = (lengths - 1) // self.stride + 1
        total = frames.shape[1]
        if isinstance(self.layers, nn.LSTM):
            if torch.compiler.is_exporting():
                raise ExportError(
                    "FrameEncoder(kind='lstm'): a packed recurrence runs as long as each sound, which torch.export and "
                    "ONNX cannot hold; train a conformer, or export as torchscript"
                )
            # packing needs the lengths on the host, a read that a Conformer does without
            packed = nn.utils.rnn.pack_padded_sequence(frames, lengths.cpu(), batch_first=True, enforce_sorted=False)
            encoded, _ = self.layers(packed)
            frames, _ = nn.utils.rnn.pad_packed_sequence(encoded, batch_first=True, total_length=total)
            return frames, lengths
        padding = ~frame_mask(lengths, total)
        frames = frames.transpose(0, 1)  # (T, B, width), as torchaudio's layers take it
        # the layers one by one: Conformer.forward makes its mask from the longest length, and so reads it
        for layer in self.layers:  # type: ignore[attr-defined]
            frames = layer(frames.masked_fill(padding.T[:, :, None], 0), padding)
        return frames.transpose(0, 1), lengths


class SequenceClassifier(nn.Module):
    """Classify by the mean of the encoded frames that are sound."""

    def __init__(self, encoder: FrameEncoder, num_classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, num_classes))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map features (batch, bins, frames) and lengths (batch,) to logits (batch, classes)."""
        frames, lengths = self.encoder(features, lengths)
        is_sound = frame_mask(lengths, frames.shape[1])[:, :, None]
        mean = (frames * is_sound).sum(dim=1) / lengths[:, None]
        logits: Tensor = self.head(mean)
        return logits

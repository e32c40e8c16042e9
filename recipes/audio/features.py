"""What the networks hear: waveforms turned into spectrograms, mel bands, MFCC, or classes of amplitude."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightkit.errors import ConfigError, require

Kind = Literal["mel", "spectrogram", "mfcc", "waveform", "mu_law"]
Cmn = Literal["none", "utterance", "sliding"]

SPECTRAL = ("mel", "spectrogram", "mfcc")
# the cepstra of a natural logarithm are larger than its mel bands' decimal logarithm
_MFCC_SCALE = 0.2
_SILENCE = 1e-7  # power, about that of a 16-bit file's last bit


class FrontEnd(nn.Module):
    """Turn padded waveforms into features (batch, bins, frames) of a fixed scale.

    Args:
        kind: "mel", decimal logarithm of the power in `bins` mel bands; "spectrogram", the same of every
            frequency; "mfcc", `bins` cepstral coefficients of 2 * `bins` mel bands; "waveform", the samples
            as they are, one bin; "mu_law", each sample as one of 256 classes (ITU-T G.711), each of which
            is a learned vector of `bins` numbers.
        sample_rate: Hz.
        window_ms: length of the analysis window.
        hop_ms: from one frame to the next.
        bins: numbers a frame; not for "spectrogram" and "waveform".
        cmn: what is taken off every bin: "utterance", its mean over the clip, which removes a constant
            colouring by microphone and room; "sliding", its mean over the 3 seconds around a frame
            (torchaudio's SlidingWindowCmn); "none".

    Attributes:
        bins: rows of the features.

    Raises:
        ConfigError: a window too short for a frame, or for so many mel bands.
    """

    def __init__(
        self,
        kind: Kind = "mel",
        sample_rate: int = 16000,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
        bins: int = 32,
        cmn: Cmn = "utterance",
    ) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.cmn: Cmn = cmn
        self.hop = max(1, round(sample_rate * hop_ms / 1000))
        self.is_spectral = kind in SPECTRAL
        self.bins = {"waveform": 1}.get(kind, bins)
        self.transform: nn.Module = nn.Identity()
        if kind == "mu_law":
            transforms = require("torchaudio.transforms", "audio", needed_by="FrontEnd")
            self.transform = transforms.MuLawEncoding(quantization_channels=256)
            self.embedding = nn.Embedding(256, bins)
        if self.is_spectral:
            self._build_spectral(kind, sample_rate, round(sample_rate * window_ms / 1000), bins)

    def _build_spectral(self, kind: str, sample_rate: int, window: int, bins: int) -> None:
        mels = {"mel": bins, "mfcc": 2 * bins}.get(kind, 1)
        # a mel band narrower than the distance of two frequencies would stay empty
        n_fft = max(1 << max(window - 1, 1).bit_length(), 8)
        if window < 8 or mels > n_fft // 4:
            raise ConfigError(
                f"FrontEnd(kind={kind!r}, bins={bins}): {mels} bands from a window of {window} samples; "
                "set model.window_ms higher or model.bins lower"
            )
        transforms = require("torchaudio.transforms", "audio", needed_by="FrontEnd")
        # silence beyond the ends: a sound's features are then the same whatever it is padded to
        stft: dict[str, Any] = {"n_fft": n_fft, "win_length": window, "hop_length": self.hop, "pad_mode": "constant"}
        bands: dict[str, Any] = {"n_mels": mels, "f_min": min(60.0, sample_rate / 8)}
        if kind == "spectrogram":
            self.transform = transforms.Spectrogram(**stft)
            self.bins = n_fft // 2 + 1
        elif kind == "mel":
            self.transform = transforms.MelSpectrogram(sample_rate, **stft, **bands)
        else:
            self.transform = transforms.MFCC(sample_rate, bins, log_mels=True, melkwargs={**stft, **bands})
        if self.cmn == "sliding":
            frames = max(1, round(3 * sample_rate / self.hop))
            self.sliding = transforms.SlidingWindowCmn(cmn_window=frames, center=True)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map waveforms, float (batch, samples), and their lengths (batch,) to features and theirs.

        Returns:
            float (batch, bins, frames), 0 after each sound's end where the kind is spectral, and int64 (batch,).
        """
        if not torch.is_autocast_enabled(waveforms.device.type):
            return self._features(waveforms, lengths)  # an export cannot hold the switch below
        # the powers of a spectrum span more than half precision holds
        with torch.autocast(waveforms.device.type, enabled=False):
            return self._features(waveforms, lengths)

    def _features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "waveform":
            return waveforms[:, None], lengths
        if self.kind == "mu_law":
            # louder than full scale has no class of its own
            return self.embedding(self.transform(waveforms.float().clamp(-1, 1))).transpose(1, 2), lengths
        return self._spectral(waveforms.float(), lengths)

    @torch.no_grad()
    def _spectral(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features = self.transform(waveforms)  # (B, samples) -> (B, bins, T)
        frames = (lengths // self.hop + 1).clamp(max=features.shape[2])
        if self.kind == "mfcc":
            features = features * _MFCC_SCALE
        else:
            features = features.clamp(min=_SILENCE).log10()
        is_sound = (torch.arange(features.shape[2], device=features.device) < frames[:, None])[:, None]
        if self.cmn == "utterance":
            mean = (features * is_sound).sum(dim=2, keepdim=True) / frames[:, None, None]
            features = features - mean
        elif self.cmn == "sliding":
            features = self.sliding(features.transpose(1, 2)).transpose(1, 2)
        return features * is_sound, frames

"""The networks of the package demucs, as its own checkpoints hold them: Demucs, HDemucs (Hybrid), HTDemucs.

Défossez et al., arXiv 1911.13254, 2111.03600 and 2211.08553.  demucs brings a whole song to mean 0 and deviation 1;
here each chunk is, and a chunk of HTDemucs is as long as its `segment`, for which it was trained.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sepkit.errors import UsageError
from sepkit.models import Network, importing
from sepkit.profiles import SAMPLE_RATE

CLASSES = {"Demucs": "demucs.demucs", "HDemucs": "demucs.hdemucs", "HTDemucs": "demucs.htdemucs"}


class Model(nn.Module, Network):
    """klass: one of CLASSES; arguments: of its constructor, beside sources and sample rate."""

    def __init__(
        self, klass: str, sources: tuple[str, ...], sample_rate: int = SAMPLE_RATE, arguments: Mapping[str, Any] = {},
    ) -> None:  # fmt: skip
        super().__init__()
        if klass not in CLASSES or arguments.get("audio_channels", 2) != 2:
            raise UsageError(f"Expected a stereo network of {', '.join(CLASSES)}, got {klass} with {dict(arguments)}.")
        self.sources, self.sample_rate, self.stft = tuple(sources), sample_rate, None
        with importing("demucs", "pip install 'demucs>=4.0.1' torch torchaudio, the last two from the same index."):
            network = getattr(importlib.import_module(CLASSES[klass]), klass)
        self.core = network(list(sources), samplerate=sample_rate, **arguments)
        self.chunk_s = float(self.core.segment) if klass == "HTDemucs" else None

    def forward(self, mixture: Tensor) -> Tensor:
        length = mixture.shape[-1]
        mixture = nn.functional.pad(mixture, (0, max(0, 2 - length)))  # a single sample has no deviation
        mono = mixture.mean(dim=1, keepdim=True)
        mean, scale = mono.mean(dim=-1, keepdim=True), mono.std(dim=-1, keepdim=True).clamp_min(1e-8)
        return (self.core((mixture - mean) / scale) * scale.unsqueeze(1) + mean.unsqueeze(1))[..., :length]

"""Open-Unmix-small, the baseline: openunmix's layers with a GRU and a bounded mask.

The layers are those of `openunmix.model.OpenUnmix` (Stöter et al., JOSS 2019); its LSTM is
replaced by a GRU of the same sizes, and the mask is a sigmoid instead of an unbounded ReLU.  At
513 bins, stereo and 384 hidden units it has 3,086,088 parameters.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from sepkit.errors import SepkitError, UsageError
from sepkit.models.mask import MaskModel

BOUNDS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "clamp": partial(torch.clamp, min=0, max=1),
}


def import_openunmix():
    """openunmix's model module; SepkitError where torch and torchaudio do not fit each other."""
    try:
        from openunmix import model
    except (ImportError, OSError) as error:
        raise SepkitError(
            f"openunmix can't be imported ({error}); it needs a torchaudio that fits torch {torch.__version__}: "
            "pip install torch torchaudio, both from the same index."
        ) from error
    return model


class Model(MaskModel):
    """Three bidirectional GRU layers between linear layers with batch normalisation.

    mask_bound: sigmoid (the plan's soft mask), or the ablations relu (openunmix's) and clamp.
    """

    def __init__(
        self,
        sources: tuple[str, ...] = ("vocals",),
        sample_rate: int = 44100,
        n_fft: int = 1024,
        hop_length: int = 256,
        hidden_size: int = 384,
        layers: int = 3,
        dropout: float = 0.4,
        mask_bound: str = "sigmoid",
    ) -> None:
        super().__init__(sources, sample_rate, n_fft, hop_length)
        if mask_bound not in BOUNDS:
            raise UsageError(f"There is no mask bound {mask_bound!r}; expected one of {', '.join(BOUNDS)}.")
        if len(self.sources) != 1:
            raise UsageError(
                f"openunmix-small estimates one source, got {self.sources}; use openunmix-multitask."
            )
        self.bound = BOUNDS[mask_bound]
        self.core = import_openunmix().OpenUnmix(
            nb_bins=self.stft.n_bins, nb_channels=self.channels, hidden_size=hidden_size, nb_layers=layers
        )
        self.core.lstm = nn.GRU(
            hidden_size, hidden_size // 2, layers, bidirectional=True, dropout=dropout if layers > 1 else 0.0
        )

    def set_statistics(self, mean: Tensor, scale: Tensor) -> None:
        with torch.no_grad():
            self.core.input_mean.copy_(-mean)
            self.core.input_scale.copy_(1 / scale)

    def scaled(self, magnitude: Tensor) -> Tensor:
        """(batch, channel, freq, frame) -> (frame, batch, channel, freq), of mean 0 and deviation 1 a bin."""
        return (magnitude.permute(3, 0, 1, 2) + self.core.input_mean) * self.core.input_scale

    def trunk(self, magnitude: Tensor) -> Tensor:
        """(batch, channel, freq, frame) -> features (frame · batch, hidden)."""
        core = self.core
        x = self.scaled(magnitude)
        frames, batch = x.shape[:2]
        x = core.bn1(core.fc1(x.reshape(frames * batch, -1)))
        x = torch.tanh(x).reshape(frames, batch, -1)
        x = torch.cat([x, core.lstm(x)[0]], dim=-1)
        return torch.relu(core.bn2(core.fc2(x.reshape(frames * batch, -1))))

    def mask(self, magnitude: Tensor) -> Tensor:
        batch, channels, bins, frames = magnitude.shape
        core = self.core
        x = core.bn3(core.fc3(self.trunk(magnitude))).reshape(frames, batch, channels, bins)
        x = self.bound(x * core.output_scale + core.output_mean)
        return x.permute(1, 2, 3, 0).unsqueeze(1)

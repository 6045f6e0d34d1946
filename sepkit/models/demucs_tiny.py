"""Demucs-tiny: the waveform network of Demucs v2, three layers deep.

`demucs.demucs.Demucs` (Défossez et al., arXiv 1911.13254, with the residual branches of demucs 3 and 4), depth 3,
64 channels and the paper's BiLSTM between encoder and decoder: 4,331,940 parameters for two sources.  demucs leaves
the BiLSTM out unless it is asked for; without it (1,570,980 parameters) the network hears 12 ms at once (day 4).
"""

from torch import Tensor, nn

from sepkit.errors import UsageError
from sepkit.models import demucs
from sepkit.profiles import PROTOCOLS, SAMPLE_RATE

TINY = 1e-8  # keeps silence silent


class Model(demucs.Model):
    """A waveform (batch, channel, time) of any length -> (batch, source, channel, time).

    demucs' network scales its input to mean 0 and deviation 1 and its output back, pads the input to a length that
    its strides divide, and cuts the output to the input's length.

    channels: feature channels of the first layer (the sound's are always two); each deeper layer doubles them.
    lstm_layers: of the BiLSTM; 0 leaves it out (an ablation).
    resample: whether the network works at twice the sample rate, as demucs does.
    """

    def __init__(
        self,
        sources: tuple[str, ...] = PROTOCOLS["2stem"],
        sample_rate: int = SAMPLE_RATE,
        channels: int = 64,
        depth: int = 3,
        lstm_layers: int = 2,
        resample: bool = True,
    ) -> None:
        if channels < 4 or channels % 4 or depth < 1 or lstm_layers < 0:
            raise UsageError(
                f"Expected channels a multiple of 4, depth of at least 1 and lstm_layers of at least 0, got {channels}, {depth} and {lstm_layers}."
            )
        more = {"channels": channels, "depth": depth, "lstm_layers": lstm_layers, "resample": resample}
        super().__init__("Demucs", sources, sample_rate, more)

    def forward(self, mixture: Tensor) -> Tensor:
        length = mixture.shape[-1]
        mixture = nn.functional.pad(mixture, (0, max(0, 2 - length)))  # a single sample has no deviation
        # demucs adds 1e-5 to the deviation that it divides by: a soft mixture would be another one to it
        scale = mixture.detach().std(dim=(1, 2), keepdim=True).clamp_min(TINY)
        return self.core(mixture / scale)[..., :length] * scale.unsqueeze(1)

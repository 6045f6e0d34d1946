"""umxhq: Open-Unmix as published, with its BiLSTM, its ReLU mask and, if asked for, its weights.

`openunmix.model.OpenUnmix` (Stöter et al., JOSS 2019) at STFT 4096/1024, 512 hidden units, input
up to 16 kHz.  The STFT is openunmix's: Hann, centred, reflected, not normalised.  The weights
(Zenodo record 3370489, trained on MUSDB18-HQ's training songs) are read once, when training starts
from them: a run's own checkpoint holds all that it needs later.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sepkit.errors import SepkitError, UsageError
from sepkit.models import openunmix_small
from sepkit.models.weights import load_weights

# of openunmix.umxhq_spec, which keeps its addresses to itself; the file's name ends in its SHA-256
URL = "https://zenodo.org/records/3370489/files/{}.pth"
FILES = {
    "vocals": "vocals-b62c91ce",
    "drums": "drums-9619578f",
    "bass": "bass-8d85a5bd",
    "other": "other-b52fbbf7",
}
TRAINABLE = ("last_layer", "all")


class Model(openunmix_small.Model):
    """One source's mask, not bounded from above.

    bandwidth_hz: what lies above is not looked at, though it is masked.
    trainable: all parameters, or last_layer: those of the last BiLSTM layer, both directions.
    frozen_statistics: whether batch normalisation keeps its means and variances in training, as
        fine-tuning wants; False where the network is trained from the start.
    pretrained: whether to fetch the published weights at once; `load_pretrained` does it later.
    """

    def __init__(
        self,
        sources: tuple[str, ...] = ("vocals",),
        sample_rate: int = 44100,
        n_fft: int = 4096,
        hop_length: int = 1024,
        hidden_size: int = 512,
        layers: int = 3,
        bandwidth_hz: float = 16000.0,
        trainable: str = "last_layer",
        frozen_statistics: bool = True,
        pretrained: bool = False,
    ) -> None:
        if trainable not in TRAINABLE:
            raise UsageError(f"Expected trainable to be one of {', '.join(TRAINABLE)}, got {trainable!r}.")
        super().__init__(sources, sample_rate, n_fft, hop_length, hidden_size, layers, mask_bound="relu")
        bins = int(bandwidth_hz * n_fft / sample_rate) + 1  # as openunmix.utils.bandwidth_to_max_bin counts
        self.core = openunmix_small.import_openunmix().OpenUnmix(
            nb_bins=self.stft.n_bins,
            nb_channels=self.channels,
            hidden_size=hidden_size,
            nb_layers=layers,
            max_bin=min(bins, self.stft.n_bins),
        )
        self.frozen_statistics = frozen_statistics
        if trainable == "last_layer":
            for name, parameter in self.core.named_parameters():
                parameter.requires_grad_(name.startswith("lstm.") and f"_l{layers - 1}" in name)
        if pretrained:
            self.load_pretrained()

    def train(self, mode: bool = True) -> "Model":
        super().train(mode)
        if self.frozen_statistics:
            for layer in (self.core.bn1, self.core.bn2, self.core.bn3):
                layer.eval()
        return self

    def set_statistics(self, mean: Tensor, scale: Tensor) -> None:
        super().set_statistics(mean[: self.core.nb_bins], scale[: self.core.nb_bins])

    def trunk(self, magnitude: Tensor) -> Tensor:
        return super().trunk(magnitude[..., : self.core.nb_bins, :])

    def load_pretrained(self, state: Mapping[str, Tensor] | None = None, where: str = "") -> None:
        """Starts from the published weights, or from `state`, another run's, read from `where`.

        Raises SepkitError where the weights can't be fetched, or belong to another network.
        """
        if state is None:
            state, where = fetch(self.sources[0])
        first = state.get("core.lstm.weight_ih_l0")
        if first is not None and first.shape[0] == 3 * first.shape[1] // 2:  # three gates, not four
            raise SepkitError(
                f"Expected the weights of a BiLSTM in {where}, found a GRU's; start from umxhq, or from a run of UMX."
            )
        # the published files hold their window and rate besides
        load_weights(self, {key: state[key] for key in self.state_dict() if key in state}, where)


def fetch(source: str) -> tuple[dict[str, Tensor], str]:
    """(weights, file) of the published umxhq for `source`, from torch's folder of downloads or the net.

    The weights bear the names that `Model` gives them; TORCH_HOME says where torch's folder is.
    Raises SepkitError with the address, the folder, and how to put the file there by hand.
    """
    if source not in FILES:
        raise UsageError(f"umxhq has no weights for {source!r}; expected one of {', '.join(FILES)}.")
    url = URL.format(FILES[source])
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    try:
        state = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
        return {f"core.{key}": value for key, value in state.items()}, str(file)
    except Exception as error:  # urllib, ssl, sockets, the hash, a cut-off file: each with errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"{file} can't be read" if file.exists() else f"{url} can't be fetched"
        raise SepkitError(
            f"The weights of umxhq are missing: {what} ({reason}); download {url} by hand and put it at {file}."
        ) from error

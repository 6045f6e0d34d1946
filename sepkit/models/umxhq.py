"""umxhq: Open-Unmix as published, with its BiLSTM, its ReLU mask and, on request, its weights.

STFT 4096/1024, 512 hidden units, input up to 16 kHz.  The STFT is openunmix's: Hann, centred, reflected, not normalised.
The weights (Zenodo record 3370489, trained on MUSDB18-HQ's training songs) are read once, when training starts from
them; a run's checkpoint holds all that it needs later.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sepkit.errors import SepkitError, UsageError
from sepkit.models.files import read_weights
from sepkit.models.trunk_and_heads import Trunk, TrunkAndHeads
from sepkit.models.weights import load_weights

# of openunmix.umxhq_spec, which keeps its addresses to itself; the file's name ends in its SHA-256
URL = "https://zenodo.org/records/3370489/files/{}.pth"
FILES = {"vocals": "vocals-b62c91ce", "drums": "drums-9619578f", "bass": "bass-8d85a5bd", "other": "other-b52fbbf7"}
TRAINABLE = ("last_layer", "all")


class Model(TrunkAndHeads):
    """One source's mask, not bounded from above.

    bandwidth_hz: the network does not see what lies above, but masks it.
    trainable: all parameters, or last_layer: those of the last BiLSTM layer, both directions.
    frozen_statistics: whether batch normalisation keeps its means and variances in training: True for fine-tuning,
        False for training from random weights.
    """

    def __init__(
        self, hidden_size: int = 512, layers: int = 3, bandwidth_hz: float = 16000.0, trainable: str = "last_layer",
        frozen_statistics: bool = True, **spectral: Any,
    ) -> None:  # fmt: skip
        if trainable not in TRAINABLE:
            raise UsageError(f"Expected trainable to be one of {', '.join(TRAINABLE)}, got {trainable!r}.")
        super().__init__(**{"n_fft": 4096, "hop_length": 1024, **spectral})
        self.set_bound("relu")
        # as openunmix.utils.bandwidth_to_max_bin counts
        bins = int(bandwidth_hz * self.stft.n_fft / self.sample_rate) + 1
        openunmix = self.layers(hidden_size, layers, min(bins, self.stft.n_bins))
        self.core, self.heads = Trunk(openunmix), nn.ModuleList([self.head(openunmix.fc3)])
        self.frozen_statistics = frozen_statistics
        if trainable == "last_layer":
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name.startswith("core.lstm.") and f"_l{layers - 1}" in name)
        self.train()  # Lightning takes the mode of each layer as it finds it

    def train(self, mode: bool = True) -> "Model":
        super().train(mode)
        for layer in self.modules():
            if self.frozen_statistics and isinstance(layer, nn.BatchNorm1d):
                layer.eval()
        return self

    def load_pretrained(self) -> None:
        """Loads the published weights; SepkitError where they can't be fetched or this network is smaller."""
        file = fetch(self.sources[0])
        load_weights(self, read_weights(file)[1], str(file))


def fetch(source: str = "vocals") -> Path:
    """The file of the published umxhq for `source`, in torch's folder of downloads, from the net where it is absent.

    TORCH_HOME says where torch's folder is.  Raises SepkitError with the address, the folder, and how to put the file
    there by hand.
    """
    if source not in FILES:
        raise UsageError(f"umxhq has no weights for {source!r}; expected one of {', '.join(FILES)}.")
    url = URL.format(FILES[source])
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    try:
        torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=False, check_hash=True, weights_only=True)
        return file
    except Exception as error:  # urllib, ssl, sockets, the hash, a cut-off file: each with errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"{file} can't be read" if file.exists() else f"{url} can't be fetched"
        raise SepkitError(
            f"The weights of umxhq are missing: {what} ({reason}); download {url} by hand and put it at {file}."
        ) from error

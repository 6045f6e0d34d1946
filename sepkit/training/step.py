"""The training step: batch -> spectrum -> mask -> loss.

With the spectra X of the mixtures and S of the targets, a step of Base is

    loss = mean of α(f) · | mask(|X|) · |X| − |S| |

Other networks and losses ask the same `Estimate` for other forms.
"""

from functools import cached_property
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from sepkit.dsp import STFT
from sepkit.errors import SepkitError, UsageError
from sepkit.models import Network
from sepkit.models.mask import masked
from sepkit.training.losses import Loss


class Estimate:
    """What `network` makes of a mixture; each form is computed once, so one pass serves loss and criterion.

    mixture: a waveform (batch, channel, time), or from a stft cache its magnitudes (batch, channel, freq, frame), which
        have neither spectrum nor waveform.
    """

    def __init__(self, network: Network, mixture: Tensor) -> None:
        self.network, self.mixture = network, mixture

    @property
    def on_magnitudes(self) -> bool:
        return self.mixture.ndim == 4

    @property
    def stft(self) -> STFT:
        if self.network.stft is None:
            raise UsageError(f"{self.network.name} works on waveforms; train it with waveform_l1.")
        return self.network.stft

    @cached_property
    def spectrum(self) -> Tensor:
        """X, the mixture's, complex (batch, channel, freq, frame)."""
        return self.stft(self.mixture)

    @cached_property
    def magnitude(self) -> Tensor:
        """|X|, (batch, channel, freq, frame)."""
        return self.mixture if self.on_magnitudes else self.spectrum.abs()

    @cached_property
    def mask(self) -> Tensor:
        """(batch, source, channel, freq, frame)."""
        return self.network.mask(self.magnitude)

    @cached_property
    def magnitudes(self) -> Tensor:
        """mask · |X|, the sources', (batch, source, channel, freq, frame)."""
        return masked(self.mask, self.magnitude)

    @cached_property
    def spectra(self) -> Tensor:
        """The sources', complex (batch, source, channel, freq, frame)."""
        if "mask" in vars(self):  # the loss has computed it
            return masked(self.mask, self.spectrum)
        return self.network.spectra(self.spectrum)

    @cached_property
    def waveform(self) -> Tensor:
        """The sources', float32 (batch, source, channel, time)."""
        if self.network.stft is None:
            return self.network(self.mixture).float()
        return self.stft.inverse(self.spectra, self.mixture.shape[-1])


class SeparationTask(L.LightningModule):
    """A network, its loss and its optimiser; batches are those of `sepkit.data.batches`.

    picks: the positions of the network's sources among those of a batch.  A validation logs `valid_loss` and
    `valid_sdr`, the mean `clip_sdr` of the vocals, or of all sources where vocals are not estimated.
    """

    def __init__(self, model: Any, loss: Loss, picks: list[int], settings: dict[str, Any], seed: int = 0) -> None:
        super().__init__()
        self.model, self.loss, self.picks, self.settings, self.seed = model, loss, picks, settings, seed
        self.train_losses: list[Tensor] = []
        self.valid_losses: list[Tensor] = []  # one a clip
        self.valid_sdrs: list[Tensor] = []
        sources = list(model.sources)
        self.judged = [sources.index("vocals")] if "vocals" in sources else list(range(len(sources)))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        held = sum(len(group["params"]) for each in checkpoint["optimizer_states"] for group in each["param_groups"])
        trained = sum(parameter.requires_grad for parameter in self.parameters())
        if held != trained:
            raise SepkitError(
                f"Expected a checkpoint that trains {trained} tensors, found {held}: another version of sepkit began this run; give another --root, or delete its folder."
            )

    def evaluated(self, batch: dict[str, Any]) -> tuple[Estimate, Tensor, Tensor]:
        """(estimate, target, loss) of a batch."""
        estimate, target = Estimate(self.model, batch["mixture"]), batch["sources"][:, self.picks]
        return estimate, target, self.loss(estimate, target)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = self._finite(self.evaluated(batch)[2], "training", batch, batch_idx)
        self.train_losses.append(loss.detach())
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        loss, sdrs = self.judge(batch)
        self._finite(loss, "validation", batch, batch_idx)
        self.valid_losses += [loss] * len(batch["track"])
        self.valid_sdrs.append(sdrs)

    def judge(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(loss, `clip_sdr`) of a validation batch."""
        estimate, target, loss = self.evaluated(batch)
        found = estimate.magnitudes if estimate.on_magnitudes else estimate.waveform
        judged = {"estimate": found[:, self.judged], "target": target[:, self.judged]}
        return loss, clip_sdr(**judged, mixture=batch["mixture"])

    def on_train_epoch_start(self) -> None:
        self.train_losses.clear()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # dropout draws from (seed, epoch, step), so a resumed run draws the same; data loaders use the same
        # generator when they start, which in a resumed run is at another time
        rank = [self.global_rank] if self.global_rank else []  # has clips, and dropout, of its own
        draw = np.random.SeedSequence([self.seed, self.current_epoch, batch_idx, *rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(draw[0] >> 1))

    def on_validation_epoch_end(self) -> None:
        losses, sdrs = map(self.mean_over_ranks, (torch.stack(self.valid_losses), torch.cat(self.valid_sdrs)))
        self.valid_losses.clear()
        self.valid_sdrs.clear()
        if sdrs.isnan():
            raise SepkitError(
                "No validation clip has a target that can be heard, so no epoch can be called the best: name validation songs with vocals in validation.txt."
            )
        self.log_dict({"valid_loss": losses, "valid_sdr": sdrs}, logger=False)

    def mean_over_ranks(self, values: Tensor) -> Tensor:
        """The mean of the values (n,) of all ranks, which may have different n; nan where there are none."""
        total = torch.stack([values.float().sum(), torch.tensor(len(values), device=values.device).float()])
        return torch.div(*self.trainer.strategy.reduce(total, reduce_op="sum"))

    def _finite(self, loss: Tensor, which: str, batch: dict[str, Any], step: int) -> Tensor:
        if not torch.isfinite(loss):
            message = f"The {which} loss became {float(loss.detach())} in epoch {self.current_epoch + 1}, step {step + 1} (clips of {', '.join(batch['track'])}); the checkpoints of the epoch before are kept: lower the learning rate or look at these songs."
            raise SepkitError(message)
        return loss

    def configure_optimizers(self):
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        rate, decay = self.settings["learning_rate"], self.settings["weight_decay"]
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.settings["epochs"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def clip_sdr(*, estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """The criterion of all experiments: sdr_global of every clip and source that can be heard, (n,), dB.

    10·log10(Σs² / Σ(s − ŝ)²) over channels and time, bounded to −10 … 100 dB, since a clip with hardly any vocals would
    dominate the mean.  Targets that are silent or 60 dB below their mixture are left out.

    estimate, target: (batch, source, channel, time); mixture: (batch, channel, time).  From a stft cache, which holds no
    phase, all are magnitudes (…, freq, frame): their SDR reads higher, and compares only with other runs on such a cache.

    >>> target = torch.ones(2, 1, 2, 100) * torch.tensor([1.0, 0.0])[:, None, None, None]
    >>> clip_sdr(estimate=0.5 * target, target=target, mixture=torch.ones(2, 2, 100))
    tensor([6.0206])
    """
    energy = lambda x: x.float().square().flatten(2).sum(dim=-1)  # noqa: E731
    signal, error = energy(target), energy(target.float() - estimate.float())
    heard = signal > 1e-6 * energy(mixture.unsqueeze(1))
    return (10 * torch.log10(signal / error)[heard]).clamp(-10, 100)

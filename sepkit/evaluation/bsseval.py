"""BSS Eval v4, exactly as museval defines it, and much faster (`benchmarks/bench_bss_eval.py`).

Conventions: signals are `(source, channel, time)`, NumPy or torch, floating point; scores are dB in
`(source, window)`. A window is one second and windows do not overlap; what is left after the last
full second counts for the filters but has no score; a clip of less than a second is one window.

Definition (Vincent et al. 2006; Liutkus, Stöter, Ito 2018; museval 0.4.1, mode v4). For source j with
target s and estimate ŝ, least squares over the whole track gives one 512-tap multichannel filter from
s alone and one from all targets. In each window, zero-padded by 511 samples, they give the
projections p_own and p_all, and with energies over channels and time
    SDR = |s|² / |ŝ − s|²              ISR = |s|² / |p_own − s|²
    SIR = |p_own|² / |p_all − p_own|²  SAR = |p_all|² / |ŝ − p_all|²

Undefined is NaN: in all sources, for every window in which any target or any estimate is silent.
museval's test for silence adds the channels first, so a window with left = −right counts as silent;
that is kept, since it decides which windows enter a median.

Why it is fast and still exact. The filters need correlations at 512 lags only, and those are sums
over windows. A filtered window's energy is a sum over all pairs of taps, that is, over lags again: the
window's correlations, which the targets alone decide, times those of the filters. So nothing is filtered,
and a second estimate on the same track costs its own correlations and little else. All work is done on
the error u = ŝ − s: p_own − s, p_all − p_own and ŝ − p_all are never differences of large numbers, and
a perfect estimate scores +inf. Where such a sum could lose more than `LOSS` of its value to rounding, an
error that is nearly all interference say, the window is filtered after all and Parseval gives the
energy. Above about 150 dB museval returns its own rounding noise; there the two differ. So they do
where targets have bands with nothing in them, not even 16-bit noise: the filters are then decided by
rounding, and museval's own ISR, SIR and SAR move by whole dB when left and right are swapped.

It runs in torch, float64, on a CPU or a GPU; the equations are solved on the CPU.
"""

from collections.abc import Iterator
from functools import cached_property, lru_cache

import numpy as np
import scipy.fft
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sepkit.errors import SepkitError
from sepkit.evaluation.filters import Solver, Windows, filter_correlation
from sepkit.evaluation.signals import TAPS, Array, checked, silence, windows_of

EPS = 2.0**-50  # of a sum of products: four roundings
LOSS = 1e-8  # relative, of an energy; 4e-8 dB
MAX_ROWS = 32  # channels of all sources: a matrix of 2 GB, and its factorisation
CANCELS = "adds up to nothing over its channels, which counts as silence"


def bss_eval(
    *, estimate: ArrayLike, target: ArrayLike, sample_rate: int = 44100, device: str | torch.device | None = None
) -> dict[str, Array]:
    """BSS Eval v4 scores of every source in every one-second window.

    Args:
        estimate: `(source, channel, time)`, floating point, finite.
        target: the same shape, sources in the same order.
        sample_rate: Hz; the window is one second of it.
        device: cpu or cuda; None takes the target's, if that is a tensor.

    Returns:
        {"sdr", "isr", "sir", "sar"}, each `(source, window)` in dB; NaN where undefined
        (`References.reasons` says why), +inf where an error energy is exactly zero.

    Raises:
        SepkitError: wrong axes, different lengths, integers, or samples that are not finite.

    Example: an error 20 dB below the target.
        >>> target = np.random.default_rng(0).standard_normal((2, 2, 8000))
        >>> scores = bss_eval(estimate=1.1 * target, target=target, sample_rate=4000)
        >>> scores["sdr"].round(6).tolist()
        [[20.0, 20.0], [20.0, 20.0]]
    """
    return References(target, sample_rate, device).score(estimate)


class References:
    """What depends on the targets alone: correlations, Gram matrix, factorisations, made at the first score.

    Score several estimates of one track with one object: the second costs less than half of the first.
    Beside the signals, memory grows by 128 KiB a second of two stereo sources.

    device: where the correlations are computed; None takes a tensor's own, and the CPU for NumPy.

        >>> target = np.random.default_rng(0).standard_normal((2, 1, 8000))
        >>> references = References(target, sample_rate=4000)
        >>> [float(references.score(gain * target)["sdr"][0, 0].round(3)) for gain in (0.9, 0.99)]
        [20.0, 40.0]
    """

    def __init__(self, target: ArrayLike, sample_rate: int = 44100, device: str | torch.device | None = None) -> None:
        self.target = checked(target, "target")
        self.sample_rate, self.device = sample_rate, device or getattr(target, "device", "cpu")
        self.sources, self.channels, length = self.target.shape
        if self.sources * self.channels > MAX_ROWS:
            raise SepkitError(
                f"target has {self.sources} sources of {self.channels} channels: BSS Eval's equations for more "
                f"than {MAX_ROWS} channels in all take several GB; score fewer sources together."
            )
        self.window, self.n_windows = windows_of(length, sample_rate)
        self.silent = silence(self.target, sample_rate)

    @cached_property
    def _rows(self) -> Windows:
        rows = torch.from_numpy(self.target.reshape(-1, self.target.shape[2]))
        return Windows(rows.to(self.device), self.window)

    @cached_property
    def _shared(self) -> tuple[Tensor, Tensor, Solver, list[Solver]]:
        """Correlations `(window, row, row, lag)`, energies `(window, row)`, solvers: of all, of each."""
        rows = self._rows
        windows, whole = rows.correlate((rows[i] for i in range(rows.count)), len(rows.rows))
        lags, signals = whole.cpu().numpy(), self.target.reshape(len(whole), -1)
        together, n = Solver(lags, signals), self.channels
        alone = [together]
        if self.sources > 1:
            parts = [slice(i, i + n) for i in range(0, len(lags), n)]
            alone = [Solver(lags[own, own], signals[own]) for own in parts]
        energies = torch.stack([torch.linalg.vecdot(rows[i], rows[i]) for i in range(self.n_windows)])
        return windows[: self.n_windows], energies, together, alone

    def score(self, estimate: ArrayLike) -> dict[str, Array]:
        """`bss_eval` of this estimate, `(source, channel, time)`, against the targets."""
        signals = checked(estimate, "estimate", like=self.target)
        scores = np.full((4, self.sources, self.n_windows), np.nan)
        silent = (self.silent | silence(signals, self.sample_rate)).any(axis=0)
        if not silent.all():
            rows = torch.from_numpy(signals.reshape(-1, signals.shape[2]))
            found = self._score(rows.to(self.device))
            scores[:, :, ~silent] = found[:, :, ~silent]
        return dict(zip(("sdr", "isr", "sir", "sar"), scores, strict=True))

    def reasons(self, estimate: ArrayLike, names: list[str] | None = None) -> list[str]:
        """A status for each source: "ok", or "undefined: …" where `score` has no number for any window.

        names: of the sources.

            >>> target = np.ones((2, 2, 4000)); target[0] = 0
            >>> References(target, sample_rate=4000).reasons(np.ones((2, 2, 4000)))
            ['undefined: silent target', 'undefined: the target of source 0 is silent']
        """
        signals = {"estimate": checked(estimate, "estimate", like=self.target), "target": self.target}
        silent = {"estimate": silence(signals["estimate"], self.sample_rate), "target": self.silent}
        if not (silent["estimate"] | silent["target"]).any(axis=0).all():
            return ["ok"] * self.sources
        found = {  # a silent target goes before a silent estimate
            int(i): (kind, "is silent" if not signals[kind][i].any() else CANCELS)
            for kind in signals
            for i in np.flatnonzero(silent[kind].all(axis=1))
        }
        if not found:
            return ["undefined: no window in which every target and every estimate sounds"] * self.sources
        first = min(found)
        name = names[first] if names else f"source {first}"
        statuses = [f"undefined: the {found[first][0]} of {name} {found[first][1]}"] * self.sources
        for i, (kind, how) in found.items():
            statuses[i] = f"undefined: silent {kind}" if how == "is silent" else f"undefined: the {kind} {how}"
        return statuses

    def _score(self, estimate: Tensor) -> Array:
        """Scores `(metric, source, window)` of every window, sound or silent; estimate `(row, time)`."""
        rows = self._rows
        correlations, true, together, alone = self._shared
        estimates = Windows(estimate, self.window)
        wrong = true.new_zeros(rows.count, len(estimate))

        def errors() -> Iterator[Tensor]:
            for i in range(rows.count):
                error = estimates[i] - rows[i]
                wrong[i] = torch.linalg.vecdot(error, error)
                yield error

        by_window, whole = rows.correlate(errors(), len(estimate))
        scores = np.empty((4, self.sources, self.n_windows))
        for j in range(self.sources):
            own = slice(j * self.channels, (j + 1) * self.channels)
            # Filters from each target channel to each channel of the error, (input, channel, tap).
            toward = whole[:, own].cpu().numpy()
            spatial, everything = alone[j].solve(toward[own]), together.solve(toward)
            filters = Filters(own, *(torch.from_numpy(h).to(self.device) for h in (spatial, everything)))
            energies, doubtful = filters.energies(correlations, by_window[: self.n_windows, :, own])
            energies[4] += wrong[: self.n_windows, own].sum(1)
            doubtful[4] += EPS * wrong[: self.n_windows, own].sum(1)
            for i in torch.nonzero((doubtful > LOSS * energies).any(0)).ravel().tolist():
                energies[:, i] = filters.filtered(rows[i], estimates[i][own] - rows[i][own])
            spat, interf, p_own, p_all, artif = energies.cpu().numpy()
            target, error = (part[: self.n_windows, own].sum(1).cpu().numpy() for part in (true, wrong))
            ratios = ((target, error), (target, spat), (p_own, interf), (p_all, artif))
            scores[:, j] = [_db(above, below) for above, below in ratios]
        return scores


class Filters:
    """What least squares found for one source: of its own rows, and of all rows, to its error.

    Energies are those of p_own − s, p_all − p_own, p_own, p_all and ŝ − p_all, each `(window,)`.
    """

    def __init__(self, own: slice, spatial: Tensor, everything: Tensor) -> None:
        self.own, self.spatial, self.everything = own, spatial, everything
        self.crosstalk = everything.clone()
        self.crosstalk[own] -= spatial
        itself = torch.zeros_like(spatial)
        itself[range(len(spatial)), range(len(spatial)), 0] = 1
        self.projection, self.all_projection = itself + spatial, everything.clone()
        self.all_projection[own] += itself

    def energies(self, correlations: Tensor, with_error: Tensor) -> tuple[Tensor, Tensor]:
        """(energies, what rounding may have cost them), both `(5, window)`; the last lacks |u|².

        correlations: of the rows `(window, row, row, lag)`; with_error: of rows and u `(window, row,
        channel, lag)`.
        """
        mine = correlations[:, self.own, self.own]
        sums = (
            (mine, filter_correlation(self.spatial)),
            (correlations, filter_correlation(self.crosstalk)),
            (mine, filter_correlation(self.projection)),
            (correlations, filter_correlation(self.all_projection)),
            (correlations, filter_correlation(self.everything)),
            (with_error, -2 * self.everything),
        )
        found = torch.stack([torch.einsum("wabk,abk->w", lags, weights) for lags, weights in sums])
        lost = torch.stack([_most(lags, weights) for lags, weights in sums])
        for part in (found, lost):
            part[4] += part[5]
        return found[:5], EPS * lost[:5]

    def filtered(self, rows: Tensor, error: Tensor) -> Tensor:
        """The five energies of one window by filtering it: rows `(row, time)`, error `(channel, time)`."""
        n_fft, spatial, crosstalk = self._spectra(rows.shape[1])
        spectra, wrong = torch.fft.rfft(rows, n=n_fft), torch.fft.rfft(error, n=n_fft)
        mine = spectra[self.own]
        e_spat, e_interf = (spatial * mine[:, None]).sum(0), (crosstalk * spectra[:, None]).sum(0)
        p_own, errors = mine + e_spat, e_spat + e_interf
        parts = (e_spat, e_interf, p_own, p_own + e_interf, wrong - errors)
        return torch.stack([_energy(part, n_fft) for part in parts])

    @lru_cache(maxsize=1)  # noqa: B019, lives as long as one score
    def _spectra(self, window: int) -> tuple[int, Tensor, Tensor]:
        n_fft = scipy.fft.next_fast_len(window + TAPS - 1, real=True)
        return n_fft, torch.fft.rfft(self.spatial, n=n_fft), torch.fft.rfft(self.crosstalk, n=n_fft)


def _most(lags: Tensor, weights: Tensor) -> Tensor:
    """The most that Σ |lags · weights| can be, `(window,)`: |r[k]| is at most its loudest lag."""
    return torch.einsum("wab,ab->w", lags.abs().amax(-1), weights.abs().sum(-1))


def _energy(spectrum: Tensor, n_fft: int) -> Tensor:
    """Energy in time, over all rows, of the real signals whose half spectra these are."""
    flat = torch.view_as_real(spectrum).reshape(-1)
    single = spectrum[:, [0, -1] if n_fft % 2 == 0 else [0]].abs().square().sum()
    return (2 * torch.dot(flat, flat) - single) / n_fft


def _db(above: Array, below: Array) -> Array:
    """10·log10(above / below); +inf where `below` is zero, whatever is above, as in museval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.inf, 10 * np.log10(above / below))

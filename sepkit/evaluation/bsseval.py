"""BSS Eval v4, exactly as museval defines it, and much faster (`benchmarks/bench_bss_eval.py`).

Conventions: signals are `(source, channel, time)`, NumPy or torch, floating point; scores are dB in `(source, window)`.
A window is one second and windows do not overlap; what is left after the last full second counts for the filters but
has no score; a clip of less than a second is one window.

Definition (Vincent et al. 2006; Liutkus, Stöter, Ito 2018; museval 0.4.1, mode v4). For source j with target s and
estimate ŝ, least squares over the whole track gives one 512-tap multichannel filter from s alone and one from all
targets. In each window, zero-padded by 511 samples, they give the projections p_own and p_all, and with energies over
channels and time
    SDR = |s|² / |ŝ − s|²              ISR = |s|² / |p_own − s|²
    SIR = |p_own|² / |p_all − p_own|²  SAR = |p_all|² / |ŝ − p_all|²
Undefined is NaN: in all sources, for every window in which any target or any estimate is silent. museval's test for
silence adds the channels first, so a window with left = −right counts as silent; that is kept, since it decides which
windows enter a median.

Why it is fast and still exact. The filters need correlations at 512 lags only, and those are sums over windows. A
filtered window's energy is a sum over all pairs of taps, that is, over lags again: the window's correlations, which the
targets alone decide, times those of the filters. So nothing is filtered, and a second estimate on the same track costs
its own correlations and little else: the spectra of the targets are kept, and their block-Toeplitz equations are solved
by a recursion over taps (`toeplitz`). All work is done on the error u = ŝ − s: p_own − s, p_all − p_own and ŝ − p_all
are never differences of large numbers, and a perfect estimate scores +inf. Where such a sum could lose more than `LOSS`
of its value to rounding (an error that is nearly all interference, say) the window is filtered after all and Parseval
gives the energy. Above about 150 dB museval returns its own rounding noise; there the two differ. They also differ
where targets have bands with nothing in them, not even 16-bit noise: the filters are then decided by rounding, and
museval's own ISR, SIR and SAR move by whole dB when left and right are swapped.

It runs in torch, float64, on a CPU or a GPU; the equations are solved on the CPU.
"""

from functools import cached_property

import numpy as np
import scipy.fft
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sepkit.errors import SepkitError
from sepkit.evaluation.filters import Solver, Windows, filter_correlation
from sepkit.evaluation.signals import TAPS, Array, checked, in_windows, silence

EPS = 2.0**-50  # of a sum of products: four roundings
LOSS = 1e-8  # relative, of an energy; 4e-8 dB
MAX_ROWS = 32  # channels of all sources: a matrix of 2 GB, and its factorisation
CANCELS = "adds up to nothing over its channels, which counts as silence"


def bss_eval(
    *, estimate: ArrayLike, target: ArrayLike, sample_rate: int = 44100, device: str | torch.device | None = None
) -> dict[str, Array]:
    """BSS Eval v4 scores of every source in every one-second window.

    estimate, target: `(source, channel, time)`, floating point, finite, of one shape, sources in the same order;
    sample_rate: Hz, the window is one second of it; device: cpu or cuda, None takes that of a tensor target.

    Returns {"sdr", "isr", "sir", "sar"}, each `(source, window)` in dB: NaN where undefined (`References.reasons` says
    why), +inf where an error energy is exactly zero.
    Raises SepkitError: wrong axes, different lengths, integers, or samples that are not finite.

    Example: an error 20 dB below the target.
        >>> target = np.random.default_rng(0).standard_normal((2, 2, 8000))
        >>> scores = bss_eval(estimate=1.1 * target, target=target, sample_rate=4000)
        >>> scores["sdr"].round(6).tolist()
        [[20.0, 20.0], [20.0, 20.0]]
    """
    return References(target, sample_rate, device).score(estimate)


class References:
    """What depends on the targets alone: correlations, spectra, inverses, made at the first score.

    Arguments as of `bss_eval`. Score several estimates of one track with one object: the second costs less than half
    of the first. Beside the signals, memory grows by 1.8 MiB a second of two stereo sources, by 128 KiB once the spectra
    of a long track would take more than half a GiB.

        >>> target = np.random.default_rng(0).standard_normal((2, 1, 8000))
        >>> references = References(target, sample_rate=4000)
        >>> [float(references.score(gain * target)["sdr"][0, 0].round(3)) for gain in (0.9, 0.99)]
        [20.0, 40.0]
    """

    def __init__(self, target: ArrayLike, sample_rate: int = 44100, device: str | torch.device | None = None) -> None:
        self.target = checked(target, "target")
        self.sources, self.channels, _ = self.target.shape
        if self.sources * self.channels > MAX_ROWS:
            raise SepkitError(
                f"target has {self.sources} sources of {self.channels} channels: BSS Eval's equations for more than {MAX_ROWS} channels in all take several GB; score fewer sources together."
            )
        if not isinstance(sample_rate, int | np.integer) or sample_rate < 2 * TAPS:
            raise SepkitError(f"sample_rate must be a whole number of Hz from {2 * TAPS} up; got {sample_rate!r}.")
        self.sample_rate, self.device = int(sample_rate), device or getattr(target, "device", "cpu")
        self.n_windows, self.window = in_windows(self.target, self.sample_rate).shape[-2:]
        self.silent = silence(self.target, self.sample_rate)
        self._rows = self._windows(self.target, keep=True)

    def _windows(self, signals: Array, keep: bool = False) -> Windows:
        return Windows(torch.from_numpy(signals.reshape(-1, signals.shape[2])).to(self.device), self.window, keep)

    @cached_property
    def _shared(self) -> tuple[Tensor, Tensor, Array]:
        """Correlations `(window, row, row, lag)`, energies `(window, row)`, correlations in all `(row, row, lag)`."""
        windows, whole, energies = self._rows.correlate(self._rows.parts, len(self._rows.rows))
        return windows[: self.n_windows], energies[: self.n_windows], whole.cpu().numpy()

    @cached_property
    def _solvers(self) -> tuple[Solver, list[Solver]]:
        """For the filters from all rows, and from those of each source."""
        lags = self._shared[2]
        signals, n = self.target.reshape(len(lags), -1), self.channels
        together, parts = Solver(lags, signals), [slice(i, i + n) for i in range(0, len(lags), n)]
        return together, [Solver(lags[own, own], signals[own]) for own in parts] if self.sources > 1 else [together]

    def score(self, estimate: ArrayLike) -> dict[str, Array]:
        """`bss_eval` of this estimate, `(source, channel, time)`, against the targets."""
        return self.score_and_lags(estimate)[0]

    def lags(self, source: int) -> Array | None:
        """`(channel, lag)`: the autocorrelation of each channel of a target over the track; None where no window sounds."""
        return None if self.silent.any(axis=0).all() else self._of_channels(self._shared[2])[source]

    def score_and_lags(self, estimate: ArrayLike) -> tuple[dict[str, Array], Array | None]:
        """`score`, and each target channel's correlations with its estimate's, `(source, channel, lag)`; None: not needed for the scores."""
        signals = checked(estimate, "estimate", like=self.target)
        scores = np.full((4, self.sources, self.n_windows), np.nan)
        sound, lags = np.asarray(~(self.silent | silence(signals, self.sample_rate)).any(axis=0)), None
        if sound.any():
            found, toward = self._score(self._windows(signals), sound)
            scores[:, :, sound], lags = found[:, :, sound], self._of_channels(self._shared[2] + toward)
        return dict(zip(("sdr", "isr", "sir", "sar"), scores, strict=True)), lags

    def _of_channels(self, lags: Array) -> Array:
        """`(row, row, lag)` -> each row with itself, `(source, channel, lag)`."""
        rows = range(len(lags))
        return lags[rows, rows].reshape(self.sources, self.channels, -1)

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
        names = names or [f"source {i}" for i in range(self.sources)]
        own: dict[int, str] = {}  # what a silent source says of itself
        others: dict[int, str] = {}  # and what the others say of it
        for kind, signal in signals.items():  # a silent target goes before a silent estimate
            for i in map(int, np.flatnonzero(silent[kind].all(axis=1))):
                cancels = signal[i].any()
                own[i] = f"the {kind} {CANCELS}" if cancels else f"silent {kind}"
                others[i] = f"the {kind} of {names[i]} {CANCELS if cancels else 'is silent'}"
        rest = others[min(others)] if others else "no window in which every target and every estimate sounds"
        return [f"undefined: {own.get(i, rest)}" for i in range(self.sources)]

    def _score(self, estimates: Windows, sound: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Scores `(metric, source, window)` of every window, and the error's correlations `(row, row, lag)`.

        Scores of windows that are not `sound` may have lost all to rounding.
        """
        rows, n = self._rows, self.n_windows
        (correlations, true, _), (together, alone) = self._shared, self._solvers
        errors = (estimate - row for estimate, row in zip(estimates.parts, rows.parts, strict=True))
        by_window, whole, wrong = rows.correlate(errors, len(rows.rows))
        # Filters from each target channel to each channel of the error, (input, channel, tap).
        toward = whole.cpu().numpy()
        everything, spatial = together.solve(toward), np.zeros_like(toward)
        for j, solver in enumerate(alone):
            own = slice(j * self.channels, (j + 1) * self.channels)
            spatial[own, own] = solver.solve(toward[own, own])
        own_taps, taps = (torch.from_numpy(part).to(self.device) for part in (spatial, everything))
        filters = Filters(own_taps, taps, self.channels, self.window)
        target, error = (energy[:n].reshape(n, self.sources, -1).sum(2) for energy in (true, wrong))
        energies, doubtful = filters.energies(correlations, by_window[:n], error)
        filtered = (doubtful > LOSS * energies).any(0).cpu() & torch.from_numpy(sound)[:, None]
        for i, j in torch.nonzero(filtered).tolist():
            energies[:, i, j] = filters.filtered(j, rows.parts[i], estimates.parts[i] - rows.parts[i])
        spat, interf, p_own, p_all, artif = energies
        ratios = ((target, error), (target, spat), (p_own, interf), (p_all, artif))
        return np.stack([_db(*(energy.cpu().numpy().T for energy in ratio)) for ratio in ratios]), toward


class Filters:
    """What least squares found: from the rows of a source, and from all rows, to its error, `(row, row, tap)`.

    Energies are those of p_own − s, p_all − p_own, p_own, p_all and ŝ − p_all, each `(window, source)`.
    """

    def __init__(self, spatial: Tensor, everything: Tensor, channels: int, window: int) -> None:
        self.spatial, self.everything, self.channels = spatial, everything, channels
        self.crosstalk = everything - spatial
        self.n_fft = scipy.fft.next_fast_len(window + TAPS - 1, real=True)

    def energies(self, correlations: Tensor, with_error: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
        """(energies, what rounding may have cost them), both `(5, window, source)`.

        correlations: of the rows `(window, row, row, lag)`; with_error: of rows and u, the same; error: |u|²
        `(window, source)`.
        """
        itself = torch.zeros_like(self.spatial)
        itself[..., 0].fill_diagonal_(1)
        parts = (self.spatial, self.crosstalk, self.spatial + itself, self.everything + itself, self.everything)
        # (part, source, row, channel, tap): what leads to a source's channels
        apart = torch.stack(parts).unflatten(2, (-1, self.channels)).transpose(1, 2)
        weights = filter_correlation(apart)
        toward = self.everything.new_zeros(error.shape[1], *self.everything.shape)
        for j, own in enumerate(toward.unflatten(2, (-1, self.channels))):
            own[:, j] = -2 * apart[4, j]
        sums, crossed = _sums(correlations, weights.flatten(0, 1)), _sums(with_error, toward)
        for part, cross in zip(sums, crossed, strict=True):  # of the sums, and of the most that they can be
            energies = part.unflatten(0, (len(parts), -1))
            energies[4] += cross + error.T
        found, most = (part.unflatten(0, (len(parts), -1)).transpose(1, 2) for part in sums)
        return found, EPS * most

    def filtered(self, source: int, rows: Tensor, error: Tensor) -> Tensor:
        """The five energies of a source in one window by filtering it: rows, error `(row, time)`."""
        own = slice(source * self.channels, (source + 1) * self.channels)
        spectra, wrong = torch.fft.rfft(rows, n=self.n_fft), torch.fft.rfft(error[own], n=self.n_fft)
        e_spat, e_interf = (torch.einsum("acf,af->cf", taps[:, own], spectra) for taps in self._spectra)
        p_own, errors = spectra[own] + e_spat, e_spat + e_interf
        parts = (e_spat, e_interf, p_own, p_own + e_interf, wrong - errors)
        return torch.stack([_energy(part, self.n_fft) for part in parts])

    @cached_property
    def _spectra(self) -> list[Tensor]:
        return [torch.fft.rfft(part, n=self.n_fft) for part in (self.spatial, self.crosstalk)]


def _sums(lags: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Σ lags · weights, and the most that Σ |lags · weights| can be, `(weight, window)`.

    lags: `(window, row, row, lag)`; weights: `(weight, row, row, lag)`. A correlation is at most its loudest lag.
    """
    loudest = torch.linalg.vector_norm(lags, torch.inf, dim=-1)
    most = weights.abs().sum(-1).flatten(1) @ loudest.flatten(1).T
    return weights.flatten(1) @ lags.flatten(1).T, most


def _energy(spectrum: Tensor, n_fft: int) -> Tensor:
    """Energy in time, over all rows, of the real signals whose half spectra these are."""
    flat = torch.view_as_real(spectrum).reshape(-1)
    single = spectrum[:, [0, -1] if n_fft % 2 == 0 else [0]].abs().square().sum()
    return (2 * torch.dot(flat, flat) - single) / n_fft


def _db(above: Array, below: Array) -> Array:
    """10·log10(above / below); +inf where `below` is zero, whatever is above, as in museval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.inf, 10 * np.log10(above / below))

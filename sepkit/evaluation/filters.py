"""Least-squares filters of 512 taps over a whole track, from correlations gathered window by window.

Conventions: rows are `(row, time)` float64, a row being one channel of one source. Correlations are at
lags 0 … 511 only, which is why no FFT here is longer than a window: a correlation is the sum over
windows of cross-spectra, plus the pairs of samples that lie on two sides of a window's edge.
"""

from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
from numpy.typing import NDArray

TAPS = 512
CACHE_BYTES = 2**30  # spectra beyond this are computed again instead of kept

Array = NDArray[np.float64]
Spectrum = NDArray[np.complex128]


class Frames:
    """Spectra of consecutive windows, `frames[i]` being `(row, freq)`; the rest is the last one."""

    def __init__(self, rows: Array, window: int) -> None:
        self.rows, self.window = rows, window
        self.count = -(-rows.shape[1] // window)
        self.n_fft: int = scipy.fft.next_fast_len(window + TAPS - 1, real=True)
        self._padded = np.zeros((len(rows), self.n_fft))
        size = 16 * self.count * len(rows) * (self.n_fft // 2 + 1)
        self._kept: list[Spectrum] | None = None
        if size <= CACHE_BYTES:
            self._kept = [self._spectrum(i) for i in range(self.count)]

    def __getitem__(self, i: int) -> Spectrum:
        return self._spectrum(i) if self._kept is None else self._kept[i]

    def _spectrum(self, i: int) -> Spectrum:
        part = self.rows[:, i * self.window : (i + 1) * self.window]
        self._padded[:, : part.shape[1]] = part
        self._padded[:, part.shape[1] :] = 0
        return scipy.fft.rfft(self._padded)

    def auto_correlation(self) -> Array:
        """r[a, b, k] = Σ_n rows[a, n] · rows[b, n + k] for k in [0, TAPS)."""
        n = len(self.rows)
        total = np.zeros((n, n, self.n_fft // 2 + 1), np.complex128)
        scratch = np.empty_like(total[0])
        for i in range(self.count):
            spectra = self[i]
            for a in range(n):  # b ≥ a; the other half is the same at negative lags
                np.multiply(np.conj(spectra[a]), spectra[a:], out=scratch[a:])
                total[a, a:] += scratch[a:]
        lags = self._edges(self)
        for a in range(n):
            both = scipy.fft.irfft(total[a, a:], n=self.n_fft)
            lags[a, a:] += both[:, :TAPS]
            lags[a + 1 :, a, 0] += both[1:, 0]
            lags[a + 1 :, a, 1:] += both[1:, :-TAPS:-1]
        return lags

    def cross_correlation(self, other: "Frames") -> Array:
        """r[a, b, k] = Σ_n rows[a, n] · other.rows[b, n + k] for k in [0, TAPS)."""
        total = np.zeros((len(self.rows), len(other.rows), self.n_fft // 2 + 1), np.complex128)
        scratch = np.empty_like(total[0])
        for i in range(self.count):
            flipped = np.conj(other[i])
            for into, spectrum in zip(total, self[i], strict=True):
                into += np.multiply(flipped, spectrum, out=scratch)
        lags = scipy.fft.irfft(np.conj(total, out=total), n=self.n_fft)[..., :TAPS]
        return lags + self._edges(other)

    def _edges(self, other: "Frames") -> Array:
        """The part of the correlation whose two samples lie on two sides of a window's edge."""
        lags = np.zeros((len(self.rows), len(other.rows), TAPS))
        reach = TAPS - 1
        total = np.zeros((*lags.shape[:2], TAPS + 1), np.complex128)
        for edge in range(self.window, self.rows.shape[1], self.window):
            before = scipy.fft.rfft(self.rows[:, edge - reach : edge], n=2 * TAPS)
            after = scipy.fft.rfft(other.rows[:, edge : edge + reach], n=2 * TAPS)
            total += np.conj(before)[:, None] * after
        # Index k − reach: `before` starts `reach` samples ahead of the edge where `after` starts.
        lags[..., 1:] = np.roll(scipy.fft.irfft(total, n=2 * TAPS), reach - 1, axis=-1)[..., :reach]
        return lags


def correlations(target: Array, estimate: Array) -> tuple[Array, Array]:
    """Of two `(time,)` signals at lags [0, TAPS): target with itself, and with the later estimate."""
    window = min(len(target), 2**15 - TAPS)
    frames, guess = Frames(target[None], window), Frames(estimate[None], window)
    return frames.auto_correlation()[0, 0], frames.cross_correlation(guess)[0, 0]


class Solver:
    """Solves (G + eps·I) x = d, museval's ridge; least squares where that is singular."""

    def __init__(self, gram: Array) -> None:
        self.gram = gram
        ridged = gram.copy(order="F")
        ridged[np.diag_indices_from(ridged)] += np.finfo(np.float64).eps
        self._cholesky: Any = None
        self._lu: Any = None
        try:
            self._cholesky = scipy.linalg.cho_factor(ridged, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            # Rounding made it indefinite: equal channels, say. LU then does what museval's does.
            lu, pivots, info = scipy.linalg.lapack.dgetrf(ridged)
            self._lu = (lu, pivots) if info == 0 else None

    def solve(self, rows: Array) -> Array:
        """Filters `(input, channel, tap)` from correlations `(input, channel, lag)`."""
        inputs, channels, taps = rows.shape
        right = rows.transpose(0, 2, 1).reshape(inputs * taps, channels)
        if self._cholesky is not None:
            found = scipy.linalg.cho_solve(self._cholesky, right, check_finite=False)
        elif self._lu is not None:
            found = scipy.linalg.lu_solve(self._lu, right, check_finite=False)
        else:
            found = np.linalg.lstsq(self.gram, right, rcond=None)[0]
        return found.reshape(inputs, taps, channels).transpose(0, 2, 1)


def gram_matrix(lags: Array) -> Array:
    """Block-Toeplitz Gram matrix of all delayed rows: block (a, b) holds r_ab[delay_a − delay_b]."""
    n = len(lags)
    blocks = [[scipy.linalg.toeplitz(lags[a, b], lags[b, a]) for b in range(n)] for a in range(n)]
    return np.block(blocks)

"""Least-squares filters of 512 taps over a whole track, from correlations gathered window by window.

Conventions: rows are `(row, time)` float64 tensors on any device, a row being one channel of one source. A window of a
correlation is that of the two rows cut to the window, so both samples of each product lie in it; lags are 0 … 511.
Short blocks do it: a block of one row against the same block and 511 samples more of the other needs an FFT of 4096
points, and the spectra of a window's blocks add up before one inverse transform. The spectra of the rows' own blocks
can be kept for further estimates.
"""

from collections.abc import Iterable

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from sepkit.evaluation.signals import TAPS, Array
from sepkit.evaluation.toeplitz import Inverse

EPS = np.finfo(np.float64).eps
BLOCK_FFT = 4096  # points; 2048 and 8192 take as long, within a tenth
KEPT_BYTES = 2**29  # of spectra of targets: five minutes of two stereo sources


class Windows:
    """Rows cut into windows, `parts`, and these into blocks; the last window holds what is left over."""

    def __init__(self, rows: Tensor, window: int, keep: bool = False) -> None:
        self.rows, self.window, self.parts = rows, window, rows.split(window, dim=1)
        blocks = -(-window // (BLOCK_FFT - TAPS + 1))
        self.step = -(-window // blocks)
        self.n_fft = min(BLOCK_FFT, 2 ** (self.step + TAPS - 2).bit_length())
        size = 16 * (self.n_fft // 2 + 1) * blocks * len(rows) * len(self.parts)
        # conjugate spectra of own blocks by window, for later estimates
        self.kept: dict[int, Tensor] | None = {} if keep and size <= KEPT_BYTES else None

    def spectra(self, part: Tensor, more: int = 0) -> Tensor:
        """`(block, row, freq)` of the blocks of `(row, time)`, each with `more` samples of the next, zeros after the end."""
        starts = range(0, part.shape[1], self.step)
        padded = part.new_zeros(len(starts), len(part), self.n_fft)
        for block, start in zip(padded, starts, strict=True):
            samples = part[:, start : start + self.step + more]
            block[:, : samples.shape[1]] = samples
        return torch.fft.rfft(padded)

    def _own_spectra(self, i: int) -> Tensor:
        """Conjugate spectra of the blocks of window i."""
        if self.kept is None or i not in self.kept:
            spectra = self.spectra(self.parts[i]).conj_physical_()
            if self.kept is None:
                return spectra
            self.kept[i] = spectra
        return self.kept[i]

    def cross(self, other: Tensor, i: int) -> Tensor:
        """r[a, b, k] = Σ_n rows[a, n] · other[b, n + k] in window i, k in [0, TAPS); other `(row, time)`."""
        blocks, longer = self._own_spectra(i), self.spectra(other, TAPS - 1)
        total = blocks[0, :, None] * longer[0]
        for own, theirs in zip(blocks[1:], longer[1:], strict=True):  # block by block, the sum stays in a core's cache
            total.addcmul_(own[:, None], theirs)
        return torch.fft.irfft(total, n=self.n_fft)[..., :TAPS]

    def across(self, heads: Tensor) -> Tensor:
        """The part of the whole correlation whose two samples lie on two sides of a window's edge.

        heads: the first samples of the other's windows after the first, `(window, row, time)`, up to 511.
        """
        reach, n_fft = TAPS - 1, 2 * TAPS
        lags = self.rows.new_zeros(len(self.rows), heads.shape[1], TAPS)
        if len(heads):
            tails = torch.stack([part[:, -reach:].flip(-1) for part in self.parts[:-1]])
            before, after = torch.fft.rfft(tails, n=n_fft), torch.fft.rfft(heads, n=n_fft)
            total = torch.einsum("eaf,ebf->abf", before, after)
            # tails run backwards from the edge: sample i of one and k of a head are i + k + 1 apart
            lags[..., 1:] = torch.fft.irfft(total, n=n_fft)[..., :reach]
        return lags

    def correlate(self, others: Iterable[Tensor], rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """With `rows` other rows, given window by window.

        Returns correlations by window `(window, row, other, lag)` and in all, and the others' energies `(window, row)`.
        """
        count = len(self.parts)
        # made beforehand: small pieces kept among large ones that come and go would scatter the heap
        windows = self.rows.new_empty(count, len(self.rows), rows, TAPS)
        heads, energies = self.rows.new_zeros(count, rows, TAPS - 1), self.rows.new_empty(count, rows)
        for i, other in enumerate(others):
            windows[i] = self.cross(other, i)
            head = other[:, : TAPS - 1]
            heads[i, :, : head.shape[1]] = head
            energies[i] = torch.linalg.vecdot(other, other)
        return windows, windows.sum(0) + self.across(heads[1:]), energies


def correlations(target: Array, estimate: Array) -> Array:
    """Of two `(time,)` signals at lags [0, TAPS): target with the later estimate."""
    one, other = (Windows(torch.from_numpy(signal[None]), min(len(signal), 2**16)) for signal in (target, estimate))
    return one.correlate(other.parts, 1)[1][0, 0].numpy()


def filter_correlation(filters: Tensor) -> Tensor:
    """What an energy needs of filters `(…, input, channel, tap)`: weights `(…, input, input, lag)`.

    Σ over a, b and lag of weights · r[a, b, lag], r the correlations of a window, is the energy of the filtered window,
    over channels and its whole length of window + 511: a sum over all pairs of taps, gathered by their distance;
    positive lags stand for negative ones too, hence the 2.
    """
    spectra = torch.fft.rfft(filters, n=2 * TAPS)
    weights = torch.fft.irfft(torch.einsum("...acf,...bcf->...abf", spectra, spectra.conj()), n=2 * TAPS)[..., :TAPS]
    weights[..., 1:] *= 2
    return weights


class Solver:
    """Solves (G + eps·I) x = d, museval's ridge, G the Gram matrix of all delayed rows; or least squares.

    G is block-Toeplitz: `Inverse` solves it fast; LU does where G is so ill-conditioned that `Inverse` refuses.
    Rows `(row, time)` that are silent, or a multiple of an earlier one, as in a mono stem in a stereo file, would make
    G singular and span nothing more: they stay out of the equations, and their x is 0.
    """

    def __init__(self, lags: Array, rows: Array) -> None:
        self.kept = independent(lags, rows)
        self.lags = lags[np.ix_(self.kept, self.kept)]
        self.lags[range(len(self.kept)), range(len(self.kept)), 0] += EPS
        try:
            self.inverse: Inverse | None = Inverse(self.lags)
        except np.linalg.LinAlgError:
            self.inverse = None

    def solve(self, lags: Array) -> Array:
        """Filters `(input, channel, tap)` from correlations `(input, channel, lag)`."""
        found = np.zeros_like(lags)
        try:
            if self.inverse is None:
                raise np.linalg.LinAlgError
            found[self.kept] = self.inverse.solve(lags[self.kept])
        except np.linalg.LinAlgError:
            found[self.kept] = self._solve_densely(lags[self.kept])
        return found

    def _solve_densely(self, lags: Array) -> Array:
        inputs, channels, taps = lags.shape
        right, rows = lags.transpose(0, 2, 1).reshape(inputs * taps, channels), range(inputs)
        # block (a, b) holds r_ab[delay_a − delay_b]
        gram = np.block([[scipy.linalg.toeplitz(self.lags[a, b], self.lags[b, a]) for b in rows] for a in rows])
        try:
            solution = np.linalg.solve(gram, right)
        except np.linalg.LinAlgError:
            solution = np.linalg.lstsq(gram - EPS * np.eye(len(right)), right, rcond=None)[0]
        return solution.reshape(inputs, taps, channels).transpose(0, 2, 1)


def independent(lags: Array, rows: Array) -> list[int]:
    """The rows `(row, time)` that are neither silent nor a multiple of an earlier one.

    lags: their correlations `(row, row, lag)`, of which lag 0 tells nearly always.

    >>> rows = np.array([[0.0, 0.0, 0.0], [1, 2, 3], [-2, -4, -6], [1, 2, 4]])
    >>> independent((rows @ rows.T)[..., None], rows)
    [1, 3]
    """
    products, kept = lags[..., 0], list[int]()
    for i in np.flatnonzero(products.diagonal()).tolist():
        alike = (k for k in kept if products[i, k] ** 2 > (1 - 1e-9) * products[i, i] * products[k, k])
        if not any(_multiple(rows[i], rows[k]) for k in alike):
            kept.append(i)
    return kept


def _multiple(row: Array, other: Array) -> bool:
    """Whether `row` is `other` times a factor, up to rounding."""
    peak = np.abs(row).argmax()
    factor = row[peak] / other[peak] if other[peak] else 0.0
    return bool(np.abs(row - factor * other).max() <= 1e-15 * abs(row[peak]))

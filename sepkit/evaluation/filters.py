"""Least-squares filters of 512 taps over a whole track, from correlations gathered window by window.

Conventions: rows are `(row, time)` float64 tensors on any device, a row being one channel of one
source. A window of a correlation is that of the two rows cut to the window, so both samples of each
product lie in it; lags are 0 … 511. Short blocks do it: a block of one row against the same block
and 511 samples more of the other needs an FFT of 4096 points, and the spectra of a window's blocks add
up before one inverse transform.
"""

from collections.abc import Iterable

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from sepkit.evaluation.signals import TAPS, Array

EPS = np.finfo(np.float64).eps
BLOCK_FFT = 4096  # points; 2048 and 8192 take as long, within a tenth


class Windows:
    """Rows cut into windows, and windows into blocks; the last window holds what is left over."""

    def __init__(self, rows: Tensor, window: int) -> None:
        self.rows, self.window = rows, window
        self.count = -(-rows.shape[1] // window)
        blocks = -(-window // (BLOCK_FFT - TAPS + 1))
        self.step = -(-window // blocks)
        self.n_fft = min(BLOCK_FFT, 2 ** (self.step + TAPS - 2).bit_length())

    def __getitem__(self, i: int) -> Tensor:
        """Samples of window i, `(row, time)`."""
        return self.rows[:, i * self.window : (i + 1) * self.window]

    def cross(self, other: Tensor, i: int) -> Tensor:
        """r[a, b, k] = Σ_n rows[a, n] · other[b, n + k] in window i, k in [0, TAPS); other `(row, time)`."""
        blocks = torch.fft.rfft(_unfold(self[i], self.step, 0), n=self.n_fft)
        blocks = blocks.conj().transpose(0, 1).resolve_conj()
        longer = torch.fft.rfft(_unfold(other, self.step, TAPS - 1), n=self.n_fft).transpose(0, 1)
        total = longer.new_zeros(blocks.shape[1], longer.shape[1], blocks.shape[2])
        for block, reach in zip(blocks, longer, strict=True):
            total.addcmul_(block[:, None], reach[None])
        return torch.fft.irfft(total, n=self.n_fft)[..., :TAPS]

    def across(self, heads: Tensor) -> Tensor:
        """The part of the whole correlation whose two samples lie on two sides of a window's edge.

        heads: the first samples of the other's windows after the first, `(window, row, time)`, up to 511.
        """
        reach, n_fft = TAPS - 1, 2 * TAPS
        lags = self.rows.new_zeros(len(self.rows), heads.shape[1], TAPS)
        if len(heads):
            edges = range(self.window, self.rows.shape[1], self.window)
            tails = torch.stack([self.rows[:, edge - reach : edge].flip(-1) for edge in edges])
            before, after = torch.fft.rfft(tails, n=n_fft), torch.fft.rfft(heads, n=n_fft)
            total = torch.einsum("eaf,ebf->abf", before, after)
            # tails run backwards from the edge: sample i of one and k of a head are i + k + 1 apart
            lags[..., 1:] = torch.fft.irfft(total, n=n_fft)[..., :reach]
        return lags

    def correlate(self, others: Iterable[Tensor], rows: int) -> tuple[Tensor, Tensor]:
        """With `rows` other rows, given window by window: by window `(window, row, other, lag)`, in all."""
        # made beforehand: small pieces kept among large ones that come and go would scatter the heap
        windows = self.rows.new_empty(self.count, len(self.rows), rows, TAPS)
        heads = self.rows.new_zeros(self.count, rows, TAPS - 1)
        for i, other in enumerate(others):
            windows[i] = self.cross(other, i)
            head = other[:, : TAPS - 1]
            heads[i, :, : head.shape[1]] = head
        return windows, windows.sum(0) + self.across(heads[1:])


def _unfold(part: Tensor, step: int, more: int) -> Tensor:
    """`(row, block, step + more)` of `(row, time)`, zeros after its end."""
    blocks = -(-part.shape[1] // step)
    padded = torch.nn.functional.pad(part, (0, blocks * step + more - part.shape[1]))
    return padded.unfold(1, step + more, step)


def correlations(target: Array, estimate: Array) -> tuple[Array, Array]:
    """Of two `(time,)` signals at lags [0, TAPS): target with itself, and with the later estimate."""
    rows = torch.from_numpy(np.stack([target, estimate]))
    windows, both = (Windows(part, min(len(target), 2**16)) for part in (rows[:1], rows))
    lags = windows.correlate((both[i] for i in range(both.count)), 2)[1].numpy()
    return lags[0, 0], lags[0, 1]


def filter_correlation(filters: Tensor) -> Tensor:
    """What an energy needs of filters `(input, channel, tap)`: weights `(input, input, lag)`.

    Σ over a, b and lag of weights · r[a, b, lag], r the correlations of a window, is the energy of
    the filtered window, over channels and its whole length of window + 511: a sum over all pairs of
    taps, gathered by their distance; positive lags stand for negative ones too, hence the 2.
    """
    spectra = torch.fft.rfft(filters, n=2 * TAPS)
    weights = torch.fft.irfft(torch.einsum("acf,bcf->abf", spectra, spectra.conj()), n=2 * TAPS)[..., :TAPS]
    weights[..., 1:] *= 2
    return weights


class Solver:
    """Solves (G + eps·I) x = d, museval's ridge, G the Gram matrix of all delayed rows; or least squares.

    Rows `(row, time)` that are silent, or a multiple of an earlier one, as in a mono stem in a stereo file,
    would make G singular and span nothing more: they stay out of the equations, and their x is 0.
    """

    def __init__(self, lags: Array, rows: Array) -> None:
        self.kept = independent(rows)
        self.ridged: Array | None = gram_matrix(lags[np.ix_(self.kept, self.kept)])
        self.ridged[np.diag_indices_from(self.ridged)] += EPS
        try:
            self.factor = scipy.linalg.cho_factor(self.ridged.T, lower=True, check_finite=False)
            self.ridged = None
        except np.linalg.LinAlgError:  # rounding made it indefinite
            self.factor = None

    def solve(self, lags: Array) -> Array:
        """Filters `(input, channel, tap)` from correlations `(input, channel, lag)`."""
        found = np.zeros_like(lags)
        inputs, channels, taps = lags[self.kept].shape
        right = lags[self.kept].transpose(0, 2, 1).reshape(inputs * taps, channels)
        if self.ridged is None:
            solution = scipy.linalg.cho_solve(self.factor, right, check_finite=False)
        else:
            try:
                solution = np.linalg.solve(self.ridged, right)
            except np.linalg.LinAlgError:
                solution = np.linalg.lstsq(self.ridged - EPS * np.eye(len(right)), right, rcond=None)[0]
        found[self.kept] = solution.reshape(inputs, taps, channels).transpose(0, 2, 1)
        return found


def independent(rows: Array) -> list[int]:
    """The rows `(row, time)` that are neither silent nor a multiple of an earlier one.

    >>> independent(np.array([[0.0, 0.0, 0.0], [1, 2, 3], [-2, -4, -6], [1, 2, 4]]))
    [1, 3]
    """
    kept: list[int] = []
    for i, row in enumerate(rows):
        peak = np.abs(row).argmax()
        if row[peak] and not any(_multiple(row, rows[k], peak) for k in kept):
            kept.append(i)
    return kept


def _multiple(row: Array, other: Array, peak: np.intp) -> bool:
    """Whether `row`, largest at `peak`, is `other` times a factor, up to rounding."""
    if other[peak] == 0:
        return False
    factor, step = row[peak] / other[peak], 2**16  # few steps tell, nearly always
    return all(
        np.abs(row[i : i + step] - factor * other[i : i + step]).max() <= 1e-15 * abs(row[peak])
        for i in range(0, len(row), step)
    )


def gram_matrix(lags: Array) -> Array:
    """Block-Toeplitz Gram matrix of all delayed rows: block (a, b) holds r_ab[delay_a − delay_b]."""
    n = len(lags)
    gram = np.empty((n, TAPS, n, TAPS))
    for a in range(n):
        for b in range(n):
            gram[a, :, b] = scipy.linalg.toeplitz(lags[a, b], lags[b, a])
    return gram.reshape(n * TAPS, n * TAPS)

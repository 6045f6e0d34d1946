"""Least-squares filters of 512 taps over a whole track, from correlations gathered window by window.

Conventions: rows are `(row, time)` float64 tensors on any device, a row being one channel of one source. A window of a
correlation is that of the two rows cut to the window, so both samples of each product lie in it; lags are 0 … 511.
Short blocks do it: a block of one row against the same block and 511 samples more of the other needs an FFT of 4096
points, and the spectra of a window's blocks add up before one inverse transform.
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
    """Rows cut into windows, `parts`, and these into blocks; the last window holds what is left over."""

    def __init__(self, rows: Tensor, window: int) -> None:
        self.rows, self.window, self.parts = rows, window, rows.split(window, dim=1)
        blocks = -(-window // (BLOCK_FFT - TAPS + 1))
        self.step = -(-window // blocks)
        self.n_fft = min(BLOCK_FFT, 2 ** (self.step + TAPS - 2).bit_length())

    def cross(self, other: Tensor, i: int) -> Tensor:
        """r[a, b, k] = Σ_n rows[a, n] · other[b, n + k] in window i, k in [0, TAPS); other `(row, time)`."""
        blocks = torch.fft.rfft(_unfold(self.parts[i], self.step, 0), n=self.n_fft)
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


def _unfold(part: Tensor, step: int, more: int) -> Tensor:
    """`(row, block, step + more)` of `(row, time)`, zeros after its end."""
    blocks = -(-part.shape[1] // step)
    padded = torch.nn.functional.pad(part, (0, blocks * step + more - part.shape[1]))
    return padded.unfold(1, step + more, step)


def correlations(target: Array, estimate: Array) -> tuple[Array, Array]:
    """Of two `(time,)` signals at lags [0, TAPS): target with itself, and with the later estimate."""
    rows = torch.from_numpy(np.stack([target, estimate]))
    windows, both = (Windows(part, min(len(target), 2**16)) for part in (rows[:1], rows))
    lags = windows.correlate(both.parts, 2)[1].numpy()
    return lags[0, 0], lags[0, 1]


def filter_correlation(filters: Tensor) -> Tensor:
    """What an energy needs of filters `(input, channel, tap)`: weights `(input, input, lag)`.

    Σ over a, b and lag of weights · r[a, b, lag], r the correlations of a window, is the energy of the filtered window,
    over channels and its whole length of window + 511: a sum over all pairs of taps, gathered by their distance;
    positive lags stand for negative ones too, hence the 2.
    """
    spectra = torch.fft.rfft(filters, n=2 * TAPS)
    weights = torch.fft.irfft(torch.einsum("acf,bcf->abf", spectra, spectra.conj()), n=2 * TAPS)[..., :TAPS]
    weights[..., 1:] *= 2
    return weights


class Solver:
    """Solves (G + eps·I) x = d, museval's ridge, G the Gram matrix of all delayed rows; or least squares.

    Rows `(row, time)` that are silent, or a multiple of an earlier one, as in a mono stem in a stereo file, would make
    G singular and span nothing more: they stay out of the equations, and their x is 0.
    """

    def __init__(self, lags: Array, rows: Array) -> None:
        self.kept = independent(rows)
        lags, kept = lags[np.ix_(self.kept, self.kept)], range(len(self.kept))
        # block-Toeplitz: block (a, b) holds r_ab[delay_a − delay_b]
        gram = np.block([[scipy.linalg.toeplitz(lags[a, b], lags[b, a]) for b in kept] for a in kept])
        gram[np.diag_indices_from(gram)] += EPS
        try:
            self.factor, self.ridged = scipy.linalg.cho_factor(gram.T, lower=True, check_finite=False), np.empty(0)
        except np.linalg.LinAlgError:  # rounding made it indefinite
            self.factor, self.ridged = None, gram

    def solve(self, lags: Array) -> Array:
        """Filters `(input, channel, tap)` from correlations `(input, channel, lag)`."""
        found = np.zeros_like(lags)
        inputs, channels, taps = lags[self.kept].shape
        right = lags[self.kept].transpose(0, 2, 1).reshape(inputs * taps, channels)
        try:
            if self.factor:
                solution = scipy.linalg.cho_solve(self.factor, right, check_finite=False)
            else:
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
    factor = row[peak] / other[peak] if other[peak] else 0.0
    looks = (slice(max(peak - 2**15, 0), peak + 2**15), slice(None))  # the first tells, nearly always
    return all(np.abs(row[look] - factor * other[look]).max() <= 1e-15 * abs(row[peak]) for look in looks)

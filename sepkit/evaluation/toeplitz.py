"""Symmetric block-Toeplitz equations T x = d, solved by recursion over their order and refined by residuals.

Conventions: T has taps × taps blocks T[i, j] = R[i − j] with R[−k] = R[k]ᵀ, each `(row, row)`; unknowns stand tap by tap,
the rows of a tap together. `lags` is R as `(row, row, tap)`, right sides and solutions are `(row, column, tap)`.

Cholesky's factors take N³/3 operations for N = rows · taps equations; this takes 3 N² · rows, and FFTs of 2 · taps points.
"""

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

from sepkit.evaluation.signals import Array

Spectra = NDArray[np.complex128]  # (freq, row, column)
PRECISE = 1e-15  # backward error |d − T x| / (|T| |x|) that a solution must have
MOST = 5  # steps; one and a refinement do for music


class Inverse:
    """T⁻¹ in O(N log N) operations a right side.

    With X the first and Y the last block column of T⁻¹, taps m,
        T⁻¹ = L(X) X₀⁻¹ L(X)ᵀ − L(Y↓) Yₘ₋₁⁻¹ L(Y↓)ᵀ,
    L(X) the lower triangular block-Toeplitz matrix that begins with X, and Y↓ = (0, Y₀, …, Yₘ₋₂)  (Gohberg and Semencul
    1972; for blocks Gohberg and Heinig 1974). Products with L and T are convolutions, by FFTs of 2m points.

    Raises LinAlgError where the recursion finds that T is not positive definite, in floating point.
    """

    def __init__(self, lags: Array) -> None:
        rows, _, self.taps = lags.shape
        first, last = outer_columns(lags)
        # X beside Y↓, (tap, row, 2 · row), and what stands between L and Lᵀ for both
        outer = np.concatenate([first, np.concatenate([np.zeros_like(last[:1]), last[:-1]])], axis=2)
        self.outer = self._fft(outer)
        self.core = scipy.linalg.block_diag(np.linalg.inv(first[0]), -np.linalg.inv(last[-1]))
        if not np.isfinite(self.core).all():
            raise np.linalg.LinAlgError("not positive definite")
        gap = np.zeros((rows, rows, 1))
        circulant = np.concatenate([lags, gap, lags.swapaxes(0, 1)[..., :0:-1]], axis=2)
        self.matrix = np.fft.rfft(circulant).transpose(2, 0, 1)
        self.norm = np.linalg.norm(self.matrix, axis=(1, 2)).max()

    def solve(self, right: Array) -> Array:
        """x of T x = right; LinAlgError where refinement by residuals does not reach PRECISE."""
        wanted = right.transpose(2, 0, 1)
        found, missing, error = np.zeros_like(wanted), wanted, np.inf
        for _ in range(MOST):
            found = found + self._approximate(missing)
            missing = wanted - self._ifft(self.matrix @ self._fft(found))
            size = self.norm * np.linalg.norm(found, axis=(0, 1))
            before, error = error, np.max(np.linalg.norm(missing, axis=(0, 1)) / np.where(size, size, 1))
            if error <= PRECISE:
                return found.transpose(1, 2, 0)
            if not error < before / 2:  # NaN too
                break
        raise np.linalg.LinAlgError(f"a backward error of {error:.0e} is left")

    def _approximate(self, right: Array) -> Array:
        inner = self._ifft(self.outer.conj().swapaxes(1, 2) @ self._fft(right))
        return self._ifft(self.outer @ self._fft(self.core @ inner))

    def _fft(self, blocks: Array) -> Spectra:
        return np.fft.rfft(blocks, n=2 * self.taps, axis=0)

    def _ifft(self, spectra: Spectra) -> Array:
        return np.fft.irfft(spectra, n=2 * self.taps, axis=0)[: self.taps]


def outer_columns(lags: Array) -> tuple[Array, Array]:
    """The first and last block columns of T⁻¹, each `(tap, row, row)`, by Levinson's recursion for blocks.

    F and B solve T F = (E, 0, …, 0) and T B = (0, …, 0, G) for T's first taps, with unit first and last blocks: they
    predict a sample from those after and before it, and E and G are the covariances of what they miss. One tap more gives
        F ← (F, 0) − (0, B) G⁻¹ V,   B ← (0, B) − (F, 0) E⁻¹ Vᵀ,   E ← E − Vᵀ G⁻¹ V,   G ← G − V E⁻¹ Vᵀ,
    V the product of T's next block row with (F, 0)  (Whittle 1963; Akaike 1973).
    """
    rows, _, taps = lags.shape
    size = rows * taps
    bottom = lags.transpose(0, 2, 1)[:, ::-1].reshape(rows, size)  # the last block row of T
    forward, backward = np.zeros((2, size, rows))
    forward[:rows] = backward[-rows:] = np.eye(rows)
    e = g = bottom[:, -rows:]
    for end in range(rows, size, rows):
        v = bottom[:, size - rows - end : size - rows] @ forward[:end]
        by_g, by_e = _solve(g, v), _solve(e, v.T)
        longer, later = forward[: end + rows], backward[size - end - rows :]
        change = longer @ by_e
        longer -= later @ by_g
        later -= change
        e, g = e - v.T @ by_g, g - v @ by_e
    first, last = forward @ _solve(e, np.eye(rows)), backward @ _solve(g, np.eye(rows))
    return first.reshape(taps, rows, rows), last.reshape(taps, rows, rows)


def _solve(matrix: Array, right: Array) -> Array:
    _, found, failed = dposv(matrix, right)
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    return found

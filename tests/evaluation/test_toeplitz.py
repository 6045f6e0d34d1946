"""Block-Toeplitz equations: against a dense solver, on spectra of music, and where the recursion must give up."""

import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from sepkit.evaluation import filters
from sepkit.evaluation.bsseval import bss_eval
from sepkit.evaluation.signals import TAPS
from sepkit.evaluation.toeplitz import PRECISE, Inverse, outer_columns

RATE = 4000


def lags_of(rows):
    """Correlations `(row, row, lag)` of `(row, time)`."""
    length = rows.shape[1]
    full = [[scipy.signal.correlate(b, a, method="fft")[length - 1 : length - 1 + TAPS] for b in rows] for a in rows]
    return np.array(full)


def dense(lags):
    """The matrix, unknowns tap by tap."""
    matrix = np.array(
        [[scipy.linalg.toeplitz(lags[a, b], lags[b, a]) for b in range(len(lags))] for a in range(len(lags))]
    )
    size = len(lags) * TAPS
    return matrix.transpose(2, 0, 3, 1).reshape(size, size)


def noise(rows, seed=0, length=4 * RATE):
    return np.random.default_rng(seed).standard_normal((rows, length))


def lowpass(signal):
    """As lossy coding leaves music: next to nothing above three quarters of the band."""
    sections = scipy.signal.butter(8, 0.75, output="sos")
    return scipy.signal.sosfilt(sections, signal) + 1e-4 * noise(len(signal), seed=9, length=signal.shape[1])


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
def test_outer_columns_are_those_of_the_dense_inverse(rows):
    lags = lags_of(noise(rows))
    inverse = np.linalg.inv(dense(lags))
    first, last = (block.reshape(-1, rows) for block in outer_columns(lags))
    np.testing.assert_allclose(first, inverse[:, :rows], rtol=0, atol=1e-13 * np.abs(inverse).max())
    np.testing.assert_allclose(last, inverse[:, -rows:], rtol=0, atol=1e-13 * np.abs(inverse).max())


@pytest.mark.parametrize("make", [noise, lambda rows: lowpass(noise(rows))], ids=["noise", "coded"])
def test_solutions_have_the_backward_error_of_a_dense_solver(make):
    lags, right = lags_of(make(4)), np.random.default_rng(1).standard_normal((4, 2, TAPS))
    matrix = dense(lags)
    found = Inverse(lags).solve(right).transpose(2, 0, 1).reshape(-1, 2)
    missing = matrix @ found - right.transpose(2, 0, 1).reshape(-1, 2)
    error = np.linalg.norm(missing, axis=0) / np.linalg.norm(found, axis=0) / np.linalg.norm(matrix, 2)
    assert (error < 2 * PRECISE).all()


def test_a_right_side_of_nothing_is_solved_by_nothing():
    lags = lags_of(noise(2))
    assert not Inverse(lags).solve(np.zeros((2, 1, TAPS))).any()


@pytest.mark.parametrize("lags", [-np.eye(TAPS)[:1][None], np.ones((1, 1, TAPS))], ids=["negative", "singular"])
def test_matrices_that_are_not_positive_definite_are_refused(lags):
    with pytest.raises(np.linalg.LinAlgError):
        Inverse(lags).solve(np.ones((1, 1, TAPS)))


def test_an_inverse_too_rough_to_be_refined_gives_up():
    lags = lags_of(noise(2))
    inverse = Inverse(lags)
    inverse.outer *= 2  # four times the inverse: each step makes the residual three times as large
    with pytest.raises(np.linalg.LinAlgError, match="backward error"):
        inverse.solve(np.ones((2, 1, TAPS)))


@pytest.mark.parametrize("failing", ["__init__", "solve"])
def test_where_the_recursion_gives_up_a_dense_solver_gives_the_same_scores(failing, monkeypatch):
    target = lowpass(noise(4)).reshape(2, 2, -1)
    estimate = 0.8 * target + 0.1 * target[::-1] + 0.01 * noise(4, seed=2).reshape(2, 2, -1)
    expected = bss_eval(estimate=estimate, target=target, sample_rate=RATE)

    def fails(*_):
        raise np.linalg.LinAlgError("not positive definite")

    solved, densely = [], filters.Solver._solve_densely
    monkeypatch.setattr(Inverse, failing, fails)
    monkeypatch.setattr(filters.Solver, "_solve_densely", lambda *args: solved.append(1) or densely(*args))
    scores = bss_eval(estimate=estimate, target=target, sample_rate=RATE)
    assert len(solved) == 3  # all rows together, and each source alone
    for metric, values in expected.items():
        np.testing.assert_allclose(scores[metric], values, rtol=0, atol=1e-6, err_msg=metric)

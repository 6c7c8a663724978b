"""Multistate Bennett acceptance ratio."""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from helmflow.errors import ConvergenceError, InputError
from helmflow.estimators.bootstrap import asymptotic_covariance, bootstrap_free_energies
from helmflow.estimators.estimate import Estimate, known
from helmflow.estimators.inputs import FloatArray, as_float_array, as_inefficiency

_RESIDUAL_LIMIT = 1e-5
"""Largest accepted relative violation of sum_n p_nk = n_k."""


@dataclass(frozen=True, eq=False)
class MultistateEstimate:
    """Free energies of K states from samples of all of them.

    ``f_k`` (K,) in kT relative to state 0; ``stderr_ij`` (K, K) standard errors of f_j - f_i,
    inf where nothing connects the states; ``stderr_k`` its first row; ``overlap`` (K, K) with
    rows summing to one; ``n_eff`` (K,) = n_k / g_k.
    """

    f_k: FloatArray
    stderr_ij: FloatArray
    overlap: FloatArray
    n_eff: FloatArray
    diagnostics: Mapping[str, float]

    @property
    def stderr_k(self) -> FloatArray:
        """Standard errors (K,) of f_k - f_0."""
        return self.stderr_ij[0]

    def difference(self, i: int, j: int) -> Estimate:
        """The free-energy difference f_j - f_i in kT."""
        return Estimate(
            value=float(self.f_k[j] - self.f_k[i]),
            stderr=float(self.stderr_ij[i, j]),
            n_eff=float(min(self.n_eff[i], self.n_eff[j])),
            method="mbar",
            diagnostics={**self.diagnostics, "overlap": float(self.overlap[i, j])},
        )


def mbar(
    u_kn: ArrayLike, n_k: ArrayLike, *, g: Sequence[float] | None = None
) -> MultistateEstimate:
    """Free energies of K states from N samples drawn from all of them.

    Solves ``f_i = -ln sum_n exp(-u_in) / sum_k n_k exp(f_k - u_kn)``. ``u_kn`` (K, N) is the
    reduced potential of every sample in every state, samples ordered by the state they were
    drawn from, ``n_k`` (K,) of each (at least two), +inf where a sample is impossible in
    another state. Errors are the larger of the asymptotic and the bootstrap one, both for the
    statistical inefficiencies ``g`` (K,). For K = 2 this is `bar`. Raises InputError for wrong
    shapes, NaN, -inf or a sample impossible in its own state, ConvergenceError when the
    equations could not be solved.
    Source: M. R. Shirts, J. D. Chodera, doi:10.1063/1.2978177.
    """
    potentials = as_float_array("u_kn", u_kn, ndim=2)
    counts = _counts(n_k, potentials.shape)
    k = len(counts)
    g_k = [1.0] * k if g is None else [as_inefficiency("g", x) for x in g]
    if len(g_k) != k:
        raise InputError("g", f"one inefficiency for each of {k} states", len(g_k))
    in_own_state = potentials[np.repeat(np.arange(k), counts), np.arange(potentials.shape[1])]
    if not np.isfinite(in_own_state).all() or np.isneginf(potentials).any():
        raise InputError(
            "u_kn", "no -inf, and finite values for samples in their own state", "inf"
        )
    # Works relative to the sample's own state: large common offsets cancel before any exp.
    p, f_k = _solve(potentials - in_own_state, counts)
    residual = float(np.abs(p.sum(axis=0) / counts - 1.0).max())
    if not residual < _RESIDUAL_LIMIT:
        raise ConvergenceError(f"mbar: occupation numbers off by {residual:.1e}", residual)
    stderr = _pair_stderrs(p, counts, g_k)
    overlap = (p / np.asarray(counts)).T @ p
    eigenvalues = np.sort(np.linalg.eigvals(overlap).real)
    return MultistateEstimate(
        f_k=f_k - f_k[0],
        stderr_ij=stderr,
        overlap=overlap,
        n_eff=np.asarray(counts) / np.asarray(g_k),
        diagnostics=known(
            {
                "overlap_scalar": 1.0 - float(eigenvalues[-2]),
                "overlap_neighbours": float(np.diag(overlap, 1).min()),
                "n_infinite": float(np.isposinf(potentials).sum()),
                "residual": residual,
            }
        ),
    )


def _counts(n_k: ArrayLike, shape: tuple[int, int]) -> list[int]:
    numbers = as_float_array("n_k", n_k)
    k, n = shape
    if k < 2 or numbers.size != k or (numbers != np.floor(numbers)).any():
        raise InputError("n_k", f"one integer for each of {max(k, 2)} or more states", numbers)
    if numbers.min() < 2 or numbers.sum() != n:
        raise InputError("n_k", f"at least 2 samples per state, {n} in all", numbers)
    return [int(x) for x in numbers]


def _solve(work: FloatArray, counts: list[int]) -> tuple[FloatArray, FloatArray]:
    """Membership probabilities (N, K) and free energies (K,)."""
    logger = logging.getLogger("pymbar")
    level = logger.level
    logger.setLevel(logging.ERROR)  # silences the banner at import and the solver's chatter
    try:
        from pymbar import MBAR

        start = _neighbour_start(work, counts)
        with warnings.catch_warnings():
            # pymbar hands scipy options that its solvers no longer know
            warnings.filterwarnings("ignore", message="Unknown solver options")
            solver = MBAR(work, np.asarray(counts), initial_f_k=start, solver_protocol="robust")
        f_k = np.asarray(solver.f_k, dtype=np.float64)
    finally:
        logger.setLevel(level)
    log_p = np.log(counts)[:, None] + f_k[:, None] - work
    log_p -= log_p.max(axis=0)
    p = np.exp(log_p)
    return (p / p.sum(axis=0)).T.copy(), f_k


def _neighbour_start(work: FloatArray, counts: list[int]) -> FloatArray:
    """Start values from means of neighbouring works, good enough for states far apart."""
    edges = np.concatenate([[0], np.cumsum(counts)])
    f = [0.0]
    for i in range(len(counts) - 1):
        up = work[i + 1, edges[i] : edges[i + 1]]
        down = work[i, edges[i + 1] : edges[i + 2]]
        f.append(f[-1] + 0.5 * (_median(up) - _median(down)))
    return np.asarray(f)


def _median(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else 0.0


def _pair_stderrs(p: FloatArray, counts: list[int], g_k: list[float]) -> FloatArray:
    covariance = asymptotic_covariance(p, counts, g_k)
    k = p.shape[1]
    if covariance is None:
        return np.where(np.eye(k, dtype=bool), 0.0, math.inf)
    shifts = bootstrap_free_energies(p, counts, g_k)
    spread = np.atleast_2d(np.cov(shifts, rowvar=False))
    return np.maximum(_pairs(covariance), _pairs(spread))


def _pairs(covariance: FloatArray) -> FloatArray:
    """Standard errors (K, K) of f_j - f_i from the covariance of f_k - f_0, k > 0."""
    full = np.pad(covariance, ((1, 0), (1, 0)))
    variance = np.diag(full)
    return np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2.0 * full, 0.0))

"""Multistate Bennett acceptance ratio."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from helmflow.errors import ConvergenceError, InputError
from helmflow.estimators.bar import bar_root
from helmflow.estimators.bootstrap import (
    NO_OVERLAP,
    asymptotic_covariance,
    bootstrap_free_energies,
)
from helmflow.estimators.estimate import Estimate, known
from helmflow.estimators.inputs import FloatArray, as_float_array, as_inefficiency
from helmflow.normal_equations import solve_normal_equations

_RESIDUAL_LIMIT = 1e-5
"""Largest accepted relative violation of sum_n p_nk = n_k."""

_STEPS, _HALVINGS = 100, 40


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
    another state. Errors between states that no chain of shared samples connects are infinite, the
    others the larger of the asymptotic and the bootstrap one, both for the
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
    work = potentials - in_own_state
    f_k, groups = _free_energies(work, counts)
    p, _ = _memberships(work, np.array(counts), f_k)
    residual = float(np.abs(p.sum(axis=0) / counts - 1.0).max())
    if not residual < _RESIDUAL_LIMIT:
        raise ConvergenceError(f"mbar: occupation numbers off by {residual:.1e}", residual)
    stderr = _pair_stderrs(p, counts, g_k, groups)
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


def _free_energies(work: FloatArray, counts: list[int]) -> tuple[FloatArray, list[list[int]]]:
    """f_k (K,), and the groups of states that share samples, in which alone it is known."""
    ends = np.cumsum(counts)
    f = np.zeros(len(counts))
    groups = [[k] for k in range(len(counts))]
    order = [(k, k + 1) for k in range(len(counts) - 1)]
    order += [(i, j) for j in range(len(counts)) for i in range(j - 1)]
    apart = {}
    for i, j in order:  # neighbours first: where they share samples, no other pair is looked at
        one, two = (next(group for group in groups if k in group) for k in (i, j))
        if one is two:
            continue
        up, down = (work[b, ends[a] - counts[a] : ends[a]] for a, b in ((i, j), (j, i)))
        if not (np.isfinite(up).any() and np.isfinite(down).any()):
            continue
        step, shared = bar_root(up, down)
        apart[i, j] = step
        if shared > NO_OVERLAP:
            f[two] += f[i] + step - f[j]
            one += two
            groups.remove(two)
    for (i, j), step in apart.items():  # any offset will do where nothing is known of it
        one, two = (next(group for group in groups if k in group) for k in (i, j))
        if one is not two and one is groups[0]:
            f[two] += f[i] + step - f[j]
    sample_of = np.repeat(np.arange(len(counts)), counts)
    for group in groups:
        if len(group) > 1:
            own = np.isin(sample_of, group)
            solved = _newton(work[group][:, own], np.array(counts)[group], f[group])
            f[group] += solved - solved[0] - (f[group] - f[group][0])
    return f, [sorted(group) for group in groups]


def _newton(work: FloatArray, counts: FloatArray, f: FloatArray) -> FloatArray:
    """Free energies (K,) of states that share samples, from a start.

    They minimise the convex ``sum_n ln sum_k n_k exp(f_k - u_kn) - sum_k n_k f_k``, whose gradient
    is ``sum_n p_nk - n_k``: Newton steps, halved until they lower it.
    """
    f, p, height = f.copy(), *_memberships(work, counts, f)
    for _ in range(_STEPS):
        off = (counts - p.sum(axis=0))[1:]
        normal = np.diag(p.sum(axis=0)) - p.T @ p
        ridge = 1e-14 * np.diag(normal)[1:]
        step = solve_normal_equations(normal[1:, 1:], off, ridge).coefficients
        step = np.concatenate([[0.0], step])
        for _ in range(_HALVINGS):
            tried = _memberships(work, counts, f + step)
            if tried[1] <= height + 1e-12 * abs(height):
                break
            step *= 0.5
        f, (p, height) = f + step, tried
        if np.abs(step).max() < 1e-13 * (1.0 + np.abs(f).max()):
            break
    return f


def _memberships(work: FloatArray, counts: FloatArray, f: FloatArray) -> tuple[FloatArray, float]:
    """Chances (N, K) that samples belong to states, and the height of the objective."""
    log_p = (np.log(counts) + f)[:, None] - work
    top = log_p.max(axis=0)
    p = np.exp(log_p - top)
    total = p.sum(axis=0)
    height = float((top + np.log(total)).sum() - counts @ f)
    return (p / total).T.copy(), height


def _pair_stderrs(
    p: FloatArray, counts: list[int], g_k: list[float], groups: list[list[int]]
) -> FloatArray:
    """Standard errors (K, K) of f_j - f_i, infinite between groups."""
    errors = np.where(np.eye(p.shape[1], dtype=bool), 0.0, math.inf)
    sample_of = np.repeat(np.arange(len(counts)), counts)
    for group in groups:
        own = p[np.isin(sample_of, group)][:, group]
        n, g = [counts[k] for k in group], [g_k[k] for k in group]
        covariance = asymptotic_covariance(own, n, g) if len(group) > 1 else None
        if covariance is not None:
            spread = np.atleast_2d(np.cov(bootstrap_free_energies(own, n, g), rowvar=False))
            errors[np.ix_(group, group)] = np.maximum(_pairs(covariance), _pairs(spread))
    return errors


def _pairs(covariance: FloatArray) -> FloatArray:
    """Standard errors (K, K) of f_j - f_i from the covariance of f_k - f_0, k > 0."""
    full = np.pad(covariance, ((1, 0), (1, 0)))
    variance = np.diag(full)
    return np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2.0 * full, 0.0))

"""Thermodynamic integration with Stein control variates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helmflow.estimators.estimate import Estimate
from helmflow.normal_equations import solve_normal_equations

Array = np.ndarray

RIDGE = 1e-6
"""Of the size of every control variate: enough for those that are nearly the same function."""


@dataclass(frozen=True)
class Ladder:
    """Nodes and weights of the integral over lambda from 0 to 1, both ends included."""

    lam: Array  # (K,)
    weight: Array  # (K,)

    @classmethod
    def lobatto(cls, n_nodes: int) -> "Ladder":
        """Gauss-Lobatto rule: exact for polynomials of degree 2 n_nodes - 3.

        The end lambda = 0 is the base, whose samples are free and exact; the end lambda = 1 is
        the target, whose samples give observables. Neither costs anything in order compared with
        Gauss-Legendre on the n_nodes - 1 other nodes.
        """
        legendre = np.polynomial.legendre.Legendre.basis(n_nodes - 1)
        x = np.concatenate([[-1.0], np.sort(legendre.deriv().roots().real), [1.0]])
        weight = 1.0 / (n_nodes * (n_nodes - 1) * legendre(x) ** 2)
        return cls(0.5 * (x + 1.0), weight)


@dataclass(frozen=True)
class Integral:
    """Result of one integration, node by node; everything in kT."""

    estimate: Estimate
    plain: Estimate  # the same samples without control variates
    weight: Array  # (K,) of the quadrature
    mean: Array  # (K,) <w> at each node, control variates used
    stderr: Array  # (K,)
    mean_plain: Array  # (K,)
    stderr_plain: Array  # (K,)
    residual: list[Array]  # (T, B) per node: w minus its fitted control variate
    spread: Array  # (K,) standard deviation of w
    residual_spread: Array  # (K,)


def thermodynamic_integration(
    work: Sequence[Array],
    controls: Sequence[Array] | None,
    ladder: Ladder,
    *,
    degree: int = 3,
) -> Integral:
    """Free energy difference as the integral of the mean work over lambda.

    delta_f = int_0^1 < w >_lambda d lambda,   w = u_B - u_A,   u_lambda = u_A + lambda w

    work: one array (T, B) per node, T successive samples of B independent chains.
    controls: one array (F, T, B) per node of functions whose exact mean under u_lambda is zero, or
    None. Their coefficients are polynomials of ``degree`` in lambda, fitted by least squares on
    one half of the chains and used on the other half, so that the mean stays unbiased. The error
    comes from the scatter of the chain means, hence includes autocorrelation.
    (Stein control variates: Oates et al., doi:10.1111/rssb.12185; harmonic mapping: Moustafa et
    al., doi:10.1103/PhysRevE.92.043303.)
    """
    work = [np.asarray(w, dtype=float) for w in work]
    residual = work if controls is None else _residuals(work, controls, ladder, degree)
    estimate, mean, stderr = _integrate(residual, ladder, "ti" if controls is None else "ti+cv")
    plain, mean_plain, stderr_plain = _integrate(work, ladder, "ti")
    return Integral(
        estimate=estimate,
        plain=plain,
        weight=ladder.weight,
        mean=mean,
        stderr=stderr,
        mean_plain=mean_plain,
        stderr_plain=stderr_plain,
        residual=residual,
        spread=np.array([w.std() for w in work]),
        residual_spread=np.array([r.std() for r in residual]),
    )


def _integrate(
    samples: Sequence[Array], ladder: Ladder, method: str
) -> tuple[Estimate, Array, Array]:
    mean = np.array([s.mean() for s in samples])
    stderr = np.array([s.mean(0).std(ddof=1) / math.sqrt(s.shape[1]) for s in samples])
    variance = (ladder.weight * stderr) ** 2
    # Welch-Satterthwaite: how many independent numbers the error bar itself rests on.
    terms = sum(v**2 / (s.shape[1] - 1) for v, s in zip(variance, samples, strict=True))
    freedom = variance.sum() ** 2 / terms if terms > 0.0 else math.inf
    scatter = np.array([s.var() for s in samples])
    sizes = np.array([float(s.size) for s in samples])
    n_eff = float(np.min(np.divide(scatter, stderr**2, out=sizes, where=stderr > 0.0)))
    diagnostics = {"degrees_of_freedom": float(freedom), "n_nodes": float(len(samples))}
    value, error = float(ladder.weight @ mean), float(math.sqrt(variance.sum()))
    return Estimate(value, error, n_eff, method, diagnostics), mean, stderr


def _residuals(
    work: Sequence[Array], controls: Sequence[Array], ladder: Ladder, degree: int
) -> list[Array]:
    """Work minus control variates whose coefficients never saw the chain they are applied to."""
    halves = [
        _fit([w[:, half::2] for w in work], [c[:, :, half::2] for c in controls], ladder, degree)
        for half in (0, 1)
    ]
    residual = [w.copy() for w in work]
    for k, control in enumerate(controls):
        powers = ladder.lam[k] ** np.arange(degree + 1)
        for half in (0, 1):
            b = halves[1 - half].reshape(degree + 1, -1).T @ powers
            residual[k][:, half::2] -= np.tensordot(b, control[:, :, half::2], 1)
    return residual


def _fit(work: Sequence[Array], controls: Sequence[Array], ladder: Ladder, degree: int) -> Array:
    """Coefficients b[p, f] of w ~ sum b[p, f] lambda^p S_f minimising the integral's variance."""
    normal, right = 0.0, 0.0
    for lam, weight, w, control in zip(ladder.lam, ladder.weight, work, controls, strict=True):
        s = control.reshape(len(control), -1)
        s = s - s.mean(1, keepdims=True)
        y = w.ravel() - w.mean()
        powers = lam ** np.arange(degree + 1)
        scale = (weight / y.size) ** 2
        normal = normal + scale * np.kron(np.outer(powers, powers), s @ s.T)
        right = right + scale * np.kron(powers, s @ y)
    return solve_normal_equations(normal, right, RIDGE * np.diag(normal)).coefficients

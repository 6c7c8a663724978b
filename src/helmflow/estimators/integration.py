"""Thermodynamic integration with Stein control variates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helmflow.estimators.estimate import Estimate
from helmflow.estimators.nodes import Fit, Nodes
from helmflow.normal_equations import solve_normal_equations
from helmflow.polynomials import monomials

Array = np.ndarray

DEGREE = 3
"""Of the polynomials in lambda by which the weights of control variates follow the path."""

RIDGE = 1e-6
"""Of the size of every control variate: enough for those that are nearly the same function."""


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
    residual: Sequence[Array]  # (T, B) per node: w minus its fitted control variate
    spread: Array  # (K,) standard deviation of w
    residual_spread: Array  # (K,)


def least_variance(nodes: Nodes) -> Array:
    """Weights (K, F) of the Stein functions that minimise the variance of the integral.

    Polynomials in lambda of degree `DEGREE`, fewer for few nodes.
    """
    basis = monomials(nodes.lam, min(DEGREE, len(nodes.lam) - 2) + 1)
    sizes = np.array([w.size for w in nodes.work])
    normal, right = nodes.regression(basis, (nodes.weight / sizes) ** 2)
    solution = solve_normal_equations(normal, right, RIDGE * np.diag(normal))
    return basis @ solution.coefficients.reshape(basis.shape[1], -1)


def thermodynamic_integration(nodes: Nodes, fit: Fit = least_variance) -> Integral:
    """Free energy difference as the integral of the mean work over lambda.

    delta_f = int_0^1 < w >_lambda d lambda,   w = d u_lambda / d lambda

    Stein functions, where the nodes have them, are control variates: their weights are fitted
    (by ``fit``) on one half of the chains and used on the other half, so that the mean stays
    unbiased. The error comes from the scatter of the chain means, hence includes autocorrelation.
    (Stein control variates: Oates et al., doi:10.1111/rssb.12185; harmonic mapping: Moustafa et
    al., doi:10.1103/PhysRevE.92.043303.)
    """
    controlled = nodes.stein is not None
    residual = nodes.cross_fitted(fit) if controlled else nodes.work
    estimate, mean, stderr = _integrate(residual, nodes.weight, "ti+cv" if controlled else "ti")
    plain, mean_plain, stderr_plain = _integrate(nodes.work, nodes.weight, "ti")
    return Integral(
        estimate=estimate,
        plain=plain,
        weight=nodes.weight,
        mean=mean,
        stderr=stderr,
        mean_plain=mean_plain,
        stderr_plain=stderr_plain,
        residual=residual,
        spread=np.array([w.std() for w in nodes.work]),
        residual_spread=np.array([r.std() for r in residual]),
    )


def _integrate(
    samples: Sequence[Array], weight: Array, method: str
) -> tuple[Estimate, Array, Array]:
    mean = np.array([s.mean() for s in samples])
    stderr = np.array([s.mean(0).std(ddof=1) / math.sqrt(s.shape[1]) for s in samples])
    variance = (weight * stderr) ** 2
    # Welch-Satterthwaite: how many independent numbers the error bar itself rests on.
    terms = sum(v**2 / (s.shape[1] - 1) for v, s in zip(variance, samples, strict=True))
    freedom = variance.sum() ** 2 / terms if terms > 0.0 else math.inf
    scatter = np.array([s.var() for s in samples])
    sizes = np.array([float(s.size) for s in samples])
    n_eff = float(np.min(np.divide(scatter, stderr**2, out=sizes, where=stderr > 0.0)))
    diagnostics = {"degrees_of_freedom": float(freedom), "n_nodes": float(len(samples))}
    value, error = float(weight @ mean), float(math.sqrt(variance.sum()))
    return Estimate(value, error, n_eff, method, diagnostics), mean, stderr

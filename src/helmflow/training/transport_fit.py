"""Coefficients of a velocity field by least squares on the work along a path."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helmflow.errors import InputError
from helmflow.estimators.nodes import Nodes
from helmflow.normal_equations import solve_normal_equations
from helmflow.polynomials import legendre

Array = np.ndarray


@dataclass(frozen=True)
class TransportFit:
    """Coefficients (degree + 1, F) of Legendre polynomials in 2 lambda - 1, and how well they do.

    ``residual`` are the variances of d u/d lambda + v.grad u - div v (kT^2), averaged over the
    path, on the samples fitted and on the held-out ones; ``without`` the variance of du/dlambda.
    """

    coefficients: Array
    ridge: float
    residual: tuple[float, float]
    without: float

    def weights(self, lam: Array) -> Array:
        """Of every velocity, (K, F), at lam (K,)."""
        return legendre(lam, len(self.coefficients)) @ self.coefficients


def fit_transport(
    nodes: Nodes,
    families: Array,
    *,
    degree: int = 2,
    ridges: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2),
    held: float = 0.15,
) -> TransportFit:
    """The velocity along which the work is most nearly constant.

    Along dx/dlambda = v the work changes by du/dlambda - (div v - v.grad u), the same for all
    samples if the map is exact, so

        sum_nodes weight Var[ du/dlambda - sum_k c_k(lambda) (div v_k - v_k.grad u) ]

    is minimised over polynomial c_k: a linear problem. The penalty of a coefficient is the ridge
    times the mean size of its family's columns: features that hardly occur get no large
    coefficients, which would explode outside of the samples. The ridge is the one with the least
    residual on the last part of the samples, which the fit does not see. Raises ``InputError``
    for nodes with fewer than 10 samples.
    """
    sizes = np.array([w.size for w in nodes.work])
    if sizes.min() < 10:
        raise InputError("samples", "at least 10 at every node", sizes.min())
    fitted, judged = nodes.split(1.0 - held)
    basis = legendre(nodes.lam, degree + 1)
    normal, right = fitted.regression(basis, nodes.weight / [w.size for w in fitted.work])
    size = np.diag(normal).reshape(degree + 1, -1)
    penalty = np.empty_like(size)
    for family in np.unique(families):
        penalty[:, families == family] = size[:, families == family].mean(1, keepdims=True)
    candidates = []
    for ridge in ridges:
        solution = solve_normal_equations(normal, right, ridge * penalty.ravel())
        coefficients = solution.coefficients.reshape(degree + 1, -1)
        candidates.append((residual(judged, coefficients), ridge, coefficients))
    best = min(candidates, key=lambda candidate: candidate[0])
    return TransportFit(
        coefficients=best[2],
        ridge=best[1],
        residual=(residual(fitted, best[2]), best[0]),
        without=_variance(nodes, judged.work),
    )


def residual(nodes: Nodes, coefficients: Array) -> float:
    """Variance (kT^2) that the velocity leaves, averaged over the path."""
    weights = legendre(nodes.lam, len(coefficients)) @ coefficients
    return _variance(nodes, nodes.corrected(weights))


def _variance(nodes: Nodes, work: Sequence[Array]) -> float:
    return float(sum(c * w.var() for c, w in zip(nodes.weight, work, strict=True)))

"""Coefficients of a transport field by least squares on the work along a path."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import legvander

from helmflow.errors import InputError
from helmflow.normal_equations import solve_normal_equations

Array = np.ndarray


@dataclass(frozen=True)
class PathNode:
    """Samples of u_lambda: slopes d u/d lambda (n,) and Stein functions of the fields (K, n)."""

    lam: float
    weight: float
    slope: Array
    stein: Array

    def columns(self, n: int, first: int) -> "PathNode":
        """Samples of every other of ``n`` chains, where the samples are sweeps over chains."""
        slope = self.slope.reshape(-1, n)[:, first::2].ravel()
        stein = self.stein.reshape(len(self.stein), -1, n)[:, :, first::2]
        return PathNode(self.lam, self.weight, slope, stein.reshape(len(self.stein), -1))

    def explained(self, coefficients: Array) -> Array:
        """What a field (degree + 1, K) explains of every slope: (n,), of mean zero."""
        return (_powers(self.lam, len(coefficients) - 1) @ coefficients) @ self.stein

    def split(self, fraction: float) -> "tuple[PathNode, PathNode]":
        """The first ``fraction`` of the samples, and the rest."""
        cut = round(fraction * self.slope.size)
        parts = (slice(0, cut), slice(cut, None))
        first, second = (
            PathNode(self.lam, self.weight, self.slope[p], self.stein[:, p]) for p in parts
        )
        return first, second


@dataclass(frozen=True)
class TransportFit:
    """Coefficients (degree + 1, K) of Legendre polynomials in 2 lambda - 1, and how well they do.

    ``residual`` are the variances of d u/d lambda + v.grad u - div v (kT^2), averaged over the
    path, on the samples fitted and on the held-out ones; ``without`` the variance of du/dlambda.
    """

    coefficients: Array
    ridge: float
    residual: tuple[float, float]
    without: float


def fit_transport(
    nodes: Sequence[PathNode],
    families: Array,
    *,
    degree: int = 2,
    ridges: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2),
    held: float = 0.15,
) -> TransportFit:
    """The field along which the work is most nearly constant.

    Along dx/dlambda = v the work changes by du/dlambda - (div v - v.grad u), the same for all
    samples if the map is exact, so

        sum_nodes weight Var[ du/dlambda - sum_k c_k(lambda) (div v_k - v_k.grad u) ]

    is minimised over polynomial c_k: a linear problem. The penalty of a coefficient is the ridge
    times the mean size of its family's fields: features that hardly occur get no large
    coefficients, which would explode outside of the samples. The ridge is the one with the least
    residual on the last part of the samples, which the fit does not see. Raises ``InputError``
    for nodes with fewer than 10 samples.
    """
    if any(node.slope.size < 10 for node in nodes):
        raise InputError("samples", "at least 10 at every node", min(n.slope.size for n in nodes))
    pairs = [node.split(1.0 - held) for node in nodes]
    fitted, judged = [p[0] for p in pairs], [p[1] for p in pairs]
    normal, right = _normal_equations(fitted, degree)
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
        without=sum(node.weight * float(node.slope.var()) for node in judged),
    )


def residual(nodes: Sequence[PathNode], coefficients: Array) -> float:
    """Variance (kT^2) that the field leaves, averaged over the path."""
    total = 0.0
    for node in nodes:
        total += node.weight * float((node.slope - node.explained(coefficients)).var())
    return total


def _powers(lam: float, degree: int) -> Array:
    return legvander(np.array([2.0 * lam - 1.0]), degree)[0]


def _normal_equations(nodes: Sequence[PathNode], degree: int) -> tuple[Array, Array]:
    k = len(nodes[0].stein)
    normal = np.zeros((degree + 1, k, degree + 1, k))
    right = np.zeros((degree + 1, k))
    for node in nodes:
        s = node.stein - node.stein.mean(1, keepdims=True)
        y = node.slope - node.slope.mean()
        powers = _powers(node.lam, degree)
        scale = node.weight / y.size
        normal += np.einsum("p,q,kl->pkql", scale * powers, powers, s @ s.T)
        right += scale * np.outer(powers, s @ y)
    return normal.reshape((degree + 1) * k, -1), right.ravel()

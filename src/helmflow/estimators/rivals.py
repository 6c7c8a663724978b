"""What can contradict an integral: its own control variates, Bennett's ratio, and its slopes.

All differences are of estimates from the same samples, with the error that their correlation
leaves: that of the scatter of whole chains. A difference of two numbers that fluctuate together is
known far better than either of them.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import f as fisher

from helmflow.estimators.bar import bar_response
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import Integral
from helmflow.estimators.nodes import Nodes

Array = np.ndarray

_DEPENDENT = 1e-6
"""Part of the largest variance below which a combination of Stein functions is rounding."""

_SKEWED = 1.5
"""Divides T^2: means of skewed functions scatter more than their own spread says. Of 30 sound runs
of eight molecules of ice the deviates had rms 1.4 and one of 4.4 without it, 0.7 and 2.9 with."""


def without_control_variates(nodes: Nodes, integral: Integral) -> Estimate:
    """The integral with control variates minus that without: zero if their means are."""
    moved = [
        weight * (r - w).mean(0)
        for weight, w, r in zip(nodes.weight, nodes.work, integral.residual, strict=True)
    ]
    value, chains = sum(m.mean() for m in moved), [m / len(m) for m in moved]
    return _difference(float(value), chains, integral.estimate.n_eff)


def chance_of_means(nodes: Nodes) -> float | None:
    """Probability that Stein functions of mean zero have such means; None where there are none.

    The square of the larger of two probabilities, of every second chain and of the others: skewed
    functions deceive one of them now and then, when what is rare is missing, and hardly both.
    """
    if nodes.stein is None:
        return None
    chances = [_chance_of_half(nodes.stein, half) for half in (0, 1)]
    known = [chance for chance in chances if chance is not None]
    return max(known) ** len(known) if known else None


def _chance_of_half(steins: Sequence[Array], half: int) -> float | None:
    """Hotelling's T^2 of the sums of all functions over all nodes, in every second chain.

    With the covariance of the chain means, and lowered for skewness. Nodes are not weighted by
    their variances: a sample that lacks what is rare has a small variance and a mean that is off.
    Directions that the number of chains does not resolve are left out, the least certain first.
    """
    size = len(steins[0])
    total, covariance, freedom = np.zeros(size), np.zeros((size, size)), 0
    for stein in steins:
        means = stein[:, :, half::2].mean(1)
        n = means.shape[1]
        if n < 2:
            continue
        centred = means - means.mean(1, keepdims=True)
        total = total + means.sum(1)
        covariance = covariance + n / (n - 1) * centred @ centred.T
        freedom += n - 1
    spread = np.sqrt(np.diag(covariance))
    seen = spread > 0.0
    scaled = total[seen] / spread[seen]
    correlation = covariance[np.ix_(seen, seen)] / np.outer(spread[seen], spread[seen])
    eigenvalues, directions = np.linalg.eigh(correlation)
    most = min(int((eigenvalues > _DEPENDENT * eigenvalues.max(initial=0.0)).sum()), freedom // 2)
    if most == 0:
        return None
    along = directions[:, -most:].T @ scaled
    t_squared = float((along**2 / eigenvalues[-most:]).sum()) / _SKEWED
    left = freedom - most + 1
    return float(fisher.sf(t_squared * left / (freedom * most), most, left))


def against_bar(nodes: Nodes) -> Estimate:
    """The integral without control variates minus the sum of Bennett's ratios between neighbours.

    Both use the works alone; what is left is the error of the quadrature, or a broken node. Errors
    to first order in the weight of every chain; NaN where neighbours share nothing.
    """
    chains = [
        weight * (w.mean(0) - w.mean()) / w.shape[1]
        for weight, w in zip(nodes.weight, nodes.work, strict=True)
    ]
    value = float(sum(c * w.mean() for c, w in zip(nodes.weight, nodes.work, strict=True)))
    for k, gap in enumerate(np.diff(nodes.lam)):
        rung, lower, upper = bar_response(gap * nodes.work[k], -gap * nodes.work[k + 1])
        value -= rung
        chains[k] = chains[k] - lower.sum(0)
        chains[k + 1] = chains[k + 1] - upper.sum(0)
    return _difference(value, chains, float(min(w.shape[1] for w in nodes.work)))


def quadrature_error(nodes: Nodes, integral: Integral) -> Estimate:
    """A quadrature that knows the slopes minus the one that does not, and its statistical error.

        d<w>_lambda / d lambda = -var_lambda(w)

    is measured at every node. The interpolant p of the means has the slopes D<w>; Hermite's one of
    degree 2K - 1 has these, and its integral differs by ``sum_k b_k (-var_k - (D <w>)_k)`` with
    ``b_k = int (lambda - lambda_k) l_k(lambda)^2``, l_k of Lagrange. Valid on the straight path.
    """
    slopes, weights = _hermite(nodes.lam)
    variance = np.array([w.var() for w in nodes.work])
    error = float(weights @ (-variance - slopes @ integral.mean))
    scatter = [((w - w.mean()) ** 2).mean(0) for w in nodes.work]
    noise = np.array([s.std(ddof=1) / math.sqrt(len(s)) for s in scatter])
    stderr = math.hypot(*(weights * noise), *((weights @ slopes) * integral.stderr))
    return Estimate(error, stderr, integral.estimate.n_eff, "quadrature")


def _hermite(lam: Array) -> tuple[Array, Array]:
    """Slopes (K, K) at the nodes of Lagrange's polynomials, and the weights b (K,)."""
    apart = lam[:, None] - lam + np.eye(len(lam))
    products = apart.prod(1)
    slopes = products[:, None] / products / apart
    np.fill_diagonal(slopes, (1.0 / apart).sum(1) - 1.0)
    x, gauss = np.polynomial.legendre.leggauss(len(lam) + 1)  # exact to degree 2K + 1
    away = 0.5 * (x + 1.0) - lam[:, None]
    lagrange = np.array([np.delete(away, k, 0).prod(0) for k in range(len(lam))])
    return slopes, (away * (lagrange / products[:, None]) ** 2) @ (0.5 * gauss)


def _difference(value: float, chains: Sequence[Array], n_eff: float) -> Estimate:
    """``chains`` (B,) per node: what every chain adds to the value."""
    variance = 0.0
    for part in chains:
        variance += len(part) ** 2 / (len(part) - 1) * float(part.var())
    return Estimate(value, math.sqrt(variance), n_eff, "difference")

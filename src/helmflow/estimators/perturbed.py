"""States that nobody sampled, from samples of others."""

import numpy as np
from scipy.special import logsumexp

from helmflow.estimators.inputs import FloatArray

_DEPENDENT = 1e-10
"""Of the largest eigenvalue: directions of the covariance that are rounding."""


def with_unsampled(
    u_kn: FloatArray, n_k: FloatArray, f_k: FloatArray, g: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """f (K,) of all states, and standard errors (K, K) of f_j - f_i, some of n_k (K,) zero.

    And the logarithms (K, N) of the weights that carry all samples to each state.

    ``f_i = -ln sum_n exp(-u_in) / sum_k n_k exp(f_k - u_kn)``; ``f_k`` (K,) need be right for
    states with samples only. With the weights W_nk of every state, the covariance is
    ``W^T (1 - W N W^T)^+ W``, here by the singular values of W, times the inefficiency ``g``.
    Source: M. R. Shirts, J. D. Chodera, doi:10.1063/1.2978177, appendix D.
    """
    sampled = n_k > 0
    occupied = np.log(n_k[sampled]) + f_k[sampled]
    mixture = np.asarray(logsumexp(occupied[:, None] - u_kn[sampled], axis=0))
    f = -np.asarray(logsumexp(-u_kn - mixture, axis=1))
    log_weights = f[:, None] - u_kn - mixture
    weights = np.exp(log_weights)
    _, s, v = np.linalg.svd(weights.T, full_matrices=False)
    factor = s[:, None] * v
    core = np.eye(len(s)) - (factor * n_k) @ factor.T
    inverse = np.linalg.pinv(core, rcond=_DEPENDENT, hermitian=True)
    theta = factor.T @ inverse @ factor
    variance = np.diag(theta)[:, None] + np.diag(theta) - 2.0 * theta
    return f - f[0], np.sqrt(g * np.maximum(variance, 0.0)), log_weights

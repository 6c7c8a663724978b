"""Errors of BAR and MBAR from membership probabilities: asymptotic and by resampling.

At the solution sample n belongs to state k with probability ``p_nk = n_k W_nk`` (rows sum to
one, columns to n_k). Everything about the error follows from this one matrix.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from helmflow.estimators.inputs import FloatArray

MIN_EFFECTIVE = 10.0
"""Effective samples below which an asymptotic error is not believed."""

NO_OVERLAP = 1e-6
"""Expected number of shared samples below which two states count as disconnected."""

_N_REPLICAS, _MIN_REPLICAS = 100, 25
_MAX_DRAWS = 2 * 10**7  # fewer replicas of very many samples: seconds, not minutes
_SEED = 20021  # fixed: the same data always give the same error bar
_CHUNK = 1 << 20  # numbers held at a time
_NEWTON_STEPS = 6


def resampling_counts(n_k: Sequence[int], g_k: Sequence[float]) -> Iterator[FloatArray]:
    """Bootstrap multiplicities (replicas, sum n_k), in chunks, 100 replicas in all.

    Above 200 000 samples there are fewer replicas, at least 25.

    Each state k keeps its total n_k but is drawn from only n_k / g_k independent samples, each
    counting g_k times, so that the spread is that of correlated data.
    """
    rng = np.random.default_rng(_SEED)
    n_replicas = min(max(_MAX_DRAWS // sum(n_k), _MIN_REPLICAS), _N_REPLICAS)
    chunk = min(max(_CHUNK // sum(n_k), 1), n_replicas)
    for start in range(0, n_replicas, chunk):
        rows = min(chunk, n_replicas - start)
        yield np.concatenate(
            [_counts(rng, rows, n, g) for n, g in zip(n_k, g_k, strict=True)], axis=1
        )


def _counts(rng: np.random.Generator, rows: int, n: int, g: float) -> FloatArray:
    n_draws = min(max(round(n / g), 2), n)
    drawn = rng.integers(n, size=(rows, n_draws)) + n * np.arange(rows)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
    return counts * (n / n_draws)


def asymptotic_covariance(
    p: FloatArray, n_k: Sequence[int], g_k: Sequence[float]
) -> FloatArray | None:
    """Covariance (K-1, K-1) of f_k - f_0 for p (N, K), samples ordered by state.

    ``H^-1 J H^-1`` with ``H = sum_n diag(p_n) - p_n p_n^T`` and
    ``J = sum_k g_k n_k Cov_k(p)``, row and column 0 left out. None if H is singular: some
    states share no sample with the others.
    """
    q = p[:, 1:]
    hessian = np.diag(q.sum(axis=0)) - q.T @ q
    # The diagonal as sum p (1 - p): no cancellation where states hardly overlap.
    np.fill_diagonal(hessian, np.einsum("nk,nk->k", q, _complement(p)[:, 1:]))
    score = np.zeros_like(hessian)
    for rows, g in zip(np.split(q, np.cumsum(n_k)[:-1]), g_k, strict=True):
        centred = rows - rows.mean(axis=0)
        n = rows.shape[0]
        score += g * n / (n - 1) * centred.T @ centred
    diagonal = np.diag(hessian)
    if diagonal.min() < NO_OVERLAP:
        return None
    scale = 1.0 / np.sqrt(diagonal)
    scaled = hessian * np.outer(scale, scale)
    if np.linalg.eigvalsh(scaled)[0] < NO_OVERLAP / p.shape[0]:
        return None
    inverse = np.linalg.inv(scaled) * np.outer(scale, scale)
    covariance = inverse @ score @ inverse
    return covariance if np.isfinite(covariance).all() else None


def bootstrap_free_energies(p: FloatArray, n_k: Sequence[int], g_k: Sequence[float]) -> FloatArray:
    """Shifts (replicas, K-1) of f_k - f_0 in bootstrap replicas of the data behind p (N, K).

    Each replica solves ``sum_n c_n p_nk e_k / sum_l p_nl e_l = n_k`` for ``e = exp(f)`` by a
    damped Newton iteration from the solution of the full data.
    """
    return np.concatenate([_solve(p, n_k, c) for c in resampling_counts(n_k, g_k)])


def _solve(p: FloatArray, n_k: Sequence[int], counts: FloatArray) -> FloatArray:
    first, q = p[:, 0], p[:, 1:]
    target = np.asarray(n_k[1:], dtype=np.float64)
    shift = np.zeros((counts.shape[0], q.shape[1]))
    damping = 1e-3 * (np.diag(q.sum(axis=0)) - q.T @ q)
    for _ in range(_NEWTON_STEPS):
        e = np.exp(shift)
        mixture = first + e @ q.T
        ratio = counts / mixture
        occupied = e * (ratio @ q)
        curvature = _second_moments(ratio / mixture, q) * e[:, :, None] * e[:, None, :]
        hessian = occupied[:, :, None] * np.eye(q.shape[1]) - curvature + damping
        step = np.linalg.solve(hessian, (target - occupied)[:, :, None])[:, :, 0]
        shift += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-6:
            break
    return shift


def _second_moments(weights: FloatArray, q: FloatArray) -> FloatArray:
    """Sums over n of weights_bn q_ni q_nj, (b, k, k)."""
    columns = [
        np.stack([weights @ (q[:, i] * q_j) for q_j in q.T], axis=1) for i in range(q.shape[1])
    ]
    return np.stack(columns, axis=1)


def _complement(p: FloatArray) -> FloatArray:
    """1 - p_nk as the sum of the other columns, exact where p is close to one."""
    k = p.shape[1]
    return p @ (np.ones((k, k)) - np.eye(k))

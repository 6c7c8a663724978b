"""Integrated autocorrelation time by the Gamma method."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from helmflow.errors import InputError
from helmflow.estimators.inputs import FloatArray, as_float_array

_RELIABLE_LENGTH = 50.0
"""Autocorrelation times a chain must span before tau_int is believed."""

_SHORT = 0.45
"""Growth of ln g with (50 tau_int)/n - 1. What a short series hides of its own correlation: errors
of means of autoregressive series of 2 to 40 times their tau had chi^2 of 12 to 1.3 without it."""

_BY_CHANCE = 1e-6
"""Probability of a row of equal values, below which a chain sat still."""

_WINDOW_FACTOR = 1.5
"""S of Wolff's automatic windowing: assumed ratio of exponential and integrated time."""


@dataclass(frozen=True)
class Autocorrelation:
    """Integrated autocorrelation time of a stationary series.

    ``tau_int = 1/2 + sum_t rho(t)``, in steps: 1/2 for white noise (emcee's tau is twice, and
    pymbar's tau is ``tau_int - 1/2``). ``stderr`` is its standard error, ``window`` the lag at
    which the sum stops, ``g = 2 tau_int`` the statistical inefficiency, larger where all chains
    together are shorter than 50 tau_int and hide a part of it, or where a chain sat still,
    ``n_eff`` = n / g. ``reliable`` is
    false if a chain is shorter than 50 tau_int or if the window never closed. A constant series
    has an infinite tau_int and no effective samples.
    """

    tau_int: float
    stderr: float
    window: int
    g: float
    n_eff: float
    reliable: bool

    def error_of_mean(self, variance: float) -> float:
        """``sqrt(variance / n_eff)``; infinite without effective samples."""
        return math.sqrt(variance / self.n_eff) if self.n_eff > 0.0 else math.inf


def integrated_autocorrelation(series: ArrayLike) -> Autocorrelation:
    """Integrated autocorrelation time of one series (n,) or of replicas (chains, n).

    ``tau_int(W) = 1/2 + sum_{t=1}^W Gamma(t)/Gamma(0)``, the window W by Wolff's criterion with
    S = 1.5, corrected for the bias of the subtracted mean. Replicas share one mean, so chains
    that disagree show up as a long correlation. Anticorrelation is not credited:
    tau_int >= 1/2. Raises InputError for fewer than 4 steps, NaN or inf.
    Source: U. Wolff, doi:10.1016/S0010-4655(03)00467-3.
    """
    ndim = getattr(series, "ndim", None) or np.ndim(series)
    chains = as_float_array("series", series, ndim=2 if ndim == 2 else 1)
    chains = np.atleast_2d(chains)
    n_steps, n = chains.shape[1], chains.size
    if n_steps < 4 or n == 0:
        raise InputError("series", "at least 4 steps per chain", f"shape {chains.shape}")
    if not np.isfinite(chains).all():
        raise InputError("series", "finite values", "inf")
    gamma = _autocovariance(chains)
    if gamma[0] <= np.finfo(np.float64).eps ** 2 * float(np.abs(chains).max()) ** 2:
        return Autocorrelation(math.inf, 0.0, 0, math.inf, 0.0, reliable=False)
    tau_of = 0.5 + np.cumsum(gamma[1:] / gamma[0])
    lag = np.arange(1, tau_of.size + 1)
    clipped = np.maximum(tau_of, 0.5 + 1e-12)
    decay = _WINDOW_FACTOR / np.log((2.0 * clipped + 1.0) / (2.0 * clipped - 1.0))
    stop = np.exp(-lag / decay) - decay / np.sqrt(lag * n) < 0.0
    closed = bool(stop.any())
    window = int(np.argmax(stop)) + 1 if closed else tau_of.size
    corrected = tau_of[window - 1] * (1.0 + (2.0 * window + 1.0) / n) / (1.0 + 1.0 / n)
    tau = max(float(corrected), 0.5)
    short = max(_RELIABLE_LENGTH * tau / n - 1.0, 0.0)
    g = max(2.0 * tau * math.exp(_SHORT * short), _standing(chains))
    g = min(g, float(n))
    return Autocorrelation(
        tau_int=tau,
        stderr=2.0 * tau * math.sqrt(abs(window + 0.5 - tau) / n),
        window=window,
        g=max(g, 1.0),
        n_eff=n / max(g, 1.0),
        reliable=closed and n_steps >= _RELIABLE_LENGTH * tau,
    )


def _standing(chains: FloatArray) -> float:
    """``sum L^2 / n``, L steps of a chain (c, n) in a row at one value that is rare elsewhere.

    What a value of that much weight adds to the variance of the mean. Values that are common by
    themselves, such as zeros, come in rows by chance and do not count.
    """
    total = 0.0
    for chain in chains:
        starts = np.flatnonzero(np.diff(chain, prepend=np.nan) != 0.0)
        lengths = np.diff(starts, append=chain.size)
        longest = int(lengths.argmax())
        length = int(lengths[longest])
        if length == 1:
            continue
        elsewhere = int((chain == chain[starts[longest]]).sum()) - length
        odds = elsewhere / max(chain.size - length, 1)
        if chain.size * odds ** (length - 1) < _BY_CHANCE:
            total += length**2
    return total / chains.size


def _autocovariance(chains: FloatArray) -> FloatArray:
    """Gamma(t) for lags up to half a chain, all chains (c, n) about their common mean."""
    n_chains, n = chains.shape
    n_lags = n // 2 + 1
    deviation = chains - chains.mean()
    spectrum = np.fft.rfft(deviation, n=2 * n, axis=1)
    products = np.fft.irfft((np.abs(spectrum) ** 2).sum(axis=0), n=2 * n)[:n_lags]
    return products / (n_chains * (n - np.arange(n_lags)))

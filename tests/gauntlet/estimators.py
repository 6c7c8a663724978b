"""Faults of data given to estimators alone: no grade, so that the error bar must say it all."""

import math

import numpy as np

import helmflow as hf
from exact import autoregressive, gaussian_works
from gauntlet.fault import Fault

REPLICAS = 60
RMS = 2.0
"""Error bars that independent estimates may scatter: 1 is right, 2 is a bar half as long."""


def replicas(name, estimate, exact):
    """``estimate(rng)`` of independent data, many times."""

    def run(folder, patch):
        rng = np.random.default_rng(7)
        return [estimate(rng) for _ in range(REPLICAS)]

    return Fault("estimator", name, run, exact, bars=RMS)


def once(name, call, exact=None):
    """What must be refused, or be right."""
    return Fault("estimator", name, lambda folder, patch: [call(np.random.default_rng(7))], exact)


def works(n, sigma, m=None):
    return lambda rng: gaussian_works(rng, n, m or n, delta_f=3.0, sigma=sigma)


def chains(rng, n, rho, spread=1.0):
    """Correlated works that obey Crooks' theorem with delta_f = 3."""
    z = autoregressive(rng, 2, n, rho)
    return 3.0 + 0.5 * spread**2 + spread * z[0], -3.0 + 0.5 * spread**2 + spread * z[1]


def chained_bar(rho, n):
    """BAR with the inefficiencies that the series themselves say."""

    def estimate(rng):
        w_f, w_r = chains(rng, n, rho)
        g = tuple(max(hf.integrated_autocorrelation(w).g, 1.0) for w in (w_f, w_r))
        return hf.bar(w_f, w_r, g=g)

    return estimate


def series_mean(rho, n):
    """The mean of one series."""

    def estimate(rng):
        x = autoregressive(rng, 1, n, rho)[0]
        found = hf.integrated_autocorrelation(x)
        return hf.Estimate(float(x.mean()), float(found.stderr), n / found.g, "mean")

    return estimate


def weights(s2, n):
    """A mean of x over N(s, 1) from samples of N(0, 1): exact s."""
    shift = math.sqrt(s2)

    def estimate(rng):
        x = rng.normal(size=n)
        return hf.reweight(x, shift * x)

    return estimate


def states(rng, centres, n):
    """K normal states of width one: every f is the same."""
    x = np.concatenate([rng.normal(c, 1.0, n) for c in centres])
    return 0.5 * (x[None] - np.array(centres)[:, None]) ** 2


def multistate(centres, n):
    def estimate(rng):
        found = hf.mbar(states(rng, centres, n), [n] * len(centres))
        return found.difference(0, len(centres) - 1)

    return estimate


def constant_chain(rng):
    """Works that say 3 from one side and 2 from the other: the bar must cover both."""
    return hf.bar(np.full(200, 3.0), np.full(200, -2.0))


def stuck(rng):
    """A chain that sat still for most of its length."""
    w_f, w_r = gaussian_works(rng, 200, 200, delta_f=3.0, sigma=1.0)
    w_f[20:] = w_f[20]
    g = max(hf.integrated_autocorrelation(w_f).g, 1.0)
    return hf.bar(w_f, w_r, g=(g, 1.0))


def quantities(rng):
    from openmm import unit

    kt = unit.MOLAR_GAS_CONSTANT_R * 300 * unit.kelvin
    pair = [(w * kt).in_units_of(unit.kilocalorie_per_mole) for w in works(1000, 1.0)(rng)]
    return hf.bar(*pair)


def with_nan(rng):
    w_f, w_r = works(200, 1.0)(rng)
    w_f[:3] = math.nan
    return hf.bar(w_f, w_r)


def infinite(rng):
    w_f, w_r = works(200, 1.0)(rng)
    return hf.bar(np.full_like(w_f, math.inf), w_r)


def wrong_sign(rng):
    w_f, w_r = works(1000, 3.0)(rng)
    return hf.bar(w_f, -w_r)


FAULTS = [
    *(
        replicas(
            f"bar, {n} works of spread {s:g}", lambda r, n=n, s=s: hf.bar(*works(n, s)(r)), 3.0
        )
        for n, s in ((20, 2.0), (50, 4.0), (200, 5.0), (200, 8.0))
    ),
    replicas("bar, 10 works against 1000", lambda r: hf.bar(*works(10, 3.0, 1000)(r)), 3.0),
    *(
        replicas(
            f"fep, {n} works of spread {s:g}", lambda r, n=n, s=s: hf.fep(works(n, s)(r)[0]), 3.0
        )
        for n, s in ((20, 2.0), (200, 3.0), (200, 5.0))
    ),
    *(
        replicas(f"reweight, {n} weights of variance {s2:g}", weights(s2, n), math.sqrt(s2))
        for n, s2 in ((50, 1.0), (200, 4.0), (200, 9.0))
    ),
    replicas("bar, 100 steps of tau 10", chained_bar(0.9, 100), 3.0),
    replicas("bar, 100 steps of tau 50", chained_bar(0.98, 100), 3.0),
    replicas("mean of 50 steps of tau 20", series_mean(0.95, 50), 0.0),
    replicas("mean of 200 steps of tau 100", series_mean(0.99, 200), 0.0),
    replicas("mbar, three states 4 apart", multistate((0.0, 4.0, 8.0), 100), 0.0),
    replicas("mbar, three states 6 apart", multistate((0.0, 6.0, 12.0), 100), 0.0),
    once("mbar, three states 40 apart", multistate((0.0, 40.0, 80.0), 200), 0.0),
    once("bar of constant chains", constant_chain, 3.0),
    replicas("bar of a chain that sat still", stuck, 3.0),
    once("bar of kcal/mol with its unit", quantities, 3.0),
    once("bar with NaN", with_nan, 3.0),
    once("bar with infinite works", infinite),
    once("bar with the sign of the reverse works", wrong_sign, 3.0),
]

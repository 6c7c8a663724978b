"""Sound systems of every family: each has an exact value, or one from a far longer run."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import helmflow as hf
from exact import autoregressive
from gauge_systems import U1, gauge
from gauntlet import crystals, densities, fields, openmm_data, two_states
from gauntlet import gauge as gauge_faults
from gauntlet.known import KNOWN, STDERR
from gaussian_pair import DELTA_F, states


@dataclass(frozen=True)
class Sound:
    """``run(folder, seed)`` of a system whose right value is ``exact``, known to ``stderr``."""

    family: str
    name: str
    run: Callable[[Path, int], hf.Result]
    exact: float
    stderr: float = 0.0

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def crystal(name, method, load, known, target):
    def run(folder, seed):
        return hf.free_energy(load(folder), seed=seed, method=method, target_error=target)

    return Sound(f"crystal {method}", name, run, KNOWN[known], STDERR[known])


def field(case, method="auto"):
    def run(folder, seed):
        system = fields.shipped(folder, case)
        return hf.free_energy(system, seed=seed, method=method, target_error=5e-3)

    size = f"{case[0]} x {case[1]}, m^2 = {case[2]:g}, {method}"
    return Sound("field", size, run, fields.exact_of(case))


def tilted(case, tilt):
    """Two unequal wells, as an energy of a user."""

    def run(folder, seed):
        return hf.free_energy(fields.own(folder, case, tilt=tilt), seed=seed, target_error=5e-3)

    name = f"{case[0]} x {case[1]}, m^2 = {case[2]:g}, unequal wells"
    return Sound("field", name, run, fields.exact_of(case, tilt))


def density(name, manifold, u, exact=0.0):
    def run(folder, seed):
        return hf.free_energy(densities.density(folder, manifold, u), seed=seed)

    return Sound("density", name, run, exact)


def link(folder, seed):
    return hf.free_energy(gauge(folder, None, gauge_faults.ONE_LINK), seed=seed)


def loops(shape, beta):
    def run(folder, seed):
        system = gauge(folder, shape, U1.format(beta=beta))
        return hf.free_energy(system, seed=seed, settings={"flow": {"start": "loops"}})

    volume = math.prod(shape)
    exact = gauge_faults.exact_gauge(1, beta, volume).log_z
    return Sound("gauge", f"U(1), {shape[0]} x {shape[1]}, beta {beta:g}", run, exact)


def pair(name, rho, n, **keywords):
    """Two Gaussian states as Python functions, sampled by AR(1) chains."""

    def run(folder, seed):
        x = two_states.chain(rho, n, 2 * seed)
        y = two_states.chain(rho, n, 2 * seed + 1, 0.5)
        return hf.targeted_fep(two_states.u_a, two_states.u_b, x, y, seed=seed, **keywords).result

    return Sound("states", name, run, two_states.EXACT)


def three(folder, seed):
    u = [lambda x, k=k: 0.5 * k * x.square().sum(1) for k in (1.0, 2.0, 4.0)]
    x = [two_states.normal(800, 10 * seed + k, 2.0 ** (-0.5 * k)) for k in range(3)]
    return hf.multistate(u, x).result


def openmm(name, rho, n, **keywords):
    def run(folder, seed):
        rows = [autoregressive(np.random.default_rng([seed, k]), 9, n, rho) for k in (0, 1)]
        x = [openmm_data.wells(k, normal=r.T.reshape(n, 3, 3)) for k, r in enumerate(rows)]
        return hf.targeted_fep(*states(), *x, seed=seed, **keywords).result

    return Sound("openmm", name, run, DELTA_F)


LINK_EXACT = gauge_faults.single_link(2, 2.0, (0.5, 0.3))[0]
SYSTEMS = [
    *(
        crystal(name, method, load, known, target)
        for method, ice_target in (("auto", 3e-4), ("bar", 1e-3), ("ti", 1e-3))
        for name, load, known, target in (
            ("Lennard-Jones, 8", crystals.eight, "lj_8", ice_target),
            ("ice, 64", crystals.ice, "ice_64", ice_target),
        )
    ),
    field((2, 4, 0.0, 1.0)),
    field((3, 3, 0.0, 1.0)),
    field((2, 8, 1.0, 2.0)),
    field((2, 4, 0.0, 1.0), "bar"),
    field((2, 4, -4.0, 1.0)),
    tilted((2, 4, -4.0, 1.0), 0.1),
    density("two cosines on T2", "T2", densities.smooth, densities.SMOOTH),
    density("two modes on T1", "T1", densities.circles(0.5, 1.0, 4.0)),
    density("two modes on T2", "T2", densities.circles(0.3, 1.0, 4.0)),
    density("one mode on S2", "S2", densities.plain_fisher),
    density("two modes on S2", "S2", densities.poles(0.4, 5.0)),
    Sound("gauge", "one SU(2) matrix", link, LINK_EXACT),
    loops([4, 4], 1.0),
    loops([4, 8], 2.0),
    pair("Python, independent", 0.0, 1000),
    pair("Python, AR(1) of tau 10", 0.9, 4000),
    pair("Python, AR(1) and a fitted map", 0.9, 4000, map=hf.GaussianFit()),
    Sound("states", "Python, three states", three, two_states.EXACT),
    openmm("wells, independent", 0.0, 400),
    openmm("wells, AR(1) of tau 5", 0.8, 4000),
    openmm("wells, AR(1) and a fitted map", 0.8, 4000, map=hf.GaussianFit()),
]

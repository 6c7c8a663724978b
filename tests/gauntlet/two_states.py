"""Faults of two sampled states given as Python functions: data, units, maps, energies."""

import math

import numpy as np
import torch

import helmflow as hf
from exact import autoregressive
from gauntlet.fault import Fault
from helmflow.bijectors.base import Bijector

EXACT = 1.5 * math.log(4.0)
"""u_A = x^2/2 and u_B = 2 x^2 in three dimensions."""

N = 2000


def u_a(x):
    return 0.5 * x.square().sum(1)


def u_b(x):
    return 2.0 * x.square().sum(1)


def normal(n=N, seed=0, width=1.0):
    generator = torch.Generator().manual_seed(seed)
    return width * torch.randn(n, 3, generator=generator, dtype=torch.float64)


def chain(rho, n=N, seed=0, width=1.0):
    """Samples of one state, correlated in time."""
    series = autoregressive(np.random.default_rng(seed), 3, n, rho)
    return torch.from_numpy(width * series.T.copy())


def data(name, x, y, *, a=u_a, b=u_b, exact=EXACT, invisible="", **keywords):
    """A mistake in the samples: ``x()`` and ``y()``."""

    def run(folder, patch):
        return hf.targeted_fep(a, b, x(), y(), seed=0, **keywords).result

    return Fault("states", name, run, exact, invisible=invisible)


def right_x():
    return normal()


def right_y():
    return normal(seed=1, width=0.5)


def energy(name, how, exact=EXACT, side="b"):
    """A mistake in an energy: ``how()`` makes a function of values and configurations."""

    def run(folder, patch):
        right, change = {"a": u_a, "b": u_b}[side], how()

        def wrong(x):
            return change(right(x), x)

        a, b = (wrong, u_b) if side == "a" else (u_a, wrong)
        return hf.targeted_fep(a, b, right_x(), right_y(), map=hf.GaussianFit(), seed=0).result

    return Fault("states", name, run, exact)


def lost(part, what, seed=1):
    def make():
        generator = torch.Generator().manual_seed(seed)

        def change(value, x):
            hit = torch.rand(len(value), generator=generator) < part
            return torch.where(hit, torch.full_like(value, what), value)

        return change

    return make


def lost_where_high(value, x):
    """Evaluations that fail where the energy is high."""
    return torch.where(value > 12.0, torch.full_like(value, math.nan), value)


def drifting(step):
    def make():
        calls = [0]

        def change(value, x):
            calls[0] += 1
            return value + step * calls[0]

        return change

    return make


def noisy():
    generator = torch.Generator().manual_seed(1)
    return lambda value, x: value + torch.randn(len(value), generator=generator).double()


def in_place(value, x):
    with torch.no_grad():
        x *= 1.05
    return value


class Stretch(Bijector):
    """y = x/2, with a log-determinant that is off by a factor and a constant."""

    def __init__(self, factor=1.0, constant=0.0, inverse=2.0):
        super().__init__()
        self.factor, self.constant, self.back = factor, constant, inverse

    def forward(self, x):
        return 0.5 * x, self._log_det(x)

    def inverse(self, y):
        return self.back * y, -self._log_det(y)

    def _log_det(self, x):
        value = -self.factor * 3.0 * math.log(2.0) + self.constant
        return torch.full((len(x),), value, dtype=torch.float64)


def twice(x):
    return lambda: torch.cat([x(), x()])


def unequilibrated(x, part, shift):
    def make():
        samples = x().clone()
        n = int(part * len(samples))
        samples[:n] += shift * torch.linspace(1.0, 0.0, n, dtype=torch.float64)[:, None]
        return samples

    return make


def shuffled(x):
    def make():
        samples = x()
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(3))
        return samples[order]

    return make


DATA = [
    data("samples exchanged", right_y, right_x),
    data("the same samples twice", right_x, right_x),
    data("samples of B are those of A, scaled", right_x, lambda: normal(seed=1, width=1.0)),
    *(
        data(
            f"B sampled at {t:g} times its temperature",
            right_x,
            lambda t=t: normal(seed=1, width=0.5 * t**0.5),
        )
        for t in (1.03, 1.1, 1.3, 2.0)
    ),
    data("A sampled at 0.9 times its temperature", lambda: normal(width=0.9**0.5), right_y),
    *(
        data(f"u_B x {f:g}", right_x, right_y, b=lambda x, f=f: f * u_b(x))
        for f in (4.184, 1 / 4.184, 2.494, 1 / 2.494, 0.592)
    ),
    data(
        "both energies x 2.494 (kJ/mol for kT)",
        right_x,
        right_y,
        a=lambda x: 2.494 * u_a(x),
        b=lambda x: 2.494 * u_b(x),
    ),
    data(
        "both energies x 0.592 (kcal/mol for kT)",
        right_x,
        right_y,
        a=lambda x: 0.592 * u_a(x),
        b=lambda x: 0.592 * u_b(x),
    ),
    data("coordinates of B x 10 (angstrom for nm)", right_x, lambda: 10.0 * right_y()),
    data("every frame twice", twice(right_x), twice(right_y)),
    data(
        "every frame ten times",
        lambda: normal(200).repeat(10, 1),
        lambda: normal(200, 1, 0.5).repeat(10, 1),
    ),
    data(
        "every frame ten times in a row",
        lambda: normal(100).repeat_interleave(10, 0),
        lambda: normal(100, 1, 0.5).repeat_interleave(10, 0),
    ),
    *(
        data(
            f"{n} frames of tau {t}",
            lambda n=n, r=r: chain(r, n, 2),
            lambda n=n, r=r: chain(r, n, 3, 0.5),
        )
        for n, t, r in ((2000, 100, 0.99), (400, 100, 0.99), (200, 10, 0.9))
    ),
    data(
        "frames of tau 100, shuffled",
        shuffled(lambda: chain(0.99, N, 2)),
        shuffled(lambda: chain(0.99, N, 3, 0.5)),
        invisible="no order, no tau: the bar is too small by sqrt(2 tau), always",
    ),
    *(
        data(f"start of A off by {s:g} for {p:.0%}", unequilibrated(right_x, p, s), right_y)
        for p, s in ((0.1, 3.0), (0.2, 3.0), (0.05, 10.0))
    ),
    data("A stuck in the upper half", lambda: normal().abs(), lambda: normal(seed=1, width=0.5)),
    data("samples of A rounded to 0.5", lambda: torch.round(normal() * 2) / 2, right_y),
    data("works without overlap", right_x, lambda: 6.0 + right_y(), b=lambda x: u_b(x - 6.0)),
]
ENERGIES = [
    energy("energy is the batch's mean", lambda: lambda v, x: v.mean()),
    energy("energy of the first row", lambda: lambda v, x: v[:1]),
    energy("energies (n, 1)", lambda: lambda v, x: v[:, None]),
    energy("true and false", lambda: lambda v, x: v > 1.0),
    energy("energies of the batch in reverse", lambda: lambda v, x: v.flip(0)),
    energy("batch's mean in every row", lambda: lambda v, x: v.mean().expand(len(v))),
    energy("1 % of energies NaN", lost(0.01, math.nan)),
    energy("1 % of energies of A NaN", lost(0.01, math.nan), side="a"),
    energy("energies above 12 kT are NaN", lambda: lost_where_high),
    energy("0.5 % of energies 100 too low", lost(0.005, -100.0)),
    energy("0.5 % of energies of A 100 too low", lost(0.005, -100.0), side="a"),
    energy("energy drifts by 0.05 kT a call", drifting(0.05)),
    energy("energy drifts by 0.001 kT a call", drifting(1e-3)),
    energy("energy with noise of 1 kT", noisy),
    energy("energy changes its argument", lambda: in_place),
    energy("single precision", lambda: lambda v, x: v.float()),
    energy("single precision after + 1e6", lambda: lambda v, x: (v + 1e6).float() - 1e6),
]
MAPS = [
    data("log-det x 1.001", right_x, right_y, map=Stretch(factor=1.001)),
    data("log-det x 1.05", right_x, right_y, map=Stretch(factor=1.05)),
    data("log-det + 0.01", right_x, right_y, map=Stretch(constant=0.01)),
    data("log-det + 0.5", right_x, right_y, map=Stretch(constant=0.5)),
    data("log-det missing", right_x, right_y, map=Stretch(factor=0.0)),
    data("inverse is not the inverse", right_x, right_y, map=Stretch(inverse=1.8)),
]


def k_states(name, change, invisible=""):
    """Three states of stiffness 1, 2, 4: f_3 - f_1 = EXACT; ``change`` spoils what is given."""

    def run(folder, patch):
        u = [lambda x, k=k: 0.5 * k * x.square().sum(1) for k in (1.0, 2.0, 4.0)]
        x = [normal(800, seed, k**-0.5) for seed, k in enumerate((1.0, 2.0, 4.0))]
        return hf.multistate(*change(u, x)).result

    return Fault("states", name, run, EXACT, invisible=invisible)


def replica_order(u, x):
    """Frames by replica, which walk through the states, given as frames by state."""
    frames = torch.stack(x, 1)
    steps = torch.arange(len(frames))
    return u, [frames[steps, (steps // 50 + k) % 3] for k in range(3)]


K_STATES = [
    k_states("K states in another order", lambda u, x: (u, x[::-1])),
    k_states("K states, the first given twice", lambda u, x: (u, [x[0], x[0], x[2]])),
    k_states("K states, replicas for states", replica_order),
    k_states(
        "K states, the middle one x 4.184",
        lambda u, x: ([u[0], lambda z: 4.184 * u[1](z), u[2]], x),
    ),
    k_states("K states, last x 4.184", lambda u, x: ([u[0], u[1], lambda z: 4.184 * u[2](z)], x)),
]
FAULTS = [*DATA, *ENERGIES, *MAPS, *K_STATES]

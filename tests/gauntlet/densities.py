"""Faults of densities: modes that a flow misses, steps, needles, energies of the wrong shape."""

import math

import torch

from gauntlet.fault import Fault
from helmflow import free_energy, load_system
from helmflow.bijectors.potential_map import SpherePotentialMap, TorusPotentialMap
from helmflow.energies.base import Energy

TWO_PI = 2.0 * math.pi
FILE = """schema = 1
name = "own"
kind = "density"
summary = "mine"
manifold = "{manifold}"
[potential]
kind = "mine"
"""


def density(folder, manifold, u):
    """A density exp(-u) of a user."""

    class Mine(Energy):
        def forward(self, x):
            return u(x)

    path = folder / "own.toml"
    path.write_text(FILE.format(manifold=manifold))
    return load_system(path, energies={"mine": Mine})


def von_mises(x, centre, kappa):
    """ln of a normalised product of von Mises densities."""
    k = torch.tensor(kappa, dtype=torch.float64)
    return (k * (torch.cos(x - centre) - 1.0) - (TWO_PI * torch.special.i0e(k)).log()).sum(1)


def fisher(x, sign, kappa):
    """ln of a normalised von Mises-Fisher density of S2 at the north or south pole."""
    log_z = math.log(TWO_PI * -math.expm1(-2.0 * kappa) / kappa)
    return kappa * (sign * x[:, 2] - 1.0) - log_z


def two(first, second, weight):
    """Minus the log of (1 - w) first + w second, both normalised: ln Z = 0."""
    return lambda x: -torch.logaddexp(math.log1p(-weight) + first(x), math.log(weight) + second(x))


def circles(weight, wide=1.0, narrow=60.0, apart=math.pi):
    """A wide mode and a narrow one, on any torus."""
    return two(
        lambda x: von_mises(x, 1.0, wide), lambda x: von_mises(x, 1.0 + apart, narrow), weight
    )


def poles(weight, kappa=60.0):
    return two(lambda x: fisher(x, 1.0, 2.0), lambda x: fisher(x, -1.0, kappa), weight)


def cylinder(weight, kappa=60.0):
    """On T1 x S2."""
    return two(
        lambda x: von_mises(x[:, :1], 1.0, 1.0) + fisher(x[:, 1:], 1.0, 2.0),
        lambda x: von_mises(x[:, :1], 4.0, kappa) + fisher(x[:, 1:], -1.0, kappa),
        weight,
    )


def fault(name, manifold, u, exact=0.0, invisible="", **keywords):
    def run(folder, patch):
        return free_energy(density(folder, manifold, u()), seed=4, **keywords)

    return Fault("density", name, run, exact, invisible=invisible)


LOST = [
    fault(f"a mode of weight {w:g} on {manifold}", manifold, lambda u=u, w=w: u(w))
    for manifold, u, weights in (
        ("T1", circles, (0.5, 0.1, 0.01, 1e-3)),
        ("T2", circles, (0.5, 0.1, 0.01, 1e-3)),
        ("S2", poles, (0.5, 0.1, 0.01, 1e-3)),
        ("T3", circles, (0.5, 0.01)),
        ("T6", circles, (0.5, 0.1)),
        ("T1 x S2", cylinder, (0.5, 0.1)),
    )
    for w in weights
]
NARROW = [
    fault("kappa 500 beside 1 on T3", "T3", lambda: circles(0.5, 1.0, 500.0)),
    fault("kappa 300 twice on T2", "T2", lambda: circles(0.4, 300.0, 300.0)),
    fault(
        "a needle of width 1e-4 on T2",
        "T2",
        lambda: circles(0.1, 1.0, 1e8),
        invisible="a probe meets it once in 6e8: hidden from 1e4 probes in all but 2 of 1e5 runs",
    ),
]


def step(x):
    return torch.where(x[:, 0] < 0.2498 * TWO_PI, 0.0, 3.0).double()


STEP = math.log(TWO_PI * (0.2498 + 0.7502 * math.exp(-3.0)))


def chain(x):
    """Flat where neighbouring angles are 60 degrees apart or more, zero elsewhere."""
    allowed = (torch.cos(x[:, 1:] - x[:, :-1]) < 0.5).all(-1)
    return torch.where(allowed, 0.0, math.inf).double()


def smooth(x):
    """ln Z = 2 ln(2 pi I0(1))."""
    return -torch.cos(x).sum(1)


SMOOTH = 2.0 * math.log(TWO_PI * float(torch.special.i0(torch.tensor(1.0, dtype=torch.float64))))


def drifting():
    calls = [0]

    def u(x):
        calls[0] += 1
        return smooth(x) + 1e-3 * calls[0]

    return u


def lost(part, what, seed=5):
    def make():
        generator = torch.Generator().manual_seed(seed)

        def u(x):
            value = smooth(x)
            hit = torch.rand(len(x), generator=generator) < part
            return torch.where(hit, torch.full_like(value, what), value)

        return u

    return make


def noisy():
    generator = torch.Generator().manual_seed(5)

    def u(x):
        return smooth(x) + 0.1 * torch.randn(len(x), generator=generator, dtype=torch.float64)

    return u


def in_place(x):
    with torch.no_grad():
        x *= 1.0001
    return smooth(x)


def by_hand(x):
    """A seam: an energy of the angle itself instead of its cosine."""
    return 0.5 * ((x - math.pi) / 2.0).square().sum(1)


SEAM = 2.0 * math.log(2.0 * math.sqrt(TWO_PI) * math.erf(math.pi / 2.0 / math.sqrt(2.0)))
ENERGIES = [
    fault("a step on T1", "T1", lambda: step, STEP),
    fault("forbidden angles on T4", "T4", lambda: chain, math.log(TWO_PI * (TWO_PI * 2 / 3) ** 3)),
    fault("a seam on T2", "T2", lambda: by_hand, SEAM),
    fault("energies (n, 1)", "T2", lambda: lambda x: smooth(x)[:, None], SMOOTH),
    fault("energy of the first row", "T2", lambda: lambda x: smooth(x)[:1], SMOOTH),
    fault("energy is the batch's mean", "T2", lambda: lambda x: smooth(x).mean(), SMOOTH),
    fault(
        "batch's mean in every row",
        "T2",
        lambda: lambda x: smooth(x).mean().expand(len(x)),
        SMOOTH,
    ),
    fault("energies of the batch in reverse", "T2", lambda: lambda x: smooth(x).flip(0), SMOOTH),
    fault(
        "energies minus their least", "T2", lambda: lambda x: smooth(x) - smooth(x).min(), SMOOTH
    ),
    fault("whole numbers", "T2", lambda: lambda x: smooth(x).round().long(), SMOOTH),
    fault("true and false", "T2", lambda: lambda x: smooth(x) > 0.0, SMOOTH),
    fault("complex numbers", "T2", lambda: lambda x: smooth(x).to(torch.complex128), SMOOTH),
    fault("single precision", "T2", lambda: lambda x: smooth(x.float()).double(), SMOOTH),
    fault("energy drifts by 1e-3 a call", "T2", drifting, SMOOTH),
    fault("energy with noise of 0.1 kT", "T2", noisy, SMOOTH),
    fault("1 % of energies NaN", "T2", lost(0.01, math.nan), SMOOTH),
    fault("1 % of energies infinite", "T2", lost(0.01, math.inf), SMOOTH),
    fault("0.1 % of energies 20 too low", "T2", lost(0.001, -20.0), SMOOTH),
    fault("energy changes its argument", "T2", lambda: in_place, SMOOTH),
    fault("values without a gradient", "T2", lambda: lambda x: smooth(x.detach()), SMOOTH),
]


def determinant(cls, change, manifold, u, exact, name):
    def run(folder, patch):
        right = cls.log_det
        patch.setattr(cls, "log_det", lambda self, v, hessian: change(right(self, v, hessian)))
        return free_energy(density(folder, manifold, u), seed=4)

    return Fault("density", name, run, exact)


def plain_fisher(x):
    return -fisher(x, 1.0, 2.0)


BUGS = [
    determinant(
        TorusPotentialMap, lambda v: 1.001 * v, "T2", smooth, SMOOTH, "log-det x 1.001 on T2"
    ),
    determinant(
        TorusPotentialMap, lambda v: v + 1e-3, "T2", smooth, SMOOTH, "log-det + 1e-3 on T2"
    ),
    determinant(
        SpherePotentialMap, lambda v: 1.001 * v, "S2", plain_fisher, 0.0, "log-det x 1.001 on S2"
    ),
    determinant(
        SpherePotentialMap, lambda v: v + 1e-3, "S2", plain_fisher, 0.0, "log-det + 1e-3 on S2"
    ),
]
FAULTS = [*LOST, *NARROW, *ENERGIES, *BUGS]

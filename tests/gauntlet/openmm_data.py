"""Faults of two OpenMM states and their trajectories."""

import numpy as np
import torch

import gaussian_pair
import helmflow as hf
from exact import autoregressive
from gauntlet.fault import Fault
from gaussian_pair import CENTRES, DELTA_F, KT, SHIFT, STIFF_A, STIFF_B, states
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.thermo import ThermodynamicState

N = 400


def wells(side, n=N, seed=0, temperature=1.0, normal=None):
    """Exact samples (n, 3, 3) of one state, at so many times its temperature."""
    stiff, centre = ((STIFF_A, CENTRES), (STIFF_B, CENTRES + SHIFT))[side]
    width = np.sqrt(temperature * KT / np.array(stiff))[:, None]
    if normal is None:
        normal = np.random.default_rng([seed, side]).normal(size=(n, 3, 3))
    return torch.from_numpy(centre + width * normal)


def fault(name, change, exact=DELTA_F, **keywords):
    """``change(states, samples)`` spoils what is given."""

    def run(folder, patch):
        pair, samples = change(states(), [wells(0), wells(1)])
        return hf.targeted_fep(*pair, *samples, seed=0, **keywords).result

    return Fault("openmm", name, run, exact)


def samples(change):
    return lambda pair, x: (pair, change(*x))


def correlated(tau, n):
    rho = (2.0 * tau - 1.0) / (2.0 * tau + 1.0)
    rows = [autoregressive(np.random.default_rng(side), 9, n, rho) for side in (0, 1)]
    return [wells(side, normal=row.T.reshape(n, 3, 3)) for side, row in enumerate(rows)]


def unequilibrated(a, b):
    a = a.clone()
    a[:80] += 0.3 * torch.linspace(1.0, 0.0, 80, dtype=torch.float64)[:, None, None]
    return a, b


def failed(where_high):
    """Frames without coordinates, at random or where the energy is high."""

    def change(pair, x):
        a, b = (samples.clone() for samples in x)
        rank = pair[0].reduced_potential(a).argsort(descending=True)
        chosen = rank[:20] if where_high else torch.arange(0, N, 20)
        a[chosen] = torch.nan
        return pair, (a, b)

    return change


def at_temperature(factor):
    """Both states at another temperature than their samples."""

    def change(pair, x):
        made = [ThermodynamicState(s.energy, s.beta / factor) for s in pair]
        return made, x

    return change


def scaled(side, factor):
    """The energy of one state in another unit."""

    class Scaled(OpenMMEnergy):
        def energy_and_gradient(self, *arguments):
            value, slope = super().energy_and_gradient(*arguments)
            return factor * value, factor * slope

        def forward(self, *arguments):
            return factor * super().forward(*arguments)

    def change(pair, x):
        systems = gaussian_pair.systems()
        made = list(pair)
        made[side] = ThermodynamicState(Scaled(systems[side], platform="Reference"), 1 / KT)
        return made, x

    return change


FAULTS = [
    fault("trajectories exchanged", samples(lambda a, b: (b, a))),
    fault("the same trajectory twice", samples(lambda a, b: (a, a))),
    fault("the same System twice", lambda pair, x: ((pair[0], pair[0]), x)),
    fault("coordinates in angstrom", samples(lambda a, b: (10.0 * a, 10.0 * b))),
    fault("coordinates of B in angstrom", samples(lambda a, b: (a, 10.0 * b))),
    *(
        fault(
            f"B sampled at {t:g} times its temperature",
            samples(lambda a, b, t=t: (a, wells(1, temperature=t))),
        )
        for t in (1.1, 1.3, 2.0)
    ),
    fault("states at 1.1 times the temperature", at_temperature(1.1)),
    fault("states at 1.5 times the temperature", at_temperature(1.5)),
    fault("energies of B x 4.184", scaled(1, 4.184)),
    fault("energies of A / 4.184", scaled(0, 1 / 4.184)),
    fault("every frame twice", samples(lambda a, b: (torch.cat([a, a]), torch.cat([b, b])))),
    fault(
        "every frame ten times",
        samples(lambda a, b: (a[:60].repeat(10, 1, 1), b[:60].repeat(10, 1, 1))),
    ),
    fault("400 frames of tau 50", samples(lambda a, b: correlated(50.0, 400))),
    fault("100 frames of tau 20", samples(lambda a, b: correlated(20.0, 100))),
    fault("start of A unequilibrated", samples(unequilibrated)),
    fault("frames lost at random", failed(where_high=False)),
    fault("frames lost where the energy is high", failed(where_high=True)),
    fault("atoms of B in another order", samples(lambda a, b: (a, b.flip(1)))),
    fault("B moved by 0.05 nm", samples(lambda a, b: (a, b + 0.05))),
    fault("B turned", samples(lambda a, b: (a, b.flip(2)))),
    fault(
        "coordinates rounded to 0.1 nm",
        samples(lambda a, b: (torch.round(a * 10) / 10, torch.round(b * 10) / 10)),
    ),
    fault(
        "coordinates rounded to 0.001 nm",
        samples(lambda a, b: (torch.round(a * 1e3) / 1e3, torch.round(b * 1e3) / 1e3)),
    ),
]

"""Faults of crystals: energies and forces, structures, chains, and bugs of the path itself."""

import math
import re
from collections.abc import Callable

import numpy as np
import torch

from gauntlet.fault import Fault
from gauntlet.known import KNOWN
from helmflow import free_energy, load_system
from helmflow.energies.base import ParticleEnergy
from helmflow.energies.lennard_jones import LennardJones
from helmflow.energies.stillinger_weber import StillingerWeber
from helmflow.estimators.nodes import Ladder
from helmflow.families.path import crystal
from helmflow.families.path.crystal_problem import CrystalProblem
from helmflow.manifolds.periodic import PeriodicCell
from helmflow.samplers.hmc import InterpolatedHMC
from small_systems import fcc_crystal

EIGHT = {"repeats": (1, 1, 2), "density": 1.28, "temperature": 1.0, "cutoff": 2.0}
EXACT = KNOWN["lj_8"]
ICE = KNOWN["ice_64"]
TARGET = 3e-4
OWN = re.compile(r"\[potential\].*?(?=\[state\])", re.DOTALL)

Change = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple]
"""Energies, gradients, displacements -> what a faulty energy returns for them."""


class Changed(ParticleEnergy):
    """Eight Lennard-Jones atoms whose energies or gradients are changed on their way."""

    def __init__(self, reference, cell_matrix, change):
        super().__init__(reference, PeriodicCell(cell_matrix))
        self.inner = LennardJones(
            reference, cell_matrix, epsilon=1.0, sigma=1.0, cutoff=2.0, shift=True, images="all"
        )
        self.change = change

    def forward(self, x):
        return self.inner(x)

    def displaced(self, u, *, gradient=True):
        value, slope = self.inner.displaced(u)
        value, slope = self.change(value, slope, u)
        return value, slope if gradient else None


def eight(folder, change=None, edit=None):
    """The crystal of eight atoms, with a changed energy or a changed file."""
    system = fcc_crystal(folder, **EIGHT)
    text = system.path.read_text()
    if change is not None:
        text = OWN.sub('[potential]\nkind = "mine"\n', text)
    if edit is not None:
        text = edit(text)
    system.path.write_text(text)

    def mine(reference, cell_matrix):
        return Changed(reference, cell_matrix, change)

    return load_system(system.path, energies={"mine": mine})


def energy(name, change, exact=EXACT, **settings):
    """A fault of the energy; ``change()`` makes one that may have a memory."""

    def run(folder, patch):
        return free_energy(eight(folder, change()), seed=3, target_error=TARGET, **settings)

    return Fault("crystal", name, run, exact)


def file(name, edit, exact=EXACT):
    """A mistake in the file of the system."""

    def run(folder, patch):
        return free_energy(eight(folder, edit=edit), seed=3, target_error=TARGET)

    return Fault("crystal", name, run, exact)


def bug(name, plant, exact=EXACT, system=eight, **settings):
    """A bug of this package, planted in ``patch``."""

    def run(folder, patch):
        plant(patch)
        return free_energy(system(folder), seed=3, target_error=TARGET, settings=settings)

    return Fault("crystal", name, run, exact)


def scaled(factor):
    return lambda: lambda value, slope, u: (value, factor * slope)


def one_atom(factor):
    def change(value, slope, u):
        slope = slope.clone()
        slope[:, 3] *= factor
        return value, slope

    return lambda: change


def shorter_cutoff():
    """Forces of another cutoff than the energy's."""
    made = []

    def change(value, slope, u):
        if not made:
            made.append(fcc_inner(1.5))
        return value, made[0].displaced(u)[1]

    return change


def fcc_inner(cutoff):
    edge = (4 / EIGHT["density"]) ** (1 / 3)
    cells = np.array([(0, 0, 0), (0, 0, 1)])
    sites = np.array([(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]) / 2
    x = torch.from_numpy(edge * (cells[:, None] + sites).reshape(-1, 3))
    box = edge * torch.diag(torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64))
    kinds = {"epsilon": 1.0, "sigma": 1.0, "shift": True, "images": "all"}
    return LennardJones(x, box, cutoff=cutoff, **kinds)


def stale():
    """Gradients of the configurations before: a cache that is not emptied."""
    last = [None]

    def change(value, slope, u):
        old, last[0] = last[0], slope.clone()
        return value, slope if old is None or old.shape != slope.shape else old

    return change


def drifting(step):
    def make():
        calls = [0]

        def change(value, slope, u):
            calls[0] += 1
            return value + step * calls[0], slope

        return change

    return make


def noisy(size):
    def make():
        generator = torch.Generator().manual_seed(5)

        def change(value, slope, u):
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            return value + size * noise, slope

        return change

    return make


def lost(part, what):
    """Failed evaluations at random."""

    def make():
        generator = torch.Generator().manual_seed(5)

        def change(value, slope, u):
            hit = torch.rand(len(value), generator=generator) < part
            return torch.where(hit, what, value), slope

        return change

    return make


def in_place():
    def change(value, slope, u):
        u *= 1.01
        return value, slope

    return change


def single():
    return lambda value, slope, u: (value.float().double(), slope.float().double())


def printed():
    """Energies read from text with three decimals."""
    return lambda value, slope, u: (torch.round(value, decimals=3), slope)


def jump(height):
    """A step of the energy at the middle of a site, which the forces do not know."""
    return lambda: lambda value, slope, u: (value + height * (u[:, 0, 0] > 0.0), slope)


def stepped(height):
    """Inversion about a site makes both halves equally likely without the step."""
    return EXACT - math.log(0.5 * (1.0 + math.exp(-height))) / 8.0


def with_reference(value):
    def edit(text):
        return text + (
            '[[references]]\nquantity = "helmholtz_free_energy"\nper = "particle"\n'
            f'value = {value}\nstderr = 0.0002\nsource = "a longer run"\n'
        )

    return edit


def edited(old, new):
    def edit(text):
        assert old in text
        return with_reference(EXACT)(text.replace(old, new))

    return edit


ENERGIES = [
    *(energy(f"forces x {f:g}", scaled(f)) for f in (1.003, 1.01, 1.05, 1.1, 0.9, -1.0, 27.2)),
    energy("forces in another unit (x 0.529)", scaled(0.529177)),
    energy("forces of one atom are zero", one_atom(0.0)),
    energy("forces of one atom x 1.2", one_atom(1.2)),
    energy("forces of another cutoff", shorter_cutoff),
    energy("forces of the atoms in reverse", lambda: lambda v, g, u: (v, g.flip(1))),
    energy("forces x and z exchanged", lambda: lambda v, g, u: (v, g.flip(2))),
    energy("forces of the configurations before", stale),
    energy("forces of the wrong shape", lambda: lambda v, g, u: (v, g.flatten(1)[:, :-3])),
    energy("half the force of every pair", scaled(0.5)),
    energy("1 % of energies NaN", lost(0.01, torch.nan)),
    energy("0.5 % of energies 100 too low", lost(0.005, -100.0)),
    energy("energy drifts by 0.01 kT a call", drifting(0.01)),
    energy("energy drifts by 0.0001 kT a call", drifting(1e-4)),
    energy("energy with noise of 0.3 kT", noisy(0.3)),
    energy("energy with noise of 1 kT", noisy(1.0)),
    energy("energy changes its argument", lambda: in_place()),
    energy("energy is the batch's mean", lambda: lambda v, g, u: (v.mean().expand(len(v)), g)),
    energy("energies of the batch in reverse", lambda: lambda v, g, u: (v.flip(0), g)),
    energy("one energy for the batch", lambda: lambda v, g, u: (v[:1], g)),
    energy("energies (n, 1)", lambda: lambda v, g, u: (v[:, None], g)),
    energy("single precision", single),
    energy("energies of three decimals", printed),
    energy("a step of 1 kT without a force", jump(1.0), stepped(1.0)),
    energy("a step of 0.3 kT without a force", jump(0.3), stepped(0.3)),
]


def times(cls, method, factor):
    """A trace or divergence that is wrong by a factor."""

    def plant(patch):
        right = getattr(cls, method)
        patch.setattr(cls, method, lambda self, *a: factor * right(self, *a))

    return plant


def no_normaliser(patch):
    init = InterpolatedHMC.init

    def mutant(self, z):
        state = init(self, z)
        return state._replace(work=state.work + self.base.log_normalizer)

    patch.setattr(InterpolatedHMC, "init", mutant)


def rolled_weights(patch):
    lobatto = Ladder.lobatto

    def mutant(n):
        ladder = lobatto(n)
        return Ladder(ladder.lam, np.roll(ladder.weight, 1))

    patch.setattr(Ladder, "lobatto", mutant)


def controls_off(shift):
    """Stein functions whose mean is not zero."""

    def plant(patch):
        fields = CrystalProblem.fields

        def mutant(self, base):
            found = fields(self, base)
            for field in found:
                stein = field.stein
                field.stein = lambda point, stein=stein: stein(point) + shift
            return found

        patch.setattr(CrystalProblem, "fields", mutant)

    return plant


def ice(folder):
    return load_system("ice/mw_cubic_64")


def measured(patch):
    """Lambda missing from the measure."""
    right = crystal.log_measure
    patch.setattr(crystal, "log_measure", lambda system: right(system) + 0.5)


def known(folder):
    return eight(folder, edit=with_reference(EXACT))


SHORT = {"sampling": {"steps": 3, "burn_in": 1, "max_rounds": 1}}
BUGS = [
    bug("trace of the potential x 1.01", times(StillingerWeber, "hessian_trace", 1.01), ICE, ice),
    bug("trace of the potential x 1.1", times(StillingerWeber, "hessian_trace", 1.1), ICE, ice),
    bug("control variates of mean 0.3", controls_off(0.3)),
    bug("control variates of mean 0.05", controls_off(0.05)),
    bug("base without normaliser, value known", no_normaliser, system=known),
    bug("weights of other nodes", rolled_weights),
    bug("0.5 kT missing from the measure, value known", measured, system=known),
    bug("three sweeps, one discarded", lambda patch: None, **SHORT),
    bug("five nodes are too few", lambda patch: None, sampling={"nodes": 5}),
]
FILES = [
    file("temperature 1 % off, value known", edited("temperature = 1.0", "temperature = 1.01")),
    file("wavelength 1 % off, value known", edited("wavelength = 1.0", "wavelength = 1.01")),
    file("cutoff off, value known", edited("cutoff = 2.0", "cutoff = 1.9")),
    file("reference 0.01 off", with_reference(EXACT + 0.01)),
]


def hot(density, temperature):
    def run(folder, patch):
        system = fcc_crystal(
            folder, (2, 2, 2), density=density, temperature=temperature, cutoff=1.6
        )
        return free_energy(system, seed=3, target_error=1e-3)

    return run


MELTED = [
    Fault("crystal", f"density {d}, temperature {t}: it melts", hot(d, t))
    for d, t in ((0.8, 1.0), (0.95, 2.0))
]
FAULTS = [*ENERGIES, *BUGS, *FILES, *MELTED]

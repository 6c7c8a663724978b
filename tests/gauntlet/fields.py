"""Faults of lattice fields: two wells, wrong gradients, flows that lack a partner."""

import math

import torch

from gauntlet.fault import Fault
from helmflow import free_energy, load_system
from helmflow.energies.phi4 import Phi4
from helmflow.fields.local import LocalField
from phi4_exact import log_z
from small_systems import phi4_field

WELLS = {
    # rows, columns, m^2, lambda: from wells that chains still cross to ones they never cross
    "2 x 4, shallow": (2, 4, -3.0, 1.0),
    "2 x 4": (2, 4, -4.0, 1.0),
    "2 x 8": (2, 8, -4.0, 1.0),
    "2 x 2, lambda 8": (2, 2, -12.0, 8.0),
    "2 x 2, lambda 2": (2, 2, -6.0, 2.0),
    "3 x 3": (3, 3, -4.0, 1.0),
}
NODES = {2: 40, 3: 12}
ONE = (2, 4, 0.0, 1.0)
"""A field with one well."""


class Changed(Phi4):
    """phi^4 whose action or gradient is changed on its way, with a field h sum phi if asked."""

    def __init__(self, shape, mass_squared, coupling, *, change=None, tilt=0.0):
        super().__init__(shape, mass_squared=mass_squared, coupling=coupling)
        self.change, self.tilt, self.isotropic = change, tilt, False

    def forward(self, x):
        return super().forward(x) + self.tilt * x.sum((1, 2))

    def energy_and_gradient(self, x):
        value, slope = super().energy_and_gradient(x)
        value, slope = value + self.tilt * x.sum((1, 2)), slope + self.tilt
        return (value, slope) if self.change is None else self.change(value, slope, x)


def exact_of(case, tilt=0.0):
    rows, columns, mass_squared, coupling = case
    shift = 2.0 if mass_squared < 0.0 else -2.0
    n = NODES[rows]
    return log_z(rows, mass_squared, coupling, n, length=columns, tilt=tilt, shift=shift)


def shipped(folder, case):
    rows, columns, mass_squared, coupling = case
    return phi4_field(folder, rows, columns, mass_squared=mass_squared, coupling=coupling)


def own(folder, case, **options):
    """The same field as an energy of a user."""
    path = shipped(folder, case).path
    head, _, _ = path.read_text().partition("[potential]")
    path.write_text(f'{head}[potential]\nkind = "mine"\n')

    def mine(shape):
        return Changed(shape, *case[2:], **options)

    return load_system(path, energies={"mine": mine})


def two_wells(name, method="auto", **settings):
    case = WELLS[name]

    def run(folder, patch):
        return free_energy(shipped(folder, case), seed=2, method=method, settings=settings)

    return Fault("field", f"two wells, {name}, {method}", run, exact_of(case))


def unequal(tilt, name="2 x 4"):
    case = WELLS[name]

    def run(folder, patch):
        return free_energy(own(folder, case, tilt=tilt), seed=2)

    return Fault("field", f"unequal wells, {name}, h = {tilt}", run, exact_of(case, tilt))


def energy(name, change, **settings):
    def run(folder, patch):
        system = own(folder, ONE, change=change())
        return free_energy(system, seed=2, target_error=3e-3, settings=settings)

    return Fault("field", name, run, exact_of(ONE))


def bug(name, plant, case=ONE, method="auto", **settings):
    def run(folder, patch):
        plant(patch)
        system = shipped(folder, case)
        return free_energy(system, seed=2, target_error=3e-3, method=method, settings=settings)

    return Fault("field", name, run, exact_of(case))


def scaled(factor):
    return lambda: lambda value, slope, x: (value, factor * slope)


def drifting():
    calls = [0]

    def change(value, slope, x):
        calls[0] += 1
        return value + 0.01 * calls[0], slope

    return change


def noisy():
    generator = torch.Generator().manual_seed(5)

    def change(value, slope, x):
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        return value + 0.5 * noise, slope

    return change


def clipped():
    """A gradient that is clipped, as for training."""
    return lambda value, slope, x: (value, slope.clamp(-2.0, 2.0))


def capped():
    """An action that is cut at 12 without its gradient."""
    return lambda value, slope, x: (value.clamp(max=12.0), slope)


def off(shift):
    def plant(patch):
        stein = LocalField.stein
        patch.setattr(LocalField, "stein", lambda self, point: stein(self, point) + shift)

    return plant


def determinant(change):
    """The divergence of every field of a flow is changed, and so is its log-determinant."""

    def plant(patch):
        contract = LocalField.contract

        def mutant(self, u, weights):
            gradient, trace = contract(self, u, weights)
            return gradient, change(trace)

        patch.setattr(LocalField, "contract", mutant)

    return plant


def other_reference(folder, patch):
    """The file of another mass with the exact value of the one that was meant."""
    path = shipped(folder, (2, 4, 0.05, 1.0)).path
    path.write_text(
        path.read_text() + '[[references]]\nquantity = "log_partition_function"\n'
        f'value = {exact_of(ONE)}\nstderr = 0.0\nper = "system"\nsource = "transfer matrix"\n'
    )
    return free_energy(load_system(path), seed=2, target_error=3e-3)


FAULTS = [
    *(two_wells(name) for name in WELLS),
    *(two_wells("2 x 4", method) for method in ("bar", "ti", "fep")),
    two_wells("2 x 4", "flow", flow={"kind": "transport"}),
    two_wells("2 x 2, lambda 8", "flow", flow={"kind": "transport"}),
    *(unequal(tilt) for tilt in (0.02, 0.1, 0.3, 1.0)),
    unequal(0.2, "2 x 8"),
    *(energy(f"gradient x {f:g}", scaled(f)) for f in (1.01, 1.1, 0.5, -1.0)),
    energy("gradient clipped", clipped),
    energy("action capped", capped),
    energy("action drifts by 0.01 a call", drifting),
    energy("action with noise of 0.5", noisy),
    energy("action is the batch's mean", lambda: lambda v, g, x: (v.mean().expand(len(v)), g)),
    energy("actions (n, 1)", lambda: lambda v, g, x: (v[:, None], g)),
    energy("gradient of the transposed field", lambda: lambda v, g, x: (v, g.flip(1))),
    bug("control variates of mean 0.1", off(0.1)),
    bug("control variates of mean 0.01", off(0.01)),
    bug(
        "log-det x 1.03 in a flow",
        determinant(lambda t: 1.03 * t),
        method="flow",
        flow={"kind": "transport"},
    ),
    bug(
        "log-det + 0.05 in a flow",
        determinant(lambda t: t + 0.05),
        method="flow",
        flow={"kind": "transport"},
    ),
    bug("one sweep", lambda patch: None, sampling={"steps": 1, "burn_in": 0, "max_rounds": 1}),
    Fault("field", "mass off, value known", other_reference, exact_of(ONE)),
]
assert not math.isnan(FAULTS[0].exact)

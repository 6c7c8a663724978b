"""What every pair potential must satisfy: kernel, torch form, derivatives, mistakes, one run."""

import importlib
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian
from typer.testing import CliRunner

import crystals
from helmflow.cli import app
from helmflow.energies.buckingham import Buckingham
from helmflow.energies.lennard_jones import LennardJones
from helmflow.energies.mie import Mie
from helmflow.energies.morse import Morse
from helmflow.energies.uhlenbeck_ford import UhlenbeckFord
from helmflow.errors import InputError
from helmflow.system.potential import ENERGIES
from system_files import extxyz

SIZES = {"cutoff": 2.7, "images": "all"}
POTENTIALS = {
    "lennard_jones": (LennardJones, {"epsilon": 1.0, "sigma": 1.0}),
    "mie": (Mie, {"epsilon": 1.0, "sigma": 1.0, "repulsive": 14.5, "attractive": 5.5}),
    "morse": (Morse, {"depth": 1.3, "stiffness": 5.0, "distance": 1.1}),
    "buckingham": (Buckingham, {"A": 9e5, "rho": 0.08, "C": 3.45}),
    "uhlenbeck_ford": (UhlenbeckFord, {"epsilon": 2.0, "sigma": 1.0, "p": 50.0}),
}
LONGEST_FILE = 40


def build(kind, cells=2, **changes):
    potential, parameters = POTENTIALS[kind]
    sites, cell = crystals.crystal(crystals.FCC, (4 / 1.28) ** (1 / 3), cells)
    return potential(sites, cell, **{**SIZES, **parameters, **changes})


@pytest.fixture(params=POTENTIALS)
def kind(request):
    return request.param


@pytest.fixture(params=["shifted", "not shifted", "nearest"])
def energy(kind, request):
    changes = {"shifted": {}, "not shifted": {"shift": False}, "nearest": {"images": "nearest"}}
    return build(kind, **changes[request.param])


def draw(energy, batch, generator):
    shape = (batch, energy.n_particles, 3)
    return 0.05 * torch.randn(shape, dtype=torch.float64, generator=generator)


def test_kernel_agrees_with_torch(energy, generator):
    u = draw(energy, 11, generator)
    x = (energy.reference + u).requires_grad_()
    slow = energy(x)
    (slow_gradient,) = torch.autograd.grad(slow.sum(), x)
    value, gradient = energy.energy_and_gradient(x.detach())
    torch.testing.assert_close(value, slow.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-10, atol=1e-9)


def test_gradient_is_the_derivative_of_the_energy(kind, generator):
    # Between two shells: no pair crosses the cutoff, where forces jump.
    energy = build(kind, cutoff=2.45)
    u, direction = draw(energy, 2, generator).unbind(0)
    step = 1e-3 * direction
    steps = torch.stack([u - 2 * step, u - step, u + step, u + 2 * step])
    e = energy.displaced(steps, gradient=False)[0]
    slope = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / 12
    _, gradient = energy.displaced(u.unsqueeze(0))
    assert float((gradient * step).sum()) == pytest.approx(float(slope), rel=1e-6)


def test_hessian_trace_agrees_with_automatic_differentiation(energy, generator):
    u = draw(energy, 3, generator)
    size = 3 * energy.n_particles
    root = torch.randn(size, size, dtype=torch.float64, generator=generator)
    covariance = root @ root.T
    trace = energy.hessian_trace(u, covariance)
    h = hessian(lambda v: energy(v.reshape(1, -1, 3))[0], (energy.reference + u[1]).flatten())
    assert float(trace[1]) == pytest.approx(float((h * covariance).sum()), rel=1e-9)


def test_sum_over_images(kind, generator):
    energy = build(kind)
    u = draw(energy, 2, generator)
    for row, value in zip(u, energy.displaced(u)[0].tolist(), strict=True):
        assert value == pytest.approx(sum_over_pairs(energy, energy.reference + row), rel=1e-12)


def sum_over_pairs(energy, x):
    reach = range(-2, 3)
    images = torch.cartesian_prod(*[torch.tensor(reach, dtype=torch.float64)] * 3)
    apart = x[:, None, None] - x[None, :, None] - images @ energy.cell.matrix
    r = apart.norm(dim=-1).flatten()
    r = r[(r > 0) & (r < energy.cutoff)]
    return 0.5 * float((energy.pair_energy(r) - energy.offset).sum())


def test_shift_makes_the_energy_continuous(kind):
    assert build(kind).continuous
    assert not build(kind, shift=False).continuous
    assert build(kind).offset == build(kind, shift=False).at_cutoff
    assert not build(kind).continuous_forces


def test_mie_with_12_and_6_is_lennard_jones(generator):
    argon = build("lennard_jones", epsilon=1.7)
    mie = build("mie", epsilon=1.7, repulsive=12.0, attractive=6.0)
    u = draw(argon, 9, generator)
    for ours, expected in zip(mie.displaced(u), argon.displaced(u), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-11)
    covariance = torch.eye(3 * argon.n_particles, dtype=torch.float64)
    ours, expected = mie.hessian_trace(u, covariance), argon.hessian_trace(u, covariance)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)


def test_minima_are_where_they_are_said_to_be():
    r = torch.linspace(0.9, 1.5, 60_001, dtype=torch.float64)

    def minimum(energy):
        u = energy.pair_energy(r)
        return float(r[u.argmin()]), float(u.min())

    assert minimum(build("morse")) == pytest.approx((1.1, -1.3), abs=1e-5)
    mie = build("mie")
    assert minimum(mie) == pytest.approx(((14.5 / 5.5) ** (1 / 9), -1.0), abs=1e-5)
    buckingham = build("buckingham")
    assert minimum(buckingham)[0] == pytest.approx(buckingham.minimum, abs=1e-5)


def test_particles_in_the_core_of_buckingham_have_an_infinite_energy_and_no_force():
    energy = build("buckingham")
    top = energy.pair_energy(torch.tensor(energy.core * np.array([0.999, 1.0, 1.001])))
    assert top.argmax() == 1
    first, second = (energy.reference + 0.0)[:2]
    apart = second - first
    u = torch.zeros(5, energy.n_particles, 3, dtype=torch.float64)
    distances = torch.tensor([0.0, 0.01, 0.5, 0.99, 1.05], dtype=torch.float64) * energy.core
    u[:, 1] = apart / apart.norm() * distances[:, None] - apart
    value, gradient = energy.displaced(u)
    assert value[:4].isinf().all()
    assert (value[:4] > 0).all()
    assert (gradient.norm(dim=(1, 2))[:4].isfinite()).all()
    assert 0 < float(value[4]) < math.inf
    x = (energy.reference + u - u.mean(1, keepdim=True)).requires_grad_()
    assert torch.equal(energy(x).isinf(), value.isinf())
    # The pair in contact has no force on it: what is left comes from the others.
    assert gradient[1, 1].norm() < 1e-2 * gradient[4, 1].norm()


@pytest.mark.parametrize("r", [0.0, 1e-3])
def test_particles_on_top_of_each_other_never_have_a_small_energy(kind, r):
    energy = build(kind)
    u = torch.zeros(1, energy.n_particles, 3, dtype=torch.float64)
    u[0, 0] = energy.reference[1] - energy.reference[0]
    u[0, 0, 0] += r
    value = float(energy.displaced(u)[0])
    soft = kind in ("morse", "uhlenbeck_ford") and (r > 0 or kind == "morse")
    assert value > 100.0 if soft or r > 0 else not math.isfinite(value)


def test_parameters_are_positive(kind):
    for name in (*POTENTIALS[kind][1], "cutoff"):
        for value in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(InputError) as error:
                build(kind, **{name: value})
            assert error.value.field == f"potential.{name}"


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("mie", {"attractive": 15.0}, "potential.repulsive"),
        ("mie", {"attractive": 14.5}, "potential.repulsive"),
        ("buckingham", {"C": 300.0}, "potential.C"),
        ("buckingham", {"cutoff": 0.2}, "potential.cutoff"),
    ],
)
def test_parameters_that_do_not_go_together(kind, changes, field):
    with pytest.raises(InputError) as error:
        build(kind, **changes)
    assert error.value.field == field
    assert "\n" not in str(error.value)


def test_a_structure_within_the_core_is_refused():
    sites, cell = crystals.crystal(crystals.FCC, 0.3, 2)
    with pytest.raises(InputError) as error:
        Buckingham(sites, cell, **SIZES, **POTENTIALS["buckingham"][1])
    assert error.value.field == "structure.file"


def test_a_potential_is_one_short_file(kind):
    module, _, name = ENERGIES[kind].partition(":")
    potential = getattr(importlib.import_module(f"helmflow.energies.{module}"), name)
    assert potential is POTENTIALS[kind][0]
    assert len(Path(inspect.getfile(potential)).read_text().splitlines()) <= LONGEST_FILE


SYSTEM = """schema = 1
name = "small"
kind = "crystal"
summary = "small"
[units]
length = "sigma"
energy = "epsilon"
[structure]
file = "small.xyz"
[potential]
kind = "{kind}"
cutoff = 3.0
images = "all"
{parameters}
[state]
temperature = 0.1
[convention]
thermal_wavelength = 1.0
"""


@pytest.mark.parametrize("kind", [name for name in POTENTIALS if name != "lennard_jones"])
def test_helmflow_runs(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sites, cell = crystals.crystal(crystals.FCC, 1.57, 2)
    (tmp_path / "small.xyz").write_text(extxyz(sites.numpy(), cell.numpy(), species="Ar"))
    rows = "\n".join(f"{name} = {value}" for name, value in POTENTIALS[kind][1].items())
    text = SYSTEM.format(kind=kind, parameters=rows)
    (tmp_path / "small.toml").write_text(text)
    arguments = ["run", "small.toml", "--seed", "0", "--target-error", "0.01", "--out", "run"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "F/N" in done.output

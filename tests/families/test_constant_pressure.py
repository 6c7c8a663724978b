"""States of a varying box: an ideal gas, of which everything is known."""

import json
import math

import mdtraj
import numpy as np
import openmm
import pytest
import torch
from typer.testing import CliRunner

import gaussian_pair as pair
from assertions import assert_consistent
from helmflow.bijectors.affine import VolumeScaling
from helmflow.bijectors.base import Bijector, Identity
from helmflow.cli import app
from helmflow.energies.constant_pressure import BAR, ConstantPressure, with_boxes
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.errors import InputError
from helmflow.families.two_states.multistate import multistate
from helmflow.families.two_states.openmm_files import openmm_state
from helmflow.families.two_states.shards import merge_shards, work_shard
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.families.two_states.volumes import volume_series
from helmflow.training.map_fit import GaussianFit
from openmm_systems import argon

N, KELVIN = 20, 300.0
PRESSURES = (10.0, 11.5)
BETA = 1.0 / pair.KT


def gas(barostat=None, epsilon=0.0):
    """Particles that do not see each other, in a periodic box."""
    made = openmm.System()
    made.setDefaultPeriodicBoxVectors([5, 0, 0], [0, 5, 0], [0, 0, 5])
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(0.5)
    for _ in range(N):
        made.addParticle(39.9)
        force.addParticle(0.0, 0.3, epsilon)
    made.addForce(force)
    if barostat is not None:
        made.addForce(barostat)
    return made


def draw(pressure, n, seed):
    """Volumes of the density V^N exp(-beta p V), positions anywhere in them."""
    rng = np.random.default_rng(seed)
    edges = rng.gamma(N + 1, 1.0 / (BETA * pressure * BAR), size=n) ** (1.0 / 3.0)
    boxes = edges[:, None, None] * np.eye(3)
    return edges[:, None, None] * rng.random((n, N, 3)), boxes


def samples(n=400):
    return [with_boxes(*draw(p, n, k)) for k, p in enumerate(PRESSURES)]


def states():
    return [openmm_state(gas(), KELVIN, pressure=p, platform="Reference") for p in PRESSURES]


EXACT = (N + 1) * math.log(PRESSURES[1] / PRESSURES[0])


def test_ideal_gas_at_two_pressures():
    found = targeted_fep(*states(), *samples())
    assert_consistent(found.result.value, found.result.stderr, EXACT, resolve=0.5)
    assert found.result.n_particles == N
    assert found.temperature == pytest.approx(KELVIN)
    several = multistate(states(), samples())
    assert_consistent(several.result.value, several.result.stderr, EXACT, resolve=0.5)


def volumes_of(found):
    return [c for c in found.result.checks if c.name.startswith("volumes of")]


def test_another_pressure_shows_in_the_volumes():
    """Samples of 10 and 11.5 bar, said to be of 20 and 23, or of one volume."""
    good = volumes_of(targeted_fep(*states(), *samples()))
    assert [c.passed for c in good] == [True, True]
    other = [openmm_state(gas(), KELVIN, pressure=2 * p, platform="Reference") for p in PRESSURES]
    found = targeted_fep(*other, *samples())
    assert [c.severity for c in volumes_of(found)] == ["hard", "hard"]
    assert found.result.grade == "F"
    assert volumes_of(found)[0].value == pytest.approx(1.0, abs=0.3)  # (p - 2 p) / p
    # the mean volume of 10 bar, and no other
    rng = np.random.default_rng(0)
    edge = ((N + 1) / (BETA * 10.0 * BAR)) ** (1.0 / 3.0)
    still = with_boxes(edge * rng.random((400, N, 3)), np.tile(edge * np.eye(3), (400, 1, 1)))
    fixed = targeted_fep(states()[0], states()[0], still, still.clone())
    assert [c.severity for c in volumes_of(fixed)] == ["hard", "hard"]


def test_molecules_across_faces_do_not_disturb_the_virial():
    """Dimers whose second particle was put into the box: the same series."""
    system = openmm.System()
    bonds = openmm.HarmonicBondForce()
    bonds.setUsesPeriodicBoundaryConditions(True)
    system.setDefaultPeriodicBoxVectors([3, 0, 0], [0, 3, 0], [0, 0, 3])
    for k in range(0, 2 * N, 2):
        system.addParticle(12.0)
        system.addParticle(12.0)
        bonds.addBond(k, k + 1, 0.12, 2e4)
    system.addForce(bonds)
    state = openmm_state(system, KELVIN, pressure=10.0, platform="Reference")
    centres, boxes = draw(10.0, 50, 0)
    rng = np.random.default_rng(1)
    apart = rng.normal(size=(50, N, 3))
    apart *= 0.12 / np.linalg.norm(apart, axis=2, keepdims=True)
    whole = np.stack([centres, centres + apart], 2).reshape(50, 2 * N, 3)
    broken = whole - np.floor(whole / boxes[:, :1, :1]) * boxes[:, :1, :1]
    assert not np.allclose(whole, broken)
    series = [
        volume_series(state.energy, state.beta, with_boxes(x, boxes), np.arange(50))
        for x in (whole, broken)
    ]
    np.testing.assert_allclose(series[0], series[1], rtol=1e-6)
    volume = np.linalg.det(boxes)
    np.testing.assert_allclose(series[0][:, 0, 0], 3 * BETA * 10 * BAR * volume, rtol=1e-4)
    assert (series[0][:, 0, 1] == 3.0 * N + 3.0).all()


def test_energies_are_those_of_each_box():
    system, x = argon()
    energy = OpenMMEnergy(system, platform="Reference")
    boxes = torch.stack([s * torch.from_numpy(energy.box) for s in (1.0, 1.1)])
    both = torch.stack([x, 1.1 * x])
    got = ConstantPressure(energy, 7.0)(with_boxes(both, boxes))
    volumes = torch.linalg.det(boxes)
    torch.testing.assert_close(got, energy(both, boxes.numpy()) + 7.0 * BAR * volumes)


def test_what_is_refused():
    x = samples(5)[0]
    state = states()[0]
    with pytest.raises(InputError, match="positions and box"):
        state.reduced_potential(x[:, :N])
    with pytest.raises(InputError, match="map: expected none at constant pressure"):
        state.reduced_potential(x.requires_grad_())
    with pytest.raises(InputError, match=r"positions \(n, particles, 3\) and boxes"):
        with_boxes(torch.zeros(3, 4, 3), torch.eye(3))
    with pytest.raises(InputError, match="a periodic system"):
        openmm_state(pair.systems()[0], KELVIN, pressure=1.0)
    for barostat, message in (
        (openmm.MonteCarloBarostat(2.0, KELVIN), "pressure: expected 2 bar, that of the System"),
        (
            openmm.MonteCarloAnisotropicBarostat([1.0, 1.0, 1.0], KELVIN),
            "pressure: expected an isotropic",
        ),
    ):
        with pytest.raises(InputError, match=message):
            openmm_state(gas(barostat), KELVIN, pressure=1.0, platform="Reference")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The gas and a slightly attractive one at 10 bar, by their own barostats."""
    folder = tmp_path_factory.mktemp("gas")
    top = mdtraj.Topology()
    chain = top.add_chain()
    for _ in range(N):
        top.add_atom("Ar", mdtraj.element.argon, top.add_residue("AR", chain))
    mdtraj.Trajectory(np.zeros((1, N, 3)), top).save_pdb(str(folder / "top.pdb"))
    arguments = {"--topology": str(folder / "top.pdb"), "--temperature": str(KELVIN)}
    for k, side in enumerate("ab"):
        system = gas(openmm.MonteCarloBarostat(10.0, KELVIN), epsilon=0.0)
        (folder / f"{side}.xml").write_text(openmm.XmlSerializer.serialize(system))
        positions, boxes = draw(10.0, 100, k)
        np.savez(folder / f"{side}.npz", positions=positions, boxes=boxes)
        arguments |= {
            f"--system-{side}": str(folder / f"{side}.xml"),
            f"--traj-{side}": str(folder / f"{side}.npz"),
        }
    return arguments


def call(files, out, *more):
    words = [word for item in files.items() for word in item]
    options = ["--out", str(out), "--platform", "Reference", *more]  # the last of two counts
    return CliRunner().invoke(app, ["tfep", *words, *options])


def test_on_the_command_line(files, tmp_path):
    done = call(files, tmp_path / "run", "--pressure", "10", "--json")
    assert done.exit_code in (0, 1), done.output
    result = json.loads(done.stdout)
    assert result["value"] == pytest.approx(0.0, abs=1e-9)
    assert not any("barostat" in check["name"] for check in result["checks"])


def test_a_barostat_left_in_costs_one_grade(files, tmp_path):
    """At constant volume it was not at work, and is left out of the energy."""
    fixed = dict(files)
    for side in "ab":
        positions, boxes = draw(10.0, 100, 3)
        scaled = positions / boxes[:, :1, :1] * 5.0
        np.savez(tmp_path / f"{side}.npz", positions=scaled, boxes=5.0 * np.eye(3))
        fixed[f"--traj-{side}"] = str(tmp_path / f"{side}.npz")
    done = call(fixed, tmp_path / "run", "--json")
    result = json.loads(done.stdout)
    (check,) = [c for c in result["checks"] if "without barostat" in c["name"]]
    assert "MonteCarloBarostat left out" in check["explanation"]
    assert not check["passed"]
    assert result["grade"] != "A"


def with_a_bad_box(bad):
    x = samples(40)
    x[0][3, -3:] *= bad
    return x


@pytest.mark.parametrize("bad", [math.nan, 0.0, 0.01], ids=["nan", "flat", "too small"])
def test_a_sample_in_an_impossible_box_is_left_out(bad):
    """The last is smaller than twice the cutoff, which OpenMM refuses."""
    x = with_a_bad_box(bad)
    whole = targeted_fep(*states(), torch.cat([x[0][:3], x[0][4:]]), x[1])
    shards = [work_shard(*states(), *x, part=(i, 2)) for i in (1, 2)]
    several = multistate(states(), x)
    for found in (targeted_fep(*states(), *x), merge_shards(shards), several):
        (check,) = [c for c in found.result.checks if c.name == "samples left out"]
        assert check.value == pytest.approx(1 / 80)
        assert found.result.value == pytest.approx(whole.result.value, rel=1e-6)


def test_a_frame_in_an_impossible_box_is_left_out(files, tmp_path):
    positions, boxes = draw(10.0, 100, 0)
    boxes[3] = math.nan
    np.savez(tmp_path / "a.npz", positions=positions, boxes=boxes)
    bad = files | {"--traj-a": str(tmp_path / "a.npz")}
    done = call(bad, tmp_path / "run", "--pressure", "10", "--json")
    assert done.exit_code in (0, 1), done.output
    checks = json.loads(done.stdout)["checks"]
    assert [c["value"] for c in checks if c["name"] == "samples left out"] == [1 / 200]


class Shifted(Bijector):
    """Moves all particles, and the box as well if told to."""

    def __init__(self, box=0.0):
        super().__init__()
        self.shift = torch.full((N + 3, 3), 0.1, dtype=torch.float64)
        self.shift[-3:] = box

    def forward(self, x):
        return x + self.shift, x.new_zeros(len(x))

    def inverse(self, y):
        return y - self.shift, y.new_zeros(len(y))


def test_a_map_at_constant_pressure_leaves_the_box():
    x = samples(40)
    plain = targeted_fep(*states(), *x)
    for able in (Identity(), Shifted()):
        found = targeted_fep(*states(), *x, map=able)
        assert found.mapped.value == pytest.approx(plain.plain.value)
    stretched = VolumeScaling(1.1, N + 3)
    for wrong in (GaussianFit(), Shifted(1e-3), stretched):
        with pytest.raises(InputError, match="map: expected none at constant pressure"):
            targeted_fep(*states(), *x, map=wrong)
        with pytest.raises(InputError, match="map: expected none at constant pressure"):
            work_shard(*states(), *x, part=(1, 2), map=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name its pressure, or continue at the mean volume"),
        (("--pressure", "3"), "expected 10 bar, that of the System's barostat"),
        (("--pressure", "10", "--map", "transport"), "none at constant pressure"),
        (("--temperature", "310"), "temperature: expected 300 K, that of the MonteCarloBarostat"),
    ],
)
def test_mistakes_on_the_command_line(options, message, files, tmp_path):
    done = call(files, tmp_path / "run", *options)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1

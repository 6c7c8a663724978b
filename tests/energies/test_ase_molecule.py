import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from helmflow.doctor import check_energy
from helmflow.energies.ase_molecule import CalculatorEnergy
from helmflow.errors import EnergyError, InputError


def cluster():
    return Atoms("Ar4", positions=np.array([[0, 0, 0], [3.8, 0, 0], [0, 3.9, 0], [0.1, 0, 4.0]]))


def lennard_jones(**options):
    calculator = LennardJones(sigma=3.4, epsilon=0.0104, rc=20.0)
    return CalculatorEnergy(cluster(), calculator, **options)


def positions(scale=1.0, n=3):
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn((n, 4, 3), generator=generator, dtype=torch.float64)
    return scale * (torch.from_numpy(cluster().positions) + noise)


def test_finite_differences():
    checks = check_energy(lennard_jones(), positions())
    assert [check.name for check in checks if not check.passed] == []


def test_units_of_openmm():
    there = lennard_jones(length="nm", energy="kJ/mol", offset=1.0)
    here = lennard_jones()
    kilojoule = 96.48533212331
    expected, slope = here.energy_and_gradient(positions())
    found, gradient = there.energy_and_gradient(positions(0.1))
    torch.testing.assert_close(found, expected * kilojoule - 1.0)
    torch.testing.assert_close(gradient, slope * kilojoule * 10.0)
    x = positions(0.1).requires_grad_()
    there(x).sum().backward()
    torch.testing.assert_close(x.grad, gradient)


class Fragile(Calculator):
    """Fails where the first coordinate is beyond one, returns NaN beyond two."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions[0, 0]
        if 1.0 < x < 2.0:
            raise RuntimeError("did not converge")
        value = np.nan if x > 2.0 else x
        self.results = {"energy": value, "forces": np.zeros((len(self.atoms), 3))}


def test_failures_are_infinite_and_counted():
    energy = CalculatorEnergy(molecule("H2O"), Fragile())
    x = torch.zeros(4, 3, 3, dtype=torch.float64)
    x[:, 0, 0] = torch.tensor([0.5, 1.5, 2.5, float("nan")])
    values, gradient = energy.energy_and_gradient(x)
    assert values[0] == 0.5
    assert torch.isposinf(values[1:]).all()
    assert not gradient.any()
    assert energy.n_infinite == 3
    assert energy.n_evaluations == 4


def test_a_calculator_that_never_worked_says_why():
    energy = CalculatorEnergy(molecule("H2O"), Fragile())
    with pytest.raises(EnergyError, match=r"Fragile failed: .*did not converge"):
        energy(torch.full((2, 3, 3), 1.5, dtype=torch.float64))


def test_mistakes():
    with pytest.raises(InputError, match="length"):
        lennard_jones(length="sigma")
    with pytest.raises(InputError, match="x: expected shape"):
        lennard_jones()(torch.zeros(1, 3, 3))

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from helmflow.energies.ase import ASEEnergy, calculator_energy
from helmflow.errors import EnergyError, InputError


def copper(repeats=2):
    return bulk("Cu", "fcc", a=3.6, cubic=True) * repeats


def displacements(n, batch=3, scale=0.08, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, n, 3, generator=generator, dtype=torch.float64)


class Scripted(Calculator):
    """Returns the given energy, or raises the given error, whatever the positions."""

    implemented_properties = ("energy", "forces")

    def __init__(self, outcome):
        super().__init__()
        self.outcome = outcome

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        force = 0.0 if np.isfinite(self.outcome) else self.outcome
        self.results = {"energy": self.outcome, "forces": np.full((len(atoms), 3), force)}


def test_energy_and_forces_are_those_of_ase():
    atoms = copper()
    energy = ASEEnergy(atoms, EMT())
    u = displacements(len(atoms))
    values, gradient = energy.displaced(u)
    for i in range(len(u)):
        moved = atoms.copy()
        moved.positions = moved.positions + u[i].numpy()
        moved.calc = EMT()
        assert values[i].item() == pytest.approx(moved.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(gradient[i].numpy(), -moved.get_forces(), atol=1e-10)
    assert energy.evaluations == 3


def test_positions_and_displacements_agree_up_to_cell_vectors_and_translation():
    atoms = copper()
    energy = ASEEnergy(atoms, EMT())
    u = displacements(len(atoms), batch=2)
    values, _ = energy.displaced(u)
    x = energy.reference + u + torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    x[:, 3] += energy.cell.matrix[1]
    torch.testing.assert_close(energy(x), values, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(energy.energy_and_gradient(x)[0], values, rtol=0.0, atol=1e-9)


def test_gradient_is_a_finite_difference_and_flows_through_autograd():
    atoms = copper()
    energy = ASEEnergy(atoms, EMT())
    x = (energy.reference + displacements(len(atoms), batch=2)).requires_grad_()
    (2.0 * energy(x)).sum().backward()
    _, gradient = energy.energy_and_gradient(x)
    torch.testing.assert_close(x.grad, 2.0 * gradient, rtol=0.0, atol=1e-12)
    step = torch.zeros_like(gradient)
    step[:, 5, 1] = 1e-5
    slope = (energy(x.detach() + step) - energy(x.detach() - step)) / 2e-5
    torch.testing.assert_close(gradient[:, 5, 1], slope, rtol=1e-6, atol=1e-6)


def test_second_derivatives_are_refused_instead_of_zero():
    energy = ASEEnergy(copper(), EMT())
    x = energy.reference[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.square().sum().backward()


def test_the_caller_keeps_their_atoms():
    atoms = copper()
    before = atoms.positions.copy()
    ASEEnergy(atoms, EMT()).displaced(displacements(len(atoms)))
    assert atoms.calc is None
    np.testing.assert_array_equal(atoms.positions, before)


@pytest.mark.parametrize("outcome", [float("nan"), float("inf"), -float("inf")])
def test_energies_that_are_not_finite_never_come_back(outcome):
    energy = ASEEnergy(copper(1), Scripted(outcome))
    for gradient in (True, False):
        with pytest.raises(EnergyError, match="Scripted returned energy"):
            energy.displaced(displacements(4), gradient=gradient)


def test_finite_energy_with_nan_forces_is_refused():
    class BadForces(Scripted):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.results["forces"][2, 1] = np.nan

    with pytest.raises(EnergyError, match="BadForces"):
        ASEEnergy(copper(1), BadForces(-1.0)).displaced(displacements(4))


@pytest.mark.parametrize("error", [RuntimeError("did not converge"), KeyError("Xx")])
def test_a_calculator_that_fails_is_named(error):
    with pytest.raises(EnergyError, match="Scripted failed"):
        ASEEnergy(copper(1), Scripted(error)).displaced(displacements(4))


def test_positions_that_are_not_finite_are_not_sent_to_the_calculator():
    energy = ASEEnergy(copper(1), EMT())
    u = displacements(4)
    u[1, 2, 0] = float("nan")
    with pytest.raises(EnergyError, match="EMT was asked"):
        energy.displaced(u)


def test_free_energy_is_used_where_the_calculator_has_one():
    class Smeared(Scripted):
        implemented_properties = ("energy", "free_energy", "forces")

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.results["free_energy"] = self.results["energy"] - 0.25

    values, _ = ASEEnergy(copper(1), Smeared(-1.0)).displaced(displacements(4))
    assert values.tolist() == [-1.25] * 3


def test_calculator_by_name_with_arguments():
    energy = calculator_energy(
        copper(),
        calculator="ase.calculators.lj:LennardJones",
        arguments={"epsilon": 0.5, "sigma": 2.3, "rc": 3.5},
    )
    atoms = copper()
    atoms.calc = LennardJones(epsilon=0.5, sigma=2.3, rc=3.5)
    value, _ = energy.displaced(torch.zeros(1, len(atoms), 3, dtype=torch.float64))
    assert value.item() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


@pytest.mark.parametrize(
    ("calculator", "arguments", "message"),
    [
        ("ase.calculators.emt", {}, "potential.calculator: expected 'package.module:Name'"),
        (".emt:EMT", {}, "potential.calculator: expected 'package.module:Name'"),
        (
            "ase.calculatrs.emt:EMT",
            {},
            "calculator: .*did you mean 'ase.calculators.emt'",
        ),
        ("ase.calculators.emt:EMTT", {}, "did you mean 'EMT'"),
        ("ase.calculators.emt:parameters", {}, "potential.calculator: expected a calculator"),
        ("chgnet.nowhere:CHGNet", {}, "potential.calculator: expected an importable module"),
        (
            "ase.calculators.lj:LennardJones",
            {"sgima": 2.0},
            "potential.arguments.sgima: .*did you mean 'sigma'",
        ),
        ("ase.calculators.emt:EMT", {"cutoff": 2.0}, "potential.arguments.cutoff"),
        ("ase.calculators.morse:MorsePotential", {"rho": 1.0}, "potential.arguments.rho"),
    ],
)
def test_mistakes_in_the_calculator_are_one_line(calculator, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        calculator_energy(copper(), calculator=calculator, arguments=arguments)
    assert "\n" not in str(error.value)

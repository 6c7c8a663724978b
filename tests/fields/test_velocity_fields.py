"""What every velocity field promises: its divergence, and Stein functions that belong to it."""

from functools import cache

import numpy as np
import pytest
import torch

from fitted_flows import problem_and_base
from helmflow.fields.base import JointField
from helmflow.fields.loops import LoopField
from helmflow.fields.plaquettes import PlaquetteField
from helmflow.fields.sine import SineField
from helmflow.fields.sphere import SphereField
from helmflow.fields.whitened import WhitenedField
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.streams import stream
from small_solvent import BOX, RADII, positions


def angles(n):
    return 3.0 * torch.randn((n, 4, 5), generator=stream(0, "angles"), dtype=torch.float64)


def lattice(n):
    return torch.randn((n, 16), generator=stream(1, "phi"), dtype=torch.float64)


def whitened(name):
    problem, base = problem_and_base(name)
    return WhitenedField(base, problem.transport_fields(base)), lambda n: base.noise(
        n, stream(2, "z")
    )


FIELDS = {
    "plaquettes": lambda: (PlaquetteField(), angles),
    "loops": lambda: (LoopField(), angles),
    "both": lambda: (JointField((PlaquetteField(), LoopField())), angles),
    "sphere": lambda: (SphereField(BOX, RADII), lambda n: positions(n, n=6)),
    "sines": lambda: (SineField.on((4, 4), KernelOrbits(2), 3, 0.7), lattice),
    "white field": lambda: whitened("lattice/phi4_4"),
    "white crystal": lambda: whitened("lennard_jones/fcc_32"),
}


@cache
def field_of(name):
    return FIELDS[name]()


@pytest.mark.parametrize("name", FIELDS)
def test_stein_functions_are_those_of_the_velocities(name):
    field, draw = field_of(name)
    x, t = draw(3), 0.4
    gradient = draw(6)[3:]
    stein = field.stein(x, gradient, t)
    assert stein.shape == (field.size, 3)
    generator = stream(3, "weights")
    for _ in range(5):
        weights = torch.randn(field.size, generator=generator, dtype=torch.float64)
        velocity, divergence = field.velocity(x, t, weights)
        assert velocity.shape == x.shape
        expected = divergence - (velocity * gradient).flatten(1).sum(1)
        scale = float((weights[:, None] * stein).abs().sum(0).max())
        torch.testing.assert_close(weights @ stein, expected, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "white crystal"])
def test_the_divergence_is_the_trace_of_the_jacobian(name):
    field, draw = field_of(name)
    x, t, h = draw(1), 0.7, 1e-5
    weights = torch.randn(field.size, generator=stream(4, "weights"), dtype=torch.float64)
    steps = h * torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *x.shape[1:])
    ahead, behind = (field.velocity(x + sign * steps, t, weights)[0] for sign in (1, -1))
    measured = ((ahead - behind) / (2.0 * h)).flatten(1).diagonal()
    divergence = float(field.velocity(x, t, weights)[1])
    assert float(measured.sum()) == pytest.approx(
        divergence, abs=1e-6 * float(measured.abs().sum())
    )


def test_a_joint_field_is_the_sum_of_its_parts():
    joint, draw = field_of("both")
    x = draw(2)
    weights = torch.randn(joint.size, generator=stream(5, "weights"), dtype=torch.float64)
    parts = [
        part.velocity(x, 0.0, w)
        for part, w in zip(
            joint.parts, weights.split([part.size for part in joint.parts]), strict=True
        )
    ]
    velocity, divergence = joint.velocity(x, 0.0, weights)
    np.testing.assert_allclose(velocity, parts[0][0] + parts[1][0])
    np.testing.assert_allclose(divergence, parts[0][1] + parts[1][1])

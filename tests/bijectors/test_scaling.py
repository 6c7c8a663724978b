import math

import pytest
import torch

from assertions import assert_consistent
from helmflow.bijectors.affine import HarmonicScaling, VolumeScaling
from helmflow.errors import InputError
from helmflow.families.two_states.targeted import targeted_fep

MOLECULES = [[0, 1, 2], [3, 4], [5]]


def test_molecules_keep_their_shape():
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, _ = VolumeScaling(1.3, 6, MOLECULES).forward(x)
    torch.testing.assert_close(y[:, 1] - y[:, 0], x[:, 1] - x[:, 0])
    torch.testing.assert_close(y[:, 3:5].mean(1), 1.3 * x[:, 3:5].mean(1))
    torch.testing.assert_close(y[:, 5], 1.3 * x[:, 5])


def test_translations_do_not_count():
    u = torch.zeros(1, 12, dtype=torch.float64)
    _, log_det = HarmonicScaling(4.0).forward(u)
    assert log_det.item() == pytest.approx(9 * math.log(2.0))


def test_ideal_gas_expands_by_minus_n_log_volume():
    """Exact: f_B - f_A = -N ln(V_B/V_A), every work equal."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((50, 7, 3), generator=generator, dtype=torch.float64)
    y = 2.0 * torch.rand((50, 7, 3), generator=generator, dtype=torch.float64)

    def ideal(z):
        return z.new_zeros(len(z))

    found = targeted_fep(ideal, ideal, x, y, map=VolumeScaling(2.0, 7))
    assert found.mapped.value == pytest.approx(-7 * math.log(8.0))
    assert found.works.forward.std() < 1e-12


def test_harmonic_scaling_is_exact_for_oscillators():
    generator = torch.Generator().manual_seed(2)
    stiffness = torch.linspace(1.0, 3.0, 5, dtype=torch.float64)
    noise = torch.randn((2, 400, 5), generator=generator, dtype=torch.float64)
    x, y = noise[0] / stiffness.sqrt(), noise[1] * (1.5 / stiffness).sqrt()
    found = targeted_fep(
        lambda u: 0.5 * (stiffness * u * u).sum(1),
        lambda u: 0.5 * (stiffness * u * u).sum(1) / 1.5,
        x,
        y,
        map=HarmonicScaling(1.5, n_translations=0),
    )
    assert found.mapped.value == pytest.approx(-2.5 * math.log(1.5))
    assert_consistent(found.plain.value, found.plain.stderr, found.mapped.value, resolve=0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: VolumeScaling(-1.0, 3),
        lambda: VolumeScaling(1.1, 3, [[0, 1]]),
        lambda: HarmonicScaling(0.0),
    ],
)
def test_mistakes(make):
    with pytest.raises(InputError):
        make()

import pytest
import torch
from torch.autograd.functional import jacobian

from helmflow.bijectors.base import Bijector, Identity
from helmflow.bijectors.conjugated import InCell
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.bijectors.moved_molecules import MovedMolecules, Surroundings
from helmflow.bijectors.particle_coupling import particle_couplings
from helmflow.errors import InputError
from helmflow.fields.sphere import SphereField
from helmflow.nets.attention import Attention
from helmflow.streams import stream

EDGE = 5.0
CELL = EDGE * torch.eye(3, dtype=torch.float64)
MOLECULES = [[0, 1], [2], [4, 5, 6]]
AROUND = Surroundings(8, MOLECULES, [3, 7], CELL)


def positions(n=3):
    """Molecules of neighbours, anywhere in the cell."""
    generator = stream(0, "x")
    x = EDGE * torch.rand(n, 8, 3, generator=generator, dtype=torch.float64)
    for first, *rest in [*MOLECULES, [3, 7]]:
        noise = 0.2 * torch.randn(n, len(rest), 3, generator=generator, dtype=torch.float64)
        x[:, rest] = x[:, [first]] + noise
    return x


def couplings():
    chain = particle_couplings(
        n_layers=3, n_bins=5, n_frequencies=2, network=Attention(8, 2, 1, torch.float64)
    )
    generator = stream(2, "weights")
    with torch.no_grad():
        for p in chain.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return InCell(chain, CELL)


def growth(unit):
    field = SphereField(EDGE / unit, (1.0, 1.1))
    weights = 0.003 * torch.randn(1, field.size, generator=stream(3, "c"), dtype=torch.float64)
    return FittedFlow(field, weights, n_steps=4)


MAPS = {"couplings": (couplings, 1.0, 1e-9), "transport": (lambda: growth(0.9), 0.9, 2e-4)}


@pytest.mark.parametrize("name", MAPS)
def test_inverse_and_what_stays(name):
    make, unit, tolerance = MAPS[name]
    f, x = MovedMolecules(make(), AROUND, unit=unit), positions()
    with torch.no_grad():
        y, log_det = f.forward(x)
        back, minus = f.inverse(y)
    torch.testing.assert_close(f.nearest(back - x), torch.zeros_like(x), rtol=0.0, atol=tolerance)
    torch.testing.assert_close(minus, -log_det, rtol=0.0, atol=100 * tolerance)
    assert log_det.abs().min() > 1e-3
    assert (y - x)[:, [0, 2, 4]].norm(dim=-1).max() > 1e-3
    assert torch.equal(y[:, [3, 7]], x[:, [3, 7]])
    torch.testing.assert_close(y[:, 1] - y[:, 0], x[:, 1] - x[:, 0])
    torch.testing.assert_close(y[:, 6] - y[:, 5], x[:, 6] - x[:, 5])


def test_log_determinant_in_all_coordinates():
    f, x = MovedMolecules(couplings(), AROUND), positions(1)
    matrix = jacobian(lambda z: f.forward(z)[0], x).reshape(24, 24)
    torch.testing.assert_close(torch.linalg.slogdet(matrix).logabsdet, f.forward(x)[1][0])


def test_seen_from_a_solute_anywhere_and_through_the_faces_of_the_cell():
    f, x = MovedMolecules(couplings(), AROUND), positions()
    by = torch.tensor([1.3, -0.4, 2.2], dtype=torch.float64)
    moved = f.forward(x + by)[0] - by
    torch.testing.assert_close(f.nearest(moved - f.forward(x)[0]), torch.zeros_like(x))
    broken = x.clone()
    broken[:, 5] += CELL[0]
    broken[:, 7] -= CELL[1]
    torch.testing.assert_close(
        f.nearest(f.forward(broken)[0] - f.forward(x)[0]), torch.zeros_like(x)
    )


def test_without_a_solute_the_origin_is_the_centre():
    around = Surroundings(8, [[i] for i in range(8)], [], CELL)
    f, x = MovedMolecules(Identity(), around, unit=2.0), positions()
    torch.testing.assert_close(f.seen(x), 0.5 * x)
    assert torch.equal(f.forward(x)[0], x)


class Scaled(Bijector):
    """Not periodic, for derivatives only."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return self.scale * x, x.new_zeros(len(x))

    def inverse(self, y):
        return y / self.scale, y.new_zeros(len(y))


def test_pulled_gradients_are_derivatives_by_the_centres():
    f, x = MovedMolecules(Scaled(1.001), AROUND, unit=0.5), positions()
    gradient = torch.randn(x.shape, generator=stream(4, "g"), dtype=torch.float64)
    change = ((f.forward(x)[0] - x) * gradient).flatten(1).sum(1)
    by_centres = (f.pulled(gradient) * 0.001 * f.seen(x)).flatten(1).sum(1)
    torch.testing.assert_close(by_centres, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"molecules": [[0, 1], [1]]}, "molecules: expected each of 8 particles once"),
        ({"molecules": [[0, 9]]}, "molecules: expected each of 8 particles once"),
        ({"molecules": [[0], []]}, "none of them empty"),
        ({"molecules": []}, "at least one"),
        ({"cell": torch.ones(3)}, "cell: expected three box vectors"),
    ],
)
def test_mistakes(change, message):
    arguments = {"n_particles": 8, "molecules": MOLECULES, "solute": [3], "cell": CELL} | change
    with pytest.raises(InputError, match=message):
        Surroundings(**arguments)

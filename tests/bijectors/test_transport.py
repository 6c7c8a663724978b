"""The transport flow as a map: determinant, inverse, order, symmetry."""

import pytest
import torch

from fitted_flows import fitted
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.errors import InputError
from helmflow.families.flow.certificate import log_det_error, probed_divergence
from helmflow.families.flow.transport import transport_flow
from helmflow.streams import stream

NAMES = ["lattice/phi4_4", "ice/mw_cubic_8", "lennard_jones/fcc_32"]


@pytest.mark.parametrize("name", NAMES)
def test_log_determinant_is_that_of_the_jacobian(name):
    _, base, _, flow = fitted(name)
    u = base.sample(1, stream(2, "u"))
    assert abs(log_det_error(flow.with_steps(24), base, u)) < 2e-6


@pytest.mark.parametrize("name", NAMES)
def test_errors_of_map_and_determinant_fall_with_the_fourth_power(name):
    _, base, _, flow = fitted(name)
    u = base.sample(8, stream(3, "u"))
    exact, log_det = flow.with_steps(32).forward(u)
    errors = []
    for n_steps in (3, 6):
        y, found = flow.with_steps(n_steps).forward(u)
        errors.append(((y - exact).norm().item(), (found - log_det).norm().item()))
    assert errors[0][0] > 8 * errors[1][0]
    assert errors[0][1] > 8 * errors[1][1]


@pytest.mark.parametrize("name", NAMES)
def test_inverse_undoes_forward(name):
    _, base, _, flow = fitted(name)
    u = base.sample(5, stream(4, "u"))
    fine = flow.with_steps(32)
    y, there = fine.forward(u)
    back, here = fine.inverse(y)
    torch.testing.assert_close(back, u, rtol=0, atol=1e-6)
    torch.testing.assert_close(there + here, torch.zeros(5, dtype=u.dtype), rtol=0, atol=1e-5)


def test_symmetry_partners_go_together():
    problem, base, _, flow = fitted("lennard_jones/fcc_32")
    u = base.sample(3, stream(5, "u"))
    y, log_det = flow.forward(u)
    group = problem.symmetry
    for rotation, permutation in list(zip(group.rotations, group.permutations, strict=True))[:6]:
        for shift in group.translations[:3]:
            sites = shift[permutation]

            def partner(x, rotation=rotation, sites=sites):
                moved = torch.empty_like(x).view(-1, 32, 3)
                moved[:, sites] = x.view(-1, 32, 3) @ torch.from_numpy(rotation).T
                return moved.view(len(x), -1)

            image, same = flow.forward(partner(u))
            torch.testing.assert_close(image, partner(y), rtol=0, atol=1e-9)
            torch.testing.assert_close(same, log_det, rtol=0, atol=1e-8)


def test_zero_coefficients_are_the_identity():
    _, base, fields, flow = fitted("lennard_jones/fcc_32")
    still = transport_flow(base, fields, torch.zeros_like(flow.coefficients), 1)
    u = base.sample(4, stream(6, "u"))
    y, log_det = still.forward(u)
    torch.testing.assert_close(y, u, rtol=0, atol=1e-12)
    assert not log_det.any()


def test_a_wrong_divergence_is_seen_by_random_probes(monkeypatch):
    _, base, _, flow = fitted("lennard_jones/fcc_32")
    assert probed_divergence(flow, base, stream(7, "probes")) < 4.0
    honest = FittedFlow.velocity

    def wrong(self, x, t):
        velocity, divergence = honest(self, x, t)
        return velocity, 1.3 * divergence

    monkeypatch.setattr(FittedFlow, "velocity", wrong)
    assert probed_divergence(flow, base, stream(7, "probes")) > 6.0


def test_bad_input():
    _, base, fields, flow = fitted("lennard_jones/fcc_32")
    with pytest.raises(InputError, match="coefficients: expected"):
        transport_flow(base, fields, flow.coefficients[:, 1:], 2)
    with pytest.raises(InputError, match="n_steps: expected at least 1"):
        flow.with_steps(0)
    with pytest.raises(InputError, match="x: expected shape"):
        flow.forward(torch.zeros(2, 5, dtype=torch.float64))

"""Annealed paths: Jarzynski and Crooks on phi^4, and the limits that are known."""

import numpy as np
import pytest
import torch

from assertions import assert_consistent
from field_flows import sine_flow
from helmflow.densities.free_field import FreeField
from helmflow.energies.phi4 import Phi4
from helmflow.errors import InputError
from helmflow.estimators.bar import bar
from helmflow.estimators.fep import fep
from helmflow.estimators.reweighting import kish_ess
from helmflow.generalised_work import work
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.samplers.annealed import AnnealedPath
from helmflow.streams import stream

SHAPE = (4, 4)
DIFFERENCE = -0.63814066  # ln Z(lambda = 1) - ln Z(lambda = 0), m^2 = 1, transfer matrix


def potential(coupling):
    energy = Phi4(SHAPE, mass_squared=1.0, coupling=coupling)

    def value_and_gradient(x):
        action, gradient = energy.energy_and_gradient(x.view(-1, *SHAPE))
        return action, gradient.flatten(1)

    return value_and_gradient


def free(n, seed=0):
    hat = 4.0 * torch.sin(torch.pi * torch.arange(4, dtype=torch.float64) / 4).square()
    field = FreeField(SHAPE, KernelOrbits(2)).requires_grad_(False)
    field.set_spectrum(2.0 * (1.0 + hat[:, None] + hat))
    return field.sample_and_log_prob(n, stream(seed, "free"))[0]


def path(levels=10, trajectories=1, maps=None):
    couplings = np.linspace(0.0, 1.0, levels + 1).tolist()
    return AnnealedPath(
        [potential(c) for c in couplings], maps, step=0.15, n_steps=4, trajectories=trajectories
    )


def test_jarzynski_gives_the_exact_free_energy_difference():
    _, works = path().forward(free(4000), stream(1, "hmc"))
    estimate = fep(works.numpy())
    assert_consistent(-estimate.value, estimate.stderr, DIFFERENCE, resolve=0.05)
    assert estimate.diagnostics["ess_fraction"] > 0.85
    assert works.mean() > -DIFFERENCE  # second law


def test_both_directions_satisfy_crooks():
    """Reverse trajectories start from the target: the weighted ends of forward ones."""
    ends, works = path(20, 3).forward(free(6000), stream(2, "hmc"))
    keep = torch.multinomial(torch.softmax(-works, 0), 2000, generator=stream(2, "resampling"))
    _, back = path(levels=4).reverse(ends[keep], stream(3, "hmc"))
    _, there = path(levels=4).forward(free(2000, seed=3), stream(4, "hmc"))
    both = bar(there.numpy(), back.numpy())
    assert_consistent(-both.value, both.stderr, DIFFERENCE, resolve=0.06)
    assert both.diagnostics["overlap"] > 0.3


def test_annealing_beats_one_step():
    x = free(4000)
    works = [p.forward(x, stream(5, "hmc"))[1] for p in (path(1, 0), path())]
    assert kish_ess(-works[1]) > 1.05 * kish_ess(-works[0])


def test_without_trajectories_it_is_the_work_of_the_map():
    flow, x = sine_flow(SHAPE), free(50)
    _, works = path(1, 0, [flow]).forward(x, stream(6, "unused"))
    ends = [lambda x, c=c: potential(c)(x)[0] for c in (0.0, 1.0)]
    torch.testing.assert_close(works, work(x, ends[0], ends[1], flow), rtol=1e-12, atol=1e-12)


def test_maps_between_levels_keep_the_weights_exact():
    maps = [None, sine_flow(SHAPE, size=0.003), None, None]
    _, works = path(4, 1, maps).forward(free(4000), stream(7, "hmc"))
    estimate = fep(works.numpy())
    assert_consistent(-estimate.value, estimate.stderr, DIFFERENCE, resolve=0.1)


def test_a_path_needs_matching_maps():
    with pytest.raises(InputError, match="maps: expected 4, one per step"):
        path(4, 1, [None])
    with pytest.raises(InputError, match="potentials: expected at least two"):
        AnnealedPath([potential(0.0)], step=0.1, n_steps=1)

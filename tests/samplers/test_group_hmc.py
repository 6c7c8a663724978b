"""Trajectories of matrices sample the theory exactly, because of their Metropolis test."""

import math

import pytest
import torch

from helmflow.densities.haar import HaarMatrices
from helmflow.energies.gauge_exact import exact_gauge, single_link
from helmflow.energies.wilson import SingleLink, SUWilson, mean_traces
from helmflow.manifolds.special_unitary import trace
from helmflow.samplers.group_hmc import group_hmc
from helmflow.streams import stream


def sampled(energy, links, n_colours, *, chains, step, n=25):
    """Chains from Haar measure after n trajectories, and their last acceptance."""
    generator = stream(3, "matrices")
    x, _ = HaarMatrices(links, n_colours).sample_and_log_prob(chains, generator)
    for _ in range(n):
        x, taken = group_hmc(x, energy.force, step=step, n_steps=3, generator=generator)
    return x, taken.double().mean().item()


def sigmas(values, exact):
    return (values.mean().item() - exact) / (values.std().item() / math.sqrt(len(values)))


@pytest.mark.parametrize("tested", [True, False])
def test_moments_of_one_matrix(tested, monkeypatch):
    if not tested:  # every trajectory is accepted
        draw = torch.rand
        monkeypatch.setattr(
            "torch.rand", lambda n, **how: draw(n, **how) if n == 1 else torch.zeros(n).double()
        )
    energy = SingleLink(2, beta=3.0, coefficients=(1.0, -0.5))
    x, accepted = sampled(energy, (), 2, chains=4000, step=1.2)
    assert accepted == 1.0 if not tested else 0.3 < accepted < 0.95
    _, moments = single_link(2, 3.0, (1.0, -0.5))
    off = [
        abs(sigmas(trace(power).real / 2, exact))
        for power, exact in zip((x, x @ x), moments.tolist(), strict=True)
    ]
    assert max(off) < 5.0 if tested else max(off) > 7.0


@pytest.mark.parametrize(("n_colours", "beta"), [(2, 2.0), (3, 4.0)])
def test_plaquettes_of_a_lattice(n_colours, beta):
    energy = SUWilson((4, 4), n_colours=n_colours, beta=beta)
    x, _ = sampled(energy, (2, 4, 4), n_colours, chains=64, step=0.25, n=40)
    plaquette = mean_traces(x).mean((1, 2))
    assert plaquette.std().item() / 8.0 < 0.03
    assert abs(sigmas(plaquette, exact_gauge(n_colours, beta, 16).plaquette)) < 5.0

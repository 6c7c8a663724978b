"""Energy evaluations of the default method and of Frenkel-Ladd for the same error; ``-k frenkel``.

Frenkel-Ladd runs on the same engine (same chains, integrator and quadrature) from an Einstein
crystal with the mean square displacement of the phonons, to a coarser error; evaluations scale
with the inverse square of the error.
"""

import pytest
import torch

from helmflow import free_energy, load_system


@pytest.mark.benchmark
@pytest.mark.parametrize("name", ["ice/mw_cubic_64", "lennard_jones/fcc_108"])
def test_fewer_energies_than_frenkel_ladd(name):
    torch.set_num_threads(1)
    system = load_system(name)
    ours = free_energy(system, seed=0)
    theirs = free_energy(system, method="frenkel_ladd", seed=0, target_error=1e-3)
    ratio = (theirs.cost.energy_evaluations / ours.cost.energy_evaluations) * (
        theirs.stderr / ours.stderr
    ) ** 2
    print(
        f"\n{name}: default {ours}, {ours.cost.energy_evaluations} energies; Frenkel-Ladd "
        f"{theirs}, {theirs.cost.energy_evaluations}; at equal error {ratio:.0f} times fewer"
    )
    scale = (ours.stderr**2 + theirs.stderr**2) ** 0.5
    assert abs(ours.value - theirs.value) < 4.0 * scale
    assert ratio > 50.0

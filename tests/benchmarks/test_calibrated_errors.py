"""Error bars against the scatter of independent seeds; ``-k calibrated``."""

import numpy as np
import pytest
import torch

from helmflow import free_energy, load_system

SEEDS = range(100, 124)


@pytest.mark.benchmark
@pytest.mark.parametrize("name", ["ice/mw_cubic_64", "lennard_jones/fcc_256"])
def test_calibrated_errors(name):
    torch.set_num_threads(1)
    system = load_system(name)
    results = [free_energy(system, seed=seed) for seed in SEEDS]
    value = np.array([r.value for r in results])
    weight = np.array([r.stderr for r in results]) ** -2.0
    mean = weight @ value / weight.sum()
    ratio = weight @ (value - mean) ** 2 / (len(value) - 1)
    grades = "".join(r.grade for r in results)
    print(
        f"\n{name}: {mean:.6f} +- {weight.sum() ** -0.5:.1e}, chi2/dof {ratio:.2f}, "
        f"grades {grades}"
    )
    assert 0.6 < ratio < 1.5

"""All eight published rows: error, deviation from the literature and processor time of each.

Run with ``pytest tests/benchmarks -m benchmark -s -k rows``; single thread. Kernels are compiled
beforehand on the smallest systems, and that time is printed on its own.
"""

import time

import pytest
import torch

from benchmarks.rows import ROWS
from helmflow import free_energy, load_system

BUDGET = 120.0
"""Processor seconds for all rows together."""


@pytest.mark.benchmark
def test_published_rows_within_the_budget():
    torch.set_num_threads(1)
    start = time.process_time()
    for name in ("ice/mw_hexagonal_8", "lennard_jones/fcc_32"):
        free_energy(load_system(name), target_error=1e-2)
    print(f"\nimports and compilation: {time.process_time() - start:.1f} s of processor time")
    total, failures = 0.0, []
    print(
        f"{'system':24} {'F/N in kT':>16} {'published':>12} {'sigma':>6} {'grade':>5} "
        f"{'energies':>9} {'CPU s':>6}"
    )
    for name in ROWS:
        start = time.process_time()
        result = free_energy(load_system(name), seed=0)
        spent = time.process_time() - start
        total += spent
        # The last reference is the one with the smallest published error.
        published = result.references[-1]
        own = (result.value - published.value) / result.stderr
        combined = published.deviation_sigma
        number = f"{result.value:10.5f}({result.stderr * 1e5:3.1f})"
        print(
            f"{name:24} {number} {published.value:12.5f} "
            f"{own:6.1f} {result.grade:>5} {result.cost.energy_evaluations:9d} {spent:6.1f}"
        )
        if result.stderr > 1e-4:
            failures.append(f"{name}: stderr {result.stderr:.1e}")
        if min(abs(own), abs(combined)) > 3.0:
            failures.append(f"{name}: {own:.1f} of its own sigma, {combined:.1f} combined")
    print(f"{'all eight':24} {total:70.1f}")
    assert not failures, failures
    assert total < BUDGET

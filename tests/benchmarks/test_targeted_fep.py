"""Targeted perturbation against plain BAR, on the published solvation test and on molecules."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import dipeptide
from assertions import assert_calibrated
from helmflow.bijectors.moved_molecules import Surroundings
from helmflow.estimators.bar import bar
from helmflow.families import free_energy
from helmflow.families.growth.estimates import GrowthPlan, grow
from helmflow.families.growth.family import GrowthFamily, growth_path
from helmflow.families.growth.growth_path import record
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.families.two_states.temperature import at_beta, temperature_perturbation
from helmflow.settings import Settings
from helmflow.skeleton.run import Run
from helmflow.streams import stream
from helmflow.system import load_system
from helmflow.training.molecule_fit import MoleculeFit
from helmflow.training.periodic_fit import PLAN, PeriodicFit
from helmflow.training.plan import TrainingPlan
from helmflow.training.solvent_fit import SolventFit

pytestmark = pytest.mark.benchmark
REFERENCE = (33.533, 0.007)
"""Integration with control variates and mapped BAR of seeds 1 to 4, pooled: this Hamiltonian."""


def row(name, estimate):
    print(f"{name:<28} {estimate.value:9.4f} +- {estimate.stderr:.4f}")


@pytest.fixture(scope="module")
def seconds():
    """Processor seconds at which every stage of the solvation test began, and its end."""
    return {}


@pytest.fixture(scope="module")
def solvation(seconds):
    def listen(event):
        seconds[event.stage] = run.budget.cost().cpu_seconds

    system = load_system("solvation/wca_125")
    run = Run(system.name, Settings(seed=11), None, listen)
    growth = grow(growth_path(system), GrowthPlan(), GrowthFamily(system).quantity, run)
    run.tell("end")
    return growth


def test_solvation(solvation, seconds):
    mapped, plain = solvation.mapped, solvation.comparison.plain
    print(f"\n{seconds['end']:.0f} CPU seconds; stages began at {seconds}")
    print(f"variance reduction {solvation.comparison.variance_reduction:.1f}")
    for name, estimate in (
        ("BAR, 9000 + 9000", plain),
        ("BAR through the map", mapped),
        ("TI", solvation.path.plain_integral),
        ("TI with control variates", solvation.path.integral),
        ("both", solvation.combined),
    ):
        row(name, estimate)
    for estimate in (mapped, solvation.path.integral, solvation.combined):
        assert abs(estimate.value - REFERENCE[0]) < 3.0 * math.hypot(estimate.stderr, REFERENCE[1])
    assert abs(mapped.value - plain.value) < 3.0 * plain.stderr
    assert solvation.comparison.works.forward.size == 9000
    assert mapped.stderr <= 0.025
    assert solvation.comparison.variance_reduction >= 50.0
    assert solvation.combined.stderr <= 0.0125
    assert seconds["end"] < 300.0


NETWORK_STEPS, REFINING_STEPS = 450, 150
"""Steps of training: four minutes and one of processor time; the network would take more."""


def test_maps_fitted_to_the_ends_of_the_solvation_test_alone():
    """No samples in between: a transport fitted to both ends, a network, and one upon the other.

    Eight minutes of processor time.
    """
    path = growth_path(load_system("solvation/wca_125"))
    n = path.energy.n_particles
    ends = path.chains((0.0, 1.0), (100, 100), stream(0, "ends"))
    x, y = (
        half.transpose(0, 1).flatten(0, 1) for half in torch.split(record(ends, 40, 4), 100, dim=1)
    )
    cell = path.energy.box * torch.eye(3, dtype=torch.float64)
    around = Surroundings(n, [[i] for i in range(n)], [], cell)

    def slopes(x, lam):
        _, slope, gradient = path.evaluate(x, torch.full((len(x),), lam, dtype=torch.float64))
        return slope, gradient

    fitted = SolventFit(around, slopes)
    maps = {
        "fitted transport": fitted,
        "trained periodic": PeriodicFit(around, plan=replace(PLAN, steps=NETWORK_STEPS)),
        "trained on fitted transport": PeriodicFit(
            around, first=fitted, plan=replace(PLAN, steps=REFINING_STEPS)
        ),
    }
    left = {}
    print()
    for name, fit in maps.items():
        start = time.process_time()
        found = targeted_fep(*path.states, x, y, map=fit, folds=1)
        _, _, evaluated, without = (o.value for o in found.result.observables)
        row(f"BAR, {name}", found.mapped)
        # The error of BAR without a map is itself unknown here; the dissipation is not.
        left[name] = evaluated / without
        seconds = time.process_time() - start
        print(f"  dissipation {evaluated:.1f}, {without:.1f} without, {seconds:.0f} s")
        assert abs(found.mapped.value - REFERENCE[0]) < 5.0 * found.mapped.stderr
    assert left["fitted transport"] < 0.25
    assert left["trained periodic"] < 0.6
    assert left["trained on fitted transport"] < 1.1 * left["fitted transport"]


def test_alanine_dipeptide_between_force_fields():
    samples = dipeptide.samples(8000, steps=200)
    fit = MoleculeFit(
        22,
        dipeptide.bonds(),
        plan=TrainingPlan(steps=600, batch=64, clip_norm=100.0),
    )
    found = targeted_fep(*dipeptide.states(), *samples, map=fit, folds=1)
    (trained,) = fit.trained
    print(f"\nheld out: dissipation {trained.before:.2f}, then {trained.best:.2f}")
    row("BAR, same samples", found.plain_same)
    row("BAR through the map", found.mapped)
    scale = math.hypot(found.mapped.stderr, found.plain.stderr)
    assert abs(found.mapped.value - found.plain.value) < 2.0 * scale
    assert found.plain_same.stderr > 3.0 * found.mapped.stderr


def test_ice_from_200_to_240_kelvin():
    system = load_system("ice/mw_cubic_64")
    found = temperature_perturbation(system, 240.0, records=160)
    hot = at_beta(system, system.beta * 200.0 / 240.0, 240.0)
    cold_run, hot_run = (free_energy(s, seed=3, target_error=5e-5) for s in (system, hot))
    difference = hot_run.value - cold_run.value
    stderr = math.hypot(cold_run.stderr, hot_run.stderr, found.result.stderr)
    print(f"\nscaling map {found.result}; two absolute runs {difference:.5f}")
    assert abs(found.result.value - difference) < 3.0 * stderr
    assert abs(found.result.value - difference) < 2e-4


def test_errors_through_the_map_are_calibrated(solvation):
    """Disjoint parts of the samples scatter as their error bars say."""
    works = solvation.comparison.works
    parts = [
        bar(works.forward[k : k + 300], works.reverse[k : k + 300]) for k in range(0, 9000, 300)
    ]
    centre = solvation.mapped.value
    assert_calibrated(np.array([(p.value - centre) / p.stderr for p in parts]))

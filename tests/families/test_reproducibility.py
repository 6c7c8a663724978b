"""Seeds, threads, budgets and stopping."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helmflow.errors import InputError
from helmflow.families import free_energy, run
from helmflow.results import RunDirectory
from helmflow.settings import SamplingSettings, Settings
from helmflow.system import load_system
from small_systems import fcc_crystal, lennard_jones, phi4_field


def facts(result):
    """Everything of a result but the time it took."""
    return {k: v for k, v in json.loads(result.to_json()).items() if k != "cost"}


def silent(event):
    pass


def small_settings(**changes):
    sampling = SamplingSettings(chains=16, nodes=5, steps=8, **changes.pop("sampling", {}))
    return Settings(**{"target_error": 0.02, "sampling": sampling} | changes)


@pytest.mark.parametrize("name", ["lattice/phi4_4", "lennard_jones/fcc_32"])
def test_a_seed_fixes_every_bit(name, tmp_path):
    system = load_system(name)
    results, works = [], []
    for k, seed in enumerate((3, 3, 4)):
        directory = RunDirectory.create(tmp_path / str(k), "", system.digest)
        results.append(run(system, small_settings(seed=seed), directory, silent))
        works.append(directory.read_work())
    assert facts(results[0]) == facts(results[1])
    assert results[0].value != results[2].value
    assert works[0].keys() == works[1].keys()
    for key, array in works[0].items():
        np.testing.assert_array_equal(array, works[1][key], err_msg=key)
    assert not np.array_equal(works[0]["work"], works[2]["work"])


def test_free_energy_is_run_without_a_directory():
    system = load_system("lattice/phi4_4")
    one = free_energy(system, seed=7, target_error=0.05)
    two = run(system, Settings(seed=7, target_error=0.05), None, silent)
    assert facts(one) == facts(two)


@pytest.mark.parametrize("name", ["lattice/phi4_4", "ice/mw_cubic_8"])
def test_threads_do_not_change_the_number(name):
    system = load_system(name)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(run(system, small_settings(threads=threads), None, silent))
    finally:
        torch.set_num_threads(before)
    assert found[0].value == pytest.approx(found[1].value, rel=1e-9)
    assert found[0].stderr == pytest.approx(found[1].stderr, rel=1e-6)


def test_progress_is_told_in_order():
    events = []
    result = free_energy(
        load_system("lattice/phi4_4"), target_error=0.02, seed=0, progress=events.append
    )
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["base", "burn-in", "sampling", "cross-check", "done"]
    spent = [event.energy_evaluations for event in events]
    assert spent[1:] == sorted(spent[1:])
    assert all(0 <= event.completed <= event.total for event in events)
    assert events[-1].value == result.value
    assert events[-1].stderr == result.stderr
    assert result.cost.energy_evaluations == spent[-1]


@pytest.mark.parametrize(("method", "budget"), [("auto", 75_000), ("bar", 80_000)])
def test_the_budget_is_respected(method, budget):
    system = load_system("lattice/phi4_4")
    settings = Settings(method=method, target_error=1e-4, max_evaluations=budget)
    result = run(system, settings, None, silent)
    assert 0.8 * budget < result.cost.energy_evaluations <= budget
    missed = next(check for check in result.checks if check.name == "target error")
    assert not missed.passed
    assert result.grade != "A"


def test_a_budget_too_small_to_begin_is_refused():
    settings = Settings(max_evaluations=100)
    with pytest.raises(InputError, match="max_evaluations: expected at least"):
        run(load_system("lattice/phi4_4"), settings, None, silent)


def test_evaluations_are_counted_where_they_happen(monkeypatch):
    system = load_system("lattice/phi4_4")
    counted = 0
    energy_and_gradient = type(system.energy).energy_and_gradient

    def counting(self, x):
        nonlocal counted
        counted += len(x)
        return energy_and_gradient(self, x)

    monkeypatch.setattr(type(system.energy), "energy_and_gradient", counting)
    result = run(system, small_settings(), None, silent)
    assert result.cost.energy_evaluations == counted


def test_few_chains_still_give_a_number():
    settings = Settings(target_error=0.2, sampling=SamplingSettings(chains=4, max_rounds=3))
    result = run(load_system("lattice/phi4_4"), settings, None, silent)
    assert abs(result.value - 2.405) < 1.0
    assert np.isfinite(result.stderr)


@pytest.mark.parametrize("chains", [1, 3])
def test_too_few_chains_for_an_error_bar_are_refused(chains):
    with pytest.raises(ValueError, match="chains"):
        SamplingSettings(chains=chains)


def test_rounds_end_when_they_do_not_help(tmp_path):
    """A crystal that melts: particles leave, the error grows, the run stops and says so."""
    system = fcc_crystal(tmp_path, density=1.0, temperature=3.0)
    result = run(system, small_settings(target_error=1e-4), None, silent)
    assert result.grade == "F"
    assert "left their site" in result.reason
    assert result.cost.energy_evaluations < 300_000


def test_a_crystal_of_one_cell(tmp_path):
    """Four atoms: bonds between an atom and its own images carry no displacement."""
    system = fcc_crystal(tmp_path, (1, 1, 1), density=1.6, temperature=0.5)
    auto, ti = (
        run(system, Settings(method=m, target_error=2e-3, seed=1), None, silent)
        for m in ("auto", "ti")
    )
    assert abs(auto.value - ti.value) < 5 * np.hypot(auto.stderr, ti.stderr)


def test_a_crystal_of_one_atom_is_refused(tmp_path):
    one = np.zeros((1, 3))
    system = lennard_jones(
        tmp_path, one, 1.1 * np.eye(3), temperature=1.0, cutoff=2.0, shift="true"
    )
    with pytest.raises(InputError):
        run(system, Settings(), None, silent)


def test_a_structure_under_strain_is_refused(tmp_path):
    system = fcc_crystal(tmp_path)
    positions = system.reference_positions.numpy().copy()
    positions[0] += 0.01
    strained = lennard_jones(
        tmp_path, positions, system.cell.numpy(), temperature=2.0, cutoff=2.7, shift="true"
    )
    with pytest.raises(InputError, match=r"structure: expected a minimum.*on particle 0"):
        run(strained, Settings(), None, silent)


def test_the_order_of_particles_does_not_matter(tmp_path, rng):
    """A shuffled file: same physics, other random numbers."""
    system = fcc_crystal(tmp_path)
    order = rng.permutation(32)
    shuffled = lennard_jones(
        tmp_path,
        system.reference_positions.numpy()[order],
        system.cell.numpy(),
        temperature=2.0,
        cutoff=2.7,
        shift="true",
    )
    one, two = (free_energy(s, target_error=2e-3, seed=2) for s in (system, shuffled))
    assert abs(one.value - two.value) < 5 * np.hypot(one.stderr, two.stderr)


def test_a_slanted_cell_is_the_same_crystal(tmp_path):
    """The same 32 atoms in a sheared description of the same lattice."""
    system = fcc_crystal(tmp_path)
    cell = system.cell.numpy().copy()
    cell[1] += cell[0]
    slanted = lennard_jones(
        tmp_path,
        system.reference_positions.numpy(),
        cell,
        temperature=2.0,
        cutoff=2.7,
        shift="true",
    )
    one, two = (free_energy(s, target_error=2e-3, seed=k) for k, s in enumerate((system, slanted)))
    assert abs(one.value - two.value) < 5 * np.hypot(one.stderr, two.stderr)


def test_fields_scale_with_beta_as_they_should(tmp_path):
    """ln Z at coupling 0 moves by -(V/2) ln(beta) when the temperature is changed by hand."""
    system = phi4_field(tmp_path, 3, 3, mass_squared=1.0, coupling=0.0)
    cold = replace(system, beta=2.0 * system.beta)
    one, two = (free_energy(s, target_error=1e-3) for s in (system, cold))
    assert two.value - one.value == pytest.approx(-4.5 * np.log(2.0), abs=5e-3)

"""The Yukawa model: flow, HMC and mixed chains agree on fields and condensate."""

import math

import numpy as np
import pytest
import torch

from helmflow.energies.yukawa import Yukawa
from helmflow.estimators.fep import fep
from helmflow.estimators.reweighting import reweight
from helmflow.families.flow.field_flow import stepped, train_field_flow
from helmflow.families.path.base import build_base
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.samplers.leapfrog import LeapfrogChains
from helmflow.samplers.mixed import MixedChains
from helmflow.settings import FlowSettings, Settings, TrainingSettings
from helmflow.skeleton.run import Run
from helmflow.streams import stream
from helmflow.system import load_system

TOML = """
schema = 1
name = "yukawa"
kind = "lattice_field"
summary = "small Yukawa model"
[field]
shape = [4, 4]
[potential]
kind = "yukawa"
mass_squared = -4.0
coupling = 8.0
yukawa = {g}
"""
NAMES = ("phi^2", "chi_2", "phi psibar psi")


def observe(energy: Yukawa, x):
    """(3, n) from fields (n, V)."""
    volume = x.shape[1]
    condensate = energy.condensate(x.view(-1, *energy.shape))
    return torch.stack([x.square().mean(1), volume * x.mean(1).square(), condensate])


def trained(problem, steps, seed=0):
    settings = Settings(
        method="flow",
        seed=seed,
        flow=FlowSettings(kind="continuous"),
        training=TrainingSettings(steps=steps),
    )
    base, _ = build_base(problem, settings)
    return stepped(train_field_flow(problem, base, Run("trained", settings)), 16)


def by_flow(flow, problem, n, seed=1):
    x, log_q = flow.sample_and_log_prob(n, stream(seed, "draws"))
    work = (problem.target(x)[0] + log_q).numpy()
    rows = observe(problem.system.energy, x).numpy()
    return fep(work), [reweight(row, -work) for row in rows]


def by_chains(run, energy, cycles):
    """Means over chains after as many cycles of burn-in, errors from the scatter of chains."""
    run(cycles)
    total = 0.0
    for _ in range(cycles):
        total = total + observe(energy, run(1)) / cycles
    return total.mean(1).numpy(), (total.std(1) / math.sqrt(total.shape[1])).numpy()


def compare(problem, steps, n, n_chains, cycles):
    """Print and return z-scores of flow against HMC and of mixed chains against HMC."""
    energy = problem.system.energy
    flow = trained(problem, steps)
    estimate, found = by_flow(flow, problem, n)
    hmc = LeapfrogChains(
        flow.sample_and_log_prob(n_chains, stream(2, "start"))[0],
        problem.target,
        step=0.12,
        n_steps=6,
        generator=stream(2, "hmc"),
    )

    def advance(k):
        hmc.run(k)
        return hmc.x

    reference = by_chains(advance, energy, cycles)
    mixed = MixedChains(
        flow, problem.target, n_chains, step=0.12, n_steps=6, generator=stream(3, "mixed")
    )
    both = by_chains(lambda k: mixed.run(k)[-1], energy, cycles)
    fraction = estimate.diagnostics["ess_fraction"]
    print(f"\n{problem.system.name}: ESS {100 * fraction:.1f} %, ln Z {-estimate.value:.4f} +-")
    print(f"  {estimate.stderr:.4f}, HMC acceptance {hmc.accepted / hmc.proposed:.2f}")
    scores = []
    for k, name in enumerate(NAMES):
        means = [found[k].value, reference[0][k], both[0][k]]
        errors = [found[k].stderr, reference[1][k], both[1][k]]
        print(
            f"  {name:15}"
            + "".join(f" {m:.5f} +- {e:.5f}" for m, e in zip(means, errors, strict=True))
        )
        scores += [(means[j] - means[1]) / np.hypot(errors[j], errors[1]) for j in (0, 2)]
    return fraction, np.array(scores)


@pytest.mark.parametrize("g", [0.3])
def test_flow_hmc_and_mixed_chains_agree(g, tmp_path):
    file = tmp_path / "yukawa.toml"
    file.write_text(TOML.format(g=g))
    fraction, scores = compare(LatticeProblem(load_system(file)), 50, 2000, 400, 10)
    assert fraction > 0.8
    assert np.abs(scores).max() < 5.0


@pytest.mark.slow
@pytest.mark.parametrize("g", [0.1, 0.3])
def test_shipped_systems(g):
    problem = LatticeProblem(load_system(f"lattice/yukawa_8_g{g}"))
    fraction, scores = compare(problem, 150, 4000, 100, 25)
    assert fraction > 0.9
    assert np.abs(scores).max() < 4.0


def test_without_yukawa_coupling_it_is_phi4_times_free_fermions(tmp_path):
    """ln Z = 2.40513896 + 2 ln det K, m = 0; antiperiodic fermions have no zero mode."""
    file = tmp_path / "yukawa.toml"
    file.write_text(TOML.format(g=1e-9))
    problem = LatticeProblem(load_system(file))
    estimate, _ = by_flow(trained(problem, 30), problem, 4000)
    free = torch.linalg.slogdet(problem.system.energy.derivative).logabsdet.item()
    assert -estimate.value - 2.0 * free == pytest.approx(2.40513896, abs=5 * estimate.stderr)
    assert estimate.stderr < 0.01

"""Gauge theories in two dimensions: `pytest -m benchmark -s -k lattice_gauge` prints tables.

Prints effective sample sizes, acceptances, ln Z and charge against exact values, and the
autocorrelation times of flow, heat bath and HMC. One thread, float64; about 25 CPU-minutes in all.
Published for comparison, tau_int(Q) on 16 x 16 (read off a figure, doi:10.1103/PhysRevLett.125
.121601): flow 8.4 and 8.8, HMC 3000 and 15000 at beta = 6 and 7.
"""

import math
import time

import numpy as np
import pytest
import torch

from gauge_systems import theory_of
from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.energies.gauge_exact import exact_gauge
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.fep import fep
from helmflow.estimators.reweighting import kish_ess, reweight
from helmflow.families import run
from helmflow.manifolds.links import topological_charge
from helmflow.samplers.independence import independence_metropolis
from helmflow.settings import FlowSettings, Settings, TrainingSettings
from helmflow.streams import stream
from helmflow.system import load_system

pytestmark = pytest.mark.benchmark
PART = 2000
FROM_HAAR = [(beta, None) for beta in range(1, 8)]


def draw(flow, theory, n, generator):
    """log w and observables of n samples."""
    log_w, observed = [], []
    for _ in range(n // PART):
        with torch.no_grad():
            x, log_q = flow.sample_and_log_prob(PART, generator)
            log_w.append(-(theory.u(x) + log_q))
            observed.append(theory.observables(x))
    names = observed[0]
    return torch.cat(log_w).numpy(), {k: torch.cat([o[k] for o in observed]) for k in names}


def works(flow, u, n, generator):
    """u + log q of n samples."""
    found = []
    for _ in range(n // PART):
        with torch.no_grad():
            x, log_q = flow.sample_and_log_prob(PART, generator)
            found.append(u(x) + log_q)
    return torch.cat(found).numpy()


def z_of(estimate, exact):
    return (estimate.value - exact) / estimate.stderr


@pytest.mark.parametrize("seed", range(5))
def test_u1_from_haar(seed):
    """L = 8, beta = 2: ESS >= 85 %, acceptance >= 75 %, exact values within 3 to 4 sigma."""
    theory = theory_of(load_system("lattice/u1_8_beta2"), seed=seed)
    start = time.process_time()
    fitted = theory.load(theory.fit(theory.path(), None))
    spent = time.process_time() - start
    log_w, observed = draw(fitted.flow, theory, 100_000, stream(seed, "draws"))
    estimate = fep(-log_w)
    chain = independence_metropolis(log_w, stream(seed, "chain"))
    charge = observed["Q"].numpy()[chain.index]
    scores = [-(estimate.value + theory.exact["log_z"]) / estimate.stderr]
    for name in ("<cos P>", "<Q^2>"):
        scores.append(z_of(reweight(observed[name].numpy(), log_w), theory.exact[name]))
    ess = estimate.diagnostics["ess_fraction"]
    print(
        f"\nseed {seed}: fit {spent:.0f} s  ESS {ess:.4f}  acceptance {chain.acceptance:.4f}  "
        f"ln Z {-estimate.value:.5f}({estimate.stderr:.5f})  sigma of ln Z, cos P, Q^2: "
        f"{scores[0]:+.1f} {scores[1]:+.1f} {scores[2]:+.1f}  "
        f"tau(Q) {integrated_autocorrelation(charge).tau_int:.2f}"
    )
    assert spent < 300.0
    assert ess > 0.85
    assert chain.acceptance > 0.75
    assert max(abs(score) for score in scores) < 4.0


@pytest.mark.parametrize(
    ("beta", "coupling"), [*FROM_HAAR, (5, 4.0), (6, 4.0), (7, 4.0), (7, 7.0)]
)
def test_charge_times(beta, coupling):
    """L = 16: tau_int(Q) of the flow, HMC and heat bath.

    The flow starts from Haar measure, or from loop splitting at the smaller coupling 4: what leads
    from there to beta is learned. At the coupling of the theory itself (last row) loop splitting
    is the analytic solution, and nothing is.
    """
    system = load_system(f"lattice/u1_16_beta{beta}")
    start = FlowSettings() if coupling is None else FlowSettings(start="loops", coupling=coupling)
    result = run(system, Settings(seed=1, flow=start))
    times = [row for row in result.observables if row.name.startswith("tau_int")]
    line = "  ".join(f"{row.name[11:]} {row.value:.2f}({row.stderr:.2f})" for row in times)
    z = (result.value - result.value_exact) / result.stderr
    row = result.estimates[0]
    theory = theory_of(system, flow=start)
    base, _ = draw(theory.base, theory, 10_000, stream(1, "base"))
    alone = fep(-base).diagnostics["ess_fraction"]
    print(
        f"\nbeta {beta}, {result.base}: ESS {row.ess_fraction:.3f} (base alone {alone:.1e})  "
        f"acceptance {result.acceptance:.3f}  k-hat {row.pareto_k:.2f}  ln Z off {z:+.1f} sigma  "
        f"grade {result.grade}  tau_int(Q): {line}  {result.cost.cpu_seconds:.0f} s"
    )
    assert result.grade in "AB"
    assert times[0].value <= (3.0 if coupling is None else 1.0)
    if coupling != beta:
        assert row.ess_fraction > 10.0 * alone


def test_volume_law():
    """Coefficients fitted at L = 8 serve at 12 and 16: ln ESS is linear in V.

    With an offset: what the sum of all plaquettes costs is paid once, not per site.
    """
    theory = theory_of(load_system("lattice/u1_8_beta2"), seed=0)
    fitted = theory.load(theory.fit(theory.path(), None))
    volumes, losses = np.array([64.0, 144.0, 256.0]), []
    for extent in (8, 12, 16):
        density, u = theory.resized(fitted.tensors, (extent, extent))
        estimate = fep(works(density, u, 20_000, stream(extent, "volume")))
        losses.append(-math.log(estimate.diagnostics["ess_fraction"]))
        off = -estimate.value - exact_gauge(1, 2.0, extent**2).log_z
        print(f"\nL {extent}: ESS {math.exp(-losses[-1]):.4f}  ln Z off {off:+.4f}")
        assert abs(off) < 4.0 * estimate.stderr
    slope, offset = np.polyfit(volumes, losses, 1)
    away = np.abs(np.polyval((slope, offset), volumes) - losses).max()
    print(f"-ln ESS = {offset:.4f} + {slope:.2e} V, largest deviation {away:.4f}")
    assert away < 0.01
    assert slope < 1e-3


@pytest.mark.parametrize("name", ["su3_link_1", "su3_link_2", "su3_link_3"])
def test_single_links_of_su3(name):
    """beta = 9: ESS >= 97 %."""
    plan = TrainingSettings(batch=1024, clip_norm=10.0)
    result = run(load_system(f"lattice/{name}"), Settings(training=plan))
    ess, z = result.estimates[0].ess_fraction, result.value - result.value_exact
    print(
        f"\n{name}: ESS {ess:.4f}  {result}  off {z / result.stderr:+.1f} sigma  "
        f"{result.cost.cpu_seconds:.0f} s"
    )
    assert ess > 0.97
    assert abs(z) < 4.0 * result.stderr


@pytest.mark.parametrize(
    ("name", "steps", "batch", "least"),
    [
        ("su2_4_beta2.2", 100, 128, 0.9),
        ("su2_8_beta2.2", 100, 256, 0.5),
        ("su3_4_beta5", 100, 256, 0.3),
        ("su3_8_beta5", 100, 64, 0.3),
    ],
)
def test_su_lattices(name, steps, batch, least):
    """Plaquette and ln Z against character sums."""
    plan = TrainingSettings(steps=steps, batch=batch)
    result = run(load_system(f"lattice/{name}"), Settings(training=plan))
    exact = theory_of(load_system(f"lattice/{name}")).exact
    plaquette = result.observables[0]
    z = (result.value - exact["log_z"]) / result.stderr
    z_plaquette = (plaquette.value - exact[plaquette.name]) / plaquette.stderr
    ess = result.estimates[0].ess_fraction
    print(
        f"\n{name}: ESS {ess:.4f}  acceptance {result.acceptance:.3f}  {result}  off {z:+.1f} and "
        f"{z_plaquette:+.1f} sigma  {result.cost.cpu_seconds:.0f} s"
    )
    assert ess > least
    assert max(abs(z), abs(z_plaquette)) < 4.0


def test_su2_trained_at_4_serves_at_8():
    """Weights belong to loops, not to extents."""
    plan = TrainingSettings(steps=100, batch=128)
    theory = theory_of(load_system("lattice/su2_4_beta2.2"), seed=0, training=plan)
    tensors = theory.fit(None, None)
    for extent in (4, 8, 12):
        flow, u = theory.resized(tensors, (extent, extent))
        estimate = fep(works(flow, u, 4000, stream(extent, "volume")))
        ess = estimate.diagnostics["ess_fraction"]
        off = -estimate.value - exact_gauge(2, 2.2, extent**2).log_z
        print(
            f"\nL {extent}: ESS {ess:.4f}  -ln ESS/V {-math.log(ess) / extent**2:.2e}  "
            f"ln Z off {off / estimate.stderr:+.1f} sigma"
        )
        assert ess > 0.5
        assert abs(off) < 4.0 * estimate.stderr


def test_schwinger_model():
    """Both signs of the determinant; <Q^2> against HMC that winds, and against restarted HMC.

    Restarted: streams begin at samples of loop splitting, drawn in proportion to their weights.
    That is the theory, with both signs in their shares, and HMC leaves it as it is: every step
    counts, though no stream ever changes its sign.
    """
    system = load_system("lattice/schwinger_8")
    theory = theory_of(system, seed=0)
    begun = time.process_time()
    fitted = theory.load(theory.fit(None, None))
    spent = time.process_time() - begun
    loops = LoopSplitting((8, 8), beta=float(fitted.tensors["beta"]))
    links, log_q = loops.sample_and_log_prob(16_384, stream(3, "restart"))
    weights = -torch.cat([theory.u(part) for part in links.split(PART)]) - log_q
    bases = [kish_ess(weights.numpy()) / len(weights)]
    bases.append(fep(-draw(fitted.flow.base, theory, 10_000, stream(1, "base"))[0]))
    bases[1] = bases[1].diagnostics["ess_fraction"]
    log_w, observed = draw(fitted.flow, theory, 40_000, stream(0, "draws"))
    sign, square = (observed[name].numpy() for name in ("<sign det D>", "<Q^2>"))
    ess = fep(-log_w).diagnostics["ess_fraction"]
    found, negative = reweight(square, log_w), reweight((sign < 0).astype(float), log_w)
    chain = independence_metropolis(log_w, stream(0, "chain"))
    flips = (np.diff(sign[chain.index]) != 0).mean()
    print(
        f"\nESS: loop splitting {bases[0]:.3f}, with sectors and windings {bases[1]:.3f}, flow "
        f"{ess:.3f} (fit {spent:.0f} s)\nflow: <Q^2> {found}  P(det D < 0) {negative}  changes of "
        f"sign per step {flips:.4f}"
    )
    picks = torch.multinomial(
        torch.softmax(weights, 0), 192, replacement=True, generator=stream(4, "restart")
    )
    begins, _ = loops.sample_and_log_prob(32, stream(5, "start"))
    for name, start, n, winds in (
        ("HMC and winding", begins, 150, True),
        ("restarted HMC", links[picks], 20, False),
    ):
        chains = theory.hmc_chains(start, n, stream(6, name), winds=winds)
        burnt = chains[20:] if winds else chains
        signs = torch.stack([system.energy.determinant(x)[0] for x in burnt])
        charge = topological_charge(burnt.flatten(0, 1)).round().square().reshape(signs.shape)
        mean, stderr = float(charge.mean()), float(charge.mean(0).std() / len(start) ** 0.5)
        minus = (signs < 0).double().mean(0)
        error = float(minus.std() / len(start) ** 0.5)
        changes = int((signs.diff(dim=0) != 0).sum())
        z = (found.value - mean) / math.hypot(found.stderr, stderr)
        print(
            f"{name}, {len(start)} streams of {len(signs)}: <Q^2> {mean:.4f}({stderr:.4f}), "
            f"{z:+.1f} sigma  P(det D < 0) {minus.mean():.4f}({error:.4f})"
            f"  changes of sign {changes}"
        )
        assert abs(z) < 4.0
        assert (changes > 0) == winds
    single = theory.hmc_chains(begins, 60, stream(7, "hmc"))
    signs = torch.stack([system.energy.determinant(x)[0] for x in single])
    charge = topological_charge(single.flatten(0, 1)).round().square().reshape(signs.shape)
    below = signs[0] < 0
    print(
        f"single streams of HMC: {int(below.sum())} of {len(below)} begin and stay at det D < 0, "
        f"<Q^2> {charge[:, below].mean():.2f} there and {charge[:, ~below].mean():.2f} elsewhere"
    )
    assert int((signs.diff(dim=0) != 0).sum()) == 0
    assert ess > 1.5 * bases[0]
    assert negative.value > 3.0 * negative.stderr
    assert flips > 1e-3

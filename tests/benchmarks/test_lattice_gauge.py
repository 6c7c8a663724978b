"""Gauge theories in two dimensions: `pytest -m benchmark -s -k lattice_gauge` prints tables.

Prints effective sample sizes, acceptances, ln Z and charge against exact values, and the
autocorrelation times of flow, heat bath and HMC. One thread, float64; about 15 CPU-minutes in all.
Published for comparison, tau_int(Q) on 16 x 16 (read off a figure, doi:10.1103/PhysRevLett.125
.121601): flow 8.4 and 8.8, HMC 3000 and 15000 at beta = 6 and 7.
"""

import math
import time

import numpy as np
import pytest
import torch

from helmflow.bijectors.spectral import SpectralFlow
from helmflow.densities.flow import Flow
from helmflow.densities.haar import HaarMatrices
from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.energies.gauge_exact import exact_gauge, single_link
from helmflow.energies.wilson import SingleLink
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.fep import fep
from helmflow.estimators.reweighting import reweight
from helmflow.manifolds.links import topological_charge
from helmflow.objectives import reverse_kl
from helmflow.recipes.gauge.run import run_gauge, theory_of
from helmflow.recipes.gauge.schwinger import restarted_hmc
from helmflow.samplers.independence import independence_metropolis
from helmflow.settings import FlowSettings, Settings, TrainingSettings
from helmflow.streams import stream
from helmflow.system import load_system
from helmflow.training.plan import TrainingPlan
from helmflow.training.stochastic import train

pytestmark = pytest.mark.benchmark
PART = 2000


def silent(*_):
    return


def settings(seed, **more):
    return Settings(seed=seed, **more).resolved("gauge_field")


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


def z_of(estimate, exact):
    return (estimate.value - exact) / estimate.stderr


@pytest.mark.parametrize("seed", range(5))
def test_u1_from_haar(seed):
    """L = 8, beta = 2: ESS >= 85 %, acceptance >= 75 %, exact values within 3 to 4 sigma."""
    theory = theory_of(load_system("lattice/u1_8_beta2"), settings(seed))
    start = time.process_time()
    fitted = theory.fit(theory.path(silent), silent)
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
    ("beta", "start"),
    [(1, "base"), (2, "base"), (3, "base"), (4, "base"), (5, "base"), (6, "loops"), (7, "loops")],
)
def test_charge_times(beta, start):
    """L = 16: tau_int(Q) of the flow, heat bath and HMC."""
    system = load_system(f"lattice/u1_16_beta{beta}")
    result = run_gauge(system, settings(1, flow=FlowSettings(start=start)), None, silent)
    times = [row for row in result.observables if row.name.startswith("tau_int")]
    line = "  ".join(f"{row.name[11:]} {row.value:.2f}({row.stderr:.2f})" for row in times)
    z = (result.value - result.value_exact) / result.stderr
    print(
        f"\nbeta {beta} from {start}: ESS {result.estimates[0].ess_fraction:.3f}  "
        f"ln Z off {z:+.1f} sigma  grade {result.grade}  tau_int(Q): {line}"
    )
    assert result.grade in "AB"
    assert times[0].value <= (1.0 if start == "loops" else 2.5)


def test_volume_law():
    """Coefficients fitted at L = 8 serve at 12 and 16."""
    small = theory_of(load_system("lattice/u1_8_beta2"), settings(0))
    flow = small.fit(small.path(silent), silent)
    from helmflow.bijectors.plaquette_transport import PlaquetteTransport
    from helmflow.densities.haar import HaarAngles
    from helmflow.energies.gauge import U1Wilson

    for extent in (8, 12, 16):
        bijector = PlaquetteTransport(flow.tensors["coefficients"], n_steps=12)
        density = Flow(HaarAngles((extent, extent)), bijector)
        with torch.no_grad():
            x, log_q = density.sample_and_log_prob(8000, stream(extent, "volume"))
        estimate = fep((U1Wilson((extent, extent), beta=2.0)(x) + log_q).numpy())
        ess = estimate.diagnostics["ess_fraction"]
        off = -estimate.value - exact_gauge(1, 2.0, extent**2).log_z
        print(f"\nL {extent}: ESS {ess:.4f}  -ln ESS/V {-math.log(ess) / extent**2:.2e}")
        assert ess > 0.7
        assert abs(off) < 4.0 * estimate.stderr


@pytest.mark.parametrize("c", [(1.0, 0.0, 0.0), (0.98, -0.63, -0.21), (0.17, -0.65, 1.22)])
def test_single_links_of_su3(c):
    """beta = 9: ESS >= 97 %."""
    energy, exact = SingleLink(3, beta=9.0, coefficients=list(c)), single_link(3, 9.0, c)[0]
    flow = Flow(HaarMatrices((), 3), SpectralFlow(3))
    start = time.process_time()
    plan = TrainingPlan(300, 1024, 0.01, clip_norm=10.0, ema_decay=0.95)
    train(flow, lambda n, g: reverse_kl(flow, energy, n, g), plan, stream(0, "link"))
    spent = time.process_time() - start
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(50_000, stream(1, "link"))
    estimate = fep((energy(x) + log_q).numpy())
    ess = estimate.diagnostics["ess_fraction"]
    z = -(estimate.value + exact) / estimate.stderr
    print(f"\nSU(3) c = {c}: training {spent:.0f} s  ESS {ess:.4f}  ln Z off {z:+.1f} sigma")
    assert ess > 0.97
    assert abs(z) < 4.0


@pytest.mark.parametrize(
    ("name", "steps", "batch", "least"),
    [
        ("su2_4_beta2.2", 100, 256, 0.9),
        ("su2_8_beta2.2", 100, 256, 0.5),
        ("su3_4_beta5", 100, 256, 0.3),
        ("su3_8_beta5", 100, 64, 0.02),
    ],
)
def test_su_lattices(name, steps, batch, least):
    """Plaquette and ln Z against character sums."""
    plan = TrainingSettings(steps=steps, batch=batch)
    result = run_gauge(load_system(f"lattice/{name}"), settings(0, training=plan), None, silent)
    exact = theory_of(load_system(f"lattice/{name}"), settings(0)).exact
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


def test_schwinger_model():
    """Both signs of the determinant; <Q^2> against restarted HMC, which keeps the sign it has."""
    system = load_system("lattice/schwinger_8")
    theory = theory_of(system, settings(0))
    fitted = theory.fit(None, silent)
    log_w, observed = draw(fitted.flow, theory, 10_000, stream(0, "draws"))
    sign = observed["<sign det D>"].numpy()
    square = observed["<Q^2>"].numpy()
    all_of_it = reweight(square, log_w)
    positive = reweight(square[sign > 0], log_w[sign > 0])
    negative = reweight((sign < 0).astype(float), log_w)
    chain = independence_metropolis(log_w, stream(0, "chain"))
    flips = int((np.diff(sign[chain.index]) != 0).sum())
    start, _ = LoopSplitting((8, 8), beta=2.45).sample_and_log_prob(32, stream(0, "start"))
    x = restarted_hmc(system, start, 100, stream(1, "hmc"))
    hmc_sign = system.energy.determinant(x)[0].reshape(100, 32).numpy()
    charge = topological_charge(x).round().reshape(100, 32).numpy()[20:]
    streams = (charge**2).mean(0)[hmc_sign[0] > 0]
    mean, stderr = streams.mean(), streams.std(ddof=1) / math.sqrt(len(streams))
    changes = int((np.diff(hmc_sign, axis=0) != 0).sum())
    print(
        f"\nflow: ESS {fep(-log_w).diagnostics['ess_fraction']:.3f}  <Q^2> {all_of_it}, where det "
        f"D > 0 {positive};  P(det D < 0) {negative};  {flips} changes of sign in 10000 steps"
        f"\nHMC, {len(streams)} streams that started at det D > 0: <Q^2> {mean:.3f}({stderr:.3f})"
        f"; changes of sign in 32 streams of 100 trajectories: {changes}"
    )
    assert negative.value > 3.0 * negative.stderr
    assert flips > 10
    assert changes < 10
    assert abs(positive.value - mean) < 4.0 * math.hypot(positive.stderr, stderr)

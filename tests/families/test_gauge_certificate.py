"""Every check of a gauge run's certificate fails for the fault that it is there to see."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from gauge_systems import SU2, U1, gauge, shorten, theory_of
from helmflow.bijectors.fitted_flow import FittedFlow, Plaquettes
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.tilted_links import TiltedLinks
from helmflow.energies.gauge_exact import exact_gauge
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.families.gauge.family import GaugeFamily
from helmflow.families.gauge.finding import finding_of
from helmflow.families.gauge.matrices import MatrixTheory
from helmflow.families.gauge.u1 import U1Theory
from helmflow.fields.plaquettes import PlaquetteField
from helmflow.manifolds.links import plaquette_angles, topological_charge
from helmflow.results import Observable
from helmflow.settings import FlowSettings
from helmflow.skeleton.quantity import ln_z
from helmflow.skeleton.weighted import Weighted, weighted_samples
from helmflow.streams import stream


@dataclass
class Ready:
    """A run before its result is made of it."""

    theory: object
    fitted: object
    integral: object
    weighted: Weighted
    baselines: object

    def failed(self, **changed):
        """Names of the failed checks with some parts exchanged, and all of the result."""
        parts = {name: changed.get(name, getattr(self, name)) for name in vars(self)}
        finding = finding_of(*parts.values())
        result = self.theory.run.conclude(ln_z(self.theory.system), finding)
        return {check.name for check in result.checks if not check.passed}, result

    def with_columns(self, **columns):
        """The samples with some columns exchanged."""
        return replace(self.weighted, columns={**self.weighted.columns, **columns})


def made_ready(theory):
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, chains=16, steps=40)
        samples = theory.path()
        integral = None if samples is None else thermodynamic_integration(samples).estimate
        fitted = theory.load(theory.fit(samples, None))
        batches = GaugeFamily.batches
        weighted = weighted_samples(fitted.flow, theory.u, theory.observables, batches, theory.run)
        return Ready(theory, fitted, integral, weighted, theory.baselines())


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    system = gauge(tmp_path_factory.mktemp("u1"), [4, 4], U1.format(beta=1.0))
    return made_ready(theory_of(system))


@pytest.fixture(scope="module")
def loops(tmp_path_factory):
    """Loop splitting at beta = 3, where charges are rare on 4 x 4 sites."""
    system = gauge(tmp_path_factory.mktemp("loops"), [4, 4], U1.format(beta=3.0))
    return made_ready(theory_of(system, flow=FlowSettings(start="loops")))


def test_nothing_fails_without_a_fault(ready, loops):
    for each, sampler in ((ready, "flow"), (loops, "loop splitting")):
        failed, result = each.failed()
        assert not failed
        assert result.method == sampler
        names = {row.name for row in result.observables}
        assert f"tau_int(Q), {sampler}" in names
    assert "tau_int(Q), flow" not in names


def test_works_that_are_off(ready):
    """ln Z too small by a tenth of a nat, as from a log-determinant that lacks a part."""
    estimate = ready.weighted.estimate
    weighted = replace(
        ready.with_columns(work=ready.weighted.columns["work"] + 0.1),
        estimate=replace(estimate, value=estimate.value + 0.1),
    )
    failed, result = ready.failed(weighted=weighted)
    assert {"flow against integration", "flow against exact"} <= failed
    assert result.grade == "F"


def test_observables_that_are_off(ready):
    plaquette = ready.weighted.columns["<cos P>"] + 0.05
    failed, result = ready.failed(weighted=ready.with_columns(**{"<cos P>": plaquette}))
    assert failed == {"observables against exact"}
    assert result.grade == "F"
    row = next(row for row in result.observables if row.name == "<cos P>")
    assert row.exact == exact_gauge(1, 1.0, 16).plaquette
    assert row.deviation_sigma > 8.0


def test_an_integrator_of_few_steps(ready):
    coefficients = 8.0 * ready.fitted.tensors["coefficients"]
    flow = FittedFlow(PlaquetteField(), coefficients, Plaquettes(), n_steps=1)
    flow = Flow(ready.theory.base, flow)
    failed, _ = ready.failed(fitted=replace(ready.fitted, flow=flow))
    assert "integrator" in failed


class Bent(Density):
    """A density that depends on one link, which a gauge transformation turns."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def log_prob(self, x):
        return self.inner.log_prob(x) + 0.01 * x[:, 0, 0, 0].cos()

    def sample_and_log_prob(self, n, generator):
        x, _ = self.inner.sample_and_log_prob(n, generator)
        return x, self.log_prob(x)


def test_a_density_that_depends_on_the_gauge(ready):
    bent = replace(ready.fitted, flow=Bent(ready.fitted.flow))
    failed, result = ready.failed(fitted=bent)
    assert failed == {"gauge invariance"}
    assert result.grade == "F"


def test_a_flow_without_charges(loops):
    """Its own weights are excellent; chains that wind, and the exact charges, say otherwise."""
    lost = TiltedLinks((4, 4), beta=3.0, sectors=(1.0, 1e-9))
    assert topological_charge(loops.baselines.target).round().abs().max() > 0
    x, log_q = lost.sample_and_log_prob(4096, stream(0, "lost"))
    charge = topological_charge(x)
    observed = {
        "<cos P>": plaquette_angles(x).cos().mean((1, 2)),
        "<Q^2>": charge.square(),
        "Q": charge,
    }
    columns = {"log_q": log_q, "work": loops.theory.u(x) + log_q, **observed}
    weighted = Weighted(columns, loops.weighted.estimate)
    failed, result = loops.failed(weighted=weighted, fitted=replace(loops.fitted, flow=lost))
    assert {"modes of the chains", "observables against exact"} <= failed
    assert result.grade == "F"


def test_chains_that_are_short(ready):
    """One weight outweighs the others: the chain stays there."""
    work = ready.weighted.columns["work"].clone()
    work[0] = work.min() - 9.0
    failed, _ = ready.failed(weighted=ready.with_columns(work=work))
    assert "chain" in failed


def test_what_was_not_afforded_fails(ready):
    failed, _ = ready.failed(integral=None, baselines=None)
    assert failed == {"flow against integration", "modes of the chains"}


@pytest.mark.parametrize(
    ("potential", "name", "kind"),
    [
        (U1.format(beta=1.5), "<cos P>", U1Theory),
        (SU2.format(beta=2.0), "<Re tr P>/N", MatrixTheory),
    ],
)
def test_baselines_sample_the_theory(potential, name, kind, tmp_path, monkeypatch):
    longer = replace(kind.baseline_plan, chains=64, steps=60)
    monkeypatch.setattr(kind, "baseline_plan", longer)
    theory = theory_of(gauge(tmp_path, [4, 4], potential))
    found = theory.baselines()
    chains = theory.observables(found.target)[name].reshape(-1, 64).mean(0).numpy()
    assert chains.std() / 8.0 < 0.02
    assert abs(chains.mean() - theory.exact[name]) < 5.0 * chains.std(ddof=1) / 8.0
    hmc = found.series["HMC"].mean(1)
    exact = theory.exact[name] if theory.slow == name else theory.exact["<Q^2>"]
    hmc = hmc if theory.slow == name else np.square(found.series["HMC"]).mean(1)
    assert abs(hmc.mean() - exact) < 5.0 * hmc.std(ddof=1) / 8.0
    assert hmc.std(ddof=1) / 8.0 < 0.2 * exact


def test_charges_too_rare_to_be_met(tmp_path):
    """<Q^2> = 0 in all samples agrees with one charge expected in a million."""
    system = gauge(tmp_path, [4, 4], U1.format(beta=12.0))
    theory = theory_of(system, flow=FlowSettings(start="loops"))
    assert 0.0 < theory.exact["<Q^2>"] < 1e-4
    failed, result = made_ready(theory).failed()
    assert "observables against exact" not in failed
    assert {row.name: row.value for row in result.observables}["<Q^2>"] < 1e-2


def test_deviation_of_an_observable():
    assert Observable("x", 1.2, 0.1).deviation_sigma is None
    row = Observable("x", 1.5, 0.3, exact=1.0, exact_stderr=0.4)
    assert row.deviation_sigma == pytest.approx(1.0)
    assert Observable("x", 1.0, 0.0, exact=1.0).deviation_sigma == 0.0
    assert torch.isinf(torch.tensor(Observable("x", 1.0, 0.0, exact=2.0).deviation_sigma))

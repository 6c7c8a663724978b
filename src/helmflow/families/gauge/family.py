"""ln Z and observables of a gauge theory: fit a flow, weigh its samples, check them."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from helmflow.densities.base import Density
from helmflow.energies.base import Energy
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.schwinger import Schwinger
from helmflow.energies.wilson import SingleLink, SUWilson
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.families.base import Family
from helmflow.families.gauge.finding import finding_of
from helmflow.families.gauge.schwinger import SchwingerTheory
from helmflow.families.gauge.su import SingleLinkTheory, SUTheory
from helmflow.families.gauge.theory import INTEGRATOR_SAMPLES, GaugeTheory
from helmflow.families.gauge.u1 import U1Theory
from helmflow.generalised_work import ReducedPotential
from helmflow.settings import Settings
from helmflow.skeleton.kept import Form, Kept, read_flow
from helmflow.skeleton.quantity import Finding, Quantity, ln_z
from helmflow.skeleton.run import Run, Stage
from helmflow.skeleton.volumes import Volumes, ess_against_volume
from helmflow.skeleton.weighted import Batches, weighted_samples
from helmflow.system import System

THEORIES: Mapping[type[Energy], type[GaugeTheory]] = MappingProxyType(
    {
        U1Wilson: U1Theory,
        SUWilson: SUTheory,
        SingleLink: SingleLinkTheory,
        Schwinger: SchwingerTheory,
    }
)
ALWAYS = frozenset({"flow.kind", "flow.source"})


@dataclass(frozen=True)
class PreparedGauge:
    """Tensors of the flow, and -ln Z by integration along the path that it was fitted to."""

    tensors: Mapping[str, Tensor]
    integral: Estimate | None


class GaugeFamily(Family):
    """Links of a periodic lattice, or a single one."""

    methods = ("auto", "fep", "flow")
    target_error = 1e-2
    batches = Batches(1024, 8192, 131_072)
    volumes = Volumes(scales=(0.5, 1.0, 1.5, 2.0), samples=1024, largest=1024)

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._theory = _theory_of(system.energy)
        self.noun = self._theory.kind

    @property
    def quantity(self) -> Quantity:
        """ln Z in nats, with respect to Haar measure of volume one."""
        return replace(ln_z(self.system), length_unit=None)

    def reads(self, settings: Settings) -> Collection[str]:
        """What the theory reads, and which flow; raises InputError for a kind it has not."""
        kinds, kind = self._theory.flow_kinds, settings.flow.kind
        if kind not in kinds:
            raise InputError("flow.kind", f"{' or '.join(kinds)} for {self.noun}", repr(kind))
        return self._theory.reads | ALWAYS

    def theory(self, run: Run) -> GaugeTheory:
        """The theory of the system in a run; raises InputError for settings it cannot have."""
        return self._theory(self.system, run)

    def estimate(self, run: Run) -> Finding:
        """Fit, train or read the flow, weigh its samples, and compare with what needs no flow."""
        theory = self.theory(run)
        prepared = run.once("flow", lambda stage: self._prepare(theory, stage), flow_form(theory))
        fitted = theory.load(prepared.tensors)
        reserve = 0 if fitted.integrated is None else 2 * INTEGRATOR_SAMPLES
        batches = replace(self.batches, reserve=reserve)
        weighted = weighted_samples(fitted.flow, theory.u, theory.observables, batches, run)
        run.tell("cross-check", 0.0)
        afforded = theory.baseline_evaluations + reserve <= run.budget.left
        baselines = theory.baselines() if afforded else None
        finding = finding_of(theory, fitted, prepared.integral, weighted, baselines)
        volumes = ess_against_volume(
            theory.shape,
            lambda shape: theory.resized(prepared.tensors, shape),
            self.volumes,
            run,
        )
        return replace(finding, arrays={**finding.arrays, **volumes})

    def _prepare(self, theory: GaugeTheory, stage: Stage) -> PreparedGauge:
        """The flow and the integral; chains of the path that are not fitted to are optional."""
        budget, source = theory.run.budget, theory.settings.flow.source
        if source is None:
            fit = theory.path_evaluations + theory.fit_evaluations
            budget.require(fit + self.batches.first)
            samples = theory.path()
            tensors = theory.fit(samples, stage)
        else:  # read before anything is sampled: it may not fit
            tensors = _reused(theory, source)
            theory.load(tensors)
            afforded = theory.path_evaluations + self.batches.first <= budget.left
            samples = theory.path() if afforded else None
        integral = None if samples is None else thermodynamic_integration(samples).estimate
        return PreparedGauge(tensors, integral)

    def keeps_flow(self, settings: Settings) -> bool:
        return True

    def flow(self, run: Run) -> tuple[Density, ReducedPotential]:
        """The flow that a run keeps, or the one that its settings name as a source, of links."""
        theory, source = self.theory(run), run.settings.flow.source

        def reuse(_: Stage) -> PreparedGauge:
            if source is None:
                raise InputError("run", "a finished run, which keeps a flow", run.name)
            return PreparedGauge(_reused(theory, source), None)

        prepared = run.once("flow", reuse, flow_form(theory))
        return theory.load(prepared.tensors).flow, theory.u


def flow_form(theory: GaugeTheory) -> Form[PreparedGauge]:
    """How flows of a theory are kept; other runs of the theory read the tensors alone."""

    def pack(prepared: PreparedGauge) -> Kept:
        integral = None if prepared.integral is None else asdict(prepared.integral)
        facts = {"integral": integral}
        return Kept(prepared.tensors, facts, _kind_of_flow(theory), theory.couplings)

    def unpack(kept: Kept) -> PreparedGauge:
        integral = kept.facts["integral"]
        return PreparedGauge(kept.tensors, None if integral is None else Estimate(**integral))

    return Form(pack, unpack)


def _reused(theory: GaugeTheory, source: str) -> Mapping[str, Tensor]:
    return read_flow(Path(source), [_kind_of_flow(theory)], theory.couplings).tensors


def _kind_of_flow(theory: GaugeTheory) -> str:
    return f"flow of {theory.kind}"


def _theory_of(energy: Energy) -> type[GaugeTheory]:
    for kind, theory in THEORIES.items():
        if isinstance(energy, kind):
            return theory
    raise InputError("potential.kind", "a gauge theory", type(energy).__name__)

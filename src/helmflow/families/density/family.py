"""Densities on manifolds: fit a flow, weigh its samples, compare with quadrature."""

from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

from helmflow.densities.base import Density
from helmflow.densities.uniform import UniformAndNormal
from helmflow.families.base import Family
from helmflow.families.density.architecture import symmetries
from helmflow.families.density.finding import finding_of
from helmflow.families.density.learned_flow import LearnedFlow, form_of
from helmflow.families.density.lost_modes import completed, still_lost
from helmflow.families.density.plan import DensityPlan
from helmflow.families.density.pool import Pool
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.density.potential_maps import POOR, best_potential_map
from helmflow.families.density.quadrature import integrate_on_grid, surface
from helmflow.families.density.training import trained_flow
from helmflow.generalised_work import ReducedPotential
from helmflow.settings import Settings
from helmflow.skeleton.energy_trial import EnergyTrial
from helmflow.skeleton.quantity import Finding, Quantity, ln_z
from helmflow.skeleton.run import Run, Stage
from helmflow.skeleton.weighted import TRIED, Batches, draw, weighted_samples

JUDGED = 4096
"""Points of each of two flows that the choice between them is made with."""

BATCHES = Batches(4096, 16_384, 2_097_152)


class DensityFamily(Family):
    """ln Z of densities on tori, spheres, rotations and products of them, with exact samples."""

    noun = "a density"
    methods = ("auto", "fep", "flow")
    target_error = 1e-3
    plan: ClassVar[DensityPlan] = DensityPlan()

    def reads(self, settings: Settings) -> Collection[str]:
        """Nothing: the density decides which flow it gets."""
        return ()

    def keeps_flow(self, settings: Settings) -> bool:
        """By every method."""
        return True

    @property
    def quantity(self) -> Quantity:
        """ln Z in nats."""
        return replace(ln_z(self.system), n_particles=None, length_unit=None)

    def estimate(self, run: Run) -> Finding:
        """Weigh samples of a flow until the error is met; a grid confirms them where it can.

        A grid, or a picture of the surface, that ``max_evaluations`` does not reach is left out.
        """
        u = CheckedPotential(self.system, run.budget)
        points, _ = draw(UniformAndNormal(u.manifold), TRIED, run.stream("trial"))
        run.try_energy(EnergyTrial(u, points, run.settings.target_error or self.target_error))
        learned = learned_flow(u, run, self.plan)
        samples = weighted_samples(learned.density, u, lambda x: {"x": x}, BATCHES, run)
        run.tell("cross-check", 0.0)
        checked = still_lost(u, learned, samples, run), integrate_on_grid(u, learned.density)
        finding = finding_of(learned, samples, *checked, run)
        return replace(finding, arrays={**finding.arrays, **surface(u)})

    def flow(self, run: Run) -> tuple[Density, ReducedPotential]:
        """The flow of a run, of points (batch, n_coordinates)."""
        u = CheckedPotential(self.system, run.budget)
        return learned_flow(u, run, self.plan).density, u


def learned_flow(u: CheckedPotential, run: Run, plan: DensityPlan) -> LearnedFlow:
    """The best flow known for a manifold, fitted to the density exp(-u); the run keeps it.

    Implicit potential maps where the manifold has some, for which values of ``u`` are enough;
    trained flows elsewhere, and where no potential map comes close, through the gradient of ``u``.
    Then modes are searched for, and those that the flow has lost are sampled beside it.
    """

    def make(_: Stage) -> LearnedFlow:
        learned = _learn(u, run, plan)
        run.tell("flow", detail=learned.name)
        return learned

    return run.once("flow", make, form_of(u, run.settings.seed, plan))


def _learn(u: CheckedPotential, run: Run, plan: DensityPlan) -> LearnedFlow:
    start = symmetries(u.manifold, u, run.settings.seed)
    best = best_potential_map(u, start, run, plan)
    if best is None:
        best = trained_flow(u, start, run, plan)
    elif best.loss > POOR and u.has_gradient(u.manifold.uniform(32, run.stream("gradient"))):
        both = best, trained_flow(u, start, run, plan)
        # a flow that has lost a mode is the better one only on its own samples
        pool = Pool([one.flow for one in both], u, JUDGED, run.stream("judge of both"))
        best = both[pool.best()]
    return completed(u, best, run, plan)

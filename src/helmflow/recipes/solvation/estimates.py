"""The free energy of growing a sphere in a solvent: fitted transport, BAR and integration."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.sphere_growth import SphereGrowth
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import Ladder, thermodynamic_integration
from helmflow.fields.sphere import SphereField
from helmflow.recipes.solvation.growth_path import GrowthPath, record
from helmflow.recipes.two_states.targeted import TargetedResult, targeted_fep
from helmflow.streams import stream
from helmflow.training.transport_fit import PathNode, TransportFit, fit_transport

SPACING = (2, 4)
"""Trajectories between samples of the path, where dU/dR forgets its value within one, and of the
ends, where the works of the map remember longer."""


@dataclass(frozen=True)
class SolvationPlan:
    """How much is sampled: ``chains`` per node of the path and of each end, and records of each.

    The five Gauss-Lobatto nodes get chains in proportion to what they add to the error.
    """

    path_chains: tuple[int, ...] = (40, 80, 100, 80, 40)
    path_records: int = 150
    end_chains: int = 150
    end_records: int = 60
    n_steps: int = 2


@dataclass(frozen=True)
class SolvationResult:
    """f_B - f_A of growing the sphere, in kT, from independent samples of ends and path.

    ``targeted``: BAR without and with the fitted map, on the samples of the ends. ``integral``:
    thermodynamic integration on the samples of the path with the map's fields as Stein control
    variates; ``plain_integral`` without. ``combined``: the mean of the mapped estimate and the
    integral, which share no sample, weighted by their variances.
    """

    targeted: TargetedResult
    integral: Estimate
    plain_integral: Estimate
    fit: TransportFit
    map: SphereGrowth
    cpu_seconds: Mapping[str, float]
    n_evaluations: int

    @property
    def combined(self) -> Estimate:
        """Inverse-variance mean of the mapped BAR estimate and the integral."""
        mapped = self.targeted.mapped or self.targeted.plain
        weights = np.array([mapped.stderr**-2.0, self.integral.stderr**-2.0])
        value = weights @ np.array([mapped.value, self.integral.value]) / weights.sum()
        n_eff = mapped.n_eff + self.integral.n_eff
        return Estimate(float(value), float(weights.sum() ** -0.5), n_eff, "bar and ti+cv")


def solvation_free_energy(
    path: GrowthPath, *, seed: int = 0, plan: SolvationPlan | None = None
) -> SolvationResult:
    """Sample the path, fit the map to it, sample the ends, and estimate.

    Nothing that the map was fitted to enters the estimate through the map.
    """
    plan = plan or SolvationPlan()
    clock = _Clock()
    ladder = Ladder.lobatto(len(plan.path_chains))
    chains = path.chains(ladder.lam.tolist(), plan.path_chains, stream(seed, "path"))
    samples = record(chains, plan.path_records, SPACING[0])
    clock.read("path samples")
    field = SphereField(path.energy.box)
    parts = torch.split(samples, list(plan.path_chains), dim=1)
    nodes = [
        _node(path, field, float(lam), float(weight), x)
        for lam, weight, x in zip(ladder.lam, ladder.weight, parts, strict=True)
    ]
    fit = fit_transport(nodes, field.families)
    bijector = SphereGrowth(
        field, torch.from_numpy(fit.coefficients), path.radii, n_steps=plan.n_steps
    )
    clock.read("fit")
    integral, plain = _integrals(nodes, field.families, fit.ridge, plan.path_chains, ladder)
    clock.read("integration")
    ends = path.chains((0.0, 1.0), (plan.end_chains,) * 2, stream(seed, "ends"))
    found = record(ends, plan.end_records, SPACING[1])
    # Chain after chain, so that correlation along a chain shows in the series.
    x_a, x_b = (
        half.transpose(0, 1).flatten(0, 1) for half in torch.split(found, plan.end_chains, dim=1)
    )
    clock.read("end samples")
    targeted = targeted_fep(*path.states, x_a, x_b, map=bijector, seed=seed, name="solvation")
    clock.read("map")
    n_evaluations = chains.n_evaluations + ends.n_evaluations
    n_evaluations += targeted.result.cost.energy_evaluations
    return SolvationResult(targeted, integral, plain, fit, bijector, clock.spent, n_evaluations)


def _node(path: GrowthPath, field: SphereField, lam: float, weight: float, x: Tensor) -> PathNode:
    flat = x.flatten(0, 1)
    rows = torch.full((len(flat),), lam, dtype=torch.float64)
    _, slope, gradient = path.evaluate(flat, rows)
    radii = torch.full((len(flat),), path.radius(lam), dtype=torch.float64)
    stein = field.stein(flat, gradient, radii)
    return PathNode(lam, weight, slope.numpy(), stein.numpy())


def _integrals(
    nodes: Sequence[PathNode],
    families: np.ndarray,
    ridge: float,
    chains: Sequence[int],
    ladder: Ladder,
) -> tuple[Estimate, Estimate]:
    """Integration with and without control variates.

    The map's fields make functions of mean zero; their coefficients are fitted to every other
    chain and used on the others.
    """
    plain = [node.slope.reshape(-1, n) for node, n in zip(nodes, chains, strict=True)]
    corrected = [slope.copy() for slope in plain]
    for half in (0, 1):
        fit = fit_transport(
            [node.columns(n, 1 - half) for node, n in zip(nodes, chains, strict=True)],
            families,
            ridges=(ridge,),
            held=0.01,
        )
        for node, n, slope in zip(nodes, chains, corrected, strict=True):
            control = node.explained(fit.coefficients).reshape(-1, n)
            slope[:, half::2] -= control[:, half::2]
    found = thermodynamic_integration(corrected, None, ladder).estimate
    return replace(found, method="ti+cv"), thermodynamic_integration(plain, None, ladder).estimate


class _Clock:
    """Processor seconds of each stage."""

    def __init__(self) -> None:
        self._last = time.process_time()
        self.spent: dict[str, float] = {}

    def read(self, stage: str) -> None:
        now = time.process_time()
        self.spent[stage], self._last = now - self._last, now

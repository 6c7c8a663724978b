"""The free energy of growing a sphere in a solvent: fitted transport, BAR and integration."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from helmflow.estimators.estimate import Estimate
from helmflow.families.growth import path_fit
from helmflow.families.growth.growth_path import GrowthPath, evaluations_of_chains, record
from helmflow.families.growth.path_fit import PathFit, fit_path
from helmflow.families.two_states.comparison import Comparison
from helmflow.families.two_states.endpoints import SampledPair
from helmflow.families.two_states.targeted import compare
from helmflow.families.two_states.trial import trial_evaluations
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.quantity import Quantity
from helmflow.skeleton.run import Run, Stage

SPACING = 4
"""Trajectories between samples of the ends: the works of the map remember longer than dU/dR."""

ENERGIES_PER_SAMPLE = 3
"""Of a sample of an end: in its own state, in the other, and there through the map."""

Ends = tuple[Tensor, Tensor]
"""Samples of both ends (n, particles, 3), chain after chain."""


@dataclass(frozen=True)
class GrowthPlan:
    """How much is sampled: ``chains`` per node of the path and of each end, and records of each.

    The five Gauss-Lobatto nodes get chains in proportion to what they add to the error.
    """

    path_chains: tuple[int, ...] = (40, 80, 100, 80, 40)
    path_records: int = 150
    end_chains: int = 150
    end_records: int = 60
    n_steps: int = 2

    @property
    def n_evaluations(self) -> int:
        """Energies that it takes."""
        n_path, n_ends = sum(self.path_chains), 2 * self.end_chains
        path = evaluations_of_chains(n_path, path_fit.SPACING * self.path_records)
        ends = evaluations_of_chains(n_ends, SPACING * self.end_records)
        judged = n_path * self.path_records + ENERGIES_PER_SAMPLE * n_ends * self.end_records
        n_side = self.end_chains * self.end_records
        return path + ends + judged + trial_evaluations(n_side, n_side)


@dataclass(frozen=True)
class Growth:
    """f_B - f_A of growing the sphere, in kT, from independent samples of ends and path.

    ``comparison``: BAR without and with the fitted map, on the samples of the ends. ``path``: the
    map, and thermodynamic integration on the samples of the path, with the map's fields as Stein
    control variates and without.
    """

    comparison: Comparison
    path: PathFit

    @property
    def mapped(self) -> Estimate:
        """BAR through the map."""
        return self.comparison.mapped or self.comparison.plain

    @cached_property
    def combined(self) -> Estimate:
        """The mean of mapped BAR and the integral, which share no sample, by their variances."""
        mapped, integral = self.mapped, self.path.integral
        weights = np.array([mapped.stderr**-2.0, integral.stderr**-2.0])
        value = weights @ np.array([mapped.value, integral.value]) / weights.sum()
        n_eff = mapped.n_eff + integral.n_eff
        return Estimate(float(value), float(weights.sum() ** -0.5), n_eff, "bar and ti+cv")


def grow(path: GrowthPath, plan: GrowthPlan, quantity: Quantity, run: Run) -> Growth:
    """Sample the path, fit the map to it, sample the ends, and compare them.

    Nothing that the map was fitted to enters the estimate through the map. The run keeps the fit
    and the samples of the ends. Raises ``BudgetError`` before anything is sampled if
    ``max_evaluations`` does not reach the end.
    """
    run.budget.require(plan.n_evaluations)
    path = replace(path, budget=run.budget)

    def fit(_: Stage) -> PathFit:
        run.tell("path", 0.0, detail=f"{len(plan.path_chains)} nodes")
        return fit_path(path, plan.path_chains, plan.path_records, run)

    def sample(_: Stage) -> Ends:
        run.tell("ends", 0.0)
        return sample_ends(path, plan, run)

    fitted = run.once("path", fit, path_fit.FORM)
    ends = run.once("ends", sample, Form(_pack, _unpack))
    run.tell("map", 0.0, detail=f"{len(ends[0])} samples a side")
    pair = SampledPair.of(*path.states, *ends)
    return Growth(compare(pair, fitted.map(path, plan.n_steps), quantity, run), fitted)


def sample_ends(path: GrowthPath, plan: GrowthPlan, run: Run) -> Ends:
    """Equilibrium samples of both ends."""
    chains = path.chains((0.0, 1.0), (plan.end_chains,) * 2, run.stream("ends"))
    samples = record(chains, plan.end_records, SPACING)
    # Chain after chain, so that correlation along a chain shows in the series.
    x_a, x_b = (
        half.transpose(0, 1).flatten(0, 1) for half in torch.split(samples, plan.end_chains, dim=1)
    )
    return x_a, x_b


def _pack(ends: Ends) -> Kept:
    return Kept({"x_a": ends[0], "x_b": ends[1]})


def _unpack(kept: Kept) -> Ends:
    return kept.tensors["x_a"], kept.tensors["x_b"]

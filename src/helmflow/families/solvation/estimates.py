"""The free energy of growing a sphere in a solvent: fitted transport, BAR and integration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.estimators.estimate import Estimate
from helmflow.families.solvation.growth_path import GrowthPath, record
from helmflow.families.solvation.path_fit import Clock, PathFit, fit_path
from helmflow.families.two_states.targeted import TargetedResult, targeted_fep
from helmflow.results import Event, RunDirectory
from helmflow.streams import stream
from helmflow.training.transport_fit import TransportFit

SPACING = 4
"""Trajectories between samples of the ends: the works of the map remember longer than dU/dR."""

Progress = Callable[[Event], None]


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
    map: FittedFlow
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


@dataclass(frozen=True)
class Ends:
    """Samples of both ends (n, particles, 3), chain after chain, and what they took."""

    x_a: Tensor
    x_b: Tensor
    n_evaluations: int
    cpu_seconds: float


def solvation_free_energy(
    path: GrowthPath,
    *,
    seed: int = 0,
    plan: SolvationPlan | None = None,
    directory: RunDirectory | None = None,
    progress: Progress = lambda event: None,
) -> SolvationResult:
    """Sample the path, fit the map to it, sample the ends, and estimate.

    Nothing that the map was fitted to enters the estimate through the map. With ``directory`` the
    fit and the samples of the ends are kept as soon as they are there, and a run that was killed
    goes on from the last of the two that it finished, with the same numbers.
    """
    plan = plan or SolvationPlan()
    kept = _Kept.load(directory)
    if kept.path is None:
        progress(Event("path", 0.0, 1.0, f"{len(plan.path_chains)} nodes"))
        kept.path = fit_path(path, plan.path_chains, plan.path_records, seed)
        kept.save(directory)
    n_evaluations = kept.path.n_evaluations
    if kept.ends is None:
        progress(Event("ends", 0.0, 1.0, "", energy_evaluations=n_evaluations))
        kept.ends = _sample_ends(path, plan, seed)
        kept.save(directory)
    ends = kept.ends
    n_evaluations += ends.n_evaluations
    progress(Event("map", 0.0, 1.0, f"{len(ends.x_a)} samples a side", None, None, n_evaluations))
    clock = Clock()
    bijector = kept.path.map(path, plan.n_steps)
    targeted = targeted_fep(
        *path.states, ends.x_a, ends.x_b, map=bijector, seed=seed, name="solvation"
    )
    clock.read("map")
    spent = kept.path.cpu_seconds | {"end samples": ends.cpu_seconds} | clock.spent
    n_evaluations += targeted.result.cost.energy_evaluations
    return SolvationResult(
        targeted,
        kept.path.integral,
        kept.path.plain_integral,
        kept.path.fit,
        bijector,
        spent,
        n_evaluations,
    )


def _sample_ends(path: GrowthPath, plan: SolvationPlan, seed: int) -> Ends:
    clock = Clock()
    chains = path.chains((0.0, 1.0), (plan.end_chains,) * 2, stream(seed, "ends"))
    found = record(chains, plan.end_records, SPACING)
    # Chain after chain, so that correlation along a chain shows in the series.
    x_a, x_b = (
        half.transpose(0, 1).flatten(0, 1) for half in torch.split(found, plan.end_chains, dim=1)
    )
    clock.read("end samples")
    return Ends(x_a, x_b, chains.n_evaluations, clock.spent["end samples"])


@dataclass
class _Kept:
    """What a run has finished; in a checkpoint when there is a directory."""

    path: PathFit | None = None
    ends: Ends | None = None

    @classmethod
    def load(cls, directory: RunDirectory | None) -> "_Kept":
        found = None if directory is None else directory.load_checkpoint()
        if found is None:
            return cls()
        tensors, header = found
        kept = cls(PathFit.from_json(header["path"], tensors["coefficients"].numpy()))
        if "x_a" in tensors:
            spent = tensors["ends"]
            kept.ends = Ends(tensors["x_a"], tensors["x_b"], int(spent[0]), float(spent[1]))
        return kept

    def save(self, directory: RunDirectory | None) -> None:
        if directory is None or self.path is None:
            return
        tensors = {"coefficients": torch.from_numpy(self.path.fit.coefficients)}
        if self.ends is not None:
            spent = [float(self.ends.n_evaluations), self.ends.cpu_seconds]
            tensors |= {
                "x_a": self.ends.x_a.contiguous(),
                "x_b": self.ends.x_b.contiguous(),
                "ends": torch.tensor(spent, dtype=torch.float64),
            }
        directory.save_checkpoint(tensors, {"path": self.path.to_json()})

"""What samples of the path of a growing sphere give: the map, and the integral along it."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.estimators.nodes import Ladder, Nodes
from helmflow.families.solvation.growth_path import GrowthPath, record
from helmflow.fields.sphere import SphereField
from helmflow.streams import stream
from helmflow.training.transport_fit import TransportFit, fit_transport

Array = np.ndarray

SPACING = 2
"""Trajectories between samples: dU/dR forgets its value within one."""


@dataclass(frozen=True)
class PathFit:
    """The fitted field, the integral with and without control variates, and what they took."""

    fit: TransportFit
    integral: Estimate
    plain_integral: Estimate
    cpu_seconds: dict[str, float]
    n_evaluations: int

    def to_json(self) -> str:
        """Everything but the coefficients."""
        table = asdict(replace(self, fit=replace(self.fit, coefficients=None)))
        return json.dumps(table)

    @classmethod
    def from_json(cls, text: str, coefficients: np.ndarray) -> "PathFit":
        """What `to_json` wrote, with the coefficients."""
        table = json.loads(text)
        fit = {**table.pop("fit"), "coefficients": coefficients}
        fit["residual"] = tuple(fit["residual"])
        for name in ("integral", "plain_integral"):
            table[name] = Estimate(**table[name])
        return cls(fit=TransportFit(**fit), **table)

    def map(self, path: GrowthPath, n_steps: int) -> FittedFlow:
        """The flow of the fitted field."""
        field = SphereField(path.energy.box, path.radii)
        return FittedFlow(field, self.fit.coefficients, n_steps=n_steps)


def fit_path(
    path: GrowthPath, path_chains: Sequence[int], path_records: int, seed: int
) -> PathFit:
    """Sample the nodes of the path, fit the field to all of it, and integrate."""
    clock = Clock()
    ladder = Ladder.lobatto(len(path_chains))
    chains = path.chains(ladder.lam.tolist(), path_chains, stream(seed, "path"))
    samples = record(chains, path_records, SPACING)
    clock.read("path samples")
    field = SphereField(path.energy.box, path.radii)
    parts = torch.split(samples, list(path_chains), dim=1)
    pairs = [
        _stein(path, field, lam, x) for lam, x in zip(ladder.lam.tolist(), parts, strict=True)
    ]
    nodes = Nodes(ladder.lam, ladder.weight, *(list(part) for part in zip(*pairs, strict=True)))
    fit = fit_transport(nodes, field.families)
    clock.read("fit")
    integral = thermodynamic_integration(
        nodes,
        lambda half: fit_transport(half, field.families, ridges=(fit.ridge,), held=0.01).weights(
            half.lam
        ),
    )
    clock.read("integration")
    return PathFit(fit, integral.estimate, integral.plain, clock.spent, chains.n_evaluations)


def _stein(path: GrowthPath, field: SphereField, lam: float, x: Tensor) -> tuple[Array, Array]:
    """dU/dlambda (T, chains) and the Stein functions (size, T, chains) of samples x."""
    flat = x.flatten(0, 1)
    rows = torch.full((len(flat),), lam, dtype=torch.float64)
    _, slope, gradient = path.evaluate(flat, rows)
    stein = field.stein(flat, gradient, lam).reshape(-1, *x.shape[:2])
    return slope.reshape(x.shape[:2]).numpy(), stein.numpy()


class Clock:
    """Processor seconds of each stage."""

    def __init__(self) -> None:
        self._last = time.process_time()
        self.spent: dict[str, float] = {}

    def read(self, stage: str) -> None:
        """Everything since the last reading was this stage."""
        now = time.process_time()
        self.spent[stage], self._last = now - self._last, now

"""What samples of the path of a growing sphere give: the map, and the integral along it."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.sphere_growth import SphereGrowth
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import Ladder, thermodynamic_integration
from helmflow.families.solvation.growth_path import GrowthPath, record
from helmflow.fields.sphere import SphereField
from helmflow.streams import stream
from helmflow.training.transport_fit import PathNode, TransportFit, fit_transport

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

    def map(self, path: GrowthPath, n_steps: int) -> SphereGrowth:
        """The flow of the fitted field."""
        field = SphereField(path.energy.box)
        coefficients = torch.from_numpy(self.fit.coefficients)
        return SphereGrowth(field, coefficients, path.radii, n_steps=n_steps)


def fit_path(
    path: GrowthPath, path_chains: Sequence[int], path_records: int, seed: int
) -> PathFit:
    """Sample the nodes of the path, fit the field to all of it, and integrate."""
    clock = Clock()
    ladder = Ladder.lobatto(len(path_chains))
    chains = path.chains(ladder.lam.tolist(), path_chains, stream(seed, "path"))
    samples = record(chains, path_records, SPACING)
    clock.read("path samples")
    field = SphereField(path.energy.box)
    parts = torch.split(samples, list(path_chains), dim=1)
    nodes = [
        _node(path, field, float(lam), float(weight), x)
        for lam, weight, x in zip(ladder.lam, ladder.weight, parts, strict=True)
    ]
    fit = fit_transport(nodes, field.families)
    clock.read("fit")
    integral, plain = _integrals(nodes, field.families, fit.ridge, path_chains, ladder)
    clock.read("integration")
    return PathFit(fit, integral, plain, clock.spent, chains.n_evaluations)


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


class Clock:
    """Processor seconds of each stage."""

    def __init__(self) -> None:
        self._last = time.process_time()
        self.spent: dict[str, float] = {}

    def read(self, stage: str) -> None:
        """Everything since the last reading was this stage."""
        now = time.process_time()
        self.spent[stage], self._last = now - self._last, now

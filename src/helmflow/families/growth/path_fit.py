"""What samples of the path of a growing sphere give: the map, and the integral along it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.estimators.nodes import Ladder, Nodes
from helmflow.families.growth.growth_path import GrowthPath, record
from helmflow.fields.sphere import SphereField
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.run import Run
from helmflow.training.transport_fit import TransportFit, fit_transport

Array = np.ndarray

SPACING = 2
"""Trajectories between samples: dU/dR forgets its value within one."""


@dataclass(frozen=True)
class PathFit:
    """The fitted field, and the integral with and without control variates, kT."""

    fit: TransportFit
    integral: Estimate
    plain_integral: Estimate

    def map(self, path: GrowthPath, n_steps: int) -> FittedFlow:
        """The flow of the fitted field."""
        field = SphereField(path.energy.box, path.radii)
        return FittedFlow(field, self.fit.coefficients, n_steps=n_steps)


def pack(made: PathFit) -> Kept:
    """Coefficients as a tensor, everything else as JSON."""
    facts = asdict(made)
    coefficients = torch.from_numpy(facts["fit"].pop("coefficients"))
    return Kept({"coefficients": coefficients}, facts)


def unpack(kept: Kept) -> PathFit:
    """What `pack` has made."""
    facts, coefficients = kept.facts, kept.tensors["coefficients"].numpy()
    fit = {**facts["fit"], "residual": tuple(facts["fit"]["residual"])}
    integrals = (Estimate(**facts[name]) for name in ("integral", "plain_integral"))
    return PathFit(TransportFit(coefficients, **fit), *integrals)


FORM = Form(pack, unpack)


def fit_path(path: GrowthPath, path_chains: Sequence[int], path_records: int, run: Run) -> PathFit:
    """Sample the nodes of the path, fit the field to all of it, and integrate."""
    ladder = Ladder.lobatto(len(path_chains))
    chains = path.chains(ladder.lam.tolist(), path_chains, run.stream("path"))
    samples = record(chains, path_records, SPACING)
    field = SphereField(path.energy.box, path.radii)
    parts = torch.split(samples, list(path_chains), dim=1)
    pairs = [
        _stein(path, field, lam, x) for lam, x in zip(ladder.lam.tolist(), parts, strict=True)
    ]
    nodes = Nodes(ladder.lam, ladder.weight, *(list(part) for part in zip(*pairs, strict=True)))
    fit = fit_transport(nodes, field.families)
    integral = thermodynamic_integration(
        nodes,
        lambda half: fit_transport(half, field.families, ridges=(fit.ridge,), held=0.01).weights(
            half.lam
        ),
    )
    return PathFit(fit, integral.estimate, integral.plain)


def _stein(path: GrowthPath, field: SphereField, lam: float, x: Tensor) -> tuple[Array, Array]:
    """dU/dlambda (T, chains) and the Stein functions (size, T, chains) of samples x."""
    flat = x.flatten(0, 1)
    rows = torch.full((len(flat),), lam, dtype=torch.float64)
    _, slope, gradient = path.evaluate(flat, rows)
    stein = field.stein(flat, gradient, lam).reshape(-1, *x.shape[:2])
    return slope.reshape(x.shape[:2]).numpy(), stein.numpy()

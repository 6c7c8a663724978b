"""Maps of a solvent around a solute that changes, fitted by least squares to both end states."""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.bijectors.base import Bijector, Identity
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.bijectors.moved_molecules import MovedMolecules, Surroundings
from helmflow.errors import InputError
from helmflow.estimators.nodes import Nodes
from helmflow.fields.sphere import SphereField
from helmflow.shapes import Particles, Values
from helmflow.training.map_fit import MapFit, TwoStates
from helmflow.training.map_training import held_dissipation
from helmflow.training.transport_fit import TransportFit, fit_transport

Array = np.ndarray
Slopes = Callable[[Particles, float], tuple[Values, Particles]]
"""d u_lambda/d lambda (batch,) in kT and the gradient of u_lambda, at lambda = 0 or 1."""

RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
OUTLIER = 8.0
"""Slopes farther from the median than this many standard deviations count as that far."""

NEAREST, CONTACT = 1.05, 0.1
"""Mean distance of nearest neighbours in a liquid, and the depth to which they enter a surface,
in units of the solvent's diameter."""

CUBIC = 1e-5
"""Relative difference of box vectors from those of a cube that files may leave."""

BATCH = 512


@final
class SolventFit(MapFit):
    """The fitted transport of molecules around a solute, from samples of the two end states only.

    A constant combination of the fields of a `SphereField`, which move with the solute's surface,
    is chosen by least squares so that the work changes alike for all samples at both ends:

        sum_{lambda = 0, 1} Var[ du/dlambda - sum_k c_k (div v_k - v_k.grad u) ] / 2

    It needs no samples in between and no training, but ``slopes``: how u changes at first on the
    way from either end to the other. Molecules move as a whole. The unit of length is the mean
    distance of nearest neighbours among the molecules, the surface's radius in each state that of
    the nearest of them to the solute. The ridge is that of least residual on held-out samples;
    a map that does not lower their dissipation is replaced by none. ``fitted`` lists what was
    found. Raises ``InputError`` unless the cell is a cube.
    """

    name = "fitted transport"

    def __init__(
        self,
        around: Surroundings,
        slopes: Slopes,
        *,
        radii: tuple[float, float] | None = None,
        n_steps: int = 2,
    ) -> None:
        cube = around.cell[0, 0] * torch.eye(3, dtype=torch.float64)
        if (around.cell - cube).abs().max() > CUBIC * cube[0, 0]:
            raise InputError("box", "a cube, for a fitted transport map", around.cell.tolist())
        self.around, self.slopes = around, slopes
        self.radii, self.n_steps = radii, n_steps
        self.fitted: list[TransportFit] = []

    def fit(self, states: TwoStates, generator: Generator) -> Bijector:
        sides = torch.cat([states.x_a, states.held_a]), torch.cat([states.x_b, states.held_b])
        held = len(states.held_a) / len(sides[0])
        plain = MovedMolecules(Identity(), self.around)
        unit = _spacing(plain, states.x_a) / NEAREST
        seen = MovedMolecules(Identity(), self.around, unit=unit)
        radii = self.radii or tuple(_radius(plain, x) + CONTACT * unit for x in sides)
        surface = (radii[0] / unit, radii[1] / unit)
        field = SphereField(float(self.around.cell[0, 0]) / unit, surface)
        pairs = [self._stein(float(k), sides[k], seen, field) for k in (0, 1)]
        works, steins = zip(*pairs, strict=True)
        nodes = Nodes(np.array([0.0, 1.0]), np.array([0.5, 0.5]), works, steins)
        transport = fit_transport(nodes, field.families, degree=0, ridges=RIDGES, held=held)
        self.fitted.append(transport)
        growth = FittedFlow(field, transport.coefficients, n_steps=self.n_steps)
        made = MovedMolecules(growth, self.around, unit=unit)
        better = held_dissipation(made, states) < held_dissipation(Identity(), states)
        return made if better else Identity()

    def _stein(
        self, lam: float, x: Particles, seen: MovedMolecules, field: SphereField
    ) -> tuple[Array, Array]:
        """du/dlambda (1, n) without outliers, and the Stein functions (size, 1, n)."""
        slopes, steins = [], []
        for part in torch.split(x, BATCH):
            slope, gradient = self.slopes(part, lam)
            pulled = seen.pulled(gradient)
            slopes.append(slope.numpy())
            steins.append(field.stein(seen.seen(part), pulled, lam).numpy())
        work = _without_outliers(np.concatenate(slopes))
        return work[None], np.concatenate(steins, axis=1)[:, None]


def _spacing(plain: MovedMolecules, x: Particles) -> float:
    """Mean distance from a molecule to the nearest other one, over up to 64 configurations."""
    d = plain.seen(x[:: max(len(x) // 64, 1)])
    return float(_distances(plain, d[:, :, None] - d[:, None]).amin(-1).mean())


def _radius(plain: MovedMolecules, x: Particles) -> float:
    """Mean distance from the solute to the nearest molecule."""
    return float(_distances(plain, plain.seen(x)).amin(-1).mean())


def _distances(plain: MovedMolecules, d: Tensor) -> Tensor:
    lengths = plain.nearest(d).norm(dim=-1)
    return torch.where(lengths > 0.0, lengths, torch.inf)


def _without_outliers(slope: Array) -> Array:
    middle = np.median(slope)
    low, high = np.quantile(slope, [0.159, 0.841])
    reach = OUTLIER * 0.5 * (high - low)
    return np.clip(slope, middle - reach, middle + reach)

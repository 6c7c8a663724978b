"""The forces of energies in Python on their samples, by automatic differentiation."""

import numpy as np
import torch

from helmflow.energies.base import ParticleEnergy
from helmflow.errors import EnergyError
from helmflow.families.two_states.endpoints import State
from helmflow.families.two_states.one_body import OneBodyField, held_in_place
from helmflow.shapes import Configs
from helmflow.thermo import ThermodynamicState

Array = np.ndarray
NO_DERIVATIVE = (RuntimeError, TypeError, ValueError, AttributeError, EnergyError)
"""What energies raise that torch cannot differentiate."""


def one_body_series(state: State, x: Configs, rows: Array) -> Array | None:
    """v . grad u and div v (n, 1, 2) of a `OneBodyField` of samples x (m, ...), on ``rows`` of it.

    Zeros for particles (m, N, 3) that no outside force holds. None where u has no derivative, and
    for crystals, which nothing holds.
    """
    energy = getattr(state, "energy", None)
    if isinstance(energy, ParticleEnergy) or not len(rows):
        return None
    u = state.reduced_potential if isinstance(state, ThermodynamicState) else state
    points = x[torch.from_numpy(rows)].requires_grad_()
    try:
        with torch.enable_grad():
            values = u(points)
        (gradient,) = torch.autograd.grad(values.sum(), points)
    except NO_DERIVATIVE:
        return None
    slopes, positions = gradient.numpy(), points.detach().numpy()
    series = np.stack(OneBodyField.of(x.numpy())(positions, slopes), 1)
    series[~held_in_place(slopes)] = 0.0
    series[~torch.isfinite(values.detach()).numpy()] = np.nan  # which belong to no state
    return series[:, None]

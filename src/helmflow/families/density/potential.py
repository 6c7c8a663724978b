"""The reduced potential of a density, checked and counted."""

import math

import torch

from helmflow.errors import EnergyError
from helmflow.generalised_work import require_energies
from helmflow.shapes import Configs, Values
from helmflow.system import System
from helmflow.training.flow_fit import CHUNK


class CheckedPotential:
    """The reduced potential of a system, refusing what no density can mean, counting calls.

    +inf is weight zero. Raises EnergyError for NaN and -inf, InputError for a wrong shape.
    """

    def __init__(self, system: System) -> None:
        self.system, self.n_evaluations = system, 0

    def __call__(self, x: Configs) -> Values:
        with torch.no_grad():
            u = require_energies(self.system.reduced_potential(x), len(x), "potential")
        self.n_evaluations += len(x)
        wrong = torch.isnan(u) | (u == -math.inf)
        if bool(wrong.any()):
            raise EnergyError(f"the energy is NaN or -inf at {x[wrong][0].tolist()}")
        return u

    def differentiable(self, x: Configs) -> Values:
        """The same with a graph; NaN is left to the training loop, which skips the step."""
        # point by point derivatives come in chunks that look like one point from inside
        self.n_evaluations += CHUNK if len(x) == 1 else len(x)
        return self.system.reduced_potential(x)

"""The reduced potential of a density, checked and counted."""

import math

import torch
from torch import Tensor

from helmflow.errors import EnergyError, InputError
from helmflow.generalised_work import require_energies
from helmflow.shapes import Configs, Values
from helmflow.skeleton.budget import Budget
from helmflow.system import System


class CheckedPotential:
    """The reduced potential of a system, refusing what no density can mean.

    +inf is weight zero. ``budget`` counts every point. Raises EnergyError for NaN and -inf,
    InputError for a wrong shape, and BudgetError where ``max_evaluations`` does not reach.
    """

    def __init__(self, system: System, budget: Budget) -> None:
        if system.manifold is None:
            raise InputError("manifold", "a density on one", system.name)
        self.system, self.budget, self.manifold = system, budget, system.manifold

    def __call__(self, x: Configs) -> Values:
        self.budget.spend(len(x))
        with torch.no_grad():
            u = require_energies(self.system.reduced_potential(x), len(x), "potential")
        wrong = torch.isnan(u) | (u == -math.inf)
        if bool(wrong.any()):
            raise EnergyError(f"the energy is NaN or -inf at {x[wrong][0].tolist()}")
        return u

    def differentiable(self, x: Configs) -> Values:
        """The same with a graph; NaN is left to the training loop, which skips the step."""
        self.budget.spend(len(x))
        return self.system.reduced_potential(x)

    def has_gradient(self, x: Configs) -> bool:
        """Whether the energy is finite and has a gradient that says something, at points x."""
        x = x.detach().requires_grad_()
        try:
            value = self.differentiable(x)
        except RuntimeError:  # NumPy takes no tensors with a graph
            return False
        if not isinstance(value, Tensor) or not value.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(value.sum(), x)
        finite = bool(torch.isfinite(value).all()) and bool(torch.isfinite(gradient).all())
        return finite and bool((gradient != 0.0).any())

"""Second-order refinement of any small flow: natural-gradient steps on the variance of the work.

With base points z held fixed, the work ``R(z) = u(f(z)) + log q(f(z))`` of a flow is a smooth
function of its parameters whose variance vanishes where q = p. Its derivatives point by point
give a Gauss-Newton step. Fresh points at every step make it a natural gradient that cannot
overfit; fixed points converge faster once the flow is close.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from helmflow.densities.flow import Flow
from helmflow.generalised_work import ReducedPotential
from helmflow.shapes import Configs
from helmflow.training.least_squares import (
    LeastSquaresOutcome,
    LeastSquaresPlan,
    Residuals,
    StepReport,
    damped_step,
    fit_variance,
)

CHUNK = 256
"""Points whose derivatives are taken at once."""


class FlowResiduals(Residuals):
    """The work of base points z (N, *event) as a function of the flow's parameters (P,)."""

    def __init__(self, flow: Flow, u: ReducedPotential, z: Configs) -> None:
        self.flow, self.u, self.z = flow, u, z
        with torch.no_grad():
            self.log_base = flow.base.log_prob(z)
        learned = {n: p for n, p in flow.bijector.named_parameters() if p.requires_grad}
        self.names = list(learned)
        self.shapes = [p.shape for p in learned.values()]

    def start(self) -> Tensor:
        """The parameters the flow has now, in one vector (P,)."""
        learned = dict(self.flow.bijector.named_parameters())
        return torch.cat([learned[name].detach().flatten() for name in self.names])

    def store(self, parameters: Tensor) -> None:
        """Give the flow these parameters."""
        learned = dict(self.flow.bijector.named_parameters())
        with torch.no_grad():
            for name, value in self._named(parameters).items():
                learned[name].copy_(value)

    def values(self, parameters: Tensor) -> Tensor | None:
        with torch.no_grad():
            x, log_det = functional_call(self.flow.bijector, self._named(parameters), (self.z,))
            work = self.u(x) + self.log_base - log_det
        return work if bool(torch.isfinite(work).all()) else None

    def jacobian(self, parameters: Tensor) -> Tensor:
        """Derivatives (N, P) of the works, one point at a time in parallel.

        By the chain rule: u is called with whole batches, outside of what torch vectorises.
        """
        named = self._named(parameters)

        def work(values: dict[str, Tensor], z: Tensor, slope: Tensor) -> Tensor:
            x, log_det = functional_call(self.flow.bijector, values, (z[None],))
            return (x[0] * slope).sum() - log_det[0]

        rows = vmap(grad(work), in_dims=(None, 0, 0))
        parts = []
        for z in self.z.split(CHUNK):
            with torch.no_grad():
                x, _ = functional_call(self.flow.bijector, named, (z,))
            x.requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(self.u(x).sum(), x)
            derivatives = rows(named, z, slope)
            parts.append(torch.cat([derivatives[n].reshape(len(z), -1) for n in self.names], 1))
        return torch.cat(parts)

    def _named(self, parameters: Tensor) -> dict[str, Tensor]:
        parts = parameters.split([shape.numel() for shape in self.shapes])
        return {
            name: part.view(shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }


def refine_flow(
    flow: Flow,
    u: ReducedPotential,
    z: Configs,
    plan: LeastSquaresPlan,
    report: StepReport | None = None,
) -> LeastSquaresOutcome:
    """Minimise the variance of the work over fixed base points z (N, *event), in place.

    Use several times more points than parameters, spread evenly (quasi-random).
    """
    residuals = FlowResiduals(flow, u, z)
    outcome = fit_variance(residuals, residuals.start(), torch.ones(len(z)).to(z), plan, report)
    residuals.store(outcome.parameters)
    return outcome


def natural_gradient(
    flow: Flow,
    u: ReducedPotential,
    points: Callable[[int], Configs],
    steps: int,
    *,
    damping: tuple[float, float] = (1e-1, 1e-3),
    report: StepReport | None = None,
) -> float:
    """Gauss-Newton steps on fresh base points ``points(step)``, in place; returns the last loss.

    The damping falls geometrically from the first number to the second. A step that would make
    works infinite or raise the loss on its own points is halved until it does not.
    """
    loss = float("nan")
    for step in range(steps):
        fraction = step / max(steps - 1, 1)
        strength = damping[0] * (damping[1] / damping[0]) ** fraction
        residuals = FlowResiduals(flow, u, points(step))
        parameters = residuals.start()
        omega = torch.full((len(residuals.z),), 1.0 / len(residuals.z), dtype=torch.float64)
        loss, accepted = damped_step(residuals, parameters, omega, strength)
        residuals.store(accepted)
        if report is not None:
            report(step + 1, loss, strength)
    return loss

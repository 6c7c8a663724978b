"""Transport flows: fitted by least squares along the path, used at any size."""

import torch

from helmflow.bijectors.transport import Transport
from helmflow.densities.flow import Flow
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.families.flow.path_samples import (
    PathSamples,
    fit_coefficients,
    pack_fields,
    unpack_fields,
)
from helmflow.families.flow.recipe import FlowRecipe, MadeFlow
from helmflow.families.path.problem import Problem
from helmflow.settings import Settings
from helmflow.skeleton.kept import Kept
from helmflow.skeleton.run import Stage
from helmflow.streams import stream

STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Runge-Kutta steps to choose from."""

STEP_SAMPLES = 64
STEP_BIAS = 0.1
"""Bias of the integrator that is accepted, in target errors."""


class TransportRecipe(FlowRecipe):
    """Coefficients of local fields, in one solve."""

    def make(self, path: PathSamples, stage: Stage) -> MadeFlow:
        """Least squares of the work on the fields' Stein functions."""
        coefficients = fit_coefficients(path.samples).coefficients
        return self.fit_steps(
            self._flow(Transport(self.base, path.fields, coefficients, n_steps=1))
        )

    def fit_steps(self, flow: MadeFlow) -> MadeFlow:
        """As few steps as keep the bias well below the error asked for."""
        if flow.transport is None:
            return flow
        settings = self.run.settings
        return self._flow(
            with_enough_steps(flow.transport, self.problem, self.base, settings, self.goal)
        )

    def pack(self, flow: MadeFlow) -> Kept:
        """Coefficients, fields and steps."""
        transport = flow.transport
        if transport is None:
            raise InputError("flow", "a transport", type(flow.bijector).__name__)
        coefficients = torch.from_numpy(transport.coefficients)
        tensors = {"coefficients": coefficients, **pack_fields(self.problem, transport.fields)}
        return Kept(tensors, {"n_steps": transport.n_steps})

    def build(self, kept: Kept) -> MadeFlow:
        """The transport; raises InputError where this cell cannot have its fields."""
        fields = unpack_fields(self.problem, self.base, kept)
        coefficients = kept.tensors["coefficients"].numpy()
        columns = 1 + sum(field.size for field in fields)
        if coefficients.ndim != 2 or coefficients.shape[1] != columns:
            raise InputError("flow", f"{columns} fields, as this cell has", coefficients.shape)
        n_steps = int(kept.facts["n_steps"])
        return self._flow(Transport(self.base, fields, coefficients, n_steps=n_steps))

    def _flow(self, transport: Transport) -> MadeFlow:
        return MadeFlow(Flow(self.base, transport), transport, transport)


def with_enough_steps(
    flow: Transport, problem: Problem, base: Gaussian, settings: Settings, goal: float
) -> Transport:
    """The flow with as few steps as keep the integrator's bias well below ``goal`` (kT)."""
    if settings.flow.steps is not None:
        return flow.with_steps(settings.flow.steps)
    for n_steps in STEPS:
        stepped = flow.with_steps(n_steps)
        if integrator_bias(stepped, problem, base, settings.seed) <= STEP_BIAS * goal:
            return stepped
    return flow.with_steps(STEPS[-1])


def integrator_bias(flow: Transport, problem: Problem, base: Gaussian, seed: int) -> float:
    """Mean size of the change of the work when the number of steps is doubled, kT.

    An upper bound of the bias: signed changes could cancel by chance.
    """
    u = base.sample(STEP_SAMPLES, stream(seed, "integrator"))
    works = []
    for stepped in (flow, flow.with_steps(2 * flow.n_steps)):
        y, log_det = stepped.forward(u)
        works.append(problem.target(y)[0] - log_det)
    return (works[0] - works[1]).abs().mean().item()

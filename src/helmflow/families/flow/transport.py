"""Transport flows: fitted by least squares along the path, used at any size."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from helmflow.bijectors.fitted_flow import FittedFlow, Whitened
from helmflow.densities.flow import Flow
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.families.flow.path_samples import (
    PathSamples,
    fit_coefficients,
    pack_fields,
    unpack_fields,
)
from helmflow.families.flow.recipe import FlowRecipe, MadeFlow, fields_of
from helmflow.families.path.problem import Problem
from helmflow.fields.base import TransportField
from helmflow.fields.whitened import WhitenedField
from helmflow.skeleton.kept import Kept
from helmflow.skeleton.run import Stage
from helmflow.streams import stream
from helmflow.training.integrator_steps import Works, enough_steps, step_bias, works_on

STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Runge-Kutta steps to choose from."""

STEP_SAMPLES = 64


class TransportRecipe(FlowRecipe[Problem]):
    """Coefficients of local fields, in one solve."""

    def make(self, path: PathSamples, stage: Stage) -> MadeFlow:
        """Least squares of the work on the fields' Stein functions."""
        coefficients = fit_coefficients(path.samples).coefficients
        return self.fit_steps(self._flow(transport_flow(self.base, path.fields, coefficients, 1)))

    def fit_steps(self, flow: MadeFlow) -> MadeFlow:
        """As few steps as keep the bias well below the error asked for."""
        transport, steps = flow.transport, self.run.settings.flow.steps
        if transport is None:
            return flow
        if steps is not None:
            return self._flow(transport.with_steps(steps))
        works = _works(self.problem, self.base, self.run.settings.seed)
        return self._flow(enough_steps(transport, works, STEPS, self.goal))

    def pack(self, flow: MadeFlow) -> Kept:
        """Coefficients, fields and steps."""
        transport = flow.transport
        if transport is None:
            raise InputError("flow", "a transport", type(flow.bijector).__name__)
        tensors = {"coefficients": transport.coefficients}
        tensors |= pack_fields(self.problem, fields_of(transport))
        return Kept(tensors, {"n_steps": transport.n_steps})

    def build(self, kept: Kept) -> MadeFlow:
        """The transport; raises InputError where this cell cannot have its fields."""
        fields = unpack_fields(self.problem, self.base, kept)
        coefficients, n_steps = kept.tensors["coefficients"], int(kept.facts["n_steps"])
        return self._flow(transport_flow(self.base, fields, coefficients, n_steps))

    def _flow(self, transport: FittedFlow) -> MadeFlow:
        return MadeFlow(Flow(self.base, transport), transport, transport)


def transport_flow(
    base: Gaussian,
    fields: Sequence[TransportField],
    coefficients: np.ndarray | Tensor,
    n_steps: int,
) -> FittedFlow:
    """The flow of u K u / 2 and the functions of ``fields``, seen by a base of precision K."""
    whitened = WhitenedField(base, fields)
    return FittedFlow(whitened, coefficients, Whitened(base), n_steps=n_steps)


def integrator_bias(flow: FittedFlow, problem: Problem, base: Gaussian, seed: int) -> float:
    """Mean size of the change of the work when the number of steps is doubled, kT."""
    return step_bias(flow, _works(problem, base, seed))


def _works(problem: Problem, base: Gaussian, seed: int) -> Works:
    generator = stream(seed, "integrator")
    return works_on(base, lambda u: problem.target(u)[0], STEP_SAMPLES, generator)

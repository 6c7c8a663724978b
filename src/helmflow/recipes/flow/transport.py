"""Transport flows: fitted by least squares along the path, kept in a file, used at any size."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.fitted_flow import FittedFlow, Whitened
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.estimators.nodes import Nodes
from helmflow.fields.base import TransportField
from helmflow.fields.potential import HarmonicField
from helmflow.fields.response import ResponseField
from helmflow.fields.whitened import WhitenedField
from helmflow.polynomials import legendre
from helmflow.recipes.path.ladder import LadderSampler
from helmflow.recipes.path.plan import make_plan
from helmflow.recipes.path.problem import Problem
from helmflow.results.result import own_version
from helmflow.settings import SamplingSettings, Settings
from helmflow.streams import stream
from helmflow.training.checkpoint import load, save
from helmflow.training.integrator_steps import Works, enough_steps, step_bias, works_on
from helmflow.training.transport_fit import TransportFit, fit_transport

FIT_SWEEPS = 24
"""Recorded sweeps of the ladder that the coefficients are fitted to."""

DEGREE = 3
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Runge-Kutta steps to choose from."""

STEP_SAMPLES = 64

KEPT = 3
"""Sweeps between the configurations of the target that are kept."""

RESPONSE_AT = 0.75
"""Lambda of the first-order flow whose second order the response is: past the middle of the path,
because most of the work is left over near its end."""

RIDGES = (1e-7, 1e-6, 1e-5, 1e-4)
KIND = "transport"
FILE = "flow.safetensors"


@dataclass(frozen=True)
class PathSamples:
    """Samples of every node between base and target, with the Stein functions of a transport.

    ``estimate``: thermodynamic integration with control variates, kT. No flow is integrated for
    it, but the control variates share their traces with the flow's fields.
    ``fields``: what the flow that the samples are made for is driven by, besides u K u / 2.
    ``target``: configurations (m, n) of the target.
    """

    samples: Nodes
    estimate: Estimate
    fields: tuple[TransportField, ...]
    target: Tensor


def sample_path(
    problem: Problem,
    base: Gaussian,
    settings: Settings,
    burnt: Callable[[int, int], None],
    fields: Sequence[TransportField] | None = None,
) -> PathSamples:
    """Short chains on the straight path from ``base`` to the target.

    ``fields``: of a flow that exists. Otherwise those of the problem, and the second-order field
    that a first fit asks for; the samples of that fit are not used again.
    """
    own = {"method": "auto", "sampling": SamplingSettings()}
    plan = make_plan(problem, base, settings.model_copy(update=own))
    generator = stream(settings.seed, "flow")
    chosen = problem.transport_fields(base) if fields is None else fields
    harmonic, n_sweeps = HarmonicField(base.dim), settings.flow.sweeps or FIT_SWEEPS
    all_fields = [harmonic, *chosen]
    sampler = LadderSampler(problem, base, plan.lam, plan.chains, all_fields, generator)
    sampler.burn_in(plan.burn_in, burnt)
    if fields is None and not problem.smooth:
        # The field that comes of it is only as good as this fit; energies may be dear, though.
        sampler.sample(-(-n_sweeps // 2) if problem.costly else n_sweeps)
        first = fit_coefficients(_samples(sampler, plan.lam)).coefficients
        second = problem.second_order_field(base, chosen, _weights(first)[1:])
        chosen = chosen if second is None else [*chosen, second]
        sampler.start_over([harmonic, *chosen])
    target = _sample(sampler, n_sweeps)
    samples = _samples(sampler, plan.lam)
    # Where the energy jumps, Stein functions have no known mean: the integral does without them,
    # and the flow does not mind, because its own determinant is exact.
    trusted = samples if problem.continuous else replace(samples, stein=None)
    estimate = thermodynamic_integration(trusted).estimate
    return PathSamples(samples, estimate, tuple(chosen), target)


def _sample(sampler: LadderSampler, n_sweeps: int) -> Tensor:
    """Record ``n_sweeps`` sweeps; configurations of the target every third."""
    kept = []
    for first in range(0, n_sweeps, KEPT):
        sampler.sample(min(KEPT, n_sweeps - first))
        kept.append(sampler.target_configurations())
    return torch.cat(kept)


def _samples(sampler: LadderSampler, lam: np.ndarray) -> Nodes:
    state = sampler.state()
    return Nodes.from_columns(lam, sampler.node, state["work"].numpy(), state["controls"].numpy())


def _weights(coefficients: np.ndarray) -> np.ndarray:
    """Of every function, at the lambda that stands for the whole path."""
    return legendre(RESPONSE_AT, len(coefficients)) @ coefficients


def fit_coefficients(samples: Nodes) -> TransportFit:
    """Least squares of the work on the Stein functions along the path."""
    families = np.arange(0 if samples.stein is None else len(samples.stein[0]))
    degree = min(DEGREE, len(samples.lam) - 2)
    return fit_transport(samples, families, degree=degree, ridges=RIDGES)


def with_enough_steps(
    flow: FittedFlow, problem: Problem, base: Gaussian, settings: Settings, goal: float
) -> FittedFlow:
    """The flow with as few steps as keep the integrator's bias well below ``goal`` (kT)."""
    if settings.flow.steps is not None:
        return flow.with_steps(settings.flow.steps)
    return enough_steps(flow, _works(problem, base, settings.seed), STEPS, goal)


def integrator_bias(flow: FittedFlow, problem: Problem, base: Gaussian, seed: int) -> float:
    """Mean size of the change of the work when the number of steps is doubled, kT."""
    return step_bias(flow, _works(problem, base, seed))


def _works(problem: Problem, base: Gaussian, seed: int) -> Works:
    generator = stream(seed, "integrator")
    return works_on(base, lambda u: problem.target(u)[0], STEP_SAMPLES, generator)


def transport_flow(
    base: Gaussian,
    fields: Sequence[TransportField],
    coefficients: np.ndarray | Tensor,
    n_steps: int,
) -> FittedFlow:
    """The flow of u K u / 2 and the functions of ``fields``, seen by a base of precision K."""
    whitened = WhitenedField(base, fields)
    return FittedFlow(whitened, coefficients, Whitened(base), n_steps=n_steps)


def fields_of(flow: FittedFlow) -> tuple[TransportField, ...]:
    """What drives a transport flow besides u K u / 2."""
    return flow.field.parts if isinstance(flow.field, WhitenedField) else ()


def save_flow(path: Path, problem: Problem, flow: FittedFlow) -> None:
    """Write coefficients and what tells whether another system is the same crystal."""
    tensors = {
        "coefficients": flow.coefficients,
        "grids": torch.tensor(problem.grids(fields_of(flow)), dtype=torch.float64),
    }
    header = {
        "flow": KIND,
        "version": own_version(),
        "system": problem.system.name,
        "fingerprint": json.dumps(problem.fingerprint()),
    }
    tensors["n_steps"] = torch.tensor(flow.n_steps)
    first_order = _first_order(flow)
    if first_order is not None:
        tensors["first_order"] = first_order
    save(path, tensors, header)


def _first_order(flow: FittedFlow) -> Tensor | None:
    """Weights of the first-order functions whose response drives the flow too."""
    for response in fields_of(flow):
        if isinstance(response, ResponseField):
            own = dict(zip(response.pairs, response.weights, strict=True))
            others = [field for field in fields_of(flow) if field is not response]
            parts = [own.get(field, np.zeros(field.size)) for field in others]
            return torch.from_numpy(np.concatenate(parts))
    return None


def load_flow(path: Path, problem: Problem, base: Gaussian) -> FittedFlow:
    """Read coefficients fitted at this or any other size of the same crystal.

    ``path`` is the file or the run directory that holds it. Raises InputError("flow", ...) for
    another crystal, density, temperature or version, and for a damaged file.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError("flow", f"a run of --method flow, or its {FILE}", path)
    try:
        tensors, header = load(file, {"flow": KIND, "version": own_version()})
    except InputError as error:
        raise InputError("flow", "a transport flow of this version", error) from error
    try:
        fingerprint, name = json.loads(header["fingerprint"]), header["system"]
        grids, n_steps = tensors["grids"], int(tensors["n_steps"])
        coefficients, first_order = tensors["coefficients"], tensors.get("first_order")
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError("flow", "a whole transport flow", f"{file} ({error})") from error
    _require_same(fingerprint, problem.fingerprint(), name)
    fields = list(problem.transport_fields(base))
    _require(grids.shape == (len(problem.grids(fields)), 3), grids, "grids", file)
    fields = list(problem.transport_fields(base, grids.tolist()))
    if first_order is not None:
        shape = (sum(field.size for field in fields),)
        _require(first_order.shape == shape, first_order, "first_order", file)
        second = problem.second_order_field(base, fields, first_order.numpy())
        fields += [] if second is None else [second]
    columns = 1 + sum(field.size for field in fields)
    fits = coefficients.ndim == 2 and coefficients.shape[1] == columns
    _require(fits, coefficients, "fields that this cell can have", file)
    return transport_flow(base, fields, coefficients, n_steps)


def _require(right: bool, tensor: Tensor, what: str, file: Path) -> None:
    if not right or not tensor.isfinite().all():
        shape = list(tensor.shape)
        raise InputError("flow", f"a whole transport flow ({what})", f"{shape} in {file}")


def _require_same(fitted: Mapping[str, float], own: Mapping[str, float], name: str) -> None:
    for key in sorted({*fitted, *own}):
        there, here = fitted.get(key, math.nan), own.get(key, math.nan)
        if not math.isclose(there, here, rel_tol=1e-6, abs_tol=1e-9):
            raise InputError(
                "flow", f"a flow of this crystal ({key} = {here:.8g})", f"{name} with {there:.8g}"
            )

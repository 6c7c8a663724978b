"""Samples along the path that flows are fitted to and checked against."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.estimators.nodes import Nodes
from helmflow.families.path.ladder import LadderSampler
from helmflow.families.path.plan import make_plan
from helmflow.families.path.problem import Problem
from helmflow.fields.base import TransportField
from helmflow.fields.potential import HarmonicField
from helmflow.fields.response import ResponseField
from helmflow.polynomials import legendre
from helmflow.settings import SamplingSettings
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.run import Run
from helmflow.tables import parse_table
from helmflow.training.transport_fit import TransportFit, fit_transport

FIT_SWEEPS = 24
"""Recorded sweeps of the ladder that the coefficients are fitted to."""

DEGREE = 3
"""Highest power of lambda in the coefficients."""

BETWEEN = 3
"""Sweeps between the configurations of the target that are kept."""

RESPONSE_AT = 0.75
"""Lambda of the first-order flow whose second order the response is: past the middle of the path,
because most of the work is left over near its end."""

RIDGES = (1e-7, 1e-6, 1e-5, 1e-4)
"""Penalties that the fit chooses from."""


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


def path_of(
    problem: Problem, base: Gaussian, run: Run, fields: Sequence[TransportField] | None = None
) -> PathSamples:
    """The samples of a run, made or as they are kept; ``fields`` of a flow that exists."""

    def pack(path: PathSamples) -> Kept:
        samples = path.samples
        stein = samples.stein or [np.empty((0, *w.shape)) for w in samples.work]
        tensors = {
            "lam": torch.from_numpy(samples.lam),
            "chains": torch.tensor([w.shape[1] for w in samples.work]),
            "work": torch.from_numpy(np.concatenate(samples.work, axis=1)),
            "stein": torch.from_numpy(np.concatenate(stein, axis=2).swapaxes(0, 1).copy()),
            "target": path.target,
        }
        tensors |= pack_fields(problem, path.fields)
        return Kept(tensors, {"estimate": asdict(path.estimate)})

    def unpack(kept: Kept) -> PathSamples:
        t = kept.tensors
        node = np.repeat(np.arange(len(t["lam"])), t["chains"].numpy())
        samples = Nodes.from_columns(t["lam"].numpy(), node, t["work"].numpy(), t["stein"].numpy())
        estimate = Estimate(**kept.facts["estimate"])
        return PathSamples(samples, estimate, unpack_fields(problem, base, kept), t["target"])

    return run.once("path", lambda _: sample_path(problem, base, run, fields), Form(pack, unpack))


def sample_path(
    problem: Problem, base: Gaussian, run: Run, fields: Sequence[TransportField] | None = None
) -> PathSamples:
    """Short chains on the straight path from ``base`` to the target.

    ``fields``: of a flow that exists. Otherwise those of the problem, and the second-order field
    that a first fit asks for; the samples of that fit are not used again.
    """
    plain = {"method": "auto", "sampling": parse_table(SamplingSettings, {})}
    plan = make_plan(problem, base, run.settings.model_copy(update=plain))
    harmonic, n_sweeps = HarmonicField(base.dim), run.settings.flow.sweeps or FIT_SWEEPS
    driving = problem.transport_fields(base) if fields is None else fields
    chains, generator = plan.chains, run.stream("flow")
    sampler = LadderSampler(problem, base, plan.lam, chains, [harmonic, *driving], generator)
    detail = "chains from base to target"
    sampler.burn_in(plan.burn_in, lambda done, total: run.tell("path", done, total, detail))
    if fields is None and not problem.smooth:
        # The field that comes of it is only as good as this fit; energies may be costly, though.
        sampler.sample(-(-n_sweeps // 2) if problem.costly else n_sweeps)
        first = fit_coefficients(sampler.samples()).coefficients
        weights = legendre(RESPONSE_AT, len(first)) @ first
        second = problem.second_order_field(base, driving, weights[1:])
        driving = driving if second is None else [*driving, second]
        sampler.start_over([harmonic, *driving])
    target = _sample(sampler, n_sweeps)
    samples = sampler.samples()
    # Where the energy jumps, Stein functions have no known mean: the integral does without them,
    # and the flow does not mind, because its own determinant is exact.
    trusted = samples if problem.continuous else replace(samples, stein=None)
    run.tell("path")
    return PathSamples(
        samples, thermodynamic_integration(trusted).estimate, tuple(driving), target
    )


def _sample(sampler: LadderSampler, n_sweeps: int) -> Tensor:
    """Record ``n_sweeps`` sweeps; configurations of the target every `BETWEEN` sweeps."""
    configurations = []
    for first in range(0, n_sweeps, BETWEEN):
        sampler.sample(min(BETWEEN, n_sweeps - first))
        configurations.append(sampler.target_configurations())
    return torch.cat(configurations)


def fit_coefficients(samples: Nodes) -> TransportFit:
    """Least squares of the work on the Stein functions along the path."""
    families = np.arange(0 if samples.stein is None else len(samples.stein[0]))
    degree = min(DEGREE, len(samples.lam) - 2)
    return fit_transport(samples, families, degree=degree, ridges=RIDGES)


def pack_fields(problem: Problem, fields: Sequence[TransportField]) -> dict[str, Tensor]:
    """What is fitted of fields: their radial grids, and the weights that the response acts on."""
    tensors = {"grids": torch.tensor(problem.grids(fields), dtype=torch.float64).reshape(-1, 3)}
    for response in fields:
        if isinstance(response, ResponseField):
            parts: dict[TransportField, np.ndarray] = dict(
                zip(response.pairs, response.weights, strict=True)
            )
            others = [field for field in fields if field is not response]
            weights = [parts.get(field, np.zeros(field.size)) for field in others]
            tensors["first_order"] = torch.from_numpy(np.concatenate(weights))
    return tensors


def unpack_fields(problem: Problem, base: Gaussian, kept: Kept) -> tuple[TransportField, ...]:
    """The fields, also for another size; raises InputError where this system cannot have them."""
    grids, first_order = kept.tensors["grids"], kept.tensors.get("first_order")
    fields = list(problem.transport_fields(base))
    if grids.shape != (len(problem.grids(fields)), 3):
        raise InputError("flow", "as many grids as this crystal has shells", list(grids.shape))
    fields = list(problem.transport_fields(base, grids.tolist()))
    if first_order is None:
        return tuple(fields)
    if first_order.shape != (sum(field.size for field in fields),):
        raise InputError("flow", "weights of fields that this cell has", list(first_order.shape))
    second = problem.second_order_field(base, fields, first_order.numpy())
    return tuple(fields if second is None else [*fields, second])

"""A density on a manifold: fit a flow, weigh its samples, compare with quadrature."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.errors import EnergyError, InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.fep import fep
from helmflow.generalised_work import density_work
from helmflow.manifolds.base import Manifold
from helmflow.recipes.density.flow import FittedFlow, fit_flow, log_prob_in_parts
from helmflow.recipes.density.outcome import arrays_of_density, result_of_density
from helmflow.recipes.path.rounds import Progress
from helmflow.results import Event, Result, RunDirectory
from helmflow.settings import Settings
from helmflow.shapes import Configs, Values
from helmflow.streams import stream
from helmflow.system import System
from helmflow.training.flow_fit import CHUNK

BATCH = 4096
LEAST_SAMPLES, MOST_SAMPLES = 16_384, 2_097_152
GRIDS = {("T", 1): (512, 768), ("T", 2): (192, 256), ("S", 2): (96, 128), ("S", 3): (28, 36)}
"""Nodes per dimension of two grids: an integral counts as exact where they agree."""

AGREEMENT = 1e-8


class CheckedPotential:
    """The reduced potential of a system, refusing what no density can mean, counting calls.

    +inf is weight zero. Raises EnergyError for NaN and -inf, InputError for a wrong shape.
    """

    def __init__(self, system: System) -> None:
        self.system, self.n_evaluations = system, 0

    def __call__(self, x: Configs) -> Values:
        with torch.no_grad():
            u = self.system.reduced_potential(x)
        return self._checked(u, x)

    def differentiable(self, x: Configs) -> Values:
        """The same with a graph; NaN is left to the training loop, which skips the step."""
        # point by point derivatives come in chunks that look like one point from inside
        self.n_evaluations += CHUNK if len(x) == 1 else len(x)
        return self.system.reduced_potential(x)

    def _checked(self, u: Values, x: Configs) -> Values:
        self.n_evaluations += len(x)
        if u.shape != x.shape[:1]:
            raise InputError("potential", f"energies of shape ({len(x)},)", tuple(u.shape))
        wrong = torch.isnan(u) | (u == -math.inf)
        if bool(wrong.any()):
            raise EnergyError(f"the energy is NaN or -inf at {x[wrong][0].tolist()}")
        return u


@dataclass(frozen=True)
class Quadrature:
    """What a grid says: ln Z, KL(q || p) in nats, the integral of q, and the best ESS per sample.

    ``converged`` tells whether a coarser grid gives the same ln Z and the integral of q is one.
    """

    log_z: float
    kl: float
    mass: float
    ess_fraction: float
    converged: bool


@dataclass(frozen=True)
class Weighed:
    """Samples of the flow (n, n_coordinates), their log q and their works (n,)."""

    x: Tensor
    log_q: Tensor
    work: Tensor
    estimate: Estimate


def run_density(
    system: System, settings: Settings, directory: RunDirectory | None, progress: Progress
) -> Result:
    """ln Z of a density with its error, exact samples, and quadrature where that is possible."""
    clock = (time.process_time(), time.time())
    if settings.method not in ("auto", "fep", "flow"):
        raise InputError("method", "auto, fep or flow for a density", settings.method)
    manifold = system.manifold
    if manifold is None:
        raise InputError("kind", "density", system.kind)
    u = CheckedPotential(system)

    def report(done: float, detail: str) -> None:
        progress(Event("flow", done, 1.0, detail, energy_evaluations=u.n_evaluations))

    fitted = fit_flow(manifold, u, u.differentiable, stream(settings.seed, "flow"), report)
    weighed = _sample(fitted, u, settings, progress)
    quadrature = integrate_on_grid(manifold, u, fitted.flow)
    spent = (time.process_time() - clock[0], time.time() - clock[1])
    result, chain = result_of_density(
        system, settings, fitted, weighed, quadrature, u.n_evaluations, spent
    )
    if directory is not None:
        directory.write_work(arrays_of_density(weighed, chain))
        directory.write_result(result)
    progress(Event("cross-check", 1.0, 1.0, "", result.value, result.stderr, u.n_evaluations))
    return result


def _sample(
    fitted: FittedFlow, u: CheckedPotential, settings: Settings, progress: Progress
) -> Weighed:
    """Draw from the flow until ln Z is known well enough, in rounds that double."""
    generator = stream(settings.seed, "samples")
    goal = settings.target_error
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    wanted = LEAST_SAMPLES
    while True:
        while sum(len(part[0]) for part in parts) < wanted:
            with torch.no_grad():
                x, log_q = fitted.flow.sample_and_log_prob(BATCH, generator)
            parts.append((x, log_q, density_work(x, log_q, u)))
        x, log_q, work = (torch.cat(column) for column in zip(*parts, strict=True))
        estimate = fep(work.numpy())
        spent_all = 2 * wanted > MOST_SAMPLES or _exhausted(u, wanted, settings)
        met = goal is None or estimate.stderr <= goal
        done = min(1.0, (goal or math.inf) / max(estimate.stderr, 1e-300))
        progress(
            Event("sampling", done, 1.0, "", -estimate.value, estimate.stderr, u.n_evaluations)
        )
        if met or spent_all:
            return Weighed(x, log_q, work, estimate)
        wanted *= 2


def _exhausted(u: CheckedPotential, more: int, settings: Settings) -> bool:
    limit = settings.max_evaluations
    return limit is not None and u.n_evaluations + more > limit


def integrate_on_grid(manifold: Manifold, u: CheckedPotential, flow: Density) -> Quadrature | None:
    """ln Z, KL and normalisation by quadrature; None where no grid is fine enough."""
    sizes = GRIDS.get((type(manifold).__name__[0], manifold.dim))
    if sizes is None:
        return None
    coarse, fine = (manifold.quadrature(size) for size in sizes)
    log_z = [float(torch.logsumexp(w.log() - u(x), 0)) for x, w in (coarse, fine)]
    nodes, weights = fine
    log_q = log_prob_in_parts(flow, nodes)
    log_p = -u(nodes) - log_z[1]
    q = log_q.exp() * weights
    log_w = (log_p - log_q).numpy()
    # w - 1 - ln w is never negative: no cancellation, however small the divergence
    terms = np.where(np.isfinite(log_w), np.expm1(log_w) - log_w, math.inf)
    mass = float(q.sum())
    second_moment = float((q.numpy() * np.exp(2.0 * log_w)).sum())
    return Quadrature(
        log_z=log_z[1],
        kl=float(q.numpy() @ terms) - (1.0 - mass),
        mass=mass,
        ess_fraction=1.0 / second_moment,
        converged=abs(log_z[1] - log_z[0]) < AGREEMENT and abs(mass - 1.0) < AGREEMENT,
    )

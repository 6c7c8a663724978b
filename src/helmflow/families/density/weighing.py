"""Samples of a flow on a manifold, drawn and weighed until ln Z is known well enough."""

from dataclasses import dataclass

from torch import Generator, Tensor

from helmflow.densities.flow import Flow
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.path.rounds import Progress
from helmflow.families.weighing import Clock, Columns, Rounds, weighed
from helmflow.generalised_work import density_work
from helmflow.results import RunDirectory
from helmflow.settings import Settings

BATCH = 4096
LEAST_SAMPLES, MOST_SAMPLES = 16_384, 2_097_152


@dataclass(frozen=True)
class Weighed:
    """Samples of the flow (n, n_coordinates), their log q and their works (n,)."""

    x: Tensor
    log_q: Tensor
    work: Tensor
    estimate: Estimate


def weigh(
    flow: Flow,
    u: CheckedPotential,
    settings: Settings,
    directory: RunDirectory | None,
    clock: Clock,
    progress: Progress,
) -> Weighed:
    """Draw from the flow until ln Z is known well enough, in rounds that double.

    ``max_evaluations`` counts what the fit of the flow took. Raises InputError if it does not
    reach the first samples.
    """

    def draw(n: int, generator: Generator) -> Columns:
        x, log_q = flow.sample_and_log_prob(n, generator)
        return {"x": x, "log_q": log_q, "work": density_work(x, log_q, u)}

    rounds = _rounds(u.n_evaluations, settings.max_evaluations)
    columns, estimate = weighed(draw, rounds, u, settings, directory, clock, progress)
    return Weighed(columns["x"], columns["log_q"], columns["work"], estimate)


def _rounds(taken: int, limit: int | None) -> Rounds:
    """What may be drawn after a fit has taken its energies."""
    if limit is None:
        return Rounds(BATCH, LEAST_SAMPLES, MOST_SAMPLES)
    left = limit - taken
    if left < BATCH:
        raise InputError("max_evaluations", f"at least {taken + BATCH}", limit)
    return Rounds(BATCH, min(LEAST_SAMPLES, left // BATCH * BATCH), min(MOST_SAMPLES, left))

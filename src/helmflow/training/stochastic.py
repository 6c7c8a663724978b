"""The training loop, for any loss of fresh samples and any module, and measures of a flow."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, nn

from helmflow.densities.base import Density
from helmflow.estimators.reweighting import kish_ess, log_mean_exp
from helmflow.generalised_work import ReducedPotential, density_work
from helmflow.shapes import Configs
from helmflow.training.checkpoint import Store
from helmflow.training.distributed import (
    BatchGradient,
    Loss,
    batch_gradient,
    rank_and_ranks,
    share_parameters,
)
from helmflow.training.plan import DivergenceError, StepReport, TrainingOutcome, TrainingPlan
from helmflow.training.state import TrainingState

Validate = Callable[[], Mapping[str, float]]
"""Measures of quality by name (``ess``, bounds, ...), computed with the averaged weights."""


def train(
    module: nn.Module,
    loss: Loss,
    plan: TrainingPlan,
    generator: Generator,
    *,
    report: Callable[[StepReport], None] | None = None,
    store: Store | None = None,
    validate: Validate | None = None,
) -> TrainingOutcome:
    """Minimise a stochastic loss over the parameters of a module, by Adam.

    ``loss(n, generator)`` is the mean loss, in kT, of n fresh samples. Steps whose loss or
    gradient is not finite are skipped and counted. With a ``store`` the whole state is kept
    there while training is healthy, and an interrupted call, repeated, ends with the same
    numbers bit for bit.
    Afterwards the module has the averaged weights if the plan asks for an average.

    Under ``torchrun`` the batch is shared among the ranks and gradients are summed; ranks hold
    the same weights throughout, and only rank 0 reports, validates and writes.

    Raises ``DivergenceError`` when training has diverged, with the module and the checkpoint at
    the last good state, and ``InputError`` for a checkpoint of something else.
    """
    state = TrainingState(module, plan, generator)
    share_parameters(module)
    if store is not None:
        state.restore(store)
    resumed_at = state.step
    first = rank_and_ranks()[0] == 0
    while state.step < plan.steps:
        done, rate = _one_step(state, loss, plan)
        complaint = state.guard.complaint
        if complaint is not None:
            raise _diverged(complaint, state, plan, store)
        if store is not None and _due(state.step, plan.checkpoint_every, plan.steps):
            if state.guard.healthy:
                state.save(store)
        if report is not None and first:
            measured = _validated(state, validate, plan)
            report(_report(state, plan, done, rate, measured))
    if state.average is not None:
        state.average.load_into(module)
    guard = state.guard
    return TrainingOutcome(
        state.step, guard.skipped, guard.recent_mean, state.micro_batch, resumed_at
    )


def _one_step(state: TrainingState, loss: Loss, plan: TrainingPlan) -> tuple[BatchGradient, float]:
    seed = int(torch.randint(2**62, (), generator=state.generator))
    done = batch_gradient(loss, state.parameters, plan.batch, state.micro_batch, seed)
    skipped = not (math.isfinite(done.loss) and math.isfinite(done.norm))
    rate = plan.rate(state.step)
    if not skipped:
        state.update(rate, plan.clip_norm, done.norm)
    state.step += 1
    state.micro_batch = done.micro_batch
    state.guard.record(done.loss, skipped)
    return done, rate


def _due(step: int, every: int, steps: int) -> bool:
    return step % every == 0 or step == steps


def _validated(
    state: TrainingState, validate: Validate | None, plan: TrainingPlan
) -> Mapping[str, float]:
    if validate is None or not _due(state.step, plan.validate_every, plan.steps):
        return {}
    with torch.no_grad():
        if state.average is None:
            return validate()
        with state.average.applied(state.module):
            return validate()


def _report(
    state: TrainingState,
    plan: TrainingPlan,
    done: BatchGradient,
    rate: float,
    validation: Mapping[str, float],
) -> StepReport:
    return StepReport(
        step=state.step,
        steps=plan.steps,
        loss=done.loss,
        gradient_norm=done.norm,
        learning_rate=rate,
        skipped=state.guard.skipped,
        micro_batch=done.micro_batch,
        validation=validation,
    )


def _diverged(
    complaint: str, state: TrainingState, plan: TrainingPlan, store: Store | None
) -> DivergenceError:
    step, last = state.step, state.guard.recent_mean
    saved = "no checkpoint was kept"
    if store is not None and state.restore(store):
        if state.average is not None:
            state.average.load_into(state.module)
        saved = f"the state of step {state.step} is in {store}"
    advice = f"lower learning_rate (now {plan.learning_rate:g})"
    advice += f" or clip_norm (now {plan.clip_norm:g})" if plan.clip_norm else ", set clip_norm"
    message = f"training diverged at step {step}: {complaint}; {saved}; {advice}, or raise batch"
    return DivergenceError(message, last, step)


@torch.no_grad()
def measure(
    flow: Density,
    u: ReducedPotential,
    n: int,
    generator: Generator,
    samples: Configs | None = None,
) -> dict[str, float]:
    """Quality of a flow from n fresh samples, and from samples of the target if there are any.

    ``ess`` is Kish's fraction of n; ``free_energy`` = -ln<exp(-w)> and ``upper_bound`` = <w>, in
    kT; with samples (m, *event) also ``lower_bound`` = <u + log q> over them.
    """
    x, log_q = flow.sample_and_log_prob(n, generator)
    work = density_work(x, log_q, u).double()
    # A sample without a finite work has no weight.
    log_w = (-work).nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf).numpy()
    measured = {
        "ess": kish_ess(log_w) / n,
        "free_energy": -log_mean_exp(log_w),
        "upper_bound": float(work.mean()),
    }
    if samples is not None:
        measured["lower_bound"] = float(density_work(samples, flow.log_prob(samples), u).mean())
    return measured

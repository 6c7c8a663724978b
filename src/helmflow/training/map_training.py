"""Training a map between two states on their samples, stopped by samples it does not see."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from helmflow.bijectors.base import Bijector, Inverse
from helmflow.generalised_work import work
from helmflow.shapes import Configs
from helmflow.training.map_fit import TwoStates
from helmflow.training.plan import StepReport, TrainingPlan
from helmflow.training.stochastic import train

LARGEST = 50.0
"""Works this many kT above the median count as that much in the held-out bound."""

LOOKED_AT = 400
"""Most held-out samples a side that are carried to judge a map."""

CHECK_EVERY = 25
"""Steps between looks at the held-out samples."""

PATIENCE = 0.5
"""Part of all steps without a better look after which training ends. It is large because the
learning rate falls to the end, and the last steps often improve most."""


@dataclass(frozen=True)
class Trained:
    """Held-out dissipation <w_F> + <w_R> (kT) before training, at its best, and at its end."""

    before: float
    best: float
    last: float
    best_step: int
    last_step: int


def train_map(
    bijector: Bijector,
    states: TwoStates,
    plan: TrainingPlan,
    generator: Generator,
    *,
    two_sided: bool = True,
) -> Trained:
    """Minimise <w_F>_A + <w_R>_B (or <w_F>_A alone) over the parameters of a map, in place.

    The batch is drawn from the fitting samples. The weights kept are those with the least
    dissipation on the held-out ones, looked at every 25 steps, and training ends early when a
    half of all steps has brought nothing better: overfitting does not spoil the map. Both
    potentials must be differentiable. Source: P. Wirnsberger et al., doi:10.1063/5.0018903.

    Samples keep their own energies, which are computed once. One-sided training needs no gradient
    of ``states.u_a``.
    """
    best_state = {name: t.detach().clone() for name, t in bijector.state_dict().items()}
    history = [(held_dissipation(bijector, states), 0)]

    def look(report: StepReport) -> None:
        if report.step % CHECK_EVERY and report.step != report.steps:
            return
        now = held_dissipation(bijector, states)
        if now < min(history)[0]:
            best_state.update({k: t.detach().clone() for k, t in bijector.state_dict().items()})
        history.append((now, report.step))
        if report.step - min(history)[1] >= PATIENCE * report.steps:
            raise _NothingBetter

    with suppress(_NothingBetter):
        train(bijector, _loss(bijector, states, two_sided), plan, generator, report=look)
    bijector.load_state_dict(best_state)
    best, step = min(history)
    return Trained(history[0][0], best, history[-1][0], step, history[-1][1])


class _NothingBetter(Exception):  # noqa: N818 - how training ends, not an error
    """The held-out samples have said enough."""


def held_dissipation(bijector: Bijector, states: TwoStates) -> float:
    """<w_F> + <w_R> of up to 400 held-out samples a side, kT, works far above the median cut."""
    some = {k: _some(getattr(states, k)) for k in ("held_a", "held_b")}
    with torch.no_grad():
        sides = replace(states, **some).works(bijector, held=True)
    return sum(_robust_mean(side) for side in sides)


def _some(x: Configs) -> Configs:
    return x[:: -(-len(x) // LOOKED_AT)]


def _robust_mean(w: Tensor) -> float:
    w = torch.nan_to_num(w, nan=torch.inf, posinf=torch.inf)
    return float(w.minimum(w.median() + LARGEST).mean())


def _loss(
    bijector: Bijector, states: TwoStates, two_sided: bool
) -> Callable[[int, Generator], Tensor]:
    sides = [(states.x_a, states.u_a, states.u_b, bijector)]
    if two_sided:
        sides.append((states.x_b, states.u_b, states.u_a, Inverse(bijector)))
    with torch.no_grad():
        before = [u_from(x) for x, u_from, _, _ in sides]

    def loss(n: int, generator: Generator) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for (x, _, u_to, carry), energies in zip(sides, before, strict=True):
            rows = torch.randint(len(x), (n,), generator=generator)
            known = energies[rows]
            total = total + work(x[rows], lambda _, known=known: known, u_to, carry).mean()
        return total

    return loss

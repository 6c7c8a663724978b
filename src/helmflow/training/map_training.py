"""Training a map between two states on their samples, stopped by samples it does not see."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from helmflow.bijectors.base import Bijector
from helmflow.generalised_work import work
from helmflow.objectives.two_sided import two_sided_map
from helmflow.training.map_fit import TwoStates
from helmflow.training.plan import StepReport, TrainingPlan
from helmflow.training.stochastic import train

LARGEST = 50.0
"""Works this many kT above the median count as that much in the held-out bound."""

CHECK_EVERY = 25
"""Steps between looks at the held-out samples."""


@dataclass(frozen=True)
class Trained:
    """Held-out dissipation <w_F> + <w_R> (kT) before training, at its best, and after it all."""

    before: float
    best: float
    last: float
    best_step: int


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
    dissipation on the held-out ones, looked at every 25 steps, so overfitting ends the descent
    instead of spoiling the map. Both potentials must be differentiable. Source: P. Wirnsberger et
    al., doi:10.1063/5.0018903.
    """
    kept = {name: t.detach().clone() for name, t in bijector.state_dict().items()}
    found = [(held_dissipation(bijector, states), 0)]

    def look(report: StepReport) -> None:
        if report.step % CHECK_EVERY and report.step != report.steps:
            return
        now = held_dissipation(bijector, states)
        if now < min(found)[0]:
            kept.update({k: t.detach().clone() for k, t in bijector.state_dict().items()})
        found.append((now, report.step))

    train(bijector, _loss(bijector, states, two_sided), plan, generator, report=look)
    bijector.load_state_dict(kept)
    best, step = min(found)
    return Trained(found[0][0], best, found[-1][0], step)


def held_dissipation(bijector: Bijector, states: TwoStates) -> float:
    """<w_F> + <w_R> of the held-out samples, kT, works far above the median cut off."""
    with torch.no_grad():
        sides = states.works(bijector, held=True)
    return sum(_robust_mean(side) for side in sides)


def _robust_mean(w: Tensor) -> float:
    w = torch.nan_to_num(w, nan=torch.inf, posinf=torch.inf)
    return float(w.minimum(w.median() + LARGEST).mean())


def _loss(
    bijector: Bijector, states: TwoStates, two_sided: bool
) -> Callable[[int, Generator], Tensor]:
    def draw(x: Tensor, n: int, generator: Generator) -> Tensor:
        return x[torch.randint(len(x), (n,), generator=generator)]

    def loss(n: int, generator: Generator) -> Tensor:
        x = draw(states.x_a, n, generator)
        if not two_sided:
            return work(x, states.u_a, states.u_b, bijector).mean()
        y = draw(states.x_b, n, generator)
        return two_sided_map(x, y, states.u_a, states.u_b, bijector)

    return loss

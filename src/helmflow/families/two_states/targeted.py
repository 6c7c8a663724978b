"""Free-energy differences between two sampled states, without and with a map."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from helmflow.bijectors.base import Bijector
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.families.two_states.boxes import (
    barostat_checks,
    check_joined,
    check_keeps_boxes,
    share_a_box,
)
from helmflow.families.two_states.endpoints import (
    CarefulPotential,
    End,
    State,
    as_samples,
    reduced_potential,
)
from helmflow.families.two_states.mapped import Mapped, through_fit, through_map
from helmflow.families.two_states.membership import membership_checks
from helmflow.families.two_states.outcome import (
    Costs,
    Question,
    convention_of,
    losses,
    outcome,
    particles_of,
    temperature_of,
    variance_ratio,
)
from helmflow.families.two_states.two_sided import Works, usable
from helmflow.results import Check, Result
from helmflow.results.exchange import as_pymbar, u_nk, works_as_potentials
from helmflow.streams import stream
from helmflow.training.map_fit import MapFit

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


@dataclass(frozen=True)
class TargetedResult:
    """A free-energy difference f_B - f_A without and, if asked for, with a map; kT.

    ``result`` is the headline (the contract's ``result.json``): the estimate with the smaller
    error. ``plain`` is BAR of all samples without a map. ``mapped`` is BAR through the map, on
    samples the map was not fitted to; ``plain_same`` BAR without it on those same samples.
    """

    result: Result
    plain: Estimate
    works: Works  # of the headline
    plain_works: Works
    mapped: Estimate | None = None
    plain_same: Estimate | None = None
    maps: tuple[Bijector, ...] = ()
    temperature: float | None = None
    one_box: bool = True  # without it ``plain`` means nothing

    @property
    def variance_reduction(self) -> float:
        """Variance without the map over that with it, on the same samples; 1 without a map.

        NaN between two boxes, where there is nothing to compare with.
        """
        if not self.one_box:
            return math.nan
        if self.mapped is None or self.plain_same is None:
            return 1.0
        return variance_ratio(self.plain_same, self.mapped)

    def __str__(self) -> str:
        return str(self.result)

    def as_pymbar(self) -> dict[str, object]:
        """The headline in the shape of ``pymbar.bar``: ``Delta_f``, ``dDelta_f``, works; kT."""
        estimate = self.mapped if self._uses_map else self.plain
        return as_pymbar(estimate or self.plain, self.works.forward, self.works.reverse)

    def u_nk(self) -> "pd.DataFrame":
        """The headline's works as an alchemlyb ``u_nk`` frame; needs pandas."""
        potentials = works_as_potentials(self.works.forward, self.works.reverse)
        return u_nk(potentials, self.temperature)

    def arrays(self) -> Mapping[str, Array]:
        """What goes to ``work.npz``: works (w = u_B - u_A on both sides) and report curves."""
        forward, reverse = self.works.forward, self.works.reverse
        shared = self.result.estimates[0].overlap or 0.0
        arrays = {
            "lam": np.array([0.0, 1.0]),
            "node": np.repeat([0, 1], [forward.size, reverse.size]),
            "work": np.concatenate([forward, -reverse]),
            "w_F": forward,
            "w_R": reverse,
            "plain_w_F": self.plain_works.forward,
            "plain_w_R": self.plain_works.reverse,
            "f_k": np.array([0.0, self.result.value]),
            "overlap": np.array([[1.0 - shared, shared], [shared, 1.0 - shared]]),
        }
        return arrays | self.works.convergence()

    @property
    def _uses_map(self) -> bool:
        return self.mapped is not None and self.works is not self.plain_works


def targeted_fep(
    state_a: State,
    state_b: State,
    samples_a: ArrayLike | Tensor,
    samples_b: ArrayLike | Tensor,
    *,
    map: Bijector | MapFit | None = None,  # noqa: A002 - the literature's word
    seed: int = 0,
    folds: int = 2,
    name: str = "A to B",
) -> TargetedResult:
    """f_B - f_A in kT from samples of both states, by BAR without and with a map.

    ``samples_a`` (n, ...) and ``samples_b`` (m, ...) are in time order. ``map`` is a finished
    `Bijector` from A to B, or a `MapFit` that makes one: it then sees one half of each series
    while the other half is evaluated and, with ``folds = 2``, the other way round. Works are
    ``w_F = u_B(f(x)) - u_A(x) - log|det df/dx|`` and the reverse through the inverse map.
    Samples without a finite energy in their own state are left out and reported. Between two boxes
    the headline is that of the map; without one it fails its checks. Raises ``InputError`` for
    samples that are too few, not finite or of different shapes, for a box on one side only, and
    for a map that does not carry one box onto the other.
    Source: C. Jarzynski, doi:10.1103/PhysRevE.65.046122; P. Wirnsberger et al.,
    doi:10.1063/5.0018903.
    """
    clock = (time.process_time(), time.time())
    x_a, x_b = as_samples("samples_a", samples_a), as_samples("samples_b", samples_b)
    if x_a.shape[1:] != x_b.shape[1:]:
        raise InputError("samples_b", f"shape (n, {_event(x_a)})", tuple(x_b.shape))
    if folds not in (1, 2):
        raise InputError("folds", "1 or 2", folds)
    one_box = share_a_box(state_a, state_b)
    u_a, u_b = (CarefulPotential(reduced_potential(state)) for state in (state_a, state_b))
    end_a, end_b = End.evaluate("a", x_a, u_a, u_b), End.evaluate("b", x_b, u_b, u_a)
    plain_works = usable(end_a.work, end_b.work)
    check_keeps_boxes(map, end_a.x, state_a)
    mapped: Mapped | None = None
    if isinstance(map, MapFit):
        mapped = through_fit(map, end_a, end_b, u_a, u_b, folds, stream(seed, "map"))
    elif map is not None:
        mapped = through_map(map, end_a, end_b, u_a, u_b)
    if mapped is not None and not one_box:
        check_joined(mapped.bijectors, end_a.x, state_a, state_b)
    temperature = temperature_of(state_a, state_b)
    said = convention_of(state_a, state_b)
    question = Question(name, particles_of(state_a, x_a), temperature, seed, one_box, said)
    more = [
        *membership_checks((state_a, state_b), (end_a, end_b)),
        *barostat_checks(state_a, state_b),
        *losses(end_a.n_dropped + end_b.n_dropped, len(end_a.x) + len(end_b.x)),
    ]
    costs = Costs(clock, u_a.n_evaluations + u_b.n_evaluations)
    return assemble(question, plain_works, mapped, more, costs)


def assemble(
    question: Question,
    plain_works: Works,
    mapped: Mapped | None,
    more_checks: Sequence[Check],
    costs: Costs,
) -> TargetedResult:
    """Everything that follows from works, however they were computed."""
    result, works, estimates = outcome(question, plain_works, mapped, more_checks, costs)
    return TargetedResult(
        result=result,
        plain=estimates["plain"],
        works=works,
        plain_works=plain_works,
        mapped=estimates.get("mapped"),
        plain_same=estimates.get("same"),
        maps=mapped.bijectors if mapped is not None else (),
        temperature=question.temperature,
        one_box=question.one_box,
    )


def _event(x: Tensor) -> str:
    return ", ".join(str(size) for size in x.shape[1:])

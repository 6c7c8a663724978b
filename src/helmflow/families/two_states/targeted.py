"""Free-energy differences between two sampled states, without and with a map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from helmflow.bijectors.base import Bijector
from helmflow.errors import InputError
from helmflow.families.two_states.boxes import (
    barostat_checks,
    check_joined,
    check_keeps_boxes,
    share_a_box,
)
from helmflow.families.two_states.comparable import check_comparable
from helmflow.families.two_states.comparison import Comparison
from helmflow.families.two_states.difference import (
    convention_of,
    difference,
    particles_of,
    temperature_of,
)
from helmflow.families.two_states.endpoints import End, SampledPair, State
from helmflow.families.two_states.equilibrium import left_out, settled
from helmflow.families.two_states.jacobian import log_det_checks
from helmflow.families.two_states.mapped import Mapped, through_fit, through_map
from helmflow.families.two_states.membership import membership_checks
from helmflow.families.two_states.repeats import Repeats
from helmflow.families.two_states.trial import try_states, witness
from helmflow.families.two_states.two_sided import deviation_of_means, usable
from helmflow.results import Check, Result
from helmflow.results.exchange import as_pymbar, u_nk, works_as_potentials
from helmflow.skeleton.checks import (
    failed_energies,
    one_distribution,
    rounding,
    samples_left_out,
)
from helmflow.skeleton.quantity import Quantity
from helmflow.skeleton.run import Run
from helmflow.training.map_fit import MapFit

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class TargetedResult(Comparison):
    """A free-energy difference f_B - f_A without and, if asked for, with a map; kT.

    ``result`` is the headline (the contract's ``result.json``): the estimate with the smaller
    error. ``plain`` is BAR of all samples without a map. ``mapped`` is BAR through the map, on
    samples the map was not fitted to; ``plain_same`` BAR without it on those same samples.
    ``works`` are those of the headline; ``temperature`` is in kelvin, where it is known.
    """

    result: Result
    temperature: float | None = None

    @property
    def maps(self) -> tuple[Bijector, ...]:
        """The map, or the one of every fold."""
        return () if self.through is None else self.through.bijectors

    def __str__(self) -> str:
        return str(self.result)

    def as_pymbar(self) -> dict[str, object]:
        """The headline in the shape of ``pymbar.bar``: ``Delta_f``, ``dDelta_f``, works; kT."""
        return as_pymbar(self.headline, self.works.forward, self.works.reverse)

    def u_nk(self) -> "pd.DataFrame":
        """The headline's works as an alchemlyb ``u_nk`` frame; needs pandas."""
        potentials = works_as_potentials(self.works.forward, self.works.reverse)
        return u_nk(potentials, self.temperature)


def targeted_fep(
    state_a: State,
    state_b: State,
    samples_a: ArrayLike | Tensor,
    samples_b: ArrayLike | Tensor,
    *,
    map: Bijector | MapFit | None = None,  # noqa: A002 - the literature's word
    seed: int = 0,
    folds: int = 2,
    equilibrate: bool = False,
    name: str = "A to B",
    notes: Sequence[Check] = (),
) -> TargetedResult:
    """f_B - f_A in kT from samples of both states, by BAR without and with a map.

    ``samples_a`` (n, ...) and ``samples_b`` (m, ...) are in time order. ``map`` is a finished
    `Bijector` from A to B, or a `MapFit` that makes one: it then sees one half of each series
    while the other half is evaluated and, with ``folds = 2``, the other way round. Works are
    ``w_F = u_B(f(x)) - u_A(x) - log|det df/dx|`` and the reverse through the inverse map.
    ``equilibrate`` leaves out of each series what comes before its works have settled (see
    `equilibration`).
    Samples without a finite energy in their own state are left out and reported. Between two boxes
    the headline is that of the map; without one it fails its checks. ``notes`` are checks of where
    the samples come from, which are graded with the others. Raises ``InputError`` for
    samples that are too few, not finite or of different shapes, for a box on one side only, and
    for a map that does not carry one box onto the other.
    Source: C. Jarzynski, doi:10.1103/PhysRevE.65.046122; P. Wirnsberger et al.,
    doi:10.1063/5.0018903.
    """
    run = Run.in_memory(name, seed)
    pair = SampledPair.of(state_a, state_b, samples_a, samples_b)
    if folds not in (1, 2):
        raise InputError("folds", "1 or 2", folds)
    temperature, particles = temperature_of(*pair.states), particles_of(state_a, pair.samples[0])
    quantity = difference(convention_of(*pair.states), temperature, particles)
    comparison = compare(pair, map, quantity, run, folds, equilibrate)
    through = comparison.through  # here and not in `compare`: crystals leave out translations
    measured = [] if through is None else log_det_checks(through, pair.samples[0])
    notes = (*comparison.notes, *measured, *notes)
    return concluded(replace(comparison, notes=notes), run, temperature)


def compare(
    pair: SampledPair,
    given: Bijector | MapFit | None,
    quantity: Quantity,
    run: Run,
    folds: int = 2,
    equilibrate: bool = False,
) -> Comparison:
    """Works of both sides, without and with a map, and what their samples say of themselves."""
    check_comparable(pair.states, given)
    one_box = share_a_box(*pair.states)
    (x_a, x_b), (u_a, u_b) = pair.samples, pair.potentials(run.budget)
    trials = try_states((u_a, u_b), pair.samples, run)
    a, b = End.evaluate("a", x_a, u_a, u_b), End.evaluate("b", x_b, u_b, u_a)
    settling: list[Check] = []
    if equilibrate:
        (a, b), settling = _equilibrated(a, b)
    repeats = Repeats.of("AB", (a.x, b.x))
    a, b = (replace(end, times=k) for end, k in zip((a, b), repeats.times, strict=True))
    n_failed = u_a.n_failed + u_b.n_failed
    witness(trials, a.x, (a.u_own, a.u_other))
    witness(trials, b.x, (b.u_other, b.u_own))
    plain_works = usable(a.work, b.work, repeats.times)
    check_keeps_boxes(given, a.x, pair.states[0])
    through: Mapped | None = None
    if isinstance(given, MapFit):
        through = through_fit(given, a, b, folds, run.stream("map"))
    elif given is not None:
        through = through_map(given, a, b)
    if through is not None and not one_box:
        check_joined(through.bijectors, a.x, *pair.states)
    notes = [
        *membership_checks(pair.states, (a.x, b.x)),
        *barostat_checks(*pair.states),
        *samples_left_out(a.n_dropped + b.n_dropped, len(a.x) + len(b.x)),
        *failed_energies(n_failed, 2 * (len(x_a) + len(x_b))),
        *repeats.checks,
        *settling,
        *_one_distribution(a, b),
    ]
    return Comparison(quantity, plain_works, through, tuple(notes), one_box)


def _equilibrated(a: End, b: End) -> tuple[tuple[End, End], list[Check]]:
    """Both series from where works have settled."""
    found = {name: (settled([end.work]), len(end.x)) for name, end in (("A", a), ("B", b))}
    return (a.since(found["A"][0].start), b.since(found["B"][0].start)), [left_out(found)]


def _one_distribution(a: End, b: End) -> list[Check]:
    """Of two states with the same energies; no check where they differ."""
    if any(np.abs(end.work).max() > rounding(float(end.u_own.abs().max())) for end in (a, b)):
        return []
    return [one_distribution(deviation_of_means(a.u_own.numpy(), b.u_own.numpy()), "A and B")]


def concluded(
    comparison: Comparison, run: Run, temperature: float | None = None
) -> TargetedResult:
    """The result of everything that follows from works, however they were computed."""
    return TargetedResult(
        quantity=comparison.quantity,
        plain_works=comparison.plain_works,
        through=comparison.through,
        notes=comparison.notes,
        one_box=comparison.one_box,
        result=run.conclude(comparison.quantity, comparison.finding()),
        temperature=temperature,
    )

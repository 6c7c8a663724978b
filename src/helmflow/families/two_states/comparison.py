"""From works of two sampled states to a finding: the better of two estimates, and its checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from helmflow.estimators.diagnostics import work_bounds
from helmflow.estimators.estimate import Estimate
from helmflow.families.two_states.boxes import no_shared_box
from helmflow.families.two_states.mapped import Mapped
from helmflow.families.two_states.two_sided import Works
from helmflow.families.two_states.two_sided_checks import believable, two_sided_checks
from helmflow.results import Bounds, Check, Observable
from helmflow.skeleton.checks import rounding
from helmflow.skeleton.quantity import Finding, Quantity

Array = np.ndarray


@dataclass(frozen=True)
class Comparison:
    """Works of samples of two states, without a map and, where there is one, through it.

    ``quantity``: what is asked of them; ``notes``: checks of the samples and where they are from.
    ``one_box``: whether works without a map mean anything.
    """

    quantity: Quantity
    plain_works: Works
    through: Mapped | None = None
    notes: tuple[Check, ...] = ()
    one_box: bool = True

    @cached_property
    def plain(self) -> Estimate:
        """BAR of all samples without a map, kT."""
        return self.plain_works.bar()

    @cached_property
    def mapped(self) -> Estimate | None:
        """BAR through the map, on samples that it was not fitted to."""
        through = self.through
        return None if through is None else through.works.bar(f"bar, {through.name} map")

    @cached_property
    def plain_same(self) -> Estimate | None:
        """BAR without the map on those same samples."""
        return None if self.through is None else self.through.same.bar("bar, same samples")

    @property
    def headline(self) -> Estimate:
        """The estimate with the smaller error, kT; between two boxes that of the map."""
        return self._better[0]

    @property
    def works(self) -> Works:
        """Those of the headline."""
        return self._better[1]

    @property
    def variance_reduction(self) -> float:
        """Variance without the map over that with it, on the same samples; 1 without a map.

        NaN between two boxes, where there is nothing to compare with.
        """
        if not self.one_box:
            return np.nan
        if self.mapped is None or self.plain_same is None:
            return 1.0
        return _variance_ratio(self.plain_same, self.mapped)

    def finding(self) -> Finding:
        """What the skeleton concludes from; the arrays, which take time, are left out."""
        return Finding(
            headline=self.headline,
            checks=self.checks(),
            arrays={},
            rows=tuple(self._rows()),
            observables=self.observables(),
            bounds=self.bounds(),
        )

    def checks(self) -> tuple[Check, ...]:
        """The certificate of the headline."""
        checks = two_sided_checks(self.works, self.headline)
        if not self.one_box and self.through is None:
            checks.append(no_shared_box())
        return (*checks, *self.notes)

    def bounds(self) -> Bounds:
        """<-w_R> <= f_B - f_A <= <w_F>, of the works of the headline."""
        lower, upper = _bounds(self.works)
        return Bounds(lower.value, upper.value, lower.stderr, upper.stderr)

    def observables(self) -> tuple[Observable, ...]:
        """What the map saves, and mean dissipations <w_F> + <w_R> that show overfitting."""
        through = self.through
        rows = [] if through is None or not self.one_box else [self._gain(through)]
        if through is not None and through.fitted is not None:
            rows += [
                _dissipation("dissipation, fitted samples", through.fitted),
                _dissipation("dissipation, evaluated samples", through.works),
                _dissipation("dissipation without a map", through.same),
            ]
        return tuple(rows)

    def arrays(self) -> Mapping[str, Array]:
        """What goes to ``work.npz``: works (w = u_B - u_A on both sides) and report curves."""
        forward, reverse = self.works.forward, self.works.reverse
        shared = self.headline.diagnostics.get("overlap", 0.0)
        return {
            "lam": np.array([0.0, 1.0]),
            "node": np.repeat([0, 1], [forward.size, reverse.size]),
            "work": np.concatenate([forward, -reverse]),
            "w_F": forward,
            "w_R": reverse,
            "plain_w_F": self.plain_works.forward,
            "plain_w_R": self.plain_works.reverse,
            "f_k": np.array([0.0, self.headline.value]),
            "overlap": np.array([[1.0 - shared, shared], [shared, 1.0 - shared]]),
            **self.works.convergence(self.quantity),
        }

    @cached_property
    def _better(self) -> tuple[Estimate, Works]:
        """Not the map's where the scatter of quarters denies its error."""
        mapped, through = self.mapped, self.through
        if mapped is None or through is None:
            return self.plain, self.plain_works
        sharper = mapped.stderr < self.plain.stderr and believable(through.works)
        if self.one_box and not sharper:
            return self.plain, self.plain_works
        return mapped, through.works

    def _rows(self) -> list[Estimate]:
        """All estimates but the headline; without a common box only those through the map."""
        estimates = [self.plain, self.mapped, self.plain_same]
        rows = [e for e in estimates if e is not None and e is not self.headline]
        through = [] if self.through is None else self._sides(self.through)
        if through and not self.one_box:
            return through
        return [*rows, *through, *self.plain_works.sides()]

    def _sides(self, through: Mapped) -> list[Estimate]:
        return list(through.works.sides(f", {through.name} map"))

    def _gain(self, through: Mapped) -> Observable:
        """The variance reduction, with an error from quarters."""
        quarters = [
            _variance_ratio(plain, mapped)
            for plain, mapped in zip(through.same.blocks(), through.works.blocks(), strict=False)
        ]
        error = np.nan
        if len(quarters) > 1 and min(quarters) > 0.0:
            # Ratios scatter like a log-normal: the error is relative, from their logarithms.
            error = np.std(np.log(quarters), ddof=1) / len(quarters) ** 0.5
        gain = self.variance_reduction
        return Observable("variance reduction", gain, gain * float(error))


def _variance_ratio(plain: Estimate, mapped: Estimate) -> float:
    """By how much a map lowers the variance of an estimate, which is the samples it saves."""
    return float(np.square(plain.stderr / max(mapped.stderr, rounding(mapped.value))))


def _bounds(works: Works) -> tuple[Estimate, Estimate]:
    return work_bounds(works.forward, works.reverse, g=works.g)


def _dissipation(name: str, works: Works) -> Observable:
    lower, upper = _bounds(works)
    return Observable(name, upper.value - lower.value, float(np.hypot(upper.stderr, lower.stderr)))

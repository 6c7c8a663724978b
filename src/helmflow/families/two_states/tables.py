"""Reduced potentials of samples of K states in all states, and what is estimated from them."""

from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from helmflow.estimators.estimate import Estimate
from helmflow.estimators.mbar import MultistateEstimate, mbar
from helmflow.families.two_states.two_sided import Works, deviation_of_means, inefficiency
from helmflow.skeleton.checks import rounding
from helmflow.skeleton.limits import CONSISTENT

Array = np.ndarray


@dataclass(frozen=True)
class Tables:
    """``potentials[k]`` (n_k, K), kT, of the samples of state k, each there ``times[k]``."""

    potentials: tuple[Array, ...]
    times: tuple[float, ...]

    @property
    def sizes(self) -> list[int]:
        """Numbers of samples."""
        return [len(table) for table in self.potentials]

    def mbar(self) -> MultistateEstimate:
        """All states together, errors for the correlation of each series."""
        g = [self._inefficiency(k) for k in range(len(self.potentials))]
        return mbar(np.concatenate(self.potentials).T, self.sizes, g=g)

    def ends(self) -> Estimate:
        """Last state minus first, by MBAR."""
        return self.mbar().difference(0, len(self.potentials) - 1)

    def neighbours(self) -> list[Works]:
        """Works between states next to each other in the list."""
        return [
            Works(
                lower[:, k + 1] - lower[:, k],
                upper[:, k] - upper[:, k + 1],
                self.times[k : k + 2],
            )
            for k, (lower, upper) in enumerate(pairwise(self.potentials))
        ]

    def bars(self) -> list[Estimate]:
        """Each state minus the one before it."""
        return [works.bar() for works in self.neighbours()]

    def sum_of_bars(self) -> Estimate:
        """Last state minus first, two by two."""
        parts = self.bars()
        # Neighbouring pairs share the samples between them; every other pair is independent.
        stderr = sum(float(np.hypot.reduce([p.stderr for p in parts[k::2]])) for k in (0, 1))
        n_eff = min(p.n_eff for p in parts)
        return Estimate(sum(p.value for p in parts), stderr, n_eff, "bar, summed")

    def part(self, start: float, stop: float) -> "Tables":
        """The samples between two fractions of each series, at least two."""
        cuts = [(round(start * n), round(stop * n)) for n in self.sizes]
        parts = (p[a : max(b, a + 2)] for p, (a, b) in zip(self.potentials, cuts, strict=True))
        return replace(self, potentials=tuple(parts))

    def one_energy(self) -> list[tuple[int, int, float]]:
        """States j < k of one energy, and how far apart its means on both are, in errors."""
        found = []
        for j, k in combinations(range(len(self.potentials)), 2):
            own, other = self.potentials[j], self.potentials[k]
            if all(_equal(table[:, j], table[:, k]) for table in self.potentials):
                found.append((j, k, deviation_of_means(own[:, j], other[:, k])))
        return found

    def one_distribution(self) -> bool:
        """Whether the work from the first state to the last has one mean on samples of all."""
        works = [table[:, -1] - table[:, 0] for table in self.potentials]
        apart = [deviation_of_means(a, b) for a, b in combinations(works, 2)]
        return max(apart) < CONSISTENT

    def _inefficiency(self, k: int) -> float:
        """That of the work to the neighbours, the larger of the two."""
        table, near = self.potentials[k], [j for j in (k - 1, k + 1) if 0 <= j < len(self.times)]
        return self.times[k] * max(inefficiency(table[:, j] - table[:, k]) for j in near)


def _equal(a: Array, b: Array) -> bool:
    both = np.isfinite(a) & np.isfinite(b)
    return bool((np.abs(a[both] - b[both]) <= rounding(float(np.abs(a[both]).max()))).all())

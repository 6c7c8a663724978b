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

    @property
    def complete(self) -> bool:
        """Whether all potentials are known, as MBAR needs them."""
        return not any(np.isnan(table).any() for table in self.potentials)

    def chain(self) -> MultistateEstimate:
        """The same by BAR between neighbours, whose potentials alone are then needed."""
        k, parts = len(self.potentials), self.bars()
        f = np.cumsum([0.0, *(part.value for part in parts)])
        stderr, overlap = np.zeros((k, k)), np.eye(k)
        for i, j in combinations(range(k), 2):
            stderr[i, j] = stderr[j, i] = _joint([p.stderr for p in parts[i:j]])
        for i, part in enumerate(parts):
            shared = part.diagnostics["overlap"]
            overlap[i, i + 1] = overlap[i + 1, i] = shared
        np.fill_diagonal(overlap, 2.0 - overlap.sum(1))
        g = np.array([self._inefficiency(i) for i in range(k)])
        return MultistateEstimate(f, stderr, overlap, np.array(self.sizes) / g, {})

    def ends(self) -> Estimate:
        """Last state minus first, by MBAR if all potentials are known."""
        solution = self.mbar() if self.complete else self.chain()
        return solution.difference(0, len(self.potentials) - 1)

    def neighbours(self) -> list[Works]:
        """Works between states next to each other in the list."""
        return [
            Works(
                _known(lower[:, k + 1] - lower[:, k]),
                _known(upper[:, k] - upper[:, k + 1]),
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
        stderr = _joint([p.stderr for p in parts])
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
        if not self.complete:
            return False
        works = [table[:, -1] - table[:, 0] for table in self.potentials]
        apart = [deviation_of_means(a, b) for a, b in combinations(works, 2)]
        return max(apart) < CONSISTENT

    def _inefficiency(self, k: int) -> float:
        """That of the work to the neighbours, the larger of the two."""
        table, near = self.potentials[k], [j for j in (k - 1, k + 1) if 0 <= j < len(self.times)]
        return self.times[k] * max(inefficiency(_known(table[:, j] - table[:, k])) for j in near)


def _known(works: Array) -> Array:
    """Without those that nobody computed, as where forward and backward runs differ."""
    return works[~np.isnan(works)]


def _joint(errors: list[float]) -> float:
    """Error of a sum over neighbours: those share samples, every other pair is independent."""
    return sum(float(np.hypot.reduce(errors[k::2])) for k in (0, 1))


def _equal(a: Array, b: Array) -> bool:
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return False
    return bool((np.abs(a[both] - b[both]) <= rounding(float(np.abs(a[both]).max()))).all())

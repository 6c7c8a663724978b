"""Gradients of an energy against the energy, in the kT by which they would move the result."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from helmflow.generalised_work import require_energies, require_gradients
from helmflow.shapes import Configs, Values
from helmflow.skeleton.limits import SURELY

ValueAndGradient = Callable[[Configs], tuple[Values, Configs]]

NODES, LINES = (10, 6), (32, 12)
"""Of the Gauss-Legendre rule along a line, and most lines: of compiled and of costly energies."""


@dataclass(frozen=True)
class ForceTrial:
    """Work that the forces do from ``origin`` (1, ...) to thermal configurations, and the energy.

    ``m = <U(x) - U(x_0) - int grad U . dl>`` is zero. Gradients too large by a part e make it
    -e <U - U_0>, which is also how far they move a mean that partial integration has corrected
    (the Stein function of the virial, whose weight is one half): m is an error in kT of the free
    energy of the whole system. No step is small, so that rounding is not magnified.
    """

    potential: ValueAndGradient
    origin: Configs
    costly: bool = False

    @property
    def least(self) -> int:
        """Lines looked along at first."""
        return LINES[self.costly] // 4

    @property
    def n_evaluations(self) -> int:
        """Energies that the first look takes."""
        return self._taken(self.least)

    def judge(self, x: Configs, limit: float, afforded: float = math.inf) -> "Mismatch":
        """m of lines to the first of the configurations x (n, ...), against a ``limit`` in kT.

        Lines are doubled until m is known well enough, or ``LINES``, x or ``afforded`` energies
        run out.
        """
        found, spent = Mismatch(self.along(x[: self.least]), limit), self.n_evaluations
        while not found.decided and 2 * found.n <= min(LINES[self.costly], len(x)):
            n = found.n
            spent += self._taken(n)
            if spent > afforded:
                break
            more = self.along(x[n : 2 * n])
            found = Mismatch(np.concatenate([found.lines, more], axis=1), limit)
        return found

    def _taken(self, n_lines: int) -> int:
        return 1 + n_lines * (NODES[self.costly] + 1)

    def along(self, x: Configs) -> np.ndarray:
        """Differences of energy and work of the forces (2, n) on the lines to x, in one batch."""
        nodes, weights = np.polynomial.legendre.leggauss(NODES[self.costly])
        step = x - self.origin
        inside = [self.origin + 0.5 * (1.0 + s) * step for s in nodes]
        values, gradient = value_and_gradient(self.potential, torch.cat([self.origin, *inside, x]))
        push = gradient[1 : -len(x)].unflatten(0, (len(nodes), len(x)))
        work = torch.from_numpy(0.5 * weights) @ (push * step).flatten(2).sum(2)
        return torch.stack([values[-len(x) :] - values[0], work]).numpy()


@dataclass(frozen=True)
class Mismatch:
    """Energy differences and works (2, n) of n lines, and how far apart their means may be; kT."""

    lines: np.ndarray
    limit: float

    @property
    def n(self) -> int:
        """Lines."""
        return self.lines.shape[1]

    @property
    def mean(self) -> float:
        """m."""
        return float(self._off.mean())

    @property
    def stderr(self) -> float:
        """Its standard error, from the scatter over lines."""
        return float(self._off.std(ddof=1)) / math.sqrt(self.n)

    @property
    def broken(self) -> bool:
        """Whether m is beyond the limit and no chance, or the scatter more than noise may be."""
        if not np.isfinite(self.lines).all():
            return True
        chance = float(student.isf(SURELY, self.n - 1)) * self.stderr
        noise = 0.5 * float(self._off.var())
        return abs(self.mean) > max(self.limit, chance) or noise > self.limit

    @property
    def decided(self) -> bool:
        """Whether more lines could say no more."""
        return self.broken or abs(self.mean) + 2.0 * self.stderr <= self.limit

    @property
    def bias(self) -> float:
        """What a free energy may be off by, kT: m where it is no chance, otherwise its error."""
        if not np.isfinite(self.lines).all():
            return math.inf
        if self.broken:
            return max(abs(self.mean), 0.5 * float(self._off.var()))
        return max(abs(self.mean) - 2.0 * self.stderr, self.stderr)

    def __str__(self) -> str:
        energy, work = self.lines.mean(1)
        ratio = f", {work / energy:.6g} times it" if energy else ""
        return f"work of {work:.6g} kT for {energy:.6g} kT{ratio}"

    @property
    def _off(self) -> np.ndarray:
        return self.lines[0] - self.lines[1]


def value_and_gradient(potential: ValueAndGradient, x: Configs) -> tuple[Values, Tensor]:
    """Energies (n,) and gradients like x; raises InputError for any other shape."""
    values, gradient = potential(x)
    require_energies(values, len(x), "potential")
    require_gradients(gradient, x, "potential")
    return values.to(torch.float64), gradient.to(torch.float64)

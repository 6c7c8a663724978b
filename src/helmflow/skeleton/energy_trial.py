"""The energy on trial in every run: before anything is sampled, and once more at the end."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from helmflow.errors import EnergyError, InputError
from helmflow.generalised_work import ReducedPotential, require_energies
from helmflow.results import Check
from helmflow.shapes import Configs, Values
from helmflow.skeleton.checks import energy_repeats, forces_fit
from helmflow.skeleton.force_trial import ForceTrial
from helmflow.skeleton.limits import ENERGY_CHANGES, FORCES

FIELD = "potential"

ROUNDED = 1e-9
"""Relative difference of two sums of the same numbers in another order."""


@dataclass
class EnergyTrial:
    """What a reduced potential must do to be sampled, on a few thermal configurations x (n, ...).

    ``goal``: the error asked for, kT for the whole system. ``finite``: whether x must have finite
    energies; +inf is allowed otherwise. ``forces``: how its gradient is tried, where one is used;
    ``lines``: configurations (m, ...) for that, x if None.
    """

    u: ReducedPotential
    x: Configs
    goal: float
    finite: bool = False
    forces: ForceTrial | None = None
    lines: Configs | None = None
    _seen: list[tuple[Configs, Values]] = field(default_factory=list)

    @property
    def n_evaluations(self) -> int:
        """Energies that the trial takes at the end, without those of `witness`."""
        return len(self.x) + (0 if self.forces is None else self.forces.n_evaluations)

    def open(self, afforded: float = math.inf) -> Values:
        """Energies (n,) of x, which are looked at again at the end.

        Raises InputError, one line, for what is no energy (n,) of real numbers, for one that
        depends on anything but the configuration or changes it, and for forces that are not its
        gradient.
        """
        values = self._values(self.x)
        self._require_numbers(values)
        again = self._values(self.x.flip(0)).flip(0)
        alone = torch.cat([self._values(row[None]) for row in self.x[:2]])
        for how, old, new in (
            ("in another order", values, again),
            ("when evaluated alone", values[:2], alone),
        ):
            off = moved(old, new)
            if off > ENERGY_CHANGES.soft * self.goal:
                expected = "one energy of one configuration, in every call, batch and order"
                largest = float((new - old).abs().max())
                raise InputError(FIELD, expected, f"a change of up to {largest:.3g} kT {how}")
        if self.forces is not None:
            self._open_forces(self.forces, afforded)
        return values

    def repeat(self, x: Configs, values: Values) -> None:
        """Ask for energies (n,) that the run was given once more, at once, in another order.

        Raises EnergyError where they differ by more than the error asked for can bear.
        """
        require_repeating(moved(values, self._values(x.flip(0)).flip(0)), self.goal)

    def witness(self, x: Configs, values: Values) -> None:
        """Remember energies (n,) that the run was given, to ask for them once more at the end."""
        self._seen.append((x.detach().clone(), values.detach().clone()))

    def close(self, opening: Values, stderr: float, afforded: float = math.inf) -> list[Check]:
        """Whether energies are still what they were, and forces on ``lines`` their gradient.

        ``stderr``: of the free energy, kT for the whole system, with which errors are compared.
        """
        scale = stderr if 0.0 < stderr < math.inf else self.goal
        scale = max(scale, 0.1 * self.goal)
        seen = [(self.x, opening), *self._seen]
        n_forces = 0 if self.forces is None else self.forces.n_evaluations
        n = int(min(afforded - n_forces, sum(len(x) for x, _ in seen)))
        x, old = (torch.cat(part)[:n] for part in zip(*seen, strict=True))
        new = self._values(x.flip(0)).flip(0)
        checks = [energy_repeats(moved(old, new) / scale)]
        if self.forces is not None:
            lines = self.x if self.lines is None else self.lines
            found = self.forces.judge(lines, FORCES.soft * scale, afforded - n)
            checks.append(forces_fit(found.bias / scale))
        return checks

    def _values(self, x: Configs) -> Values:
        given = x.clone()
        with torch.no_grad():
            values = require_energies(self.u(given), len(x), FIELD)
        if not torch.equal(given, x):
            raise InputError(FIELD, "a function that leaves its argument alone", "one changed")
        return values.detach().to(torch.float64)

    def _require_numbers(self, values: Values) -> None:
        wrong = values.isnan() | (values == -math.inf)
        if self.finite:
            wrong |= values == math.inf
        if bool(wrong.any()):
            expected = "a finite energy" if self.finite else "an energy, or +inf,"
            got = f"{values[wrong][0].item()} at {int(wrong.sum())} of {len(values)}"
            raise InputError(FIELD, f"{expected} of thermal configurations", got)

    def _open_forces(self, forces: ForceTrial, afforded: float) -> None:
        lines = self.x if self.lines is None else self.lines
        found = forces.judge(lines, FORCES.soft * self.goal, afforded)
        if found.broken:
            expected = f"forces that are its gradient (to {found.limit:.2g} kT on a thermal path)"
            raise InputError(FIELD, expected, f"a {found}")


def require_repeating(off: float, goal: float) -> None:
    """Raise EnergyError if a result would move by ``off``, more than the error asked for bears."""
    if off > ENERGY_CHANGES.hard * goal:
        raise EnergyError(
            "the energy of one configuration is not the same in every call: "
            f"results would move by {off:.3g} kT"
        )


def moved(old: Values, new: Tensor) -> float:
    """How far, in kT, a free energy moves with these changes (n,) of its energies.

    A mean beyond chance (three standard errors) moves it by as much, noise of variance s^2 by
    s^2/2. Infinite where an energy is a number only once.
    """
    change = torch.where(old == new, 0.0, new - old)
    if not bool(torch.isfinite(change).all()):
        return math.inf
    change = change[change.abs() > ROUNDED * (1.0 + old.abs())]
    if not len(change):
        return 0.0
    n = len(old)
    mean, square = float(change.sum()) / n, float(change.square().sum()) / n
    stderr = math.sqrt(max(square - mean**2, 0.0) / max(n - 1, 1))
    return max(abs(mean) - 3.0 * stderr, 0.5 * square)

"""Frames from before a simulation had settled, found in its works and left out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from helmflow.estimators.equilibration import FEWEST, Equilibration, equilibration
from helmflow.results import Check
from helmflow.skeleton.checks import equilibrated, rounding

Array = np.ndarray


def settled(series: Sequence[Array]) -> Equilibration:
    """The latest start that any of these series (n,) of one state asks for.

    Infinite values count as the largest finite one; constant series, NaN, and series too short to
    know say nothing.
    """
    n = len(series[0])
    found = [Equilibration(0, float(n), float(n))]
    for values in series:
        known = np.flatnonzero(~np.isnan(values))
        finite = values[np.isfinite(values)]
        if known.size < FEWEST or not finite.size or np.ptp(finite) <= rounding(float(finite[0])):
            continue
        begun = equilibration(np.clip(values[known], None, finite.max()))
        found.append(replace(begun, start=int(known[begun.start])))
    return max(found, key=lambda e: (e.start, -e.n_eff))


def left_out(by_state: Mapping[str, tuple[Equilibration, int]]) -> Check:
    """The check of what was left out of series of n frames, with its gain."""
    return equilibrated(
        {
            name: (
                e.start / n,
                f"{e.start} of {n} frames left out, {e.n_eff:.4g} effective ones are left "
                f"({e.n_eff_all:.4g} of all)",
            )
            for name, (e, n) in by_state.items()
        }
    )

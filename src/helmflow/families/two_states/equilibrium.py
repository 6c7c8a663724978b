"""Frames from before a simulation had settled, found in its energies and left out."""

from collections.abc import Mapping, Sequence

import numpy as np

from helmflow.errors import InputError
from helmflow.estimators.equilibration import Equilibration, equilibration
from helmflow.results import Check
from helmflow.skeleton.checks import equilibrated

Array = np.ndarray


def settled(name: str, series: Sequence[Array]) -> Equilibration:
    """The latest start that any of these series (n,) of one state asks for.

    Infinite values count as the largest finite one. Raises InputError for too few frames.
    """
    found = []
    for values in series:
        finite = np.isfinite(values)
        if not finite.any():
            continue
        try:
            found.append(equilibration(np.clip(values, None, values[finite].max())))
        except InputError as error:
            expected = f"a number of frames for {name}, or longer series"
            raise InputError("start", expected, f"{values.size} frames") from error
    return max(found, key=lambda e: e.start)


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

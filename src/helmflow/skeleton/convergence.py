"""How an estimate settles as samples are added, from the start of a run and from its end."""

from collections.abc import Callable

import numpy as np

from helmflow.estimators.estimate import Estimate
from helmflow.skeleton.quantity import Quantity

Array = np.ndarray
POINTS = 10
TENTHS = np.linspace(1.0 / POINTS, 1.0, POINTS)


def convergence(
    estimate: Callable[[float, float], Estimate], quantity: Quantity, fractions: Array = TENTHS
) -> dict[str, Array]:
    """Curves for the report: the quantity from growing parts of all series of samples.

    ``estimate(start, stop)`` is the free energy in kT from the samples between two fractions of
    each series.
    """
    arrays = {"convergence_fraction": fractions}
    parts = {
        "forward": [(0.0, fraction) for fraction in fractions],
        "reverse": [(1.0 - fraction, 1.0) for fraction in fractions],
    }
    for name, ends in parts.items():
        rows = [estimate(start, stop) for start, stop in ends]
        values, errors = f"convergence_{name}", f"convergence_{name}_stderr"
        arrays[values] = np.array([quantity.value(row.value) for row in rows])
        arrays[errors] = np.array([quantity.stderr(row.stderr) for row in rows])
    return arrays
